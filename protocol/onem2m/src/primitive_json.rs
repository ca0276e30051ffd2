//! Whole primitives in JSON (TS-0004 8.4): not wrapped, a request is told by `op`, a response by `rsc`.

use bytes::Bytes;

use crate::filter::FilterCriteria;
use crate::json::{self, Members, ObjectWriter};
use crate::operation::{ContentStatus, IdFormat, Operation, Release, ResponseType, ResultContent};
use crate::params::{abs_rel, bad, bare, boolean, number, one_of, text, texts, timestamp};
use crate::request::{BadRequest, Request};
use crate::response::Response;
use crate::rsc::{Refusal, Rsc};
use crate::tables::Ty;
use crate::time::AbsRelTimestamp;

impl Request {
    /// Reads a whole JSON primitive (MQTT, WebSocket, inside the cluster). `pc` is a slice of `bytes`.
    pub fn from_json(bytes: &Bytes) -> Result<Self, Box<BadRequest>> {
        let none = |refusal| Box::new(BadRequest { refusal, rqi: None, rvi: None });
        let whole = json::text(bytes).map_err(none)?;
        let members = json::object(whole).map_err(none)?;
        request(bytes, whole, &members).map_err(|refusal| {
            let given = |name| members.iter().find(|(n, _)| n == name).and_then(|(_, v)| text(name, v).ok());
            let rvi = given("rvi").and_then(|v| Release::parse(&v));
            Box::new(BadRequest { refusal, rqi: given("rqi"), rvi })
        })
    }

    /// Writes a whole JSON primitive.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.pc.as_ref().map_or(0, Bytes::len));
        let mut o = ObjectWriter::begin(&mut out);
        o.number("op", self.op as u8);
        o.text("to", &self.to);
        opt_text(&mut o, "fr", self.fr.as_deref());
        o.text("rqi", &self.rqi);
        opt_text(&mut o, "rvi", self.rvi.map(Release::as_str));
        opt_number(&mut o, "ty", self.ty);
        opt_text(&mut o, "ot", self.ot.map(|t| t.to_string()));
        for (name, time) in [("rqet", self.rqet), ("rset", self.rset), ("oet", self.oet), ("rp", self.rp)] {
            opt_time(&mut o, name, time);
        }
        if self.rt.is_some() || self.rtu.is_some() {
            let mut rt = ObjectWriter::begin(o.name("rt"));
            rt.number("rtv", self.rt.unwrap_or_default() as u8);
            if let Some(targets) = &self.rtu {
                rt.texts("nu", targets);
            }
            rt.end();
        }
        opt_number(&mut o, "rcn", self.rcn.map(|v| v as u8));
        opt_number(&mut o, "ec", self.ec);
        opt_text(&mut o, "gid", self.gid.as_deref());
        if let Some(fc) = &self.fc {
            o.raw("fc", fc.to_json().as_bytes());
        }
        opt_number(&mut o, "drt", self.drt.map(|v| v as u8));
        for (name, flag) in
            [("da", self.da), ("tqi", self.tqi), ("asi", self.asi), ("auri", self.auri), ("sqi", self.sqi)]
        {
            if let Some(flag) = flag {
                o.boolean(name, flag);
            }
        }
        for (name, list) in [
            ("rids", &self.rids),
            ("tkns", &self.tkns),
            ("tids", &self.tids),
            ("ltids", &self.ltids),
            ("aus", &self.aus),
        ] {
            if !list.is_empty() {
                o.texts(name, list);
            }
        }
        if let Some(members) = &self.grtm {
            o.texts("grtm", members);
        }
        opt_text(&mut o, "vsi", self.vsi.as_deref());
        if let Some(pc) = &self.pc {
            o.raw("pc", pc);
        } else if !self.atrl.is_empty() {
            let mut pc = ObjectWriter::begin(o.name("pc"));
            pc.texts("m2m:atrl", &self.atrl);
            pc.end();
        }
        o.end();
        out
    }
}

