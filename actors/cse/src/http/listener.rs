//! Accepts connections, as many as the limits allow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::addresses::Addresses;
use super::connection;
use super::figures::HttpFigures;
use super::options::ListenerOptions;
use crate::front::Cse;

/// Body permits are counted in units of this many bytes.
pub(super) const PERMIT_BYTES: usize = 1024;
/// Pause after accepting failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a connection gets that is one too many.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nX-Onemec-Retry-Ms: 200\r\n\
Content-Length: 0\r\nConnection: close\r\n\r\n";

/// A listener that is not running yet.
pub struct Listener {
    options: ListenerOptions,
    socket: TcpListener,
}

/// A running listener; stops when dropped.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) cse: Cse,
    pub(super) options: ListenerOptions,
    /// Bytes of bodies under way.
    pub(super) body_permits: Arc<Semaphore>,
}

impl Listener {
    /// Binds the address.
    pub async fn bind(options: ListenerOptions) -> std::io::Result<Self> {
        let address = options.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        Ok(Self { socket: TcpListener::bind(address).await?, options })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves a CSE.
    pub fn serve(self, cse: Cse) -> std::io::Result<Running> {
        let address = self.address()?;
        let (stop, stopped) = watch::channel(false);
        let units = (self.options.limits.body_bytes_in_flight_max / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared { cse, body_permits: Arc::new(Semaphore::new(units)), options: self.options });
        let task = tokio::spawn(accept(self.socket, shared, stopped));
        Ok(Running { address, stop, task })
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, lets requests under way finish, waits for the acceptor to end.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(shared.options.limits.connections_max));
    let addresses = Addresses::new(shared.options.limits.connections_per_address_max);
    let tls = shared.options.tls.clone().map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|s| *s) => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = Arc::clone(&connections).try_acquire_owned();
        let Some((permit, place)) = permit.ok().zip(addresses.take(peer.ip())) else {
            shared.options.figures.connections_refused.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(turn_away(stream));
            continue;
        };
        let (tls, stopped, shared) = (tls.clone(), stopped.clone(), Arc::clone(&shared));
        let open = Open::count(&shared.options.figures);
        tokio::spawn(async move {
            connection::run(stream, peer, tls, &shared, stopped).await;
            drop((permit, place, open));
        });
    }
}

async fn turn_away(mut stream: TcpStream) {
    let _ = tokio::time::timeout(Duration::from_millis(500), async {
        let _ = stream.write_all(TOO_MANY).await;
        let _ = stream.shutdown().await;
    })
    .await;
}

/// A connection that is counted while it is open.
struct Open(Arc<HttpFigures>);

impl Open {
    fn count(figures: &Arc<HttpFigures>) -> Self {
        figures.connections_open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(figures))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
