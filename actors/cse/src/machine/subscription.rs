//! Subscriptions (TS-0004 7.4.8): checks, event criteria, and the count of `exc`.

use onemec_core::context::{History, Outcome};
use onemec_onem2m::filter::FilterCriteria;
use onemec_onem2m::{AttrId, Attributes, Refusal, Ty, Value};
use onemec_wire::{Record, Seq};
use serde_json::Value as Json;

use super::{Cx, events};
use crate::access::{Asker, Stop};
use crate::op::{Facts, Needs, Who, Write};
use crate::tree::{Found, Node, Tree};
use crate::view::View;

/// m2m:notificationEventType
pub(super) const UPDATE: u8 = 1;
pub(super) const DELETION: u8 = 2;
pub(super) const CREATION_OF_CHILD: u8 = 3;
pub(super) const DELETION_OF_CHILD: u8 = 4;

/// Notification targets of one subscription.
const TARGETS_MAX: usize = 64;
/// Tags of `enc` that are conditions on the resource, as filter criteria have them.
const CONDITIONS: [&str; 11] = ["crb", "cra", "ms", "us", "sts", "stb", "exb", "exa", "sza", "szb", "fo"];
/// Tags of `enc` that are handled here.
const HANDLED: [&str; 3] = ["net", "chty", "atr"];
/// Attributes whose behaviour is not implemented: a client that relies on it must be told.
const UNSUPPORTED: [AttrId; 6] = [AttrId::BN, AttrId::RL, AttrId::NSP, AttrId::PSN, AttrId::NFU, AttrId::NEC];
/// m2m:pendingNotification: only the latest. The other value, all of them in order, is what always happens here.
const PENDING_LATEST: u64 = 1;

/// What a subscription wants to hear of.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// Event types.
    pub(super) events: Vec<u8>,
    /// m2m:notificationContentType
    pub(super) content: u8,
    children: Vec<Ty>,
    attributes: Vec<AttrId>,
    conditions: Option<Box<FilterCriteria>>,
}

impl Rules {
    /// Of a stored subscription, which was checked before; what cannot be read wants nothing.
    pub(super) fn of(subscription: &Node) -> Self {
        Self::read(&subscription.attributes).unwrap_or_default()
    }

    fn read(attributes: &Attributes) -> Result<Self, Refusal> {
        let content = attributes.get(AttrId::NCT).and_then(Value::as_u64).unwrap_or(1);
        let mut rules = Self { content: u8::try_from(content).unwrap_or(u8::MAX), ..Self::default() };
        if let Some(text) = attributes.get(AttrId::ENC).and_then(Value::as_json) {
            rules.read_criteria(text)?;
        }
        if rules.events.is_empty() {
            rules.events.push(UPDATE);
        }
        Ok(rules)
    }

    fn read_criteria(&mut self, text: &str) -> Result<(), Refusal> {
        let bad = |what: &str| Refusal::bad_request(format!("enc: {what}"));
        let Ok(Json::Object(criteria)) = serde_json::from_str::<Json>(text) else {
            return Err(bad("not an object"));
        };
        let list = |v: &Json| v.as_array().cloned().unwrap_or_else(|| vec![v.clone()]);
        let mut conditions = serde_json::Map::new();
        for (tag, value) in &criteria {
            match tag.as_str() {
                "net" => {
                    for n in list(value) {
                        self.events.push(n.as_u64().and_then(|n| u8::try_from(n).ok()).ok_or_else(|| bad("net"))?);
                    }
                }
                "chty" => {
                    for n in list(value) {
                        self.children
                            .push(n.as_u64().and_then(|n| u16::try_from(n).ok()).map(Ty).ok_or_else(|| bad("chty"))?);
                    }
                }
                "atr" => {
                    for name in list(value) {
                        let id = name.as_str().and_then(AttrId::from_short);
                        self.attributes.push(id.ok_or_else(|| bad("atr names an unknown attribute"))?);
                    }
                }
                t if CONDITIONS.contains(&t) => {
                    conditions.insert(tag.clone(), value.clone());
                }
                other => return Err(Refusal::not_implemented(format!("enc: {other} is not supported"))),
            }
        }
        if !conditions.is_empty() {
            let text = Json::Object(conditions).to_string();
            self.conditions = Some(Box::new(FilterCriteria::from_json(&text)?));
        }
        Ok(())
    }

    pub(super) fn wants_child(&self, ty: Ty) -> bool {
        self.children.is_empty() || self.children.contains(&ty)
    }

    pub(super) fn wants_attributes(&self, modified: &[AttrId]) -> bool {
        self.attributes.is_empty() || self.attributes.iter().any(|a| modified.contains(a))
    }

    pub(super) fn matches(&self, view: &View<'_>, found: Found) -> bool {
        match (&self.conditions, view.handle(found)) {
            (None, _) => true,
            (Some(conditions), Some(handle)) => conditions.matches(view, &handle),
            (Some(_), None) => false,
        }
    }