fn request(bytes: &Bytes, whole: &str, members: &Members<'_>) -> Result<Request, Refusal> {
    let find = |name| members.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let needed = |name| find(name).ok_or_else(|| bad(name, "is mandatory"));
    let op = one_of("op", needed("op")?, Operation::from_u8)?;
    let mut r = Request::new(op, text("to", needed("to")?)?, "", text("rqi", needed("rqi")?)?);
    (r.fr, r.rvi) = (None, None);
    for (name, value) in members {
        match &**name {
            "op" | "to" | "rqi" => {}
            "fr" => r.fr = Some(text(name, value)?),
            "ty" => r.ty = Some(Ty(number(name, value)?)),
            "pc" => content(&mut r, bytes, whole, value)?,
            "ot" => r.ot = Some(timestamp(name, &text(name, value)?)?),
            "rqet" => r.rqet = Some(abs_rel(name, &bare(name, value)?)?),
            "rset" => r.rset = Some(abs_rel(name, &bare(name, value)?)?),
            "oet" => r.oet = Some(abs_rel(name, &bare(name, value)?)?),
            "rp" => r.rp = Some(abs_rel(name, &bare(name, value)?)?),
            "rt" => {
                for (part, value) in json::object(value)? {
                    match &*part {
                        "rtv" => r.rt = Some(one_of("rtv", value, ResponseType::from_u8)?),
                        "nu" => r.rtu = Some(texts("nu", value)?),
                        _ => return Err(bad("rt", "unknown member")),
                    }
                }
            }
            "rcn" => r.rcn = Some(one_of(name, value, ResultContent::from_u8)?),
            "ec" => r.ec = Some(number(name, value)?),
            "da" => r.da = Some(boolean(name, value)?),
            "gid" => r.gid = Some(text(name, value)?),
            "fc" => r.fc = Some(Box::new(FilterCriteria::from_json(value)?)),
            "drt" => r.drt = Some(one_of(name, value, IdFormat::from_u8)?),
            "rids" => r.rids = texts(name, value)?,
            "tkns" => r.tkns = texts(name, value)?,
            "tids" => r.tids = texts(name, value)?,
            "ltids" => r.ltids = texts(name, value)?,
            "tqi" => r.tqi = Some(boolean(name, value)?),
            "grtm" => r.grtm = Some(texts(name, value)?),
            "asi" => r.asi = Some(boolean(name, value)?),
            "aus" => r.aus = texts(name, value)?,
            "auri" => r.auri = Some(boolean(name, value)?),
            "sqi" => r.sqi = Some(boolean(name, value)?),
            "rvi" => r.rvi = Some(release(&text(name, value)?)?),
            "vsi" => r.vsi = Some(text(name, value)?),
            _ => return Err(Refusal::not_implemented(format!("{name}: unknown parameter"))),
        }
    }
    Ok(r)
}

/// `rvi` as text; a release that nobody knows cannot be served.
pub(crate) fn release(text: &str) -> Result<Release, Refusal> {
    Release::parse(text)
        .ok_or_else(|| Refusal::new(Rsc::RELEASE_VERSION_NOT_SUPPORTED, "rvi: not one of 1, 2, 2a, 3, 4, 5"))
}

/// The content; a RETRIEVE's `m2m:atrl` is taken apart (TS-0004 7.3.3.6).
fn content(r: &mut Request, bytes: &Bytes, whole: &str, value: &str) -> Result<(), Refusal> {
    if r.op == Operation::Retrieve
        && let [(name, list)] = &json::object(value)?[..]
        && name == "m2m:atrl"
    {
        r.atrl = texts("atrl", list)?;
        return Ok(());
    }
    r.pc = Some(slice(bytes, whole, value));
    Ok(())
}

/// The part of the received bytes in which `part` lies.
pub(crate) fn slice(bytes: &Bytes, whole: &str, part: &str) -> Bytes {
    let start = json::offset_in(whole, part);
    bytes.slice(start.min(bytes.len())..(start + part.len()).min(bytes.len()))
}

fn opt_text(o: &mut ObjectWriter<'_>, name: &str, value: Option<impl AsRef<str>>) {
    if let Some(value) = value {
        o.text(name, value.as_ref());
    }
}

fn opt_number(o: &mut ObjectWriter<'_>, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        o.number(name, value);
    }
}

