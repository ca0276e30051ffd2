//! Names for AEs: the AE-ID stem as DNS labels, so that a name can be turned back into its AE without a table.
//!
//! DNS knows no case and a host name only letters, digits and inner hyphens. So the first letter (`C` or `S`) is written
//! small, other small letters and digits stand for themselves, and `x` begins an escape:
//!
//! ```text
//! x0 = x    x1 = _    x2 = .    x3 = - at the edge of a label    xu + letter = the capital letter    x9HH = byte HH
//! ```
//!
//! `Cdevice-004` is `cdevice-004`, `Smeter_A` is `smeterx1xua`.

use std::fmt::Write as _;

/// Longest label (RFC 1035 2.3.4), octets.
pub const LABEL_BYTES_MAX: usize = 63;
/// An AE-ID whose labels are longer than this together gets no name: a domain name has 255 octets.
const LABELS_BYTES_MAX: usize = 150;

/// The labels of an AE-ID stem, joined by dots; `None` if it is no stem or too long for a name.
pub fn of_stem(stem: &str) -> Option<String> {
    let first = stem.chars().next().filter(|c| matches!(c, 'C' | 'S'))?;
    let mut pieces = vec![first.to_ascii_lowercase().to_string()];
    let rest = stem.as_bytes().get(1..)?;
    for (i, byte) in rest.iter().enumerate() {
        let edge = i + 1 == rest.len();
        pieces.push(match byte {
            b'x' => "x0".into(),
            b'_' => "x1".into(),
            b'.' => "x2".into(),
            b'-' if edge => "x3".into(),
            b'A'..=b'Z' => format!("xu{}", char::from(byte.to_ascii_lowercase())),
            b'a'..=b'z' | b'0'..=b'9' | b'-' => char::from(*byte).to_string(),
            other => format!("x9{other:02x}"),
        });
    }
    let mut name = String::new();
    let mut length = 0;
    for piece in pieces {
        // Hyphens where this label may end or the next one begins are escaped as well.
        let edge = length == 0 || length + 8 > LABEL_BYTES_MAX;
        let piece = if edge && piece == "-" { "x3".to_owned() } else { piece };
        if length + piece.len() > LABEL_BYTES_MAX {
            name.push('.');
            length = 0;
        }
        length += piece.len();
        let _never = write!(name, "{piece}");
    }
    (name.len() <= LABELS_BYTES_MAX).then_some(name)
}

/// The AE-ID stem that the labels stand for; `None` if they stand for none. Labels are compared without case.
pub fn to_stem<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut out = Vec::new();
    let text: Vec<u8> = labels.into_iter().flatten().map(u8::to_ascii_lowercase).collect();
    let mut bytes = text.iter().copied();
    out.push(match bytes.next()? {
        b'c' => b'C',
        b's' => b'S',
        _ => return None,
    });
    let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'x' => match bytes.next()? {
                b'0' => b'x',
                b'1' => b'_',
                b'2' => b'.',
                b'3' => b'-',
                b'u' => bytes.next().filter(u8::is_ascii_lowercase)?.to_ascii_uppercase(),
                b'9' => hex(bytes.next())? << 4 | hex(bytes.next())?,
                _ => return None,
            },
            b'a'..=b'z' | b'0'..=b'9' | b'-' => byte,
            _ => return None,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(name: &str) -> Option<String> {
        to_stem(name.split('.').map(str::as_bytes))
    }

    #[test]
    fn names_lead_back_to_their_stem() {
        let long = format!("C{}", "a-".repeat(60));
        for stem in ["C", "Cdevice-004", "Smeter_A", "Cx.y-", "C-", "Cä", "SXXX", "Cxu9", &long] {
            let name = of_stem(stem).unwrap_or_else(|| panic!("{stem} has a name"));
            assert_eq!(back(&name).as_deref(), Some(stem), "{name}");
            assert_eq!(back(&name.to_uppercase()).as_deref(), Some(stem), "case does not matter");
            for label in name.split('.') {
                assert!(!label.is_empty() && label.len() <= LABEL_BYTES_MAX, "{name}");
                assert!(!label.starts_with('-') && !label.ends_with('-'), "{name}");
                assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            }
        }
        assert_eq!(of_stem("Cdevice-004").as_deref(), Some("cdevice-004"));
    }

    #[test]
    fn what_is_no_stem_has_no_name() {
        for stem in ["", "device", "cdevice", &format!("C{}", "ä".repeat(80))] {
            assert_eq!(of_stem(stem), None, "{stem}");
        }
        for name in ["", "device", "cx", "cx7", "cxu", "cxu-", "cx9g0", "cx9f", "c_a", "c a", "c\u{e4}"] {
            assert_eq!(back(name), None, "{name}");
        }
    }
}
