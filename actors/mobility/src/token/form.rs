//! The bytes of a token before its signature.

use onemec_core::directory::Attachment;
use onemec_wire::ContextId;

/// Version of the form; never 0.
const VERSION: u8 = 2;
/// Bytes of a signature, and of a bound credential.
pub(super) const MAC_BYTES: usize = 32;
const BOUND: u8 = 1;

/// What stands in a token.
pub(super) struct Form<'a> {
    pub(super) key_id: u8,
    pub(super) attachment: Attachment,
    pub(super) expires_ms: u64,
    pub(super) ae: &'a str,
    pub(super) credential: Option<&'a [u8]>,
}

impl<'a> Form<'a> {
    /// The AE-ID has at most 255 bytes: the caller has checked it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let bound = if self.credential.is_some() { BOUND } else { 0 };
        out.extend_from_slice(&[VERSION, self.key_id, bound]);
        out.extend_from_slice(&self.attachment.context.0);
        out.extend_from_slice(&self.attachment.number.to_be_bytes());
        out.extend_from_slice(&self.expires_ms.to_be_bytes());
        out.push(u8::try_from(self.ae.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.ae.as_bytes());
        out.extend_from_slice(self.credential.unwrap_or_default());
        out
    }

    /// `None` if it is anything but one complete form.
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let [version, key_id, flags] = *take::<3>(&mut rest)?;
        if version != VERSION || flags & !BOUND != 0 {
            return None;
        }
        let context = ContextId(*take::<16>(&mut rest)?);
        let number = u64::from_be_bytes(*take(&mut rest)?);
        let expires_ms = u64::from_be_bytes(*take(&mut rest)?);
        let [length] = *take::<1>(&mut rest)?;
        let (ae, tail) = rest.split_at_checked(usize::from(length))?;
        let ae = std::str::from_utf8(ae).ok().filter(|ae| !ae.is_empty())?;
        let credential = match flags & BOUND {
            0 => None,
            _ => Some(tail),
        };
        (tail.len() == if credential.is_some() { MAC_BYTES } else { 0 }).then_some(Self {
            key_id,
            attachment: Attachment { context, number },
            expires_ms,
            ae,
            credential,
        })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}
