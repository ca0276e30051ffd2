//! The request primitive (TS-0004 6.4.1, 7.2.1.1).

use bytes::Bytes;

use crate::filter::{FilterCriteria, FilterUsage};
use crate::operation::{IdFormat, Operation, Release, ResponseType, ResultContent};
use crate::result;
use crate::rsc::{Refusal, Rsc};
use crate::tables::{Optionality, REQUEST_PARAMS, Ty};
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

    /// The checks that the hosting CSE makes before it looks at any resource (TS-0004 7.3.2.1): release, parameters against
    /// the operation, `fr`, `ty`, `rcn`, filter criteria, expiry times. A transit CSE makes none of them.
    pub fn check(&self, now_ms: u64) -> Result<(), Refusal> {
        Release::supported(self.rvi)?;
        if self.fr.is_none() && !(self.op == Operation::Create && self.ty == Some(Ty::AE)) {
            return Err(Refusal::bad_request("fr: absent; only the creation of an AE may leave it out"));
        }
        for param in REQUEST_PARAMS {
            let rule = param.operations.get(self.op as usize - 1).copied().unwrap_or(Optionality::Optional);
            let wrong = match rule {
                Optionality::NotPresent if self.has(param.short) => "must not be given with this operation",
                Optionality::Mandatory if param.short != "fr" && !self.has(param.short) => "is mandatory",
                _ => continue,
            };
            return Err(Refusal::bad_request(format!("{}: {wrong}", param.short)));
        }
        if let Some(ty) = self.ty.filter(|ty| ty.info().is_none()) {
            return Err(Refusal::bad_request(format!("ty: {ty} is no resource type")));
        }
        if let Some(rcn) = self.rcn {
            result::check(self.op, self.is_discovery(), rcn)?;
        }
        if let Some(fc) = &self.fc {
            fc.check()?;
        }
        for (name, time) in [("rqet", self.rqet), ("rset", self.rset), ("oet", self.oet)] {
            if time.is_some_and(|t| t.at_ms(now_ms) <= now_ms) {
                return Err(Refusal::new(Rsc::REQUEST_TIMEOUT, format!("{name}: is in the past")));
            }
        }
        Ok(())
    }

    /// Whether a parameter of the table is given.
    fn has(&self, short: &str) -> bool {
        match short {
            "op" => true,
            "to" => !self.to.is_empty(),
            "fr" => self.fr.is_some(),
            "rqi" => !self.rqi.is_empty(),
            "ty" => self.ty.is_some(),
            "pc" => self.pc.is_some(),
            "rp" => self.rp.is_some(),
            "rcn" => self.rcn.is_some(),
            "fc" => self.fc.is_some(),
            "drt" => self.drt.is_some(),
            "sqi" => self.sqi.is_some(),
            "grtm" => self.grtm.is_some(),
            "asi" => self.asi.is_some(),
            "aus" => !self.aus.is_empty(),
            "auri" => self.auri.is_some(),
            "rvi" => self.rvi.is_some(),
            // The others are optional with every operation.
            _ => false,
        }
    }

    /// The result content that holds: the one asked for, or the operation's default (for a discovery rcn 11).
    pub fn result_content(&self) -> ResultContent {
        self.rcn.unwrap_or(match self.op {
            Operation::Retrieve if self.is_discovery() => ResultContent::DiscoveryReferences,
            Operation::Delete | Operation::Notify => ResultContent::Nothing,
            Operation::Create | Operation::Retrieve | Operation::Update => ResultContent::Attributes,
        })
    }

    /// A RETRIEVE with `fu` = 1.
    pub fn is_discovery(&self) -> bool {
        self.op == Operation::Retrieve && self.fc.as_ref().is_some_and(|fc| fc.fu == Some(FilterUsage::Discovery))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: Operation) -> Request {
        let mut r = Request::new(op, "cse-in/x", "C1", "r1");
        match op {
            Operation::Create => (r.ty, r.pc) = (Some(Ty::CONTAINER), Some(Bytes::from_static(b"{}"))),
            Operation::Update | Operation::Notify => r.pc = Some(Bytes::from_static(b"{}")),
            Operation::Retrieve | Operation::Delete => {}
        }
        r
    }
    fn rsc(r: &Request) -> Result<(), Rsc> {
        r.check(1_000).map_err(|e| e.rsc)
    }

    #[test]
    fn ts0004_7_3_2_1_minimal_requests_pass() {
        for op in 1..=5 {
            assert_eq!(rsc(&request(Operation::from_u8(op).unwrap())), Ok(()), "{op}");
        }
    }

    #[test]
    fn ts0004_7_2_1_1_parameters_against_operations() {
        let no = Err(Rsc::BAD_REQUEST);
        let with = |op, change: &dyn Fn(&mut Request)| {
            let mut r = request(op);
            change(&mut r);
            rsc(&r)
        };
        assert_eq!(with(Operation::Create, &|r| r.ty = None), no);
        assert_eq!(with(Operation::Create, &|r| r.ty = Some(Ty(9999))), no);
        assert_eq!(with(Operation::Create, &|r| r.pc = None), no);
        assert_eq!(with(Operation::Create, &|r| r.fc = Some(Box::default())), no);
        assert_eq!(with(Operation::Retrieve, &|r| r.ty = Some(Ty::AE)), no);
        assert_eq!(with(Operation::Delete, &|r| r.pc = Some(Bytes::from_static(b"{}"))), no);
        assert_eq!(with(Operation::Notify, &|r| r.rcn = Some(ResultContent::Nothing)), no);
        assert_eq!(with(Operation::Retrieve, &|r| r.fr = None), no);
        assert_eq!(with(Operation::Create, &|r| (r.fr, r.ty) = (None, Some(Ty::AE))), Ok(()));
        assert_eq!(with(Operation::Retrieve, &|r| r.rcn = Some(ResultContent::Nothing)), no);
        assert_eq!(with(Operation::Retrieve, &|r| r.rcn = Some(ResultContent::DiscoveryReferences)), no);
        assert_eq!(with(Operation::Retrieve, &|r| r.rqi = String::new()), no);
    }

    #[test]
    fn ts0001_8_1_2_release_version() {
        let mut r = request(Operation::Retrieve);
        for (rvi, expected) in [
            (None, Err(Rsc::RELEASE_VERSION_NOT_SUPPORTED)),
            (Some(Release::R1), Err(Rsc::RELEASE_VERSION_NOT_SUPPORTED)),
            (Some(Release::R2), Ok(())),
            (Some(Release::R2a), Ok(())),
            (Some(Release::R5), Ok(())),
        ] {
            r.rvi = rvi;
            assert_eq!(rsc(&r), expected);
        }
    }

    #[test]
    fn ts0004_7_3_2_1_expired_requests() {
        let mut r = request(Operation::Retrieve);
        r.rqet = Some(AbsRelTimestamp::RelativeMs(1));
        assert_eq!(rsc(&r), Ok(()));
        r.rset = Some(AbsRelTimestamp::Absolute(Timestamp::from_ms(1_000)));
        assert_eq!(rsc(&r), Err(Rsc::REQUEST_TIMEOUT));
    }

    #[test]
    fn ts0004_7_5_2_default_result_content() {
        assert_eq!(request(Operation::Create).result_content(), ResultContent::Attributes);
        assert_eq!(request(Operation::Delete).result_content(), ResultContent::Nothing);
        let mut r = request(Operation::Retrieve);
        r.fc = Some(Box::new(FilterCriteria { fu: Some(FilterUsage::Discovery), ..FilterCriteria::default() }));
        assert_eq!(r.result_content(), ResultContent::DiscoveryReferences);
        r.rcn = Some(ResultContent::Attributes);
        assert_eq!(rsc(&r), Err(Rsc::BAD_REQUEST));
        r.rcn = Some(ResultContent::ChildReferences);
        assert_eq!(rsc(&r), Ok(()));
    }
}
