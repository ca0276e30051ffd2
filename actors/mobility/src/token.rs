//! Handover tokens: what a device shows at the target instead of enrolling again (COVERAGE.md rows H06, G01).
//!
//! A token is opaque text, base64url without padding of (integers big-endian):
//!
//! ```text
//!  0        1        2        3        19       27           35
//!  | version| key id | flags  | context| number | expires_ms | ae length 1 | ae | [credential 32] | mac 32 |
//! ```
//! Flags: bit 0 a credential is bound; others are 0. The last field is HMAC-SHA256 over everything before it, under the
//! key with that id. The credential appears only as HMAC-SHA256 under the same key. Both are compared in constant time
//! (ring). The clock is the nodes' wall clock: keep it in step, or choose a long validity.
//!
//! A token is good for one re-attachment: context and number are an [`Attachment`], and the directory, which counts them,
//! takes each number once. What holds here (signature, time, AE, credential) says only who may ask.

mod form;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use onemec_core::directory::Attachment;
use ring::hmac;

use self::form::Form;

/// Longest AE-ID in a token, in bytes.
pub const AE_BYTES_MAX: usize = 255;
/// Longest token, in bytes of text: every longer text is refused unread.
pub const TOKEN_BYTES_MAX: usize = 512;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A signing key with its number. Never prints its secret.
pub struct TokenKey {
    id: u8,
    key: hmac::Key,
}

impl TokenKey {
    /// From 32 secret random bytes; `id` tells keys apart during a rotation.
    pub fn new(id: u8, secret: &[u8; KEY_BYTES]) -> Self {
        Self { id, key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }
    /// Its number.
    pub fn id(&self) -> u8 {
        self.id
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

/// What a token says once it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// What it permits.
    pub attachment: Attachment,
    /// The AE-ID, as it was given to [`Keyring::issue`].
    pub ae: String,
    /// It holds before this time.
    pub expires_ms: u64,
    /// It is bound to a credential.
    pub bound: bool,
}

/// What a token is to say.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// What it permits.
    pub attachment: Attachment,
    /// The AE-ID.
    pub ae: &'a str,
    /// The token holds before this time.
    pub expires_ms: u64,
    /// What the client proved its identity with, if it did.
    pub credential: Option<&'a str>,
}

/// Who shows a token.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// The AE-ID that it claims.
    pub ae: &'a str,
    /// What it proved its identity with.
    pub credential: Option<&'a str>,
}

/// Why a token does not hold. Nothing was changed; a new registration is the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this version.
    #[error("the token cannot be read")]
    Malformed,
    /// It was signed with a key that is not (any more) in use.
    #[error("the token was signed with key {0}, which is not in use")]
    UnknownKey(u8),
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    BadSignature,
    /// Its time is over.
    #[error("the token expired at {expires_ms}")]
    Expired {
        /// When (milliseconds since 1970).
        expires_ms: u64,
    },
    /// It is another AE's.
    #[error("the token belongs to another AE")]
    WrongAe,
    /// It is bound to another credential than the client's.
    #[error("the token is bound to another credential")]
    WrongCredential,
}

impl TokenError {
    /// A short word for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "token-malformed",
            Self::UnknownKey(_) => "token-key",
            Self::BadSignature => "token-signature",
            Self::Expired { .. } => "token-expired",
            Self::WrongAe => "token-ae",
            Self::WrongCredential => "token-credential",
        }
    }
}

/// Why no token was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The AE-ID is too long.
    #[error("an AE-ID has 1 to {AE_BYTES_MAX} bytes")]
    AeLength,
}

/// Why a key was not taken. The ring is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key id {0} is in use")]
pub struct KeyIdTaken(pub u8);

/// The keys of a cluster: the current one signs; it and the one before verify.
#[derive(Debug)]
pub struct Keyring {
    current: TokenKey,
    previous: Option<TokenKey>,
}

impl Keyring {
    /// One key.
    pub fn new(current: TokenKey) -> Self {
        Self { current, previous: None }
    }

    /// `next` signs from now on; tokens of the present key hold until the rotation after this one.
    pub fn rotate(&mut self, next: TokenKey) -> Result<(), KeyIdTaken> {
        if self.key(next.id).is_some() {
            return Err(KeyIdTaken(next.id));
        }
        self.previous = Some(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Tokens of the previous key hold no longer.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    fn key(&self, id: u8) -> Option<&hmac::Key> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|k| k.id == id).map(|k| &k.key)
    }

    /// Makes a token.
    pub fn issue(&self, grant: Grant<'_>) -> Result<String, IssueError> {
        if grant.ae.is_empty() || grant.ae.len() > AE_BYTES_MAX {
            return Err(IssueError::AeLength);
        }
        let key = &self.current.key;
        let credential = grant.credential.map(|c| hmac::sign(key, &credential_message(c)));
        let mut bytes = Form {
            key_id: self.current.id,
            attachment: grant.attachment,
            expires_ms: grant.expires_ms,
            ae: grant.ae,
            credential: credential.as_ref().map(AsRef::as_ref),
        }
        .to_bytes();
        let mac = hmac::sign(key, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token and checks all that it binds. Nothing of it is believed before its signature.
    pub fn verify(&self, token: &str, bearer: Bearer<'_>, now_ms: u64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        let (signed, mac) = bytes.split_last_chunk::<{ form::MAC_BYTES }>().ok_or(TokenError::Malformed)?;
        let form = Form::from_bytes(signed).ok_or(TokenError::Malformed)?;
        let key = self.key(form.key_id).ok_or(TokenError::UnknownKey(form.key_id))?;
        hmac::verify(key, signed, mac).map_err(|_| TokenError::BadSignature)?;
        if now_ms >= form.expires_ms {
            return Err(TokenError::Expired { expires_ms: form.expires_ms });
        }
        if form.ae != bearer.ae {
            return Err(TokenError::WrongAe);
        }
        if let Some(bound) = form.credential {
            let shown = bearer.credential.ok_or(TokenError::WrongCredential)?;
            hmac::verify(key, &credential_message(shown), bound).map_err(|_| TokenError::WrongCredential)?;
        }
        Ok(Claims {
            attachment: form.attachment,
            ae: form.ae.to_owned(),
            expires_ms: form.expires_ms,
            bound: form.credential.is_some(),
        })
    }
}

/// What is signed for a credential: never the beginning of a token, which begins with its version.
fn credential_message(credential: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + credential.len());
    message.extend_from_slice(b"\0credential\0");
    message.extend_from_slice(credential.as_bytes());
    message
}
