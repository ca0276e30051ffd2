//! oneM2M request primitives as HTTP requests (TS-0009), as far as a device needs them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::error::DeviceError;
use crate::extensions;
use crate::http1::HttpError;

/// Resource type numbers.
pub mod ty {
    /// AE.
    pub const AE: u16 = 2;
    /// container.
    pub const CONTAINER: u16 = 3;
    /// contentInstance.
    pub const CONTENT_INSTANCE: u16 = 4;
}

/// The CSEBase of whichever CSE is asked, as CSE-relative address (`-` stands for its name, TS-0001 7.2).
pub const CSE_BASE: &str = "/-";

/// One request, ready to be sent any number of times to any host: it names no host.
#[derive(Debug, Clone)]
pub struct Primitive {
    /// For messages.
    pub what: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path and query, origin form.
    pub path: String,
    /// Resource type of a CREATE.
    pub ty: Option<u16>,
    /// Content.
    pub body: Bytes,
    /// `X-M2M-Origin`.
    pub originator: String,
    /// `X-M2M-RI`.
    pub request: String,
    /// Mark of a repeatable request: milliseconds since 1970.
    pub repeat_until_ms: Option<u64>,
    /// Handover token of a re-registration.
    pub handover: Option<String>,
    /// Bearer token.
    pub bearer: Option<String>,
}

impl Primitive {
    /// As HTTP.
    ///
    /// # Errors
    /// If a part of it cannot stand in an HTTP request.
    pub fn to_http(&self) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut b = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .header("x-m2m-origin", &self.originator)
            .header("x-m2m-ri", &self.request)
            .header("x-m2m-rvi", "3")
            .header(header::ACCEPT, "application/json");
        if let Some(ty) = self.ty {
            b = b.header(header::CONTENT_TYPE, format!("application/json;ty={ty}"));
        } else if !self.body.is_empty() {
            b = b.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(until) = self.repeat_until_ms {
            b = b.header(extensions::REPEAT, until);
        }
        if let Some(token) = &self.handover {
            b = b.header(extensions::HANDOVER, token);
        }
        if let Some(bearer) = &self.bearer {
            b = b.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        b.body(Full::new(self.body.clone())).map_err(|e| HttpError::BadRequest(format!("{}: {e}", self.what)))
    }
}

/// Content of an AE registration. `node_link` (`nl`) names the node that the AE runs on: AEs of one node move together.
pub fn ae(name: &str, app_id: &str, node_link: Option<&str>) -> Bytes {
    let mut ae = json!({"rn": name, "api": app_id, "rr": false, "srv": ["3"]});
    if let (Some(node_link), Some(map)) = (node_link, ae.as_object_mut()) {
        map.insert("nl".into(), json!(node_link));
    }
    encode(&json!({ "m2m:ae": ae }))
}

/// Content of a container.
pub fn container(name: &str, instances_max: Option<u64>) -> Bytes {
    let mut cnt = json!({ "rn": name });
    if let (Some(mni), Some(map)) = (instances_max, cnt.as_object_mut()) {
        map.insert("mni".into(), json!(mni));
    }
    encode(&json!({ "m2m:cnt": cnt }))
}

/// Content of a contentInstance. A text goes as it is; anything else goes as the text of its JSON, with the media type in
/// `cnf`: `con` of TS-0004 is a string for most readers.
pub fn content_instance(content: &Value) -> Bytes {
    let con = content_text(content);
    let cin = match content {
        Value::String(_) => json!({ "con": con }),
        _ => json!({"cnf": "application/json:0", "con": con}),
    };
    encode(&json!({ "m2m:cin": cin }))
}

/// The text that goes into `con`.
pub fn content_text(content: &Value) -> Cow<'_, str> {
    match content {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

fn encode(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// A text attribute of the one resource in `body`.
///
/// # Errors
/// [`DeviceError::BadAnswer`] if it is not there.
pub fn attribute(what: &'static str, body: &[u8], resource: &str, name: &str) -> Result<String, DeviceError> {
    let bad = |detail: String| DeviceError::BadAnswer { what, detail };
    let value: Value = serde_json::from_slice(body).map_err(|e| bad(format!("not JSON: {e}")))?;
    value
        .get(resource)
        .and_then(|r| r.get(name))
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| bad(format!("{resource} has no `{name}`")))
}

/// One path segment with everything escaped that could end it.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_form_follows_ts_0009() {
        let p = Primitive {
            what: "write",
            method: Method::POST,
            path: "/cnt17".into(),
            ty: Some(ty::CONTENT_INSTANCE),
            body: content_instance(&json!({"n": 1})),
            originator: "Cdev".into(),
            request: "r1".into(),
            repeat_until_ms: Some(12),
            handover: None,
            bearer: Some("secret".into()),
        };
        let r = p.to_http().unwrap();
        assert_eq!(r.headers()["content-type"], "application/json;ty=4");
        assert_eq!(r.headers()["x-m2m-rvi"], "3");
        assert_eq!(r.headers()["x-onemec-repeat"], "12");
        assert_eq!(p.body, r#"{"m2m:cin":{"cnf":"application/json:0","con":"{\"n\":1}"}}"#);
        assert!(Primitive { originator: "a\nb".into(), ..p }.to_http().is_err());
    }

    #[test]
    fn attributes_and_segments() {
        assert_eq!(attribute("t", br#"{"m2m:ae":{"aei":"C1"}}"#, "m2m:ae", "aei").unwrap(), "C1");
        assert!(attribute("t", b"[]", "m2m:ae", "aei").is_err());
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }
}
