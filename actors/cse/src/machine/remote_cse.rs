//! Registration of a CSE at this one (TS-0004 7.4.4; TS-0001 10.2.2.6).

use onemec_onem2m::id::EntityId;
use onemec_onem2m::{AttrId, Attributes, Refusal, Rsc, Ty, Value};

use super::Cx;
use crate::tree::{Node, Tree};

/// Only a CSE registers a CSE.
pub(super) fn check_originator(cx: &Cx<'_>, parent: &Node) -> Result<(), Refusal> {
    if parent.ty != Ty::CSE_BASE {
        return Err(Refusal::new(Rsc::INVALID_CHILD_RESOURCE_TYPE, "a remoteCSE is created below a CSEBase"));
    }
    let who = cx.asker.who;
    match EntityId::parse(&who.id) {
        _ if who.trusted => Ok(()),
        // The front door has asked for its credential, if the listener wants one.
        Some(EntityId::Cse(_)) => Ok(()),
        _ => Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "an AE cannot register a CSE")),
    }
}

/// Sets `csi` and `rr`, refuses a second registration of the same CSE.
pub(super) fn check_create(tree: &Tree, cx: &Cx<'_>, attributes: &mut Attributes) -> Result<(), Refusal> {
    let who = cx.asker.who;
    // The CSE itself writes the resources of others; everybody else can only speak for itself.
    let given = attributes.get(AttrId::CSI).and_then(Value::as_str).map(str::to_owned);
    let csi = if who.trusted { given.unwrap_or_else(|| who.id.clone()) } else { who.id.clone() };
    if tree.nodes().any(|n| n.ty == Ty::REMOTE_CSE && n.text(AttrId::CSI) == Some(&csi)) {
        return Err(Refusal::new(Rsc::ORIGINATOR_HAS_ALREADY_REGISTERED, format!("{csi} is registered already")));
    }
    attributes.set(AttrId::CSI, Value::str(csi));
    Ok(())
}
