//! The head of an operation's record: what the runtime itself must know, then the actor's own control part.
//!
//! ```text
//! CreateContext: kind (u16) | repeat_len (u16) | repeat mark (bincode) | actor's head
//! Operation:                  repeat_len (u16) | repeat mark (bincode) | actor's head
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use onemec_wire::codec::{self, CodecError};

use crate::context::{ContextKind, RepeatKey};

/// Runtime's part of an operation's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpHead {
    /// Set in records that create a context.
    pub create: Option<ContextKind>,
    /// Set for repeatable requests.
    pub repeat: Option<RepeatKey>,
    /// The actor's control part.
    pub head: Bytes,
}

impl OpHead {
    /// The bytes for the record.
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mark = match &self.repeat {
            Some(key) => codec::encode(key)?,
            None => Bytes::new(),
        };
        let mark_len = u16::try_from(mark.len()).map_err(|_| CodecError::Encode("repeat mark too long".into()))?;
        let mut out = BytesMut::with_capacity(4 + mark.len() + self.head.len());
        if let Some(kind) = self.create {
            out.put_u16_le(kind.0);
        }
        out.put_u16_le(mark_len);
        out.extend_from_slice(&mark);
        out.extend_from_slice(&self.head);
        Ok(out.freeze())
    }

    /// Reads a record's head; the actor's part is a slice of it.
    pub fn decode(bytes: &Bytes, creates: bool) -> Result<Self, CodecError> {
        let short = || CodecError::Decode("operation head is cut off".into());
        let u16_at =
            |at: usize| bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes).ok_or_else(short);
        let (create, at) = if creates { (Some(ContextKind(u16_at(0)?)), 2) } else { (None, 0) };
        let mark_end = at + 2 + usize::from(u16_at(at)?);
        let mark = bytes.get(at + 2..mark_end).ok_or_else(short)?;
        let repeat = if mark.is_empty() { None } else { Some(codec::decode(mark)?) };
        Ok(Self { create, repeat, head: bytes.slice(mark_end..) })
    }
}
