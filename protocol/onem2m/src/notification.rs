//! Bodies of notifications and aggregated responses (TS-0004 6.3.5.13, 7.5.1.1).

use bytes::Bytes;

use crate::json::{self, ObjectWriter, push_array};
use crate::operation::Operation;
use crate::params::{bad, boolean, number, one_of, text};
use crate::primitive_json::slice;
use crate::response::Response;
use crate::rsc::Refusal;

/// m2m:notification (`m2m:sgn`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notification {
    /// What happened.
    pub nev: Option<Event>,
    /// Verification request.
    pub vrq: bool,
    /// The subscription was deleted.
    pub sud: bool,
    /// The subscription's address, in a scope that the receiver can use.
    pub sur: Option<String>,
    /// Creator of the subscription.
    pub cr: Option<String>,
    /// Notification forwarding URI.
    pub nfu: Option<String>,
}

/// `nev` of a notification.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// JSON text: `{"m2m:cnt":{...}}`, or `{"m2m:uri":"..."}` for nct 3.
    pub rep: Option<Bytes>,
    /// m2m:notificationEventType
    pub net: Option<u8>,
    /// Operation and originator that `om` reports.
    pub om: Option<(Operation, String)>,
}

impl Notification {
    /// `{"m2m:sgn":{...}}`
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut object = ObjectWriter::begin(&mut out);
        self.write(object.name("m2m:sgn"));
        object.end();
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut sgn = ObjectWriter::begin(out);
        if let Some(event) = &self.nev {
            let mut nev = ObjectWriter::begin(sgn.name("nev"));
            if let Some(rep) = &event.rep {
                nev.raw("rep", rep);
            }
            if let Some((operation, originator)) = &event.om {
                let mut om = ObjectWriter::begin(nev.name("om"));
                om.number("op", *operation as u8);
                om.text("or", originator);
                om.end();
            }
            if let Some(net) = event.net {
                nev.number("net", net);
            }
            nev.end();
        }
        for (name, flag) in [("vrq", self.vrq), ("sud", self.sud)] {
            if flag {
                sgn.boolean(name, true);
            }
        }
        for (name, value) in [("sur", &self.sur), ("cr", &self.cr), ("nfu", &self.nfu)] {
            if let Some(value) = value {
                sgn.text(name, value);
            }
        }
        sgn.end();
    }

    /// Reads `{"m2m:sgn":{...}}`; `rep` is a slice of `body`. Members that we make no use of are passed over.
    pub fn from_json(body: &Bytes) -> Result<Self, Refusal> {
        let whole = json::text(body)?;
        let roots = json::object(whole)?;
        let [(root, inner)] = &roots[..] else { return Err(bad("m2m:sgn", "not the one member")) };
        if root != "m2m:sgn" {
            return Err(bad(root, "is not m2m:sgn"));
        }
        let mut sgn = Self::default();
        for (name, value) in json::object(inner)? {
            match &*name {
                "nev" => sgn.nev = Some(event(body, whole, value)?),
                "vrq" => sgn.vrq = boolean("vrq", value)?,
                "sud" => sgn.sud = boolean("sud", value)?,
                "sur" => sgn.sur = Some(text("sur", value)?),
                "cr" => sgn.cr = Some(text("cr", value)?),
                "nfu" => sgn.nfu = Some(text("nfu", value)?),
                _ => {}
            }
        }
        Ok(sgn)
    }
}

fn event(body: &Bytes, whole: &str, value: &str) -> Result<Event, Refusal> {
    let mut event = Event::default();
    for (name, value) in json::object(value)? {
        match &*name {
            "rep" => event.rep = Some(slice(body, whole, value)),
            "net" => event.net = Some(number("net", value)?),
            "om" => {
                let members = json::object(value)?;
                let find = |name| {
                    members.iter().find(|(n, _)| n == name).map(|(_, v)| *v).ok_or_else(|| bad("om", "incomplete"))
                };
                event.om = Some((one_of("op", find("op")?, Operation::from_u8)?, text("or", find("or")?)?));
            }
            _ => {}
        }
    }
    Ok(event)
}

