//! The sockets of the DNS server: UDP, answered at once one after another, and TCP with few, short connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_runtime::directory::DirectoryHandle;
use onemec_runtime::lease::LeaseHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{HEADER_BYTES, Transport, Zone, answer};
use super::limit::Limit;

/// A longer question is an error.
const QUESTION_BYTES_MAX: usize = 1500;
/// Open TCP connections; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection ends after so long, and after so many questions.
const CONNECTION_MAX: Duration = Duration::from_secs(5);
const QUESTIONS_MAX: usize = 100;
/// Pause after an accept that failed.
const AGAIN: Duration = Duration::from_millis(100);

/// What the server is told.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// Where it listens, UDP and TCP.
    pub listen: SocketAddr,
    /// What it answers for.
    pub zone: Zone,
}

/// Bound sockets. Nothing is answered before [`DnsServer::run`].
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    source: Arc<Source>,
}

/// What answers are made from.
struct Source {
    zone: Zone,
    directory: DirectoryHandle,
    lease: LeaseHandle,
}

impl Source {
    fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let serves = self.lease.is_valid();
        answer(question, &self.zone, &self.directory.read(), transport, serves)
    }
}

impl DnsServer {
    /// Binds both sockets.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub async fn bind(options: DnsOptions, directory: DirectoryHandle, lease: LeaseHandle) -> std::io::Result<Self> {
        let udp = UdpSocket::bind(options.listen).await?;
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        Ok(Self { udp, tcp, source: Arc::new(Source { zone: options.zone, directory, lease }) })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let Self { udp, tcp, source } = self;
        tokio::join!(datagrams(udp, &source), connections(tcp, &source));
    }
}

async fn datagrams(socket: UdpSocket, source: &Source) {
    let (mut limit, begun) = (Limit::new(), Instant::now());
    let mut buffer = vec![0; QUESTION_BYTES_MAX + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // News of what was sent before: somebody did not want it.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(e) => {
                tracing::debug!("DNS over UDP: {e}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let full = limit.admit(from.ip(), begun.elapsed());
        // Of what is too long the header is enough to say so.
        let length = if length > QUESTION_BYTES_MAX { HEADER_BYTES } else { length };
        let question = buffer.get(..length).unwrap_or_default();
        if let Some(bytes) = source.answer(question, Transport::Udp { full }) {
            // A full send buffer loses it: the client asks again.
            let _ = socket.try_send_to(&bytes, from);
        }
    }
}

async fn connections(listener: TcpListener, source: &Arc<Source>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                open.spawn(async move {
                    // One that is slow or breaks off is simply closed.
                    let _ = tokio::time::timeout(CONNECTION_MAX, connection(stream, &source)).await;
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::debug!("DNS over TCP: {e}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Questions and answers, each after its length (RFC 1035 4.2.2).
async fn connection(mut stream: TcpStream, source: &Source) -> std::io::Result<()> {
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    for _ in 0..QUESTIONS_MAX {
        let length = usize::from(stream.read_u16().await?);
        let Some(question) = buffer.get_mut(..length) else { return Ok(()) };
        stream.read_exact(question).await?;
        let Some(bytes) = source.answer(question, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        stream.write_all(&framed).await?;
    }
    Ok(())
}
