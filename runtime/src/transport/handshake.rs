//! From a dial or an incoming packet to a connection in its slot: TLS, identity, Hello and Welcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use onemec_wire::encode::Encoder;
use onemec_wire::greeting::{self, BODY_VERSION};
use onemec_wire::limits::{CONTROL_FRAME_BYTES_MAX, PROTOCOL_VERSION};
use onemec_wire::{Channel, CloseCode, Frame, Greeting, Item, NodeId, Purpose, Role};
use quinn::Connection;
use rustls::pki_types::CertificateDer;

use super::Inner;
use super::conn::Conn;
use super::error::DownReason;
use super::peer::Peer;
use super::run::{self, End};
use super::shared::count;
use crate::pki::Identity;

/// The server name in TLS: identities are in certificates, not in host names.
const SERVER_NAME: &str = "onemec";

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failed {
    /// We closed it, with this code.
    Here(CloseCode),
    /// It ended.
    Ended(DownReason),
    /// There is another connection by now.
    NotNeeded,
}

impl Failed {
    /// Only a changed configuration can help.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Here(c) | Self::Ended(DownReason::ClosedByPeer(c)) if c.is_lasting())
    }

    /// What somebody has to mend, where it is not that the peer is away: certificates, domains, versions.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Here(code) if code.is_lasting() => Some(DownReason::ClosedHere(*code).to_string()),
            Self::Ended(reason @ DownReason::ClosedByPeer(code)) if code.is_lasting() => Some(reason.to_string()),
            Self::Ended(reason @ DownReason::Transport(_)) => Some(reason.to_string()),
            _ => None,
        }
    }
}

/// A connection after its handshake.
pub(super) struct Greeted {
    pub(super) conn: Arc<Conn>,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    channel: Channel,
}

impl Greeted {
    /// Starts its tasks. Must run on the transport's runtime.
    pub(super) fn start(self) -> Arc<Conn> {
        let Self { conn, send, recv, channel } = self;
        run::start(&conn, send, recv, channel);
        conn
    }
}

