//! Groups (TS-0004 7.4.13): members without duplicates, their number and their types. The fan-out is the front door's.

use onemec_onem2m::{AttrId, Attributes, Refusal, Rsc, Value};

use super::Cx;
use crate::access::Stop;
use crate::op::Needs;
use crate::tree::Node;

/// m2m:memberType mixed.
const MIXED: i64 = 0;
/// m2m:consistencyStrategy: abandon members of another type, abandon the group, make it mixed.
const ABANDON_MEMBER: i64 = 1;
const ABANDON_GROUP: i64 = 2;

pub(super) fn check_create(cx: &Cx<'_>, attributes: &mut Attributes) -> Result<(), Stop> {
    if !attributes.has(AttrId::MT) {
        attributes.set(AttrId::MT, Value::Int(MIXED));
    }
    if !attributes.has(AttrId::CSY) {
        attributes.set(AttrId::CSY, Value::Int(ABANDON_MEMBER));
    }
    check(cx, attributes, None)
}

/// Checks the attributes of an update against the group as it is.
pub(super) fn check_update(cx: &Cx<'_>, group: &Node, changes: &mut Attributes) -> Result<(), Stop> {
    if !changes.has(AttrId::MID) && !changes.has(AttrId::MNM) {
        return Ok(());
    }
    check(cx, changes, Some(group))
}

fn check(cx: &Cx<'_>, attributes: &mut Attributes, before: Option<&Node>) -> Result<(), Stop> {
    let get = |id| attributes.get(id).or_else(|| before.and_then(|b| b.attributes.get(id)));
    let int = |id| get(id).and_then(Value::as_int);
    let mut members: Vec<String> = Vec::new();
    for member in get(AttrId::MID).into_iter().flat_map(Value::strings) {
        if !members.iter().any(|m| m == member) {
            members.push(member.to_owned());
        }
    }
    if int(AttrId::MNM).is_some_and(|max| members.len() as i64 > max) {
        return Err(Refusal::new(Rsc::MAX_NUMBER_OF_MEMBER_EXCEEDED, "there are more members than mnm").into());
    }
    let wanted = int(AttrId::MT).unwrap_or(MIXED);
    let strategy = int(AttrId::CSY).unwrap_or(ABANDON_MEMBER);
    let mut validated = true;
    if wanted != MIXED && (before.is_none() || attributes.has(AttrId::MID)) {
        let types = &cx.asker.facts.types;
        let missing: Vec<String> = members.iter().filter(|m| !types.iter().any(|(a, _)| a == *m)).cloned().collect();
        if !missing.is_empty() {
            return Err(Stop::Needs(Needs { types: missing, ..Needs::default() }));
        }
        let ty = |m: &String| types.iter().find(|(a, _)| a == m).and_then(|(_, t)| *t);
        // Members that cannot be reached stay, and the group says that it is not validated.
        validated = members.iter().all(|m| ty(m).is_some());
        let fits = |m: &String| ty(m).is_none_or(|t| i64::from(t) == wanted);
        if !members.iter().all(fits) {
            match strategy {
                ABANDON_MEMBER => members.retain(fits),
                ABANDON_GROUP => {
                    return Err(Refusal::new(
                        Rsc::GROUP_MEMBER_TYPE_INCONSISTENT,
                        "not all members are of the group's type",
                    )
                    .into());
                }
                _ => {
                    attributes.set(AttrId::MT, Value::Int(MIXED));
                }
            }
        }
    }
    attributes.set(AttrId::CNM, Value::Int(members.len() as i64));
    attributes.set(AttrId::MID, Value::list(members));
    attributes.set(AttrId::MTV, Value::Bool(validated));
    Ok(())
}
