//! CREATE below a resource of the context (TS-0004 7.3.3.3 to 7.3.3.5, 7.4.x).

use bytes::Bytes;
use onemec_core::context::Outcome;
use onemec_onem2m::access::Operations;
use onemec_onem2m::representation::{self, Representation};
use onemec_onem2m::time::expiration;
use onemec_onem2m::{AttrId, Attributes, Operation, Refusal, ResultContent, Rsc, Ty, Value, result};
use onemec_wire::Seq;

use super::{Cx, Done, LIFETIME_MS, container, events, group, remote_cse, subscription};
use crate::access::Stop;
use crate::op::{Needs, Reply, Who, Write};
use crate::tree::{Creator, Extra, Found, Instance, Node, Tree};

/// A CREATE that can be executed.
pub(super) struct Plan {
    parent: Seq,
    ty: Ty,
    /// `None`: a contentInstance with the derived name.
    name: Option<String>,
    et: u64,
    representation: Representation,
    /// As the client gave them: what the answer leaves out for rcn 9.
    given: Attributes,
    creator: Creator,
    /// Size of a contentInstance's content.
    content_size: u32,
}

pub(super) fn plan(tree: &Tree, cx: &Cx<'_>, write: &Write, ty: u16, body: &Bytes) -> Result<Plan, Stop> {
    let ty = Ty(ty);
    super::check_result_content(Operation::Create, write.rcn)?;
    let found = tree.find(&write.target).ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, "no such resource"))?;
    let parent = match found {
        Found::Node(seq) => tree.node(seq),
        Found::Instance(..) | Found::Virtual(..) => None,
    };
    let Some(parent) = parent else {
        cx.asker.may(tree, found, Operation::Create.into(), Some(ty)).required()?;
        return Err(if ty == Ty::SUBSCRIPTION {
            Refusal::new(Rsc::TARGET_NOT_SUBSCRIBABLE, "this resource has no subscriptions")
        } else if matches!(found, Found::Virtual(..)) {
            Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "nothing can be created below a virtual resource")
        } else {
            Refusal::new(Rsc::INVALID_CHILD_RESOURCE_TYPE, "a contentInstance has no such children")
        }
        .into());
    };
    if ty == Ty::REMOTE_CSE {
        // The registration of a CSE has no access control check (TS-0004 7.4.4), but not everybody is a CSE.
        remote_cse::check_originator(cx, parent)?;
    } else {
        cx.asker.may(tree, found, Operation::Create.into(), Some(ty)).required()?;
    }
    check_type(parent, ty)?;
    if ty == Ty::SUBSCRIPTION {
        cx.asker.may(tree, found, Operations::from(Operation::Retrieve), None).required()?;
    }
    let mut representation = representation::create(ty, body)?;
    let modified_only = write.rcn == ResultContent::ModifiedAttributes as u8;
    let given = if modified_only { representation.attributes.clone() } else { Attributes::new() };
    let attributes = &mut representation.attributes;
    if ty == Ty::REMOTE_CSE {
        // Before its name: a CSE that registers again is told so.
        remote_cse::check_create(tree, cx, attributes)?;
    }
    let name = match attributes.remove(AttrId::RN) {
        Some(Value::Str(name)) => Some(name.into_string()),
        _ if ty == Ty::CONTENT_INSTANCE => None,
        _ => write.name.clone(),
    };
    if let Some(name) = &name
        && tree.child(parent.seq, name).is_some()
    {
        return Err(Refusal::new(Rsc::CONFLICT, format!("there is a resource named {name} already")).into());
    }
    let asked = attributes.remove(AttrId::ET).and_then(|v| v.as_time());
    let latest = parent.et.unwrap_or(cx.now_ms.saturating_add(LIFETIME_MS));
    let mut et = expiration(asked, latest, cx.now_ms)?.ms();
    if let Some(acpi) = attributes.remove(AttrId::ACPI) {
        attributes.set(AttrId::ACPI, location_free_policies(tree, cx, &acpi)?);
    }
    let mut content_size = 0;
    match ty {
        Ty::CONTENT_INSTANCE => {
            content_size = container::check_instance(parent, attributes, body)?;
            if let Some(age) = parent.number(AttrId::MIA) {
                et = et.min(cx.now_ms.saturating_add(age.saturating_mul(1000)));
            }
        }
        Ty::CONTAINER => container::check(attributes)?,
        Ty::SUBSCRIPTION => subscription::check_create(tree, cx, write, parent, attributes, name.as_deref())?,
        Ty::GROUP => group::check_create(cx, attributes)?,
        Ty::ACCESS_CONTROL_POLICY => check_policy(attributes)?,
        _ => {}
    }
    let creator = creator(tree, cx, &write.who);
    Ok(Plan { parent: parent.seq, ty, name, et, representation, given, creator, content_size })
}

