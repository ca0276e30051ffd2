//! Every limit of the protocol, in one place. All are checked before anything is allocated for what they limit.

/// Version of the protocol that this crate speaks; stands in every frame header.
pub const PROTOCOL_VERSION: u8 = 1;
/// The ALPN name of the protocol.
pub const ALPN: &[u8] = b"onemec/1";

/// Length of a frame's fixed header.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Most attachments of one frame.
pub const ATTACHMENTS_MAX: usize = 1024;
/// Longest body of a frame (the part that is encoded and made contiguous).
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// Longest frame on the control stream.
pub const CONTROL_FRAME_BYTES_MAX: usize = 4 << 10;
/// Longest frame on a lane, header included. One record of the greatest size fits. What is longer goes by a call stream
/// or a transfer stream; what is longer than about 256 KiB should, since it delays what stands behind it on the lane.
pub const LANE_FRAME_BYTES_MAX: usize = 20 << 20;
/// Longest frame on a call stream, header included.
pub const CALL_FRAME_BYTES_MAX: usize = 64 << 20;
/// Longest frame on a transfer stream (its header and its closing status; the raw bytes are not a frame).
pub const TRANSFER_FRAME_BYTES_MAX: usize = 1 << 20;

/// Length of a datagram's fixed header.
pub const DATAGRAM_HEADER_BYTES: usize = 8;
/// Longest datagram, header included.
pub const DATAGRAM_BYTES_MAX: usize = 65_000;

/// Longest text in a Fail, Refuse or GoAway body.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest name of a domain.
pub const DOMAIN_BYTES_MAX: usize = 253;

/// Pieces up to this length are copied into the coalescing buffer; longer ones travel as their own `Bytes`.
pub const INLINE_BYTES_MAX: usize = 4 << 10;
/// Length of a coalescing buffer.
pub const COALESCE_BYTES: usize = 16 << 10;

/// What a frame costs in credits beyond its length: the memory that a receiver spends to keep it.
pub const CREDIT_FRAME_OVERHEAD_BYTES: usize = 128;
/// Smallest window of credits a receiver may grant: the longest lane frame fits into seven eighths of it.
pub const CREDIT_WINDOW_BYTES_MIN: u64 = 24 << 20;
/// Greatest window of credits a receiver may grant.
pub const CREDIT_WINDOW_BYTES_MAX: u64 = 1 << 32;

/// Lanes with a meaning of their own, see [`crate::channel::LaneNumber`].
pub const FIXED_LANES: u8 = 3;
/// Message lanes that a sender may open, at most; the hash of the target picks one.
pub const MESSAGE_LANES_MAX: u8 = 8;
