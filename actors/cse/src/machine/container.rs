//! Containers and their contentInstances (TS-0004 7.4.6, 7.4.7; TS-0001 9.6.6, 9.6.7).

use bytes::Bytes;
use onemec_core::context::Outcome;
use onemec_onem2m::{AttrId, Attributes, Refusal, Rsc, Value, representation};
use onemec_wire::Seq;

use crate::tree::{Node, Tree};

/// What a container holds at most when it names no `mni`: the oldest instances go first (I8).
const INSTANCES_MAX: u64 = 1_000_000;

/// Checks the limits that a client sets.
pub(super) fn check(attributes: &Attributes) -> Result<(), Refusal> {
    for id in [AttrId::MNI, AttrId::MBS, AttrId::MIA] {
        if attributes.get(id).and_then(Value::as_int).is_some_and(|n| n < 0) {
            return Err(Refusal::bad_request(format!("{} must not be negative", id.short())));
        }
    }
    Ok(())
}

/// Checks a new contentInstance against its container; the size of its content.
pub(super) fn check_instance(container: &Node, attributes: &Attributes, body: &Bytes) -> Result<u32, Refusal> {
    let content = match attributes.get(AttrId::CON) {
        Some(Value::Raw(span)) => span.of(body),
        _ => None,
    };
    let size = content.map_or(0, |c| representation::content_size(&c));
    if container.number(AttrId::MBS).is_some_and(|max| size > max) {
        return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, "the content is larger than the container's mbs"));
    }
    if container.number(AttrId::MNI) == Some(0) {
        return Err(Refusal::new(Rsc::NOT_ACCEPTABLE, "the container's mni is 0"));
    }
    u32::try_from(size).map_err(|_| Refusal::new(Rsc::NOT_ACCEPTABLE, "the content is too large"))
}

/// Counts a change of a container's children: its new state tag.
pub(super) fn touch(tree: &mut Tree, container: Seq, now_ms: u64) -> u64 {
    let Some(node) = tree.node_mut(container) else { return 0 };
    let st = node.st.unwrap_or(0) + 1;
    node.st = Some(st);
    node.lt = now_ms;
    st
}

/// Evicts the oldest instances until one of `size` bytes fits, counting it. Evictions send no notifications.
pub(super) fn make_room(tree: &mut Tree, container: Seq, size: u32, outcome: &mut Outcome) {
    evict(tree, container, 1, u64::from(size), outcome);
}

/// Evicts what exceeds limits that were lowered.
pub(super) fn shrink(tree: &mut Tree, container: Seq, outcome: &mut Outcome) {
    evict(tree, container, 0, 0, outcome);
}

fn evict(tree: &mut Tree, container: Seq, more: u64, more_bytes: u64, outcome: &mut Outcome) {
    loop {
        let Some(node) = tree.node(container) else { return };
        let Some(instances) = &node.instances else { return };
        let Some(oldest) = instances.oldest().map(|i| i.seq) else { return };
        let count_max = node.number(AttrId::MNI).unwrap_or(INSTANCES_MAX).min(INSTANCES_MAX);
        let bytes_max = node.number(AttrId::MBS).unwrap_or(u64::MAX);
        if instances.len() as u64 + more <= count_max && instances.bytes().saturating_add(more_bytes) <= bytes_max {
            return;
        }
        tree.remove_instance(container, oldest);
        outcome.released.push(oldest);
    }
}

/// Applies a new maximum age to the instances that are there: they expire as if it had held when they were created.
pub(super) fn age(tree: &mut Tree, container: Seq) {
    let Some(node) = tree.node(container) else { return };
    let Some(age) = node.number(AttrId::MIA) else { return };
    tree.cap_ages(container, age.saturating_mul(1000));
}

/// Removes all instances (`disr` went from true to false).
pub(super) fn clear(tree: &mut Tree, container: Seq, outcome: &mut Outcome) {
    while let Some(oldest) =
        tree.node(container).and_then(|n| n.instances.as_ref()).and_then(|i| i.oldest()).map(|i| i.seq)
    {
        tree.remove_instance(container, oldest);
        outcome.released.push(oldest);
    }
}
