//! Representations of resources in requests: from bytes to validated attributes (TS-0004 7.3.3.3, 7.3.3.7, 8.4).

use bytes::Bytes;

use crate::attributes::Attributes;
use crate::json::{self, Members};
use crate::rsc::{Refusal, Rsc};
use crate::tables::{AttrId, Attribute, MGMT_OBJECTS, Optionality, ResourceType, Ty};
use crate::typed;
use crate::value::{Span, Value};

/// A validated representation of a CREATE.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// What the client gave, `rn` included; nothing that the CSE sets. A contentInstance's `con` is a range of the body.
    pub attributes: Attributes,
    /// The client sent `cr` as null: store `fr` there.
    pub wants_creator: bool,
}

/// Validates the content of a CREATE of type `ty`. Ranges are offsets into `body`.
pub fn create(ty: Ty, body: &Bytes) -> Result<Representation, Refusal> {
    let info = info(ty)?;
    if !info.creatable {
        return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, format!("{} cannot be created by a request", info.name)));
    }
    let text = json::content(body)?;
    let (rows, members) = open(info, text)?;
    let mut attributes = Attributes::new();
    let mut wants_creator = false;
    for (name, value) in &members {
        let row = find(info, rows, name)?;
        if row.id == AttrId::CR {
            // TS-0004 7.3.3.3: the client asks for it with null and cannot choose it.
            if *value != "null" {
                return Err(bad(name, "only null may be given, the CSE fills it in"));
            }
            wants_creator = true;
            continue;
        }
        if row.create == Optionality::NotPresent {
            return Err(bad(name, "must not be given in CREATE"));
        }
        supported(row)?;
        attributes.set(row.id, convert(row, text, value).map_err(|why| bad(name, &why))?);
    }
    if let Some(row) = rows.iter().find(|r| r.create == Optionality::Mandatory && !attributes.has(r.id)) {
        return Err(bad(row.id.short(), "is mandatory"));
    }
    attributes.shrink();
    Ok(Representation { attributes, wants_creator })
}

/// Validates the content of an UPDATE of a resource of type `ty`: what changes, [`Value::Null`] for what is to be
/// deleted. `acpi` comes alone or not at all.
pub fn update(ty: Ty, body: &Bytes) -> Result<Attributes, Refusal> {
    let info = info(ty)?;
    if !info.updatable {
        return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, format!("{} cannot be updated", info.name)));
    }
    let text = json::content(body)?;
    let (rows, members) = open(info, text)?;
    if members.len() > 1 && members.iter().any(|(name, _)| name == "acpi") {
        return Err(bad("acpi", "must be the only attribute of its update"));
    }
    let mut changes = Attributes::new();
    for (name, value) in &members {
        let row = find(info, rows, name)?;
        if row.update == Optionality::NotPresent {
            return Err(bad(name, "cannot be updated"));
        }
        if *value == "null" {
            // TS-0004 7.3.3.7; et is the exception: null lets the CSE pick a new one (7.3.3.5).
            if row.required && row.id != AttrId::ET {
                return Err(bad(name, "cannot be deleted"));
            }
            changes.set(row.id, Value::Null);
            continue;
        }
        supported(row)?;
        changes.set(row.id, convert(row, text, value).map_err(|why| bad(name, &why))?);
    }
    Ok(changes)
}

/// Attributes that ask the CSE to do what it does not do, for every type that has them: announcement, dynamic and
/// distributed authorisation.
const UNSUPPORTED: [AttrId; 7] =
    [AttrId::AT, AttrId::AA, AttrId::AST, AttrId::DACI, AttrId::ADRI, AttrId::APRI, AttrId::AIRI];

/// A known attribute that nothing would come of is refused with NOT_IMPLEMENTED (TS-0004 7.3.3.3, 7.3.3.4).
fn supported(row: &Attribute) -> Result<(), Refusal> {
    if UNSUPPORTED.contains(&row.id) {
        return Err(Refusal::not_implemented(format!("{}: is not supported", row.id.short())));
    }
    Ok(())
}

fn bad(name: &str, why: &str) -> Refusal {
    Refusal::bad_request(format!("{name}: {why}"))
}

fn info(ty: Ty) -> Result<&'static ResourceType, Refusal> {
    ty.info().ok_or_else(|| Refusal::bad_request(format!("ty: {ty} is no resource type")))
}

/// The attribute rows that hold and the members of the one root object.
fn open<'a>(info: &'static ResourceType, text: &'a str) -> Result<(&'static [Attribute], Members<'a>), Refusal> {
    let mut roots = json::object(text)?.into_iter();
    let (Some((root, inner)), None) = (roots.next(), roots.next()) else {
        return Err(Refusal::bad_request(format!("content: not exactly one member {}", info.root)));
    };
    let rows = if root == info.root {
        info.attributes
    } else if info.ty == Some(Ty::MGMT_OBJ) {
        let object = MGMT_OBJECTS.iter().find(|m| !m.root.is_empty() && m.root == root);
        object
            .ok_or_else(|| Refusal::new(Rsc::SPECIALIZATION_SCHEMA_NOT_FOUND, format!("{root} is not known")))?
            .attributes
    } else {
        return Err(Refusal::bad_request(format!("content: {root} instead of {}", info.root)));
    };
    Ok((rows, json::object(inner)?))
}