fn opt_time(o: &mut ObjectWriter<'_>, name: &str, value: Option<AbsRelTimestamp>) {
    match value {
        Some(AbsRelTimestamp::Absolute(time)) => o.text(name, &time.to_string()),
        Some(AbsRelTimestamp::RelativeMs(ms)) => o.number(name, ms),
        None => {}
    }
}

impl Response {
    /// Reads a whole JSON primitive. `pc` is a slice of `bytes`. Unknown parameters are passed over: they come from a CSE
    /// of a later release, and the operation has been done.
    pub fn from_json(bytes: &Bytes) -> Result<Self, Refusal> {
        let whole = json::text(bytes)?;
        let members = json::object(whole)?;
        let find = |name| members.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let needed = |name| find(name).ok_or_else(|| bad(name, "is mandatory"));
        let mut r = Self::new(Rsc(number("rsc", needed("rsc")?)?), text("rqi", needed("rqi")?)?, None);
        for (name, value) in &members {
            match &**name {
                "pc" => r.pc = Some(slice(bytes, whole, value)),
                "to" => r.to = Some(text(name, value)?),
                "fr" => r.fr = Some(text(name, value)?),
                "ot" => r.ot = Some(timestamp(name, &text(name, value)?)?),
                "rset" => r.rset = Some(abs_rel(name, &bare(name, value)?)?),
                "ec" => r.ec = Some(number(name, value)?),
                "ati" => r.ati = assigned_tokens(value)?,
                "tqf" => r.tqf = Some(slice(bytes, whole, value)),
                "cnst" => r.cnst = Some(one_of(name, value, ContentStatus::from_u8)?),
                "cnot" => r.cnot = Some(number(name, value)?),
                "asri" => r.asri = Some(boolean(name, value)?),
                "rvi" => r.rvi = Release::parse(&text(name, value)?),
                "vsi" => r.vsi = Some(text(name, value)?),
                _ => {}
            }
        }
        Ok(r)
    }

    /// Writes a whole JSON primitive.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.pc.as_ref().map_or(0, Bytes::len));
        self.write_json(&mut out);
        out
    }

    /// Appends it.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let mut o = ObjectWriter::begin(out);
        o.number("rsc", self.rsc);
        o.text("rqi", &self.rqi);
        opt_text(&mut o, "rvi", self.rvi.filter(|r| *r != Release::R1).map(Release::as_str));
        opt_text(&mut o, "to", self.to.as_deref());
        opt_text(&mut o, "fr", self.fr.as_deref());
        opt_text(&mut o, "ot", self.ot.map(|t| t.to_string()));
        opt_time(&mut o, "rset", self.rset);
        opt_number(&mut o, "ec", self.ec);
        if !self.ati.is_empty() {
            let mut ati = ObjectWriter::begin(o.name("ati"));
            json::push_array(ati.name("ltia"), &self.ati, |out, (local, token)| {
                let mut pair = ObjectWriter::begin(out);
                pair.text("lti", local);
                pair.text("tkid", token);
                pair.end();
            });
            ati.end();
        }
        if let Some(tqf) = &self.tqf {
            o.raw("tqf", tqf);
        }
        opt_number(&mut o, "cnst", self.cnst.map(|v| v as u8));
        opt_number(&mut o, "cnot", self.cnot);
        if let Some(asri) = self.asri {
            o.boolean("asri", asri);
        }
        opt_text(&mut o, "vsi", self.vsi.as_deref());
        if let Some(pc) = &self.pc {
            o.raw("pc", pc);
        }
        o.end();
    }
}

fn assigned_tokens(value: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    for (name, list) in json::object(value)? {
        if name != "ltia" {
            return Err(bad("ati", "unknown member"));
        }
        for item in json::array(list)? {
            let members = json::object(item)?;
            let find = |name| {
                members
                    .iter()
                    .find(|(n, _)| n == name)
                    .ok_or_else(|| bad("ati", "incomplete"))
                    .and_then(|(_, v)| text(name, v))
            };
            pairs.push((find("lti")?, find("tkid")?));
        }
    }
    Ok(pairs)
}
