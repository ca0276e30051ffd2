//! Notifications that a change causes (TS-0001 9.6.8, 10.2.10; TS-0004 7.5.1.2): one effect per subscription and target.
//!
//! A notice is replicated state until it is delivered, so it holds no address that a move would change: what depends on
//! the context's home is rendered when it is sent.

use bytes::Bytes;
use onemec_core::context::{Effect, Outcome};
use onemec_onem2m::{AttrId, Ty, result};
use onemec_wire::Seq;

use super::Cx;
use super::subscription::{CREATION_OF_CHILD, DELETION, DELETION_OF_CHILD, Rules, UPDATE};
use crate::tree::{Creator, Found, Node, Tree};

/// m2m:notificationContentType: only the modified attributes; only the address.
const MODIFIED_ATTRIBUTES: u8 = 2;
const ONLY_ADDRESS: u8 = 3;

/// Control part of a notification's effect; the body is the representation (`rep`).
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Notice {
    /// What it tells.
    pub kind: NoticeKind,
    /// The target: an entry of `nu`, or `su`.
    pub to: String,
    /// The subscription.
    pub subscription: Seq,
    /// Its names below the CSEBase.
    pub path: Vec<String>,
    /// Its creator, if it shows one.
    pub creator: Option<Creator>,
    /// Counts towards `exc`.
    pub counts: bool,
    /// When it happened: milliseconds since 1970.
    pub at_ms: u64,
}

/// What a notification tells.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum NoticeKind {
    /// An event of the subscribed-to resource.
    Event {
        /// m2m:notificationEventType
        net: u8,
        /// Only the address of the resource goes out (nct 3): its names below the CSEBase.
        address: Option<Vec<String>>,
    },
    /// The subscription was deleted.
    Deleted,
}

/// Lane of the effects that tell the directory which bundle the AE belongs to; no subscription has this place.
pub(crate) const BUNDLE_LANE: u64 = 0;

/// Lane of the effects that give up the name of a former child of a CSEBase.
pub(crate) const NAME_LANE: u64 = 1;

/// A child of the CSEBase goes: its name is free for AEs again, which are contexts of their own (rule 17). An effect, since
/// it has to reach the directory even if this host dies first.
pub(super) fn name_free(tree: &Tree, gone: Seq, outcome: &mut Outcome) {
    let Some(child) = tree.node(gone) else { return };
    if child.parent.and_then(|p| tree.node(p)).is_some_and(|p| p.ty == Ty::CSE_BASE) {
        let head = crate::codec::encode(&child.name.to_string());
        outcome.effects.push(Effect { lane: NAME_LANE, required: true, head, body: Bytes::new() });
    }
}

/// The AE names another node (device), or none: from now on it moves with that one's AEs (row G13). An effect, since it
/// has to reach the directory even if this host dies first.
pub(super) fn rebundled(tree: &Tree, seq: Seq, modified: &[AttrId], outcome: &mut Outcome) {
    let Some(ae) = tree.node(seq).filter(|n| n.ty == Ty::AE && modified.contains(&AttrId::NL)) else { return };
    let node_link = ae.text(AttrId::NL).map(str::to_owned);
    let head = crate::codec::encode(&node_link);
    outcome.effects.push(Effect { lane: BUNDLE_LANE, required: true, head, body: Bytes::new() });
}

pub(super) fn child_created(tree: &Tree, cx: &Cx<'_>, parent: Seq, child: Found, outcome: &mut Outcome) {
    child_event(tree, cx, parent, child, CREATION_OF_CHILD, outcome);
}

pub(super) fn child_deleted(tree: &Tree, cx: &Cx<'_>, parent: Seq, child: Found, outcome: &mut Outcome) {
    child_event(tree, cx, parent, child, DELETION_OF_CHILD, outcome);
}

fn child_event(tree: &Tree, cx: &Cx<'_>, parent: Seq, child: Found, net: u8, outcome: &mut Outcome) {
    let Some(parent) = tree.node(parent) else { return };
    for (subscription, rules) in interested(tree, parent, net) {
        let ty = match child {
            Found::Node(seq) => tree.node(seq).map(|n| n.ty),
            _ => Some(Ty::CONTENT_INSTANCE),
        };
        // A subscription does not tell about its own creation.
        if child == Found::Node(subscription.seq) || !ty.is_some_and(|t| rules.wants_child(t)) {
            continue;
        }
        if rules.matches(&cx.view(tree), child) {
            emit(tree, cx, subscription, &rules, net, child, &[], outcome);
        }
    }
}