    fn check(&self, parent: Ty) -> Result<(), Refusal> {
        for net in &self.events {
            match *net {
                UPDATE..=DELETION_OF_CHILD => {}
                5..=8 => return Err(Refusal::not_implemented(format!("notification event type {net}"))),
                _ => return Err(Refusal::bad_request(format!("there is no notification event type {net}"))),
            }
        }
        match self.content {
            1 | 3 => {}
            // Only an update has modified attributes (TS-0001 table 9.6.8-4).
            2 if self.events.iter().all(|n| *n == UPDATE) => {}
            _ => return Err(Refusal::bad_request("nct does not fit the event types")),
        }
        let children_events = [CREATION_OF_CHILD, DELETION_OF_CHILD];
        if !self.children.is_empty() && !self.events.iter().any(|n| children_events.contains(n)) {
            return Err(Refusal::bad_request("chty needs net 3 or 4"));
        }
        if !self.attributes.is_empty() && !self.events.contains(&UPDATE) {
            return Err(Refusal::bad_request("atr needs net 1"));
        }
        if self.children.iter().any(|c| !parent.info().is_some_and(|p| p.allows_child(*c))) {
            return Err(Refusal::bad_request("chty names a type that is no child of the resource"));
        }
        Ok(())
    }
}

/// Whether a notification target is an address to post to rather than the identifier of a resource.
pub(crate) fn is_url(target: &str) -> bool {
    target.contains("://")
}

pub(super) fn check_create(
    tree: &Tree,
    cx: &Cx<'_>,
    write: &Write,
    parent: &Node,
    attributes: &mut Attributes,
    name: Option<&str>,
) -> Result<(), Stop> {
    if !attributes.has(AttrId::NCT) {
        attributes.set(AttrId::NCT, Value::Int(1));
    }
    check(attributes, parent.ty)?;
    let targets: Vec<&str> = attributes.get(AttrId::NU).into_iter().flat_map(Value::strings).collect();
    check_targets(&targets)?;
    let mut path = events::path(tree, Found::Node(parent.seq));
    path.extend(name.or(write.name.as_deref()).map(str::to_owned));
    verified(cx, &targets, path)
}

pub(super) fn check_update(tree: &Tree, cx: &Cx<'_>, subscription: &Node, changes: &Attributes) -> Result<(), Stop> {
    let mut after = subscription.attributes.clone();
    after.apply(changes);
    let parent = subscription.parent.and_then(|p| tree.node(p)).map_or(Ty::CSE_BASE, |p| p.ty);
    check(&after, parent)?;
    let before: Vec<&str> = subscription.texts(AttrId::NU).collect();
    let new: Vec<&str> = after.get(AttrId::NU).into_iter().flat_map(Value::strings).collect();
    check_targets(&new)?;
    let added: Vec<&str> = new.into_iter().filter(|t| !before.contains(t)).collect();
    verified(cx, &added, events::path(tree, Found::Node(subscription.seq)))
}

/// Each notification is kept once per target until it is delivered, so their number has a limit (I8).
fn check_targets(targets: &[&str]) -> Result<(), Refusal> {
    match targets.len() {
        0 => Err(Refusal::bad_request("nu is empty")),
        n if n > TARGETS_MAX => Err(Refusal::bad_request(format!("nu names more than {TARGETS_MAX} targets"))),
        _ => Ok(()),
    }
}

fn check(attributes: &Attributes, parent: Ty) -> Result<(), Refusal> {
    if let Some(id) = UNSUPPORTED.into_iter().find(|id| attributes.has(*id)) {
        return Err(Refusal::not_implemented(format!("{} is not supported", id.short())));
    }
    if attributes.get(AttrId::LN).and_then(Value::as_bool) == Some(true) {
        return Err(Refusal::not_implemented("ln: true is not supported"));
    }
    if attributes.get(AttrId::PN).and_then(Value::as_u64) == Some(PENDING_LATEST) {
        return Err(Refusal::not_implemented("pn: 1 is not supported, 2 is"));
    }
    if attributes.get(AttrId::EXC).and_then(Value::as_int).is_some_and(|n| n < 1) {
        return Err(Refusal::bad_request("exc must be positive"));
    }
    debug_assert!(HANDLED.iter().all(|t| !CONDITIONS.contains(t)));
    Rules::read(attributes)?.check(parent)
}

/// Every target agrees to the subscription before it exists, unless it asks for it itself (TS-0004 7.4.8.2.1).
fn verified(cx: &Cx<'_>, targets: &[&str], subscription: Vec<String>) -> Result<(), Stop> {
    let who = cx.asker.who;
    let is_self = |t: &str| who.forms().any(|f| f == cx.home.normal_id(t));
    let missing: Vec<String> = targets
        .iter()
        .filter(|t| !is_self(t) && !cx.asker.facts.verified.iter().any(|v| v == *t))
        .map(|t| (*t).to_owned())
        .collect();
    if missing.is_empty() || who.id == *cx.home.cse_id {
        Ok(())
    } else {
        Err(Stop::Needs(Needs { verify: missing, subscription, ..Needs::default() }))
    }
}

/// A notification was delivered: `exc` goes down, at 0 the subscription goes.
pub(super) fn count_down(
    tree: &mut Tree,
    record: &Record,
    subscription: Seq,
    history: &dyn History,
    outcome: &mut Outcome,
) {
    let Some(node) = tree.node_mut(subscription) else { return };
    let Some(left) = node.number(AttrId::EXC) else { return };
    node.attributes.set(AttrId::EXC, Value::Int(i64::try_from(left.saturating_sub(1)).unwrap_or(0)));
    if left > 1 {
        return;
    }
    let Some(home) = tree.home.clone() else { return };
    let home = home.identity();
    let (who, facts) = (Who::cse(&home), Facts::default());
    let now_ms = record.time_ms();
    let asker = Asker { who: &who, facts: &facts, home: &home, now_ms };
    let cx = Cx { asker, seq: record.seq(), now_ms, history, home: &home };
    super::delete::remove(tree, &cx, Found::Node(subscription), outcome);
}
