//! Requests over HTTP (TS-0009 6.2, 6.4).

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Uri};

use super::media::{ContentType, JSON, check_accept};
use super::{AS, EC, GID, OET, ORIGIN, OT, RET, RI, RST, RTU, RVI, VSI, header, header_list, set};
use crate::address::{from_http_path, percent_decode, percent_encode, to_http_path};
use crate::limits::{BODY_BYTES_MAX, PARAM_ITEMS_MAX, QUERY_BYTES_MAX, QUERY_PARAMS_MAX};
use crate::operation::{IdFormat, Operation, Release, ResponseType, ResultContent};
use crate::params::{abs_rel, bad, boolean, number, one_of, timestamp};
use crate::primitive_json::release;
use crate::request::{BadRequest, Request};
use crate::rsc::{Refusal, Rsc};

/// The methods of the binding (TS-0009 6.2.1), as an Allow header lists them.
pub const METHODS: &str = "GET, POST, PUT, DELETE";

/// Reads a request. The body has been received whole, within [`crate::limits::BODY_BYTES_MAX`].
pub fn request_from_http(head: &http::request::Parts, body: Bytes) -> Result<Request, Box<BadRequest>> {
    read(head, body).map_err(|refusal| {
        let rqi = header(&head.headers, RI).ok().flatten();
        let rvi = header(&head.headers, RVI).ok().flatten().and_then(|v| Release::parse(&v));
        Box::new(BadRequest { refusal, rqi, rvi })
    })
}

fn read(head: &http::request::Parts, body: Bytes) -> Result<Request, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::bad_request("body: too long"));
    }
    let content_type = ContentType::read(&head.headers)?;
    let op = match head.method {
        Method::POST if content_type.ty.is_some() => Operation::Create,
        Method::POST => Operation::Notify,
        Method::GET => Operation::Retrieve,
        Method::PUT => Operation::Update,
        Method::DELETE => Operation::Delete,
        _ => {
            let text = format!("method {}: the binding has {METHODS}", head.method);
            return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, text));
        }
    };
    check_accept(&head.headers)?;
    let text = |name| header(&head.headers, name);
    let rqi = text(RI)?.filter(|v| !v.is_empty()).ok_or_else(|| bad("X-M2M-RI", "is mandatory"))?;
    let mut r = Request::new(op, from_http_path(head.uri.path())?, "", rqi);
    if op == Operation::Create {
        r.ty = content_type.ty;
    }
    if !body.is_empty() {
        content_type.check()?;
        r.pc = Some(body);
    }
    r.fr = text(ORIGIN)?.filter(|v| !v.is_empty());
    r.rvi = text(RVI)?.map(|v| release(&v)).transpose()?;
    r.ot = text(OT)?.map(|v| timestamp("ot", &v)).transpose()?;
    let time = |name, short| text(name)?.map(|v| abs_rel(short, &v)).transpose();
    (r.rqet, r.rset, r.oet) = (time(RET, "rqet")?, time(RST, "rset")?, time(OET, "oet")?);
    r.ec = text(EC)?.map(|v| number("ec", &v)).transpose()?;
    r.gid = text(GID)?;
    r.vsi = text(VSI)?;
    // TS-0009 6.4.11: given but empty means that nobody is to be notified.
    if text(RTU)?.is_some() {
        r.rtu = Some(header_list(&head.headers, RTU, '&')?);
    }
    r.aus = header_list(&head.headers, AS, '+')?;
    r.tkns = tokens(&head.headers)?;
    query(&mut r, head.uri.query().unwrap_or_default())?;
    Ok(r)
}

/// The Authorization header carries tokens joined by `+` (TS-0009 6.4.19), unless it is one of HTTP's own schemes.
fn tokens(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let value = header(headers, AUTHORIZATION)?.unwrap_or_default();
    if value.contains(' ') {
        return Ok(Vec::new());
    }
    header_list(headers, AUTHORIZATION, '+')
}

fn query(r: &mut Request, query: &str) -> Result<(), Refusal> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(bad("query", "too long"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, pair) in query.split('&').filter(|p| !p.is_empty()).enumerate() {
        if i == QUERY_PARAMS_MAX {
            return Err(bad("query", "too many parameters"));
        }
        let (key, raw) = pair.split_once('=').unwrap_or((pair, ""));
        if parameter(r, key, raw)? {
            if seen.contains(&key) {
                return Err(bad(key, "stands twice"));
            }
            seen.push(key);
        } else if !r.fc.get_or_insert_default().add_query(key, raw)? {
            return Err(bad(&key.chars().take(32).collect::<String>(), "is no parameter and no filter criterion"));
        }
    }
    Ok(())
}

