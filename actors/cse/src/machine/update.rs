//! UPDATE (TS-0004 7.3.3.7 and the types' own clauses).

use bytes::Bytes;
use onemec_core::context::Outcome;
use onemec_onem2m::time::expiration;
use onemec_onem2m::{AttrId, Attributes, Operation, Refusal, ResultContent, Rsc, Ty, Value, representation, result};
use onemec_wire::Seq;

use super::{Cx, Done, LIFETIME_MS, container, create, events, group, subscription};
use crate::access::Stop;
use crate::op::{Reply, Write};
use crate::tree::{Found, Node, Tree};

/// An UPDATE that can be executed.
pub(super) struct Plan {
    seq: Seq,
    /// What the client asked for.
    asked: Attributes,
    /// What is done: `asked`, with what the CSE sets itself.
    changes: Attributes,
    et: Option<u64>,
}

pub(super) fn plan(tree: &Tree, cx: &Cx<'_>, write: &Write, body: &Bytes) -> Result<Plan, Stop> {
    super::check_result_content(Operation::Update, write.rcn)?;
    let found = tree.find(&write.target).ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, "no such resource"))?;
    let not_allowed = |what: &str| Stop::Refused(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, what));
    let node = match found {
        Found::Node(seq) => tree.node(seq),
        Found::Instance(..) => return Err(not_allowed("a contentInstance cannot be updated")),
        Found::Virtual(..) => return Err(not_allowed("a virtual resource cannot be updated")),
    };
    let Some(node) = node else { return Err(Refusal::new(Rsc::NOT_FOUND, "no such resource").into()) };
    let asked = representation::update(node.ty, body);
    // `acpi` stands alone and has a privilege of its own (TS-0001 9.6.1.3.2).
    if asked.as_ref().is_ok_and(|a| a.has(AttrId::ACPI)) && node.ty != Ty::ACCESS_CONTROL_POLICY {
        cx.asker.may_change_acpi(tree, node).required()?;
    } else {
        cx.asker.may(tree, found, Operation::Update.into(), None).required()?;
    }
    if node.ty == Ty::CSE_BASE {
        return Err(not_allowed("a CSEBase cannot be updated by a request"));
    }
    super::check_condition(tree, cx, write, found)?;
    let asked = asked?;
    let mut changes = asked.clone();
    let et = match changes.remove(AttrId::ET) {
        None => None,
        Some(value) => Some(new_expiration(tree, cx, node, value.as_time())?),
    };
    if let Some(acpi @ Value::List(_)) = changes.get(AttrId::ACPI).cloned() {
        changes.set(AttrId::ACPI, create::location_free_policies(tree, cx, &acpi)?);
    }
    match node.ty {
        Ty::CONTAINER => container::check(&changes)?,
        Ty::SUBSCRIPTION => subscription::check_update(tree, cx, node, &changes)?,
        Ty::GROUP => group::check_update(cx, node, &mut changes)?,
        Ty::ACCESS_CONTROL_POLICY => create::check_policy(&changes)?,
        _ => {}
    }
    Ok(Plan { seq: node.seq, asked, changes, et })
}

pub(super) fn execute(tree: &mut Tree, cx: &Cx<'_>, write: &Write, plan: Plan, outcome: &mut Outcome) -> Done {
    let Plan { seq, asked, changes, et } = plan;
    let restart = changes.get(AttrId::DISR).and_then(Value::as_bool) == Some(false)
        && tree.node(seq).is_some_and(|n| n.flag(AttrId::DISR));
    let parent = tree.node(seq).and_then(|n| n.parent);
    if let Some(et) = et {
        tree.set_expiration(seq, et);
    }
    let mut touched: Vec<AttrId> = vec![AttrId::LT];
    if let Some(node) = tree.node_mut(seq) {
        node.attributes.apply(&changes);
        node.attributes.shrink();
        node.lt = cx.now_ms;
        if let Some(st) = &mut node.st {
            *st += 1;
            touched.push(AttrId::ST);
        }
    }
    // An update of a child counts as a modification of its parent, if that counts modifications (TS-0001 10.1.4).
    if let Some(st) = parent.and_then(|p| tree.node_mut(p)).and_then(|p| p.st.as_mut()) {
        *st += 1;
    }
    if restart {
        container::clear(tree, seq, outcome);
    }
    container::shrink(tree, seq, outcome);
    if changes.has(AttrId::MIA) {
        container::age(tree, seq);
    }
    // What differs from the request: the CSE's own settings.
    touched.extend(changes.iter().filter(|(id, v)| asked.get(*id) != Some(v)).map(|(id, _)| id));
    touched.extend((asked.has(AttrId::ET)).then_some(AttrId::ET));
    let deleted: Vec<AttrId> = changes.iter().filter(|(_, v)| **v == Value::Null).map(|(id, _)| id).collect();
    let mut modified: Vec<AttrId> = asked.iter().map(|(id, _)| id).chain(touched.iter().copied()).collect();
    modified.sort_unstable();
    modified.dedup();
    events::updated(tree, cx, seq, &modified, outcome);
    events::rebundled(tree, seq, &modified, outcome);
    let view = cx.view(tree);
    let rcn = ResultContent::from_u8(write.rcn).unwrap_or(ResultContent::Attributes);
    let body = view
        .handle(Found::Node(seq))
        .and_then(|handle| result::updated(&handle, rcn, &touched, &deleted).ok())
        .and_then(|c| c.body)
        .unwrap_or_default();
    Ok((Reply::Done { rsc: Rsc::UPDATED.0, created: None, next_offset: None }, body))
}

/// The expiration time after an update; `None` asks the CSE to choose one (TS-0004 7.3.3.7).
fn new_expiration(
    tree: &Tree,
    cx: &Cx<'_>,
    node: &Node,
    asked: Option<onemec_onem2m::Timestamp>,
) -> Result<u64, Refusal> {
    let parent = node.parent.and_then(|p| tree.node(p)).and_then(|p| p.et);
    let latest = parent.unwrap_or(cx.now_ms.saturating_add(LIFETIME_MS));
    let et = expiration(asked, latest, cx.now_ms)?.ms();
    let outlives = |child: u64| child > et;
    let nodes = node.children.values().filter_map(|c| tree.node(*c)).filter_map(|c| c.et);
    let instances = node.instances.iter().flat_map(|i| i.iter()).map(|i| i.et);
    if nodes.chain(instances).any(outlives) {
        return Err(Refusal::bad_request("a child has a later expiration time"));
    }
    Ok(et)
}
