//! The request primitive (TS-0004 6.4.1, 7.2.1.1).

use bytes::Bytes;

use crate::filter::FilterCriteria;
use crate::operation::{IdFormat, Operation, Release, ResponseType, ResultContent};
use crate::rsc::Refusal;
use crate::tables::Ty;
use crate::time::{AbsRelTimestamp, Timestamp};

/// A request primitive. Members are named as in JSON.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Request {
    pub op: Operation,
    pub to: String,
    /// Absent only in the creation of an AE.
    pub fr: Option<String>,
    pub rqi: String,
    pub ty: Option<Ty>,
    /// Content as it came: JSON text.
    pub pc: Option<Bytes>,
    /// Attributes of a partial retrieve (`?atrl=` over HTTP, `m2m:atrl` in the content elsewhere, or `#attr`).
    pub atrl: Vec<String>,
    pub ot: Option<Timestamp>,
    pub rqet: Option<AbsRelTimestamp>,
    pub rset: Option<AbsRelTimestamp>,
    pub oet: Option<AbsRelTimestamp>,
    pub rt: Option<ResponseType>,
    /// Notification targets of `rt`; present and empty means no notification.
    pub rtu: Option<Vec<String>>,
    pub rp: Option<AbsRelTimestamp>,
    pub rcn: Option<ResultContent>,
    pub ec: Option<u16>,
    pub da: Option<bool>,
    pub gid: Option<String>,
    pub fc: Option<Box<FilterCriteria>>,
    pub drt: Option<IdFormat>,
    pub rids: Vec<String>,
    pub tkns: Vec<String>,
    pub tids: Vec<String>,
    pub ltids: Vec<String>,
    pub tqi: Option<bool>,
    pub grtm: Option<Vec<String>>,
    pub asi: Option<bool>,
    pub aus: Vec<String>,
    pub auri: Option<bool>,
    pub sqi: Option<bool>,
    /// Absent means release 1.
    pub rvi: Option<Release>,
    pub vsi: Option<String>,
}

/// A request that cannot be read, with what is needed to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// Why.
    pub refusal: Refusal,
    /// Its identifier, if that much could be read.
    pub rqi: Option<String>,
    /// Its release, likewise.
    pub rvi: Option<Release>,
}

impl Request {
    /// A request of the current release with nothing optional.
    pub fn new(op: Operation, to: impl Into<String>, fr: impl Into<String>, rqi: impl Into<String>) -> Self {
        Self {
            op,
            to: to.into(),
            fr: Some(fr.into()),
            rqi: rqi.into(),
            ty: None,
            pc: None,
            atrl: Vec::new(),
            ot: None,
            rqet: None,
            rset: None,
            oet: None,
            rt: None,
            rtu: None,
            rp: None,
            rcn: None,
            ec: None,
            da: None,
            gid: None,
            fc: None,
            drt: None,
            rids: Vec::new(),
            tkns: Vec::new(),
            tids: Vec::new(),
            ltids: Vec::new(),
            tqi: None,
            grtm: None,
            asi: None,
            aus: Vec::new(),
            auri: None,
            sqi: None,
            rvi: Some(Release::R3),
            vsi: None,
        }
    }
    /// Reads a whole JSON primitive (MQTT, WebSocket, inside the cluster). `pc` is a slice of `bytes`.
    pub fn from_json(_bytes: &Bytes) -> Result<Self, Box<BadRequest>> {
        unimplemented!()
    }
    /// Writes a whole JSON primitive.
    pub fn to_json(&self) -> Vec<u8> {
        unimplemented!()
    }
    /// The checks of TS-0004 7.3.2.1 that need no resource: parameters against the operation, `rcn`, `fr`, `ty`, `rvi`,
    /// expiry times.
    pub fn check(&self, _now_ms: u64) -> Result<(), Refusal> {
        unimplemented!()
    }
    /// The result content that holds: the one asked for, or the operation's default (for a discovery rcn 11).
    pub fn result_content(&self) -> ResultContent {
        unimplemented!()
    }
    /// A RETRIEVE with `fu` = 1.
    pub fn is_discovery(&self) -> bool {
        unimplemented!()
    }
}