/// `{"m2m:uri":"..."}`: `rep` for nct 3.
pub fn uri_representation(address: &str) -> Bytes {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    object.text("m2m:uri", address);
    object.end();
    out.into()
}

/// `{"m2m:agr":{"m2m:rsp":[...]}}`: the members' responses to a fan-out (TS-0004 7.4.14).
pub fn aggregated_response(responses: &[Response]) -> Vec<u8> {
    aggregate("m2m:agr", "m2m:rsp", responses, |out, response| response.write_json(out))
}

/// `{"m2m:agn":{"m2m:sgn":[...]}}`: notifications of a batch.
pub fn aggregated_notification(notifications: &[Notification]) -> Vec<u8> {
    aggregate("m2m:agn", "m2m:sgn", notifications, |out, notification| notification.write(out))
}

fn aggregate<I>(root: &str, list: &str, items: &[I], each: impl Fn(&mut Vec<u8>, &I)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    let mut inner = ObjectWriter::begin(object.name(root));
    push_array(inner.name(list), items, each);
    inner.end();
    object.end();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Release, Rsc};

    #[test]
    fn ts0004_6_3_5_13_notification() {
        let event = Event { rep: Some(Bytes::from_static(b"{\"m2m:cnt\":{}}")), net: Some(3), om: None };
        let mut sgn = Notification { nev: Some(event), sur: Some("/cse/cse-in/sub".into()), ..Notification::default() };
        assert_eq!(
            String::from_utf8(sgn.to_json()).unwrap(),
            r#"{"m2m:sgn":{"nev":{"rep":{"m2m:cnt":{}},"net":3},"sur":"/cse/cse-in/sub"}}"#
        );
        assert_eq!(Notification::from_json(&sgn.to_json().into()).unwrap(), sgn);
        sgn.nev = Some(Event {
            rep: Some(uri_representation("a\"b")),
            net: None,
            om: Some((Operation::Update, "C1".into())),
        });
        (sgn.vrq, sgn.sud, sgn.cr, sgn.nfu) = (true, true, Some("C1".into()), Some("http://h".into()));
        assert_eq!(Notification::from_json(&sgn.to_json().into()).unwrap(), sgn);
    }

    #[test]
    fn ts0004_7_5_1_2_verification_request() {
        let sgn = Notification { vrq: true, sur: Some("s".into()), cr: Some("C1".into()), ..Notification::default() };
        assert_eq!(sgn.to_json(), br#"{"m2m:sgn":{"vrq":true,"sur":"s","cr":"C1"}}"#);
    }

    #[test]
    fn aggregates() {
        let mut rsp = Response::new(Rsc::OK, "r", Some(Release::R3));
        rsp.fr = Some("/m/1".into());
        rsp.pc = Some(Bytes::from_static(b"{}"));
        assert_eq!(
            String::from_utf8(aggregated_response(&[rsp])).unwrap(),
            r#"{"m2m:agr":{"m2m:rsp":[{"rsc":2000,"rqi":"r","rvi":"3","fr":"/m/1","pc":{}}]}}"#
        );
        assert_eq!(aggregated_response(&[]), br#"{"m2m:agr":{"m2m:rsp":[]}}"#);
        let sgn = Notification { sud: true, ..Notification::default() };
        assert_eq!(
            aggregated_notification(&[sgn.clone(), sgn]),
            br#"{"m2m:agn":{"m2m:sgn":[{"sud":true},{"sud":true}]}}"#
        );
    }

    #[test]
    fn refuses_other_bodies() {
        for other in [
            "",
            "{}",
            "[]",
            r#"{"m2m:cnt":{}}"#,
            r#"{"m2m:sgn":[]}"#,
            r#"{"m2m:sgn":{"vrq":5}}"#,
            r#"{"m2m:sgn":{"nev":{"om":{"op":1}}}}"#,
            r#"{"m2m:sgn":{},"x":1}"#,
        ] {
            assert!(Notification::from_json(&Bytes::from(other)).is_err(), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}",:a-z1-9 ]{0,40}"#) {
            let _ = Notification::from_json(&Bytes::from(format!(r#"{{"m2m:sgn":{{"nev":{text}}}}}"#)));
            let _ = Notification::from_json(&Bytes::from(text));
        }
    }
}
