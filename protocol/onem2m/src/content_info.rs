//! m2m:contentInfo (TS-0004 6.3.3): `media-type:encoding[:security]`.

/// The parts of `cnf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentInfo<'a> {
    /// Media type.
    pub media_type: &'a str,
    /// m2m:encodingType: 0 plain, 1 base64 of a text, 2 base64 of bytes.
    pub encoding: Option<u8>,
    /// m2m:contentSecurity.
    pub security: Option<u8>,
}

const ENCODING_MAX: u8 = 2;
const SECURITY_MAX: u8 = 5;

impl<'a> ContentInfo<'a> {
    /// Reads it.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(':');
        let media_type = parts.next()?;
        let (main, sub) = media_type.split_once('/')?;
        let token = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        // Parameters of the media type (`text/plain;charset=utf-8`) pass.
        if !token(main) || !token(sub.split(';').next()?) {
            return None;
        }
        let mut number = |max: u8| match parts.next() {
            None => Some(None),
            Some(digit) if digit.len() == 1 => digit.parse().ok().filter(|n| *n <= max).map(Some),
            Some(_) => None,
        };
        let (encoding, security) = (number(ENCODING_MAX)?, number(SECURITY_MAX)?);
        parts.next().is_none().then_some(Self { media_type, encoding, security })
    }
}

#[cfg(test)]
mod tests {
    use super::ContentInfo;

    #[test]
    fn ts0004_6_3_3_content_info() {
        let c = ContentInfo::parse("application/json:1").unwrap();
        assert_eq!((c.media_type, c.encoding, c.security), ("application/json", Some(1), None));
        assert_eq!(ContentInfo::parse("text/plain:0:5").unwrap().security, Some(5));
        assert_eq!(ContentInfo::parse("text/plain").unwrap().encoding, None);
        for bad in [
            "",
            "text",
            "/plain",
            "text/",
            "text/plain:3",
            "text/plain:0:6",
            "text/plain:0:0:0",
            "text/plain:",
            "text/plain:01",
        ] {
            assert_eq!(ContentInfo::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = ContentInfo::parse(&text);
        }
    }
}
