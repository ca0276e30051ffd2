//! Bytes to frames, without I/O: feed it what came, take the frames that are whole.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use bytes::Bytes;

use crate::code::ProtocolError;
use crate::frame::{Frame, FrameHeader, Kind, check};
use crate::limits::FRAME_HEADER_BYTES;
use crate::rope::{CopyMeter, Input, Rope};
use crate::service::ServiceId;

/// Turns the bytes of one stream into frames.
///
/// Legal order: any number of `push` and `next`, in any order, until `next` gives an error; after that the stream is of
/// no use. Payload is never copied; a header, the lengths and a body that came in pieces are. What is buffered is what
/// was pushed: the caller stops reading while it waits, so that it is at most one frame and one piece.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    state: State,
    frame_bytes_max: usize,
    copied: CopyMeter,
}

#[derive(Debug)]
enum State {
    Header,
    Lengths(FrameHeader, Kind),
    Payload(FrameHeader, Kind, Vec<u32>, usize),
}

impl Decoder {
    /// A decoder for a stream whose frames are at most `frame_bytes_max` long.
    pub const fn new(frame_bytes_max: usize) -> Self {
        let input = Input::new();
        Self { input, state: State::Header, frame_bytes_max, copied: CopyMeter::new() }
    }

    /// More bytes of the stream.
    pub fn push(&mut self, piece: Bytes) {
        self.input.push(piece);
    }

    /// The next whole frame; `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            match std::mem::replace(&mut self.state, State::Header) {
                State::Header => {
                    if let Some(frame) = self.short_frame()? {
                        return Ok(Some(frame));
                    }
                    let mut header = FrameHeader::new_zeroed();
                    if !self.input.read(header.as_mut_bytes()) {
                        return Ok(None);
                    }
                    let kind = header.check(self.frame_bytes_max)?;
                    self.state = if header.attachments.get() == 0 {
                        State::Payload(header, kind, Vec::new(), header.body_len.get() as usize)
                    } else {
                        State::Lengths(header, kind)
                    };
                }
                State::Lengths(header, kind) => {
                    let count = usize::from(header.attachments.get());
                    if self.input.len() < 4 * count {
                        self.state = State::Lengths(header, kind);
                        return Ok(None);
                    }
                    let mut need = header.body_len.get() as usize;
                    let mut lengths = Vec::with_capacity(count);
                    for _ in 0..count {
                        let mut len = U32::ZERO;
                        self.input.read(len.as_mut_bytes());
                        need = need.saturating_add(len.get() as usize);
                        check("frame", FRAME_HEADER_BYTES + 4 * count + need, self.frame_bytes_max)?;
                        lengths.push(len.get());
                    }
                    self.state = State::Payload(header, kind, lengths, need);
                }
                State::Payload(header, kind, lengths, need) => {
                    if self.input.len() < need {
                        self.state = State::Payload(header, kind, lengths, need);
                        return Ok(None);
                    }
                    let body = self.input.take(header.body_len.get() as usize).to_contiguous(&self.copied);
                    let attachments = lengths.iter().map(|l| self.input.take(*l as usize)).collect();
                    return Ok(Some(frame(&header, kind, body, attachments)));
                }
            }
        }
    }

    /// The commonest case by far: a frame without attachments that lies in one piece.
    fn short_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        let Ok((header, rest)) = FrameHeader::read_from_prefix(self.input.front()) else { return Ok(None) };
        let body_len = header.body_len.get() as usize;
        if header.attachments.get() != 0 || rest.len() < body_len {
            return Ok(None);
        }
        let kind = header.check(self.frame_bytes_max)?;
        let body = self.input.take_front(FRAME_HEADER_BYTES, body_len);
        Ok(Some(frame(&header, kind, body, Vec::new())))
    }

    /// How many bytes are still missing from the frame that has begun; 0 between frames or before its header is whole.
    /// A receiver reserves memory for a long frame with this before it reads on.
    pub fn missing(&self) -> usize {
        match &self.state {
            State::Payload(_, _, _, need) => need.saturating_sub(self.input.len()),
            _ => 0,
        }
    }

    /// The stream has ended: was that between two frames?
    pub fn end(&self) -> Result<(), ProtocolError> {
        match self.state {
            State::Header if self.input.len() == 0 => Ok(()),
            State::Header => Err(ProtocolError::Truncated("a header")),
            _ => Err(ProtocolError::Truncated("a frame")),
        }
    }

    /// What was pushed and belongs to no frame: the begin of a transfer's raw bytes.
    pub fn take_raw(&mut self) -> Rope {
        self.input.take_all()
    }

    /// Bytes of bodies that were copied because they came in pieces.
    pub fn copied_bytes(&self) -> u64 {
        self.copied.bytes()
    }
}

fn frame(header: &FrameHeader, kind: Kind, body: Bytes, attachments: Vec<Rope>) -> Frame {
    Frame {
        kind,
        service: ServiceId(header.service.get()),
        deadline_ms: header.deadline_ms.get(),
        correlation: header.correlation.get(),
        target: header.target.get(),
        body,
        attachments,
    }
}
