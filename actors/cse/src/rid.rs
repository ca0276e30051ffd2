//! Unstructured resource ids (TS-0001 7.2): a text of the context and the place of the creating record, so that any CSE
//! of the cluster finds the context of a resource from its id alone, without an index, wherever the context is served.
//!
//! `<generation>-<index>-<ordinal>-<seq>`, each in base 36 with lower-case letters. It fits `[A-Za-z0-9._-]`, never starts
//! with `_` or `~` (the HTTP path markers), never with `C` or `S` (AE-ID stems), and holds exactly three dashes, which no
//! name of a virtual resource does.

use onemec_wire::{ContextId, Seq};

/// The resource id of the resource that record `seq` of `context` created.
pub fn text(context: ContextId, seq: Seq) -> String {
    let mut out = String::with_capacity(24);
    push36(&mut out, u64::from(context.generation()));
    out.push('-');
    push36(&mut out, context.index());
    out.push('-');
    push36(&mut out, u64::from(context.ordinal()));
    out.push('-');
    push36(&mut out, seq.0);
    out
}

/// The context and record that a resource id names, if it is one of ours.
pub fn parse(text: &str) -> Option<(ContextId, Seq)> {
    let mut parts = text.split('-');
    let mut part = || parse36(parts.next()?);
    let generation = u32::try_from(part()?).ok()?;
    let index = part()?;
    let ordinal = u32::try_from(part()?).ok()?;
    let seq = part()?;
    parts.next().is_none().then(|| (ContextId::made(generation, index, ordinal), Seq(seq)))
}

/// Appends a number in base 36.
pub(crate) fn push36(out: &mut String, mut n: u64) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut buffer = [0u8; 13];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = DIGITS[(n % 36) as usize];
        n /= 36;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&buffer[at..]).unwrap_or_default());
}

/// Reads a canonical base 36 number: lower case, no leading zero, so that each id has one text only.
pub(crate) fn parse36(text: &str) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.bytes().try_fold(0u64, |n, b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'z' => b - b'a' + 10,
            _ => return None,
        };
        n.checked_mul(36)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(g: u32, i: u64, o: u32, s: u64) {
            let (context, seq) = (ContextId::made(g, i, o), Seq(s));
            let written = text(context, seq);
            prop_assert_eq!(parse(&written), Some((context, seq)));
            prop_assert!(written.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }

        #[test]
        fn each_id_has_one_text(t in "[0-9a-zA-Z-]{0,20}") {
            if let Some((context, seq)) = parse(&t) {
                prop_assert_eq!(text(context, seq), t);
            }
        }
    }

    #[test]
    fn other_names_are_no_ids() {
        for other in ["", "la", "C123", "S-a-b-c", "1-2-3", "1-2-3-4-5", "01-2-3-4", "1-2-3-", "a-b-c-zzzzzzzzzzzzzzz"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
