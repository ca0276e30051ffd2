//! The first operation of a context: the AE or the CSEBase itself.

use bytes::Bytes;
use onemec_core::context::History;
use onemec_onem2m::representation::{self, Representation};
use onemec_onem2m::time::expiration;
use onemec_onem2m::{AttrId, Attributes, Refusal, Release, ResultContent, Rsc, Ty, Value, result};
use onemec_wire::Record;

use super::{Done, LIFETIME_MS};
use crate::op::{BeginAe, Home, Reply};
use crate::tree::{Creator, Found, Node, Tree};
use crate::view::View;

/// The checks of an AE's representation that need no tree (TS-0004 7.4.5.2.1); the front door makes them before it
/// claims any name.
pub fn check_ae(body: &Bytes, now_ms: u64) -> Result<Representation, Refusal> {
    let representation = representation::create(Ty::AE, body)?;
    let attributes = &representation.attributes;
    // R: registered, r: tolerated, N: not registered.
    let api = attributes.get(AttrId::API).and_then(Value::as_str).unwrap_or_default();
    if !api.starts_with(['R', 'r', 'N']) {
        return Err(Refusal::bad_request("api must start with R or N"));
    }
    if let Some(versions) = attributes.get(AttrId::SRV)
        && !versions.strings().any(|v| Release::parse(v).is_some_and(|r| r > Release::R1))
    {
        return Err(Refusal::new(
            Rsc::RELEASE_VERSION_NOT_SUPPORTED,
            "no release in srv is supported; 2, 2a, 3, 4, 5 are",
        ));
    }
    expiration(attributes.get(AttrId::ET).and_then(Value::as_time), now_ms + LIFETIME_MS, now_ms)?;
    Ok(representation)
}

pub(super) fn ae(tree: &mut Tree, record: &Record, begin: &BeginAe, history: &dyn History) -> Done {
    if tree.root().is_some() {
        return Err(Refusal::new(Rsc::CONFLICT, "the context has its AE already").into());
    }
    let now = record.time_ms();
    let representation = check_ae(&record.body(), now)?;
    let given = representation.attributes.clone();
    let mut attributes = representation.attributes;
    attributes.remove(AttrId::RN);
    if let Some(acpi) = attributes.remove(AttrId::ACPI) {
        attributes.set(AttrId::ACPI, elsewhere_too(&acpi, &begin.home));
    }
    let asked = attributes.remove(AttrId::ET).and_then(|v| v.as_time());
    let et = expiration(asked, now + LIFETIME_MS, now)?.ms();
    attributes.shrink();
    tree.insert(Node {
        seq: record.seq(),
        ty: Ty::AE,
        name: begin.name.as_str().into(),
        fixed_id: Some(begin.stem.clone()),
        parent: None,
        ct: now,
        lt: now,
        et: Some(et),
        st: None,
        creator: Creator::Owner,
        shows_creator: false,
        attributes,
        children: Default::default(),
        subscriptions: Vec::new(),
        instances: None,
    });
    tree.home = Some(begin.home.clone());
    let home = begin.home.identity();
    let view = View { tree, history, home: &home };
    let found = Found::Node(record.seq());
    let address = view.structured(found);
    let rcn = ResultContent::from_u8(begin.rcn).unwrap_or(ResultContent::Attributes);
    let body = match view.handle(found) {
        Some(handle) => result::created(&handle, rcn, &address, &given)?.body.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok((Reply::Done { rsc: Rsc::CREATED.0, created: Some(address), next_offset: None }, body))
}

/// Addresses relative to this CSE, in the form that every CSE understands: the AE may move.
fn elsewhere_too(acpi: &Value, home: &Home) -> Value {
    let form = |address: &str| match address {
        _ if address.starts_with('/') || crate::rid::parse(address).is_some() => address.to_owned(),
        _ => format!("{}/{address}", home.cse_id),
    };
    Value::list(acpi.strings().map(form))
}

pub(super) fn base(tree: &mut Tree, record: &Record, home: &Home) -> Done {
    if tree.root().is_some() {
        return set_base(tree, record, home);
    }
    let now = record.time_ms();
    tree.insert(Node {
        seq: record.seq(),
        ty: Ty::CSE_BASE,
        name: home.base_name.as_str().into(),
        fixed_id: Some(home.cse_id.trim_start_matches('/').to_owned()),
        parent: None,
        ct: now,
        lt: now,
        et: None,
        st: None,
        creator: Creator::Cse,
        shows_creator: false,
        attributes: attributes(record)?,
        children: Default::default(),
        subscriptions: Vec::new(),
        instances: None,
    });
    tree.home = Some(home.clone());
    Ok((Reply::Done { rsc: Rsc::CREATED.0, created: None, next_offset: None }, Vec::new()))
}

/// What the CSE's configuration says may change with every start.
pub(super) fn set_base(tree: &mut Tree, record: &Record, home: &Home) -> Done {
    let new = attributes(record)?;
    let Some(root) = tree.root().map(|r| r.seq).and_then(|r| tree.node_mut(r)) else {
        return Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "there is no CSEBase").into());
    };
    root.attributes.apply(&new);
    root.attributes.shrink();
    root.lt = record.time_ms();
    tree.home = Some(home.clone());
    Ok((Reply::Done { rsc: Rsc::UPDATED.0, created: None, next_offset: None }, Vec::new()))
}

fn attributes(record: &Record) -> Result<Attributes, Refusal> {
    Attributes::decode(&mut &record.body()[..]).map_err(|e| Refusal::new(Rsc::INTERNAL_SERVER_ERROR, e.to_string()))
}
