//! What the node puts into a CSE: mobility and handover tokens.

use std::net::IpAddr;
use std::time::Duration;

use onemec_core::buffer::BufferKey;
use onemec_core::context::{BoxFuture, CallError};
use onemec_core::directory::Attachment;
use onemec_wire::{ContextId, NodeId};

use super::AuthMode;

/// Moves AEs. Implemented by `actors/mobility`.
pub trait Mobility: Send + Sync {
    /// Brings the AE's context (with its group) to `target`, because its device has come there. Returns when that node
    /// serves it. The permission is used up by it; shown again there it changes nothing.
    fn attach(&self, attachment: Attachment, target: NodeId) -> BoxFuture<'_, Result<(), AttachError>>;

    /// The originator of this context, which is at home here, has asked this CSE itself, and its answer took so long.
    /// Called with every such request: cheap.
    fn came(&self, _context: ContextId, _took: Duration) {}

    /// Set while this CSE takes no new AEs (its host is being emptied): where to register instead, best first.
    fn closed(&self) -> Option<Vec<NodeId>> {
        None
    }
}

/// Why an AE was not brought here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The permission was used before, and led elsewhere: nothing was moved.
    #[error("token-used: the AE was moved with this handover token already; retrieve the AE for a fresh one")]
    Used,
    /// This CSE does not take it: capacity, policy, residency, names.
    #[error("not admitted: {0}")]
    NotAdmitted(String),
    /// It failed on the way; the AE stays where it was.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Makes handover tokens: signed, bound to the AE and its credential, each good for one re-attachment.
pub trait Tokens: Send + Sync {
    /// A fresh token for an AE; `None` if it is to have none.
    fn issue(&self, context: ContextId, ae: &str, credential: Option<&str>) -> Option<String>;
    /// What a token permits, if its signature, expiry, AE and credential hold.
    ///
    /// # Errors
    /// Why not: a code and a sentence. Nothing was changed.
    fn verify(&self, token: &str, ae: &str, credential: Option<&str>) -> Result<Attachment, String>;
}

/// Who a client has proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// An AE, by its AE-ID (a stem, or SP-relative).
    Ae(String),
    /// A CSE, by its CSE-ID with slash.
    Cse(String),
}

impl Proof {
    /// The identifier.
    pub fn id(&self) -> &str {
        match self {
            Self::Ae(id) | Self::Cse(id) => id,
        }
    }
}

/// What a binding knows about a request beside the primitive.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The client's proof of identity.
    pub proof: Option<Proof>,
    /// Whether it must have one.
    pub auth: AuthMode,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The request may be repeated; its answer is kept until then (milliseconds since 1970).
    pub repeat_until_ms: Option<u64>,
    /// Re-registration with this handover token.
    pub handover: Option<String>,
}

/// An answer with what a binding carries beside the primitive.
#[derive(Debug, Clone, PartialEq)]
pub struct Handled {
    /// The response primitive.
    pub response: onemec_onem2m::Response,
    /// Address of what was created.
    pub location: Option<String>,
    /// Where the originator's AE is served now: point of access and epoch.
    pub home: Option<(String, u64)>,
    /// A handover token.
    pub token: Option<String>,
    /// Other points of access.
    pub peers: Vec<String>,
    /// The request lies in the local buffer under this key: accepted, not committed.
    pub buffered: Option<BufferKey>,
    /// AEs that are missing from a result over their CSEBase, since they gave no answer in time.
    pub incomplete: u32,
    /// The request was withdrawn or its outcome is unknown (DESIGN.md rule 11).
    pub failure: Option<Failure>,
}

/// A request that has no proper oneM2M answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not applied; try again after so many milliseconds. HTTP 503.
    NotApplied {
        /// Milliseconds.
        retry_ms: u64,
    },
    /// Not applied, since its originator asks too often; try again after so many milliseconds. HTTP 429.
    TooMany {
        /// Milliseconds.
        retry_ms: u64,
    },
    /// It may still be applied. HTTP 504.
    Unknown,
}

impl From<onemec_onem2m::Response> for Handled {
    fn from(response: onemec_onem2m::Response) -> Self {
        Self {
            response,
            location: None,
            home: None,
            token: None,
            peers: Vec::new(),
            buffered: None,
            incomplete: 0,
            failure: None,
        }
    }
}
