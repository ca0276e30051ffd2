//! A payload in the pieces in which it came or was made.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};

/// Counts bytes that our code copied, so that "zero-copy" is a number and not a claim.
#[derive(Debug, Default)]
pub struct CopyMeter(AtomicU64);

impl CopyMeter {
    /// A meter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    /// `bytes` more were copied.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// How many were copied so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A byte string in pieces (QUIC never delivers a payload in one). Cloning shares the bytes. A rope keeps the memory of
/// whole receive batches alive (up to 64 KiB a piece): copy small things out if they are kept.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    /// The only piece of most ropes: no vector is allocated for it.
    first: Bytes,
    rest: Vec<Bytes>,
    len: usize,
}

impl Rope {
    /// The empty rope.
    pub const fn new() -> Self {
        Self { first: Bytes::new(), rest: Vec::new(), len: 0 }
    }
    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.len
    }
    /// No bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Puts a piece at the end; empty pieces are left out.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.push(piece);
        }
    }
    /// The pieces in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).filter(|c| !c.is_empty()).chain(&self.rest)
    }
    /// The pieces in order, owned.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.first).filter(|c| !c.is_empty()).chain(self.rest)
    }
    /// How many pieces.
    pub fn chunk_count(&self) -> usize {
        usize::from(!self.first.is_empty()) + self.rest.len()
    }
    /// The bytes in one piece. Copies (and counts the copy) unless there is one piece only.
    pub fn to_contiguous(&self, meter: &CopyMeter) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        meter.add(self.len);
        let mut all = BytesMut::with_capacity(self.len);
        self.chunks().for_each(|c| all.extend_from_slice(c));
        all.freeze()
    }
    /// The bytes in one piece of exactly their size, always copied: for small things that are kept.
    pub fn copy_out(&self, meter: &CopyMeter) -> Bytes {
        meter.add(self.len);
        let mut all = BytesMut::with_capacity(self.len);
        self.chunks().for_each(|c| all.extend_from_slice(c));
        all.freeze()
    }
}

impl From<Bytes> for Rope {
    fn from(piece: Bytes) -> Self {
        let mut rope = Self::new();
        rope.push(piece);
        rope
    }
}

impl FromIterator<Bytes> for Rope {
    fn from_iter<T: IntoIterator<Item = Bytes>>(pieces: T) -> Self {
        let mut rope = Self::new();
        pieces.into_iter().for_each(|p| rope.push(p));
        rope
    }
}

/// Ropes are equal when their bytes are, however they are cut.
impl PartialEq for Rope {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.chunks().flat_map(|c| c.iter()).eq(other.chunks().flat_map(|c| c.iter()))
    }
}
impl Eq for Rope {}

/// The received pieces that no frame has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pieces: std::collections::VecDeque<Bytes>,
    len: usize,
}

impl Input {
    pub(crate) const fn new() -> Self {
        Self { pieces: std::collections::VecDeque::new(), len: 0 }
    }
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// Copies `out.len()` bytes out and drops them from the input; `false` and unchanged if there are too few.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> bool {
        if self.len < out.len() {
            return false;
        }
        let mut done = 0;
        while let (Some(rest), Some(front)) = (out.get_mut(done..), self.pieces.front_mut()) {
            let n = rest.len().min(front.len());
            let (Some(to), Some(from)) = (rest.get_mut(..n), front.get(..n)) else { break };
            to.copy_from_slice(from);
            front.advance(n);
            done += n;
            self.len -= n;
            if !front.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        true
    }
    /// Takes the next `len` bytes as they are; fewer if there are not so many.
    pub(crate) fn take(&mut self, len: usize) -> Rope {
        let mut rope = Rope::new();
        let mut left = len;
        while left > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            let piece =
                if front.len() <= left { self.pieces.pop_front().unwrap_or_default() } else { front.split_to(left) };
            left -= piece.len();
            self.len -= piece.len();
            rope.push(piece);
        }
        rope
    }
    /// The first piece; empty if there is none.
    pub(crate) fn front(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |p| p)
    }
    /// Drops `skip` bytes of the first piece and takes the `len` after them, which must lie in it.
    pub(crate) fn take_front(&mut self, skip: usize, len: usize) -> Bytes {
        let Some(front) = self.pieces.front_mut() else { return Bytes::new() };
        let end = (skip + len).min(front.len());
        let taken = front.slice(skip.min(end)..end);
        self.len -= end;
        if end == front.len() {
            self.pieces.pop_front();
        } else {
            front.advance(end);
        }
        taken
    }
    /// Everything, as it is.
    pub(crate) fn take_all(&mut self) -> Rope {
        self.take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rope_knows_its_length_and_joins_only_when_it_must() {
        let meter = CopyMeter::new();
        let one = Rope::from(Bytes::from_static(b"hello"));
        assert_eq!(one.to_contiguous(&meter), "hello");
        assert_eq!(meter.bytes(), 0);
        let two: Rope = [Bytes::from_static(b"hel"), Bytes::new(), Bytes::from_static(b"lo")].into_iter().collect();
        assert_eq!((two.len(), two.chunk_count()), (5, 2));
        assert_eq!(two, one);
        assert_eq!(two.to_contiguous(&meter), "hello");
        assert_eq!(meter.bytes(), 5);
    }

    #[test]
    fn input_is_read_across_pieces() {
        let mut input = Input::default();
        for piece in ["ab", "c", "defg"] {
            input.push(Bytes::from_static(piece.as_bytes()));
        }
        let mut out = [0; 4];
        assert!(input.read(&mut out));
        assert_eq!(&out, b"abcd");
        assert!(!input.read(&mut [0; 4]));
        assert_eq!(input.take(9).to_contiguous(&CopyMeter::new()), "efg");
        assert_eq!(input.len(), 0);
    }
}
