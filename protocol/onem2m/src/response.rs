//! The response primitive (TS-0004 6.4.2, 7.2.1.2).

use bytes::Bytes;

use crate::json::ObjectWriter;
use crate::operation::{ContentStatus, Release};
use crate::request::Request;
use crate::rsc::{Refusal, Rsc};
use crate::time::{AbsRelTimestamp, Timestamp};

/// A response primitive. Members are named as in JSON.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Response {
    pub rsc: Rsc,
    pub rqi: String,
    /// JSON text.
    pub pc: Option<Bytes>,
    pub to: Option<String>,
    pub fr: Option<String>,
    pub ot: Option<Timestamp>,
    pub rset: Option<AbsRelTimestamp>,
    pub ec: Option<u16>,
    /// Assigned token identifiers: (local, token).
    pub ati: Vec<(String, String)>,
    /// JSON text.
    pub tqf: Option<Bytes>,
    pub cnst: Option<ContentStatus>,
    pub cnot: Option<u32>,
    pub asri: Option<bool>,
    /// Not sent to a release 1 entity.
    pub rvi: Option<Release>,
    pub vsi: Option<String>,
}

impl Response {
    /// An answer with nothing optional, in the request's release.
    pub fn new(rsc: Rsc, rqi: impl Into<String>, rvi: Option<Release>) -> Self {
        Self {
            rsc,
            rqi: rqi.into(),
            pc: None,
            to: None,
            fr: None,
            ot: None,
            rset: None,
            ec: None,
            ati: Vec::new(),
            tqf: None,
            cnst: None,
            cnot: None,
            asri: None,
            rvi,
            vsi: None,
        }
    }
    /// The answer to `request`.
    pub fn to(request: &Request, rsc: Rsc) -> Self {
        Self::new(rsc, request.rqi.clone(), request.rvi)
    }
    /// The answer to `request` that refuses it; the debug text goes out as `m2m:dbg`.
    pub fn refusing(request: &Request, refusal: &Refusal) -> Self {
        Self::refusal(request.rqi.clone(), request.rvi, refusal)
    }
    /// A refusal for a request that could not be read.
    pub fn refusal(rqi: impl Into<String>, rvi: Option<Release>, refusal: &Refusal) -> Self {
        let mut body = Vec::new();
        let mut object = ObjectWriter::begin(&mut body);
        object.text("m2m:dbg", &refusal.debug);
        object.end();
        Self { pc: Some(body.into()), ..Self::new(refusal.rsc, rqi, rvi) }
    }
}
