//! Media types (TS-0004 6.7, TS-0009 6.4.3).

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::params;
use crate::rsc::{Refusal, Rsc};
use crate::tables::Ty;

/// What we send: every oneM2M entity reads the plain type.
pub(super) const JSON: &str = "application/json";

/// Media types whose bodies are JSON content.
const JSON_TYPES: &[&str] = &[JSON, "application/vnd.onem2m-res+json", "application/vnd.onem2m-ntfy+json"];

/// NOT_ACCEPTABLE if the client reads none of what we send (TS-0009 6.4.1). Weights are not looked at, but for 0.
pub(super) fn check_accept(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = false;
    let fits = ranges.any(|range| {
        any |= !range.trim().is_empty();
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let wanted = ["*/*", "application/*"].into_iter().chain(JSON_TYPES.iter().copied());
        wanted.into_iter().any(|t| t.eq_ignore_ascii_case(media_type)) && !parts.any(is_never)
    });
    if fits || !any { Ok(()) } else { Err(Refusal::new(Rsc::NOT_ACCEPTABLE, "Accept: only JSON is sent")) }
}

/// `q=0`: not at all.
fn is_never(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.and_then(|w| w.parse::<f32>().ok()) == Some(0.0)
}

/// What Content-Type says: whether there is one, and its `ty` parameter.
pub(super) struct ContentType {
    pub(super) ty: Option<Ty>,
    is_json: bool,
    text: String,
}

impl ContentType {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = super::header(headers, CONTENT_TYPE)?.unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let mut ty = None;
        for part in parts {
            if let Some((name, value)) = part.split_once('=')
                && name.trim().eq_ignore_ascii_case("ty")
            {
                ty = Some(Ty(params::number("ty", value)?));
            }
        }
        // Without any type the body is taken for what it looks like.
        let is_json = media_type.is_empty() || JSON_TYPES.iter().any(|t| t.eq_ignore_ascii_case(media_type));
        Ok(Self { ty, is_json, text })
    }

    /// UNSUPPORTED_MEDIA_TYPE if a body of this type cannot be read.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.is_json {
            return Ok(());
        }
        Err(Refusal::new(Rsc::UNSUPPORTED_MEDIA_TYPE, format!("{}: only JSON is read", self.text)))
    }
}
