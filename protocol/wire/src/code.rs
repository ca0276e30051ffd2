//! Numbers that say why a connection was closed, a stream was reset or an ask failed.

use crate::frame::Kind;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident : $int:ty { $($(#[$vdoc:meta])* $variant:ident = $n:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr($int)]
        pub enum $name { $($(#[$vdoc])* $variant = $n,)* }

        impl $name {
            /// All codes, in the order of SPEC.md.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The code with this number.
            pub const fn from_number(n: u64) -> Option<Self> {
                match n { $($n => Some(Self::$variant),)* _ => None }
            }
            /// Its number.
            pub const fn number(self) -> $int { self as $int }
        }
    };
}

codes! {
    /// Application close code of a connection, or reset/stop code of a stream. Numbers are never reused.
    CloseCode: u32 {
        /// The node stops. Dial again later.
        Shutdown = 0x00,
        /// There is a better connection between the two nodes (the lower id's). Use that one.
        Duplicate = 0x01,
        /// A newer connection of the same peer took this one's place.
        Replaced = 0x02,
        /// The peer was taken out of the configuration. Do not dial again.
        PeerRemoved = 0x03,
        /// Nothing, or not enough, came in time during the handshake.
        HandshakeTimeout = 0x04,
        /// Too many connections, streams or handshakes. Dial again later.
        Overloaded = 0x05,
        /// This address or node broke the protocol too often. Dial again much later.
        RateLimited = 0x06,
        /// Protocol: the first bytes of a frame are wrong.
        BadMagic = 0x10,
        /// Protocol: a frame of a version that was not agreed.
        BadVersion = 0x11,
        /// Protocol: no such kind of frame.
        BadKind = 0x12,
        /// Protocol: a frame that is not allowed on this channel, or not now.
        UnexpectedFrame = 0x13,
        /// Protocol: a length over its limit.
        TooLong = 0x14,
        /// Protocol: a body that cannot be decoded, or says something impossible.
        BadBody = 0x15,
        /// Protocol: more was sent than credits were granted.
        CreditExceeded = 0x16,
        /// Protocol: a lane number that does not exist or is already open.
        BadLane = 0x17,
        /// Protocol: a stream ended inside a frame, or a long-lived stream ended.
        Truncated = 0x18,
        /// Protocol: a field that must be zero is not.
        BadField = 0x19,
        /// No common protocol version or a required feature is missing.
        VersionMismatch = 0x20,
        /// Another cluster, or another generation of it (a restored backup).
        WrongCluster = 0x21,
        /// The certificate's domain is not accepted here, or differs from the hello.
        WrongDomain = 0x22,
        /// The certificate's node is not the one expected, or differs from the hello.
        WrongNode = 0x23,
        /// A newer boot of this node is already connected.
        StaleIncarnation = 0x24,
        /// A connection from another domain used a service other than federation.
        FederationOnly = 0x25,
        /// An error inside the node that closes; its log says more.
        Internal = 0x30,
        /// A stream was given up by its user (an ask that nobody awaits any more, a transfer that was aborted).
        Cancelled = 0x31,
    }
}

impl CloseCode {
    /// The peer broke the protocol: counted and rate limited.
    pub const fn is_breach(self) -> bool {
        let n = self.number();
        n >= 0x10 && n < 0x20
    }
    /// Dialling again cannot help before somebody changes a configuration: the longest backoff is used at once.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::PeerRemoved
                | Self::RateLimited
                | Self::VersionMismatch
                | Self::WrongCluster
                | Self::WrongDomain
                | Self::WrongNode
                | Self::FederationOnly
        )
    }
}

codes! {
    /// Why an ask or a call got a Fail frame. Below 0x100 the transport speaks, from there on the service.
    FailCode: u16 {
        /// The service dropped the request without an answer. It may have been carried out.
        NoAnswer = 0x01,
        /// No service with this number at the peer: nothing happened.
        NoHandler = 0x02,
        /// The deadline had passed before the service was asked: nothing happened.
        DeadlinePassed = 0x03,
        /// The peer has no room: nothing happened, try later.
        Overloaded = 0x04,
        /// Not allowed for this peer (another domain): nothing happened.
        Forbidden = 0x05,
        /// The answer is longer than a frame may be. The request was carried out.
        AnswerTooLong = 0x06,
        /// The service failed while it worked on the request. It may have been carried out.
        Internal = 0x07,
    }
}

/// First code that services may use in a Fail or a refused transfer.
pub const SERVICE_CODE_MIN: u16 = 0x100;

/// What a peer did that the protocol does not allow. Each variant has its [`CloseCode`]; the connection is closed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProtocolError {
    #[error("not a frame (magic {0:#06x})")]
    Magic(u16),
    #[error("frame version {0} was not agreed")]
    Version(u8),
    #[error("frame kind {0} does not exist")]
    Kind(u8),
    #[error("frame {kind:?} is not allowed on {channel} while {state}")]
    Unexpected { kind: Kind, channel: &'static str, state: &'static str },
    #[error("{what} of {len} is over the limit of {limit}")]
    TooLong { what: &'static str, len: u64, limit: u64 },
    #[error("body of {0:?} cannot be decoded")]
    Body(Kind),
    #[error("{used} bytes were sent beyond the credit")]
    Credit { used: u64 },
    #[error("lane {0} does not exist or is already open")]
    Lane(u64),
    #[error("stream ended inside {0}")]
    Truncated(&'static str),
    #[error("field {0} must be zero")]
    Field(&'static str),
}

impl ProtocolError {
    /// The close code for this breach.
    pub const fn code(&self) -> CloseCode {
        match self {
            Self::Magic(_) => CloseCode::BadMagic,
            Self::Version(_) => CloseCode::BadVersion,
            Self::Kind(_) => CloseCode::BadKind,
            Self::Unexpected { .. } => CloseCode::UnexpectedFrame,
            Self::TooLong { .. } => CloseCode::TooLong,
            Self::Body(_) => CloseCode::BadBody,
            Self::Credit { .. } => CloseCode::CreditExceeded,
            Self::Lane(_) => CloseCode::BadLane,
            Self::Truncated(_) => CloseCode::Truncated,
            Self::Field(_) => CloseCode::BadField,
        }
    }
}