fn find(info: &ResourceType, rows: &'static [Attribute], name: &str) -> Result<&'static Attribute, Refusal> {
    AttrId::from_short(name)
        .and_then(|id| rows.binary_search_by_key(&id, |r| r.id).ok())
        .and_then(|i| rows.get(i))
        .ok_or_else(|| bad(name, &format!("is no attribute of {}", info.name)))
}

fn convert(row: &Attribute, body: &str, value: &str) -> Result<Value, String> {
    if row.id != AttrId::CON {
        return typed::value(row.data, row.list, value);
    }
    if value == "null" {
        return Err("is null".into());
    }
    let start = u32::try_from(json::offset_in(body, value)).map_err(|e| e.to_string())?;
    let len = u32::try_from(value.len()).map_err(|e| e.to_string())?;
    Ok(Value::Raw(Span { start, len }))
}

/// Bytes that a `con` counts for `cs`: of a JSON string the text that it stands for, of anything else its JSON text.
pub fn content_size(con: &[u8]) -> u64 {
    let inner = con.strip_prefix(b"\"").and_then(|c| c.strip_suffix(b"\""));
    let text = match inner {
        // The usual case: what stands there is the text.
        Some(inner) if !inner.contains(&b'\\') => return inner.len() as u64,
        Some(_) => std::str::from_utf8(con).ok().and_then(json::string),
        None => None,
    };
    text.map_or(con.len(), |t| t.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::IMPLEMENTED;

    fn make(ty: Ty, body: &str) -> Result<Representation, Refusal> {
        create(ty, &Bytes::copy_from_slice(body.as_bytes()))
    }
    fn change(ty: Ty, body: &str) -> Result<Attributes, Refusal> {
        update(ty, &Bytes::copy_from_slice(body.as_bytes()))
    }
    fn refused(result: Result<impl std::fmt::Debug, Refusal>, text: &str) {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.rsc, Rsc::BAD_REQUEST, "{refusal}");
        assert!(refusal.debug.contains(text), "{refusal}");
    }

    #[test]
    fn a_body_of_every_implemented_type() {
        let bodies = [
            (Ty::AE, r#"{"m2m:ae":{"api":"Nx","rr":true,"srv":["3"],"rn":"a","lbl":["k:v"],"poa":["http://h"]}}"#),
            (Ty::CONTAINER, r#"{"m2m:cnt":{"mni":10,"cr":null,"disr":false,"et":"20300101T000000"}}"#),
            (Ty::CONTENT_INSTANCE, r#"{"m2m:cin":{"con":{"a":[1,2]},"cnf":"application/json:0"}}"#),
            (
                Ty::SUBSCRIPTION,
                r#"{"m2m:sub":{"nu":["http://h"],"enc":{"net":[3]},"nct":1,"bn":{"num":2,"dur":"PT5S"}}}"#,
            ),
            (Ty::GROUP, r#"{"m2m:grp":{"mnm":5,"mid":[],"mt":0,"csy":1,"spty":"x"}}"#),
            (Ty::NODE, r#"{"m2m:nod":{"ni":"urn:x"}}"#),
            (Ty::REMOTE_CSE, r#"{"m2m:csr":{"cb":"/b/cb","csi":"/b","rr":true,"srv":["3"],"cst":2}}"#),
            (Ty::ACCESS_CONTROL_POLICY, r#"{"m2m:acp":{"pv":{"acr":[]},"pvs":{"acr":[{"acor":["all"],"acop":63}]}}}"#),
        ];
        let creatable = IMPLEMENTED.iter().filter(|ty| ty.info().unwrap().creatable);
        assert_eq!(creatable.count(), bodies.len());
        for (ty, body) in bodies {
            assert!(ty.is_implemented());
            let r = make(ty, body);
            assert!(r.is_ok(), "{ty}: {r:?}");
        }
    }

    #[test]
    fn content_stays_where_it_is() {
        let body = r#"{ "m2m:cin" : { "lbl":["a"], "con" : { "x" : "é" } } }"#;
        let r = make(Ty::CONTENT_INSTANCE, body).unwrap();
        let Some(Value::Raw(span)) = r.attributes.get(AttrId::CON) else { panic!("{r:?}") };
        assert_eq!(span.of(&Bytes::from(body)).unwrap(), r#"{ "x" : "é" }"#);
    }

    #[test]
    fn ts0004_7_3_3_3_unknown_np_and_missing_attributes() {
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"xyz":1}}"#), "xyz: is no attribute");
        // Known elsewhere, not of this type.
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"api":"N"}}"#), "api: is no attribute");
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"ri":"x"}}"#), "ri: must not be given");
        refused(make(Ty::AE, r#"{"m2m:ae":{"api":"N","srv":["3"]}}"#), "rr: is mandatory");
        refused(make(Ty::CONTENT_INSTANCE, r#"{"m2m:cin":{}}"#), "con: is mandatory");
        refused(make(Ty::CONTENT_INSTANCE, r#"{"m2m:cin":{"con":null}}"#), "con: is null");
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"mni":null}}"#), "mni: not an integer");
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"lbl":"a"}}"#), "lbl: not an array");
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"mni":1,"mni":2}}"#), "twice");
    }

    #[test]
    fn ts0004_7_3_3_3_creator_only_as_null() {
        assert!(make(Ty::CONTAINER, r#"{"m2m:cnt":{"cr":null}}"#).unwrap().wants_creator);
        refused(make(Ty::CONTAINER, r#"{"m2m:cnt":{"cr":"C1"}}"#), "cr: only null");
        refused(make(Ty::AE, r#"{"m2m:ae":{"cr":null}}"#), "cr: is no attribute");
    }

    #[test]
    fn ts0004_8_one_root_member_of_the_right_name() {
        for bad in
            [r#"{"m2m:ae":{}}"#, "{}", r#"{"m2m:cnt":{},"m2m:ae":{}}"#, r#"{"m2m:cnt":[]}"#, "[]", "", "{", "null"]
        {
            refused(make(Ty::CONTAINER, bad), "");
        }
        refused(make(Ty(9999), "{}"), "no resource type");
        assert_eq!(make(Ty::CSE_BASE, r#"{"m2m:cb":{}}"#).unwrap_err().rsc, Rsc::OPERATION_NOT_ALLOWED);
        assert_eq!(make(Ty::MGMT_OBJ, r#"{"m2m:zzz":{}}"#).unwrap_err().rsc, Rsc::SPECIALIZATION_SCHEMA_NOT_FOUND);
    }

    #[test]
    fn ts0004_7_3_3_7_update() {
        let changes = change(Ty::CONTAINER, r#"{"m2m:cnt":{"mni":null,"lbl":["x"]}}"#).unwrap();
        assert_eq!(changes.get(AttrId::MNI), Some(&Value::Null));
        assert_eq!(changes.get(AttrId::LBL), Some(&Value::list(["x"])));
        assert_eq!(change(Ty::CONTAINER, r#"{"m2m:cnt":{"et":null}}"#).unwrap().get(AttrId::ET), Some(&Value::Null));
        refused(change(Ty::AE, r#"{"m2m:ae":{"rr":null}}"#), "rr: cannot be deleted");
        refused(change(Ty::AE, r#"{"m2m:ae":{"api":"N"}}"#), "api: cannot be updated");
        refused(change(Ty::AE, r#"{"m2m:ae":{"rn":"x"}}"#), "rn: cannot be updated");
        refused(change(Ty::CONTAINER, r#"{"m2m:cnt":{"cr":null}}"#), "cr: cannot be updated");
        refused(change(Ty::CONTAINER, r#"{"m2m:cnt":{"acpi":[],"lbl":[]}}"#), "acpi: must be the only");
        assert!(change(Ty::CONTAINER, r#"{"m2m:cnt":{"acpi":["x"]}}"#).is_ok());
        assert_eq!(
            change(Ty::CONTENT_INSTANCE, r#"{"m2m:cin":{"con":1}}"#).unwrap_err().rsc,
            Rsc::OPERATION_NOT_ALLOWED
        );
    }

    #[test]
    fn ts0001_9_6_7_content_size() {
        assert_eq!(content_size(br#""hello""#), 5);
        assert_eq!(content_size(br#""a\nb\u00e9""#), 5);
        assert_eq!(content_size(b"{\"a\":1}"), 7);
        assert_eq!(content_size(b"\""), 1);
        assert_eq!(content_size(b""), 0);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}",:a1-9.\\ ]{0,40}"#, bytes: Vec<u8>, ty in 0_u16..70) {
            let wrapped = format!(r#"{{"m2m:cnt":{text}}}"#);
            for body in [text.as_bytes(), wrapped.as_bytes(), &bytes] {
                let body = Bytes::copy_from_slice(body);
                let _ = create(Ty(ty), &body);
                let _ = create(Ty::CONTAINER, &body);
                let _ = update(Ty(ty), &body);
                content_size(&body);
            }
        }

        #[test]
        fn wrong_types_in_every_attribute_never_panic(which: u16, ty in 1_u16..52, kind in 0_usize..8) {
            let info = Ty(ty).info();
            let Some(info) = info.filter(|i| !i.attributes.is_empty()) else { return Ok(()) };
            let attribute = &info.attributes[usize::from(which) % info.attributes.len()];
            let value = ["null", "1e400", "\"\"", "[]", "{}", "[[{}]]", "123456789012345678901234567890", "true"][kind];
            let body = Bytes::from(format!(r#"{{"{}":{{"{}":{value}}}}}"#, info.root, attribute.id.short()));
            let _ = create(Ty(ty), &body);
            let _ = update(Ty(ty), &body);
        }
    }
}