impl Inner {
    /// Dials a peer once. The whole is bounded by the caller's timeout.
    pub(super) async fn dial(
        &self,
        peer: &Arc<Peer>,
        purpose: Purpose,
        address: SocketAddr,
    ) -> Result<Greeted, Failed> {
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), address, SERVER_NAME)
            .map_err(|e| Failed::Ended(DownReason::Transport(e.to_string())))?;
        let quic = connecting.await.map_err(|e| Failed::Ended(DownReason::from(&e)))?;
        let closing = Closing::new(quic);
        let quic = &closing.quic;
        let identity = self.identify(quic).map_err(|c| closing.with(c))?;
        if identity.0 != peer.node {
            return Err(closing.with(CloseCode::WrongNode));
        }
        if identity.1 != *peer.domain {
            return Err(closing.with(CloseCode::WrongDomain));
        }
        let slot = peer.slot(purpose);
        let Some(dial) = slot.begin_dial() else {
            closing.with(CloseCode::Duplicate);
            return Err(Failed::NotNeeded);
        };
        // Takes the dial back when this future is dropped or fails.
        let dialling = Undo(|| slot.end_dial(dial));
        let gone = |e: &quinn::ConnectionError| Failed::Ended(DownReason::from(e));
        let (mut send, mut recv) = quic.open_bi().await.map_err(|e| gone(&e))?;
        let ours = self.greeting(purpose);
        write(&mut send, &greeting::hello(&ours)).await;
        let mut channel = Channel::new(Role::ControlDialler);
        let theirs = match first(&mut recv, &mut channel).await {
            Ok(Item::Welcome(theirs, theirs_purpose)) if theirs_purpose == purpose => theirs,
            Ok(Item::GoAway(why)) => {
                closing.with(CloseCode::Cancelled);
                let code = CloseCode::from_number(why.code.into()).unwrap_or(CloseCode::Internal);
                return Err(Failed::Ended(DownReason::ClosedByPeer(code)));
            }
            Ok(_) => return Err(closing.with(CloseCode::BadBody)),
            Err(End::Breach(error)) => {
                self.shared.breach(peer.node);
                return Err(closing.with(error.code()));
            }
            Err(End::Gone) => return Err(gone(&quic.closed().await)),
        };
        self.check(&ours, &theirs, &identity).map_err(|c| closing.with(c))?;
        let conn = self.conn(&closing, peer, &ours, &theirs, purpose, true);
        slot.dialled(dial, &conn).map_err(|c| closing.with(c))?;
        drop(dialling);
        closing.keep();
        Ok(Greeted { conn, send, recv, channel })
    }

    /// Takes an incoming connection.
    pub(super) async fn greet(self: &Arc<Self>, quic: Connection) -> Result<(Arc<Peer>, Greeted), Failed> {
        let closing = Closing::new(quic);
        let quic = &closing.quic;
        let identity = self.identify(quic).map_err(|c| closing.with(c))?;
        let gone = |e: &quinn::ConnectionError| Failed::Ended(DownReason::from(e));
        let (mut send, mut recv) = quic.accept_bi().await.map_err(|e| gone(&e))?;
        let mut channel = Channel::new(Role::ControlAcceptor);
        let (theirs, purpose) = match first(&mut recv, &mut channel).await {
            Ok(Item::Hello(theirs, purpose)) => (theirs, purpose),
            Ok(_) => return Err(closing.with(CloseCode::UnexpectedFrame)),
            Err(End::Breach(error)) => {
                self.shared.breach(identity.0);
                return Err(closing.with(error.code()));
            }
            Err(End::Gone) => return Err(gone(&quic.closed().await)),
        };
        let ours = self.greeting(purpose);
        self.check(&ours, &theirs, &identity).map_err(|c| closing.with(c))?;
        let peer = self.peer_of_hello(theirs.member.node, &theirs.domain).map_err(|c| closing.with(c))?;
        let conn = self.conn(&closing, &peer, &ours, &theirs, purpose, false);
        peer.slot(purpose).greeted(self.shared.me.node, &conn).map_err(|c| closing.with(c))?;
        write(&mut send, &greeting::welcome(&ours)).await;
        closing.keep();
        Ok((peer, Greeted { conn, send, recv, channel }))
    }

    fn conn(
        &self,
        closing: &Closing,
        peer: &Peer,
        ours: &Greeting,
        theirs: &Greeting,
        purpose: Purpose,
        dialled: bool,
    ) -> Arc<Conn> {
        let quic = closing.quic.clone();
        let tuning = &self.shared.tuning;
        quic.set_receive_window(match purpose {
            Purpose::Lanes => tuning.lanes_window_bytes.into(),
            Purpose::Transfers => tuning.transfers_window_bytes.into(),
        });
        count(&peer.totals.connections);
        Arc::new(Conn::new(quic, self.shared.clone(), peer.totals.clone(), ours, theirs, purpose, dialled))
    }

    /// Node and domain in the peer's certificate; TLS has verified it.
    fn identify(&self, quic: &Connection) -> Result<(NodeId, String), CloseCode> {
        let certificates = quic.peer_identity().and_then(|i| i.downcast::<Vec<CertificateDer<'static>>>().ok());
        let first = certificates.as_deref().and_then(|c| c.first()).map(Identity::of);
        let Some(Ok(Identity::Node { domain, node })) = first else { return Err(CloseCode::WrongNode) };
        if self.shared.is_barred(node) {
            return Err(CloseCode::RateLimited);
        }
        if node == self.shared.me.node {
            return Err(CloseCode::WrongNode);
        }
        Ok((node, domain))
    }

    fn check(&self, ours: &Greeting, theirs: &Greeting, identity: &(NodeId, String)) -> Result<(), CloseCode> {
        if theirs.member.node != identity.0 {
            return Err(CloseCode::WrongNode);
        }
        if theirs.domain != identity.1 {
            return Err(CloseCode::WrongDomain);
        }
        ours.agree(theirs).map(|_| ())
    }

    fn greeting(&self, purpose: Purpose) -> Greeting {
        Greeting {
            body_version: BODY_VERSION,
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            purpose: purpose as u8,
            message_lanes: self.shared.tuning.message_lanes,
            features: self.features,
            required: self.features_required,
            member: self.shared.me,
            domain: self.domain.clone(),
            cluster: self.cluster,
            credit_bytes: self.shared.tuning.credit_bytes,
        }
    }
}

async fn write(send: &mut quinn::SendStream, frame: &Frame) {
    let mut encoder = Encoder::new();
    let mut pieces: Vec<Bytes> = Vec::new();
    if encoder.push(frame, CONTROL_FRAME_BYTES_MAX).is_ok() {
        encoder.take(&mut pieces);
        // If it fails, reading the answer fails as well and says why.
        let _gone = send.write_all_chunks(&mut pieces).await;
    }
}

/// The first item on the control stream.
async fn first(recv: &mut quinn::RecvStream, channel: &mut Channel) -> Result<Item, End> {
    loop {
        if let Some(item) = channel.next()? {
            return Ok(item);
        }
        if !run::fill(recv, channel).await?.0 {
            return match channel.end() {
                Err(error) => Err(End::Breach(error)),
                Ok(()) => Err(End::Breach(onemec_wire::ProtocolError::Truncated("the handshake"))),
            };
        }
    }
}

/// Closes the connection if the handshake does not come to its end, a dropped future included.
struct Closing {
    quic: Connection,
    kept: AtomicBool,
}

impl Closing {
    const fn new(quic: Connection) -> Self {
        Self { quic, kept: AtomicBool::new(false) }
    }
    fn with(&self, code: CloseCode) -> Failed {
        self.quic.close(code.number().into(), b"");
        Failed::Here(code)
    }
    fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            self.quic.close(CloseCode::HandshakeTimeout.number().into(), b"");
        }
    }
}

struct Undo<F: Fn()>(F);

impl<F: Fn()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
