//! Responses over HTTP (TS-0009 6.3, 6.4).

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LOCATION, CONTENT_TYPE};

use super::media::{ContentType, JSON};
use super::{ASRI, ATI, CTO, CTS, EC, ORIGIN, OT, RI, RSC, RST, RVI, VSI, header, header_list, set};
use crate::address::to_http_path;
use crate::limits::BODY_BYTES_MAX;
use crate::operation::{ContentStatus, Release};
use crate::params::{abs_rel, bad, boolean, number, one_of, timestamp};
use crate::response::Response;
use crate::rsc::{Refusal, Rsc};

/// Reads a response. X-M2M-RSC is authoritative; where it is missing (a plain web server as notification target) the
/// class of the HTTP status has to do.
pub fn response_from_http(head: &http::response::Parts, body: Bytes) -> Result<Response, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::bad_request("body: too long"));
    }
    let text = |name| header(&head.headers, name);
    let rsc = match text(RSC)? {
        Some(code) => Rsc(number("rsc", &code)?),
        None if head.status.is_success() => Rsc::OK,
        None if head.status == StatusCode::NOT_FOUND => Rsc::NOT_FOUND,
        None if head.status.is_client_error() => Rsc::BAD_REQUEST,
        None => Rsc::INTERNAL_SERVER_ERROR,
    };
    let mut r = Response::new(rsc, text(RI)?.unwrap_or_default(), None);
    // Whatever else a web server may say, HTML for example, is no content.
    if !body.is_empty() && ContentType::read(&head.headers)?.check().is_ok() {
        r.pc = Some(body);
    }
    r.fr = text(ORIGIN)?;
    r.ot = text(OT)?.map(|v| timestamp("ot", &v)).transpose()?;
    r.rset = text(RST)?.map(|v| abs_rel("rset", &v)).transpose()?;
    r.ec = text(EC)?.map(|v| number("ec", &v)).transpose()?;
    r.cnst = text(CTS)?.map(|v| one_of("cnst", &v, ContentStatus::from_u8)).transpose()?;
    r.cnot = text(CTO)?.map(|v| number("cnot", &v)).transpose()?;
    r.asri = text(ASRI)?.map(|v| boolean("asri", &v)).transpose()?;
    r.rvi = text(RVI)?.and_then(|v| Release::parse(&v));
    r.vsi = text(VSI)?;
    for pair in header_list(&head.headers, ATI, '+')? {
        let (local, token) = pair.split_once(':').ok_or_else(|| bad("ati", "no pair"))?;
        r.ati.push((local.to_owned(), token.to_owned()));
    }
    Ok(r)
}

/// Writes a response. `location` becomes Content-Location (TS-0009 6.4.4): the address of what a CREATE made.
pub fn response_to_http(response: Response, location: Option<&str>) -> http::Response<Bytes> {
    let status = StatusCode::from_u16(response.rsc.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_content = response.pc.is_some() || response.tqf.is_some();
    let mut http = http::Response::new(response.pc.or(response.tqf).unwrap_or_default());
    *http.status_mut() = status;
    let headers = http.headers_mut();
    if has_content {
        set(headers, CONTENT_TYPE, JSON);
    }
    let tokens: Vec<_> = response.ati.iter().map(|(local, token)| format!("{local}:{token}")).collect();
    // A value that cannot stand in a header came from the entity that would read it; the answer goes without.
    for (name, value) in [
        (RSC, Some(response.rsc.to_string())),
        (RI, (!response.rqi.is_empty()).then_some(response.rqi)),
        (RVI, response.rvi.filter(|v| *v != Release::R1).map(|v| v.as_str().to_owned())),
        (ORIGIN, response.fr),
        (OT, response.ot.map(|v| v.to_string())),
        (RST, response.rset.map(|v| v.to_string())),
        (EC, response.ec.map(|v| v.to_string())),
        (CTS, response.cnst.map(|v| (v as u8).to_string())),
        (CTO, response.cnot.map(|v| v.to_string())),
        (ASRI, response.asri.map(|v| v.to_string())),
        (ATI, (!tokens.is_empty()).then(|| tokens.join("+"))),
        (VSI, response.vsi),
        (CONTENT_LOCATION, location.map(to_http_path)),
    ] {
        if let Some(value) = value {
            set(headers, name, &value);
        }
    }
    http
}
