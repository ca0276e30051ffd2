//! What can go wrong, and what that says about the message.

use onemec_wire::CloseCode;

use crate::pki::PkiError;

/// A message was not taken for sending. It was not sent, in no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection to this peer at the moment, or no such peer. Try again after the next `Up` event.
    #[error("not connected")]
    NotConnected,
    /// The queue is full or the peer's credit is used up: it is slower than its callers. Try again later, or give up.
    #[error("queue or credit is used up")]
    QueueFull,
    /// Longer than a frame (or datagram) may be. Use a call or a transfer.
    #[error("message of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer is of another domain, which may only use the federation service.
    #[error("only the federation service may be used towards another domain")]
    Forbidden,
}

/// An ask or a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// No answer in time. It may have been carried out, and may still be.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke before the answer came.
    #[error("connection lost (maybe delivered: {maybe_delivered})")]
    Disconnected {
        /// False: it never left this node, and was not carried out.
        maybe_delivered: bool,
    },
    /// The peer's service said no, or gave no answer ([`onemec_wire::FailCode`] says what that means, codes from
    /// [`onemec_wire::code::SERVICE_CODE_MIN`] on are the service's own).
    #[error("refused with code {code:#x}: {text}")]
    Refused {
        /// The code.
        code: u16,
        /// For a person.
        text: String,
    },
    /// The peer has no such service. It was not carried out.
    #[error("the peer has no such service")]
    NoHandler,
}

impl AskError {
    /// True when it is certain that the request was not and will not be carried out.
    pub const fn is_certainly_not_done(&self) -> bool {
        use onemec_wire::FailCode as F;
        match self {
            Self::NotSent(_) | Self::NoHandler | Self::Disconnected { maybe_delivered: false } => true,
            Self::Refused { code, .. } => matches!(
                F::from_number(*code as u64),
                Some(F::NoHandler | F::DeadlinePassed | F::Overloaded | F::Forbidden)
            ),
            _ => false,
        }
    }
}

/// A transfer failed. The receiver was told, unless the connection is gone; what it does with a part is its own affair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// It did not begin.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// The connection broke. The receiver may have taken everything, only its answer is missing.
    #[error("connection lost")]
    Disconnected,
    /// The other side gave up.
    #[error("given up by the other side")]
    Aborted,
    /// The receiver refused it.
    #[error("refused with code {code:#x}: {text}")]
    Refused {
        /// The code, as in [`AskError::Refused`].
        code: u16,
        /// For a person.
        text: String,
    },
    /// The receiver counted another number of bytes than were sent. It was told nothing: a defect.
    #[error("sent {sent} bytes, the receiver took {taken}")]
    Length {
        /// Bytes written.
        sent: u64,
        /// Bytes that the receiver reports.
        taken: u64,
    },
    /// The other side broke the protocol; the connection is closed.
    #[error("protocol broken by the other side ({0:?})")]
    Protocol(CloseCode),
}

/// The transport did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A setting is out of range.
    #[error("setting out of range: {0}")]
    Setting(String),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// We closed it with this code.
    #[error("closed by this node ({0:?})")]
    ClosedHere(CloseCode),
    /// The peer closed it with this code.
    #[error("closed by the peer ({0:?})")]
    ClosedByPeer(CloseCode),
    /// The peer closed it with a code that we do not know.
    #[error("closed by the peer (unknown code {0:#x})")]
    ClosedUnknown(u64),
    /// Nothing came for the idle timeout.
    #[error("timed out")]
    TimedOut,
    /// The peer does not know the connection any more: it was restarted.
    #[error("reset: the peer was restarted")]
    Reset,
    /// QUIC or TLS said something else.
    #[error("{0}")]
    Transport(String),
}

impl From<&quinn::ConnectionError> for DownReason {
    fn from(error: &quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                CloseCode::from_number(code).map_or(Self::ClosedUnknown(code), Self::ClosedByPeer)
            }
            E::TimedOut => Self::TimedOut,
            E::Reset => Self::Reset,
            other => Self::Transport(other.to_string()),
        }
    }
}
