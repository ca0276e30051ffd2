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

impl<'a> ContentInfo<'a> {
    /// Reads it.
    pub fn parse(_text: &'a str) -> Option<Self> {
        unimplemented!()
    }
}