pub(super) fn execute(tree: &mut Tree, cx: &Cx<'_>, write: &Write, plan: Plan, outcome: &mut Outcome) -> Done {
    let Plan { parent, ty, name, et, mut representation, given, creator, content_size } = plan;
    let shown_creator = representation.wants_creator.then(|| creator.clone());
    let found = if ty == Ty::CONTENT_INSTANCE {
        let st = container::touch(tree, parent, cx.now_ms);
        let con = match representation.attributes.remove(AttrId::CON) {
            Some(Value::Raw(span)) => span,
            _ => onemec_onem2m::Span { start: 0, len: 0 },
        };
        let name = name.or_else(|| {
            // Somebody may have chosen the very name that we would derive.
            let derived = Instance::derived_name(cx.seq);
            tree.child(parent, &derived).map(|_| format!("{derived}-1"))
        });
        let attributes = representation.attributes;
        let extra = (name.is_some() || shown_creator.is_some() || !attributes.is_empty()).then(|| {
            let mut attributes = attributes;
            attributes.shrink();
            Box::new(Extra { name: name.map(Into::into), creator: shown_creator, attributes })
        });
        container::make_room(tree, parent, content_size, outcome);
        tree.push_instance(parent, Instance { seq: cx.seq, ct: cx.now_ms, et, st, cs: content_size, con, extra });
        outcome.keep = true;
        Found::Instance(parent, cx.seq)
    } else {
        let mut attributes = representation.attributes;
        attributes.shrink();
        let name = name.unwrap_or_else(|| free_name(tree, parent, ty, cx.seq));
        tree.insert(Node {
            seq: cx.seq,
            ty,
            name: name.into(),
            fixed_id: None,
            parent: Some(parent),
            ct: cx.now_ms,
            lt: cx.now_ms,
            et: Some(et),
            st: ty.info().is_some_and(|i| i.has(AttrId::ST)).then_some(0),
            shows_creator: shown_creator.is_some(),
            creator,
            attributes,
            children: Default::default(),
            subscriptions: Vec::new(),
            instances: None,
        });
        Found::Node(cx.seq)
    };
    events::child_created(tree, cx, parent, found, outcome);
    let view = cx.view(tree);
    let address = view.structured(found);
    let rcn = ResultContent::from_u8(write.rcn).unwrap_or(ResultContent::Attributes);
    let body = match view.handle(found) {
        // The result content was checked before; a resource that is there now does not go away over its rendering.
        Some(handle) => result::created(&handle, rcn, &address, &given).ok().and_then(|c| c.body).unwrap_or_default(),
        None => Vec::new(),
    };
    Ok((Reply::Done { rsc: Rsc::CREATED.0, created: Some(address), next_offset: None }, body))
}

fn check_type(parent: &Node, ty: Ty) -> Result<(), Refusal> {
    let Some(info) = ty.info() else { return Err(Refusal::bad_request(format!("there is no resource type {ty}"))) };
    if !ty.is_implemented() {
        return Err(Refusal::not_implemented(format!("resource type {} is not implemented", info.name)));
    }
    if !parent.ty.info().is_some_and(|p| p.allows_child(ty)) || ty == Ty::AE {
        return Err(if ty == Ty::SUBSCRIPTION {
            Refusal::new(Rsc::TARGET_NOT_SUBSCRIBABLE, "this resource has no subscriptions")
        } else {
            Refusal::new(Rsc::INVALID_CHILD_RESOURCE_TYPE, format!("{} cannot be created here", info.name))
        });
    }
    if !info.creatable {
        return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, format!("{} cannot be created by a request", info.name)));
    }
    Ok(())
}

/// Policies are kept by their unstructured ids, which stay valid wherever the resource or the policy moves. What cannot be
/// reached now is kept as it was given; it grants nothing until it can be reached, and never locks the owner out.
pub(super) fn location_free_policies(tree: &Tree, cx: &Cx<'_>, acpi: &Value) -> Result<Value, Stop> {
    let mut missing = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for address in acpi.strings() {
        let local = crate::rid::parse(address).is_some_and(|(c, s)| c == tree.context() && tree.node(s).is_some());
        let known = cx.asker.facts.policies.iter().find(|(a, _)| a == address);
        let id = match known {
            _ if local || cx.asker.who.trusted => address.to_owned(),
            Some((_, Some(policy))) => policy.rid.clone(),
            Some((_, None)) => address.to_owned(),
            None => {
                missing.push(address.to_owned());
                continue;
            }
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if missing.is_empty() {
        Ok(Value::list(ids))
    } else {
        Err(Stop::Needs(Needs { policies: missing, ..Needs::default() }))
    }
}

/// `pvs` needs at least one rule; `pv` may have none (TS-0004 7.4.2.2).
pub(super) fn check_policy(attributes: &Attributes) -> Result<(), Refusal> {
    use onemec_onem2m::access::Rules;
    if let Some(pv) = attributes.get(AttrId::PV).and_then(Value::as_json) {
        Rules::from_json(pv)?;
    }
    match attributes.get(AttrId::PVS).map(|v| v.as_json().unwrap_or("{}")) {
        Some(pvs) if Rules::from_json(pvs)?.is_empty() => Err(Refusal::bad_request("pvs needs at least one rule")),
        _ => Ok(()),
    }
}

pub(super) fn creator(tree: &Tree, cx: &Cx<'_>, who: &Who) -> Creator {
    if who.context == Some(tree.context()) {
        Creator::Owner
    } else if who.trusted && *who.id == *cx.home.cse_id {
        Creator::Cse
    } else {
        Creator::Other(who.id.as_str().into())
    }
}

/// A name for a resource that was given none: its type and place, which no two resources share.
fn free_name(tree: &Tree, parent: Seq, ty: Ty, seq: Seq) -> String {
    let mut name = ty.info().map_or("res", |i| i.short).to_owned();
    name.push('-');
    crate::rid::push36(&mut name, seq.0);
    while tree.child(parent, &name).is_some() {
        name.push_str("-1");
    }
    name
}