pub(super) fn updated(tree: &Tree, cx: &Cx<'_>, seq: Seq, modified: &[AttrId], outcome: &mut Outcome) {
    let Some(node) = tree.node(seq) else { return };
    for (subscription, rules) in interested(tree, node, UPDATE) {
        if rules.wants_attributes(modified) && rules.matches(&cx.view(tree), Found::Node(seq)) {
            emit(tree, cx, subscription, &rules, UPDATE, Found::Node(seq), modified, outcome);
        }
    }
}

/// Tells of the deletion of a resource and all below it, while everything is still there: net 2 before the
/// subscriptions go, then their own deletion notices.
pub(super) fn subtree_deleted(tree: &Tree, cx: &Cx<'_>, seq: Seq, outcome: &mut Outcome) {
    let Some(node) = tree.node(seq) else { return };
    for (subscription, rules) in interested(tree, node, DELETION) {
        emit(tree, cx, subscription, &rules, DELETION, Found::Node(seq), &[], outcome);
    }
    if node.ty == Ty::SUBSCRIPTION {
        deletion_notice(tree, node, cx.now_ms, outcome);
    }
    for child in node.children.values() {
        subtree_deleted(tree, cx, *child, outcome);
    }
}

/// Tells `su` (and the associated cross-resource subscriptions) that a subscription is gone.
fn deletion_notice(tree: &Tree, subscription: &Node, at_ms: u64, outcome: &mut Outcome) {
    let targets: Vec<&str> =
        subscription.text(AttrId::SU).into_iter().chain(subscription.texts(AttrId::ACRS)).collect();
    for to in targets {
        let notice = notice(tree, subscription, NoticeKind::Deleted, to, at_ms);
        push(notice, Bytes::new(), outcome);
    }
}

/// The subscriptions of a node that want an event, oldest first.
fn interested<'t>(tree: &'t Tree, node: &'t Node, net: u8) -> impl Iterator<Item = (&'t Node, Rules)> {
    node.subscriptions
        .iter()
        .filter_map(|s| tree.node(*s))
        .map(|s| (s, Rules::of(s)))
        .filter(move |(_, rules)| rules.events.contains(&net))
}

#[allow(clippy::too_many_arguments)] // One call site per event; a struct would only rename them.
fn emit(
    tree: &Tree,
    cx: &Cx<'_>,
    subscription: &Node,
    rules: &Rules,
    net: u8,
    subject: Found,
    modified: &[AttrId],
    outcome: &mut Outcome,
) {
    let view = cx.view(tree);
    let address = (rules.content == ONLY_ADDRESS).then(|| path(tree, subject));
    let body = match view.handle(subject) {
        Some(handle) if address.is_none() => {
            let only = if rules.content == MODIFIED_ATTRIBUTES { modified } else { &[] };
            Bytes::from(result::representation(&handle, only))
        }
        _ => Bytes::new(),
    };
    for to in subscription.texts(AttrId::NU) {
        let kind = NoticeKind::Event { net, address: address.clone() };
        push(notice(tree, subscription, kind, to, cx.now_ms), body.clone(), outcome);
    }
}

fn notice(tree: &Tree, subscription: &Node, kind: NoticeKind, to: &str, at_ms: u64) -> Notice {
    let counts = kind != NoticeKind::Deleted && subscription.attributes.has(AttrId::EXC);
    Notice {
        kind,
        to: to.to_owned(),
        subscription: subscription.seq,
        path: path(tree, Found::Node(subscription.seq)),
        creator: subscription.shows_creator.then(|| subscription.creator.clone()),
        counts,
        at_ms,
    }
}

fn push(notice: Notice, body: Bytes, outcome: &mut Outcome) {
    let head = crate::codec::encode(&notice);
    outcome.effects.push(Effect { lane: lane(&notice), required: false, head, body });
}

/// Notifications of one subscription to one target keep their order; a target that cannot be reached does not hold up
/// the others. FNV-1a, since the lane must be the same on every replica and in every version.
fn lane(notice: &Notice) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in notice.subscription.0.to_le_bytes().iter().chain(notice.to.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// Names below the CSEBase.
pub(super) fn path(tree: &Tree, found: Found) -> Vec<String> {
    let root = tree.root().filter(|r| r.ty != Ty::CSE_BASE).map(|r| r.name.to_string());
    root.into_iter().chain(tree.path_below_root(found)).collect()
}
