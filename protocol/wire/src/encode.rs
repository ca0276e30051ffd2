//! Frames to bytes: small things are coalesced into buffers, large ones travel as they are.

use bytes::{Bytes, BytesMut};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::code::ProtocolError;
use crate::frame::Frame;
use crate::limits::{COALESCE_BYTES, INLINE_BYTES_MAX};
use crate::rope::Rope;

/// Collects frames of one stream until they are taken to be written.
///
/// Headers and pieces up to [`INLINE_BYTES_MAX`] are copied into buffers of [`COALESCE_BYTES`]; longer ones are kept as
/// their own `Bytes`, in order. The caller bounds what it pushes with [`Encoder::queued_bytes`].
#[derive(Debug, Default)]
pub struct Encoder {
    pieces: Vec<Bytes>,
    buffer: BytesMut,
    queued: usize,
    copied: u64,
}

impl Encoder {
    /// An empty encoder; allocates with the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a frame at the end; its length on the wire. On an error nothing was put.
    pub fn push(&mut self, frame: &Frame, frame_bytes_max: usize) -> Result<usize, ProtocolError> {
        let header = frame.header(frame_bytes_max)?;
        let before = self.queued;
        self.copy(header.as_bytes());
        for attachment in &frame.attachments {
            // Fits: a frame is shorter than 4 GiB, which the header's limits guarantee.
            self.copy(U32::new(u32::try_from(attachment.len()).unwrap_or(u32::MAX)).as_bytes());
        }
        self.piece(&frame.body);
        for attachment in &frame.attachments {
            self.rope(attachment);
        }
        Ok(self.queued - before)
    }

    /// Puts raw bytes at the end (a transfer's payload).
    pub fn rope(&mut self, rope: &Rope) {
        rope.chunks().for_each(|c| self.piece(c));
    }

    fn piece(&mut self, piece: &Bytes) {
        if piece.len() <= INLINE_BYTES_MAX {
            self.copied += piece.len() as u64;
            self.copy(piece);
        } else {
            self.close_buffer();
            self.queued += piece.len();
            self.pieces.push(piece.clone());
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.close_buffer();
            self.buffer.reserve(COALESCE_BYTES);
        }
        self.queued += bytes.len();
        self.buffer.extend_from_slice(bytes);
    }

    fn close_buffer(&mut self) {
        if !self.buffer.is_empty() {
            self.pieces.push(self.buffer.split().freeze());
        }
    }

    /// Bytes that wait to be taken.
    pub const fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Moves everything that waits to the end of `out`, in pieces ready to be written.
    pub fn take(&mut self, out: &mut Vec<Bytes>) {
        self.close_buffer();
        out.append(&mut self.pieces);
        self.queued = 0;
    }

    /// Bytes of bodies and attachments copied so far (headers are not payload).
    pub const fn copied_bytes(&self) -> u64 {
        self.copied
    }
}