/// Takes a parameter of the primitive; false if it is something else, that is a filter criterion.
fn parameter(r: &mut Request, key: &str, raw: &str) -> Result<bool, Refusal> {
    let decode = |raw| percent_decode(raw, b"").ok_or_else(|| bad(key, "bad percent-encoding"));
    let value = || decode(raw);
    let list = || {
        if raw.split('+').count() > PARAM_ITEMS_MAX {
            return Err(bad(key, "too many elements"));
        }
        raw.split('+').map(decode).collect::<Result<Vec<_>, _>>()
    };
    let flag = || boolean(key, &decode(raw)?).map(Some);
    match key {
        "rt" => r.rt = Some(one_of(key, &value()?, ResponseType::from_u8)?),
        "rp" => r.rp = Some(abs_rel(key, &value()?)?),
        "rcn" => r.rcn = Some(one_of(key, &value()?, ResultContent::from_u8)?),
        "drt" => r.drt = Some(one_of(key, &value()?, IdFormat::from_u8)?),
        "da" => r.da = flag()?,
        "tqi" => r.tqi = flag()?,
        "asi" => r.asi = flag()?,
        "auri" => r.auri = flag()?,
        "sqi" => r.sqi = flag()?,
        "rids" => r.rids = list()?,
        "tids" => r.tids = list()?,
        "ltids" => r.ltids = list()?,
        "atrl" => r.atrl = list()?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Writes a request. The URI is origin-form; `authority` (`host:port`) becomes the Host header. If `to` is itself an HTTP
/// URL (a notification target), its path and query are used as they are, without the `ct` that told the serialisation.
pub fn request_to_http(request: &Request, authority: &str) -> Result<http::Request<Bytes>, Refusal> {
    let unsendable = |what: &str| Refusal::bad_request(format!("{what}: cannot be sent over HTTP"));
    let method = match request.op {
        Operation::Create | Operation::Notify => Method::POST,
        Operation::Retrieve => Method::GET,
        Operation::Update => Method::PUT,
        Operation::Delete => Method::DELETE,
    };
    let (path, mut parts) = match url_target(&request.to) {
        Some(target) => target,
        None => (to_http_path(&request.to), Vec::new()),
    };
    parts.extend(query_parts(request));
    let uri = if parts.is_empty() { path } else { format!("{path}?{}", parts.join("&")) };
    let uri: Uri = uri.parse().map_err(|_| unsendable("to"))?;
    let mut http = http::Request::new(request.pc.clone().unwrap_or_default());
    (*http.method_mut(), *http.uri_mut()) = (method, uri);
    let headers = http.headers_mut();
    let mut put = |name, value: &str| set(headers, name, value).then_some(());
    put(HOST, authority).ok_or_else(|| unsendable("authority"))?;
    put(RI, &request.rqi).ok_or_else(|| unsendable("rqi"))?;
    put(ACCEPT, JSON);
    if let Some(fr) = &request.fr {
        put(ORIGIN, fr).ok_or_else(|| unsendable("fr"))?;
    }
    match request.ty {
        Some(ty) => put(CONTENT_TYPE, &format!("{JSON};ty={ty}")),
        None if request.pc.is_some() => put(CONTENT_TYPE, JSON),
        None => None,
    };
    let joined = |list: &[String], by: &str| (!list.is_empty()).then(|| list.join(by));
    for (name, value) in [
        (RVI, request.rvi.map(|v| v.as_str().to_owned())),
        (OT, request.ot.map(|v| v.to_string())),
        (RET, request.rqet.map(|v| v.to_string())),
        (RST, request.rset.map(|v| v.to_string())),
        (OET, request.oet.map(|v| v.to_string())),
        (EC, request.ec.map(|v| v.to_string())),
        (GID, request.gid.clone()),
        (VSI, request.vsi.clone()),
        (RTU, request.rtu.as_ref().map(|v| v.join("&"))),
        (AS, joined(&request.aus, "+")),
        (AUTHORIZATION, joined(&request.tkns, "+")),
    ] {
        if let Some(value) = value {
            put(name.clone(), &value).ok_or_else(|| unsendable(name.as_str()))?;
        }
    }
    Ok(http)
}

/// Path and query of an HTTP URL.
fn url_target(to: &str) -> Option<(String, Vec<String>)> {
    let after = to.strip_prefix("http://").or_else(|| to.strip_prefix("https://"))?;
    let after = after.split('#').next().unwrap_or(after);
    let (place, query) = after.split_once('?').unwrap_or((after, ""));
    let path = place.find('/').and_then(|i| place.get(i..)).unwrap_or("/");
    let parts = query.split('&').filter(|p| !p.is_empty() && !p.starts_with("ct=")).map(str::to_owned).collect();
    Some((path.to_owned(), parts))
}

fn query_parts(r: &Request) -> Vec<String> {
    let mut parts = Vec::new();
    let numbers = [("rt", r.rt.map(|v| v as u8)), ("rcn", r.rcn.map(|v| v as u8)), ("drt", r.drt.map(|v| v as u8))];
    let flags = [("da", r.da), ("tqi", r.tqi), ("asi", r.asi), ("auri", r.auri), ("sqi", r.sqi)];
    let lists = [("rids", &r.rids), ("tids", &r.tids), ("ltids", &r.ltids), ("atrl", &r.atrl)];
    parts.extend(numbers.iter().filter_map(|(name, v)| v.map(|v| format!("{name}={v}"))));
    parts.extend(flags.iter().filter_map(|(name, v)| v.map(|v| format!("{name}={v}"))));
    parts.extend(r.rp.map(|v| format!("rp={v}")));
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let mut part = format!("{name}=");
        for (i, item) in list.iter().enumerate() {
            part.push_str(if i > 0 { "+" } else { "" });
            percent_encode(&mut part, item, b"");
        }
        parts.push(part);
    }
    parts.extend(r.fc.as_ref().map(|fc| fc.to_query()).filter(|q| !q.is_empty()));
    parts
}
