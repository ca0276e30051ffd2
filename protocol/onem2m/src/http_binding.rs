//! HTTP binding (TS-0009): pure mapping between primitives and the `http` crate's types.

mod media;
mod request;
mod response;

pub use request::{METHODS, request_from_http, request_to_http};
pub use response::{response_from_http, response_to_http};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::params::{self, bad};
use crate::rsc::Refusal;

macro_rules! headers {
    ($($constant:ident = $name:literal;)*) => { $(const $constant: HeaderName = HeaderName::from_static($name);)* };
}

headers! {
    ORIGIN = "x-m2m-origin";
    RI = "x-m2m-ri";
    OT = "x-m2m-ot";
    RET = "x-m2m-ret";
    RST = "x-m2m-rst";
    OET = "x-m2m-oet";
    RTU = "x-m2m-rtu";
    EC = "x-m2m-ec";
    GID = "x-m2m-gid";
    AS = "x-m2m-as";
    RVI = "x-m2m-rvi";
    VSI = "x-m2m-vsi";
    RSC = "x-m2m-rsc";
    ATI = "x-m2m-ati";
    CTS = "x-m2m-cts";
    CTO = "x-m2m-cto";
    ASRI = "x-m2m-asri";
}

/// The one value of a header.
fn header(headers: &HeaderMap, name: HeaderName) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(name.as_str(), "stands twice"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| bad(name.as_str(), "not UTF-8"))?;
    params::bounded(name.as_str(), text.trim()).map(Some)
}

/// The parts of a header that are joined by `separator`.
fn header_list(headers: &HeaderMap, name: HeaderName, separator: char) -> Result<Vec<String>, Refusal> {
    let value = header(headers, name)?.unwrap_or_default();
    Ok(value.split(separator).filter(|v| !v.is_empty()).map(str::to_owned).collect())
}

/// Sets a header; false if the value cannot stand in one (it came in another binding).
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> bool {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.insert(name, value);
            true
        }
        Err(_) => false,
    }
}
