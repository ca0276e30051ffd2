//! Effects that wait for delivery: state of the group, in order per lane, bounded per context (I8).
//!
//! What does not fit is dropped, never the write that caused it: a receiver that is gone must not stop the device. The lane
//! with the most waiting loses its newest effect, so that a receiver that is away takes no room from those that are not; a
//! lane keeps its oldest ones, so that its order stays and what is under way is not pulled from under a repetition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::codec::{Decode, Encode};
use onemec_wire::{ContextId, Seq};

use crate::context::{Effect, EffectId};

/// A lane: effects of one subscription, delivered one after the other.
pub type Lane = (ContextId, u64);

/// Bytes that may wait of one context, each effect counted with 256 beside its head, a body that several
/// share once. The same on every node for ever: replicas must drop the same. A full group (64 contexts) stays under the
/// 256 MiB of a checkpoint.
pub const CONTEXT_BYTES_MAX: usize = 3 << 20;
/// What an effect counts beside its head and body; bounds their number too.
const EFFECT_BYTES: usize = 256;
/// Required effects may take so many times the room.
const REQUIRED_FACTOR: usize = 2;

/// The outbox of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Outbox {
    contexts: BTreeMap<ContextId, ContextOutbox>,
}

/// What waits of one context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct ContextOutbox {
    lanes: BTreeMap<u64, Queue>,
    /// Targets of one event share its body.
    bodies: BTreeMap<u64, Body>,
    next_body: u64,
    bytes: usize,
}

/// What waits in a lane, and its weight: as if it shared no body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
struct Queue {
    waiting: VecDeque<Waiting>,
    weight: usize,
}

/// An effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Waiting {
    id: EffectId,
    required: bool,
    head: Arc<[u8]>,
    body: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Body {
    bytes: Arc<[u8]>,
    sharers: usize,
}

impl ContextOutbox {
    /// Takes an effect; `shared` names its body, if an effect of the same record brought it. Returns its body's name, or
    /// `None` if it was dropped; `dropped` counts it, and those that made room for it.
    fn push(&mut self, id: EffectId, effect: &Effect, shared: Option<u64>, dropped: &mut u32) -> Option<u64> {
        let own = EFFECT_BYTES + effect.head.len();
        let max = if effect.required { CONTEXT_BYTES_MAX * REQUIRED_FACTOR } else { CONTEXT_BYTES_MAX };
        loop {
            let shared = shared.filter(|b| self.bodies.contains_key(b));
            let cost = own + if shared.is_some() { 0 } else { effect.body.len() };
            if self.bytes.saturating_add(cost) <= max {
                let body = shared.unwrap_or_else(|| self.add_body(&effect.body));
                self.add(id, effect, body);
                return Some(body);
            }
            let mine = self.lanes.get(&effect.lane).map_or(0, |q| q.weight);
            let longest = self.longest(mine.saturating_add(own + effect.body.len()));
            *dropped += 1;
            self.pop_back(longest?);
        }
    }

    fn add_body(&mut self, bytes: &Bytes) -> u64 {
        let name = self.next_body;
        self.next_body += 1;
        self.bytes += bytes.len();
        // A copy: the client's bytes may be a small part of a large buffer.
        self.bodies.insert(name, Body { bytes: Arc::from(&bytes[..]), sharers: 0 });
        name
    }

    fn add(&mut self, id: EffectId, effect: &Effect, body: u64) {
        let waiting = Waiting { id, required: effect.required, head: Arc::from(&effect.head[..]), body };
        if let Some(body) = self.bodies.get_mut(&body) {
            body.sharers += 1;
        }
        let own = EFFECT_BYTES + effect.head.len();
        self.bytes += own;
        let queue = self.lanes.entry(effect.lane).or_default();
        queue.weight += own + effect.body.len();
        queue.waiting.push_back(waiting);
    }

    /// The heaviest lane over `weight` that has something to give: not its first, which may be under way.
    fn longest(&self, weight: usize) -> Option<u64> {
        let gives =
            |q: &Queue| q.weight > weight && q.waiting.len() > 1 && q.waiting.back().is_some_and(|w| !w.required);
        self.lanes.iter().filter(|(_, q)| gives(q)).max_by_key(|(lane, q)| (q.weight, **lane)).map(|(lane, _)| *lane)
    }

    fn pop_back(&mut self, lane: u64) {
        if let Some(last) = self.lanes.get(&lane).and_then(|q| q.waiting.len().checked_sub(1)) {
            self.remove(lane, last);
        }
    }

    fn remove(&mut self, lane: u64, at: usize) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        let Some(gone) = queue.waiting.remove(at) else { return };
        let own = EFFECT_BYTES + gone.head.len();
        let body = self.bodies.get_mut(&gone.body);
        let length = body.as_ref().map_or(0, |b| b.bytes.len());
        queue.weight = queue.weight.saturating_sub(own + length);
        self.bytes = self.bytes.saturating_sub(own);
        if queue.waiting.is_empty() {
            self.lanes.remove(&lane);
        }
        if let Some(body) = body {
            body.sharers = body.sharers.saturating_sub(1);
            if body.sharers == 0 {
                self.bodies.remove(&gone.body);
                self.bytes = self.bytes.saturating_sub(length);
            }
        }
    }

    fn delivered(&mut self, id: EffectId) {
        // What is delivered stands first in its lane.
        let at = |q: &Queue| q.waiting.iter().position(|w| w.id == id);
        let first = |q: &Queue| q.waiting.front().filter(|w| w.id == id).map(|_| 0);
        let find = |look: &dyn Fn(&Queue) -> Option<usize>| self.lanes.iter().find_map(|(l, q)| Some((*l, look(q)?)));
        if let Some((lane, at)) = find(&first).or_else(|| find(&at)) {
            self.remove(lane, at);
        }
    }

    fn effect(&self, lane: u64, waiting: &Waiting) -> Effect {
        let body = self.bodies.get(&waiting.body).map(|b| Bytes::from_owner(b.bytes.clone())).unwrap_or_default();
        Effect { lane, required: waiting.required, head: Bytes::from_owner(waiting.head.clone()), body }
    }
}

impl Outbox {
    /// Takes the effects of a record. Returns how many were dropped, of these or of others, since they did not fit.
    pub(super) fn push(&mut self, context: ContextId, seq: Seq, effects: &[Effect]) -> u32 {
        let mut dropped = 0;
        if effects.is_empty() {
            return dropped;
        }
        let outbox = self.contexts.entry(context).or_default();
        // The bodies of this record so far: few, one per subscription.
        let mut bodies: Vec<(&Bytes, u64)> = Vec::new();
        for (ordinal, effect) in effects.iter().enumerate() {
            let id = EffectId { context, seq, ordinal: ordinal as u32 };
            let known = bodies.iter().position(|(b, _)| same(b, &effect.body));
            let Some(body) = outbox.push(id, effect, known.map(|i| bodies[i].1), &mut dropped) else { continue };
            match known {
                Some(i) => bodies[i].1 = body,
                None => bodies.push((&effect.body, body)),
            }
        }
        if outbox.lanes.is_empty() {
            self.contexts.remove(&context);
        }
        dropped
    }

    /// The first effect of every lane; bodies are shared, not copied.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Lane, EffectId, Effect)> + '_ {
        self.contexts.iter().flat_map(|(context, outbox)| {
            outbox.lanes.iter().filter_map(|(lane, queue)| {
                let first = queue.waiting.front()?;
                Some(((*context, *lane), first.id, outbox.effect(*lane, first)))
            })
        })
    }

    pub(super) fn len(&self) -> usize {
        self.contexts.values().flat_map(|o| o.lanes.values()).map(|q| q.waiting.len()).sum()
    }

    /// Bytes of memory, as the bound counts them.
    pub(super) fn bytes(&self) -> usize {
        self.contexts.values().map(|o| o.bytes).sum()
    }

    /// An effect was delivered.
    pub(super) fn delivered(&mut self, id: EffectId) {
        if let Some(outbox) = self.contexts.get_mut(&id.context) {
            outbox.delivered(id);
            if outbox.lanes.is_empty() {
                self.contexts.remove(&id.context);
            }
        }
    }

    /// What waits of a context.
    pub(super) fn of(&self, context: ContextId) -> ContextOutbox {
        self.contexts.get(&context).cloned().unwrap_or_default()
    }

    /// The effects of a context that comes from another group.
    pub(super) fn put(&mut self, context: ContextId, outbox: ContextOutbox) {
        if !outbox.lanes.is_empty() {
            self.contexts.insert(context, outbox);
        }
    }

    /// The context says the rest in another group.
    pub(super) fn drop_lanes_of(&mut self, context: ContextId) {
        self.contexts.remove(&context);
    }

    /// A context has ended; what it still wanted to say is said, except by itself.
    pub(super) fn lanes_of(&self, context: ContextId) -> usize {
        self.contexts.get(&context).map_or(0, |o| o.lanes.len())
    }
}

/// By content, so that every replica shares the same; the same bytes in memory are not read.
fn same(a: &Bytes, b: &Bytes) -> bool {
    a.len() == b.len() && (a.as_ptr() == b.as_ptr() || a == b)
}

#[cfg(test)]
mod tests {
    use onemec_wire::codec;
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: ContextId = ContextId([7; 16]);

    fn effect(lane: u64, body: &Bytes) -> Effect {
        Effect { lane, required: false, head: Bytes::from_static(b"to"), body: body.clone() }
    }

    fn lane_of(outbox: &Outbox, lane: u64) -> Vec<u64> {
        let queue = outbox.contexts.get(&CONTEXT).and_then(|o| o.lanes.get(&lane));
        queue.into_iter().flat_map(|q| &q.waiting).map(|w| w.id.seq.0).collect()
    }

    /// Counts again what is counted as it changes.
    fn check(outbox: &Outbox) {
        for o in outbox.contexts.values() {
            let waiting = || o.lanes.values().flat_map(|q| &q.waiting);
            let bodies: usize = o.bodies.values().map(|b| b.bytes.len()).sum();
            assert_eq!(o.bytes, bodies + waiting().map(|w| EFFECT_BYTES + w.head.len()).sum::<usize>());
            for (name, body) in &o.bodies {
                assert_eq!(body.sharers, waiting().filter(|w| w.body == *name).count());
            }
            for q in o.lanes.values() {
                let weight = |w: &Waiting| EFFECT_BYTES + w.head.len() + o.bodies[&w.body].bytes.len();
                assert_eq!(q.weight, q.waiting.iter().map(weight).sum::<usize>());
                assert!(q.waiting.iter().is_sorted_by_key(|w| (w.id.seq, w.id.ordinal)) && !q.waiting.is_empty());
            }
        }
    }

    #[test]
    fn targets_share_a_body_in_memory_and_in_the_checkpoint() {
        let (mut outbox, body) = (Outbox::default(), Bytes::from(vec![1; 900_000]));
        let effects: Vec<_> = (0..64).map(|lane| effect(lane, &body)).collect();
        assert_eq!(outbox.push(CONTEXT, Seq(1), &effects), 0);
        assert_eq!((outbox.len(), outbox.heads().filter(|(_, _, e)| e.body == body).count()), (64, 64));
        let encoded = codec::encode_state(&outbox).unwrap();
        assert!(outbox.bytes() < 1_000_000 && encoded.len() < 1_000_000, "{} {}", outbox.bytes(), encoded.len());
        assert!(codec::decode_state::<Outbox>(&encoded).unwrap() == outbox);
    }

    #[test]
    fn a_receiver_that_is_gone_keeps_its_oldest_and_takes_no_room_from_another() {
        let mut outbox = Outbox::default();
        let mut dropped = 0;
        for seq in 1..=50 {
            let body = Bytes::from(vec![seq as u8; 500_000]);
            dropped += outbox.push(CONTEXT, Seq(seq), &[effect(1, &body)]);
        }
        assert_eq!((lane_of(&outbox, 1), dropped), ((1..=6).collect(), 44));
        // The other's effect fits, since the first lane gives way, and once it was delivered nothing is left of it.
        let body = Bytes::from(vec![0; 500_000]);
        assert_eq!(outbox.push(CONTEXT, Seq(51), &[effect(2, &body)]), 1);
        assert_eq!((lane_of(&outbox, 1), lane_of(&outbox, 2)), ((1..=5).collect(), vec![51]));
        outbox.delivered(EffectId { context: CONTEXT, seq: Seq(51), ordinal: 0 });
        check(&outbox);
        for seq in 1..=5 {
            outbox.delivered(EffectId { context: CONTEXT, seq: Seq(seq), ordinal: 0 });
        }
        assert!(outbox == Outbox::default());
    }

    #[test]
    fn a_required_effect_has_room_where_others_have_none() {
        let (mut outbox, body) = (Outbox::default(), Bytes::from(vec![1; 1 << 20]));
        for seq in 1..=4 {
            outbox.push(CONTEXT, Seq(seq), &[effect(1, &Bytes::from(vec![2; 1 << 19])), effect(2, &body)]);
        }
        let required = Effect { required: true, ..effect(3, &body) };
        let before = outbox.len();
        assert_eq!(outbox.push(CONTEXT, Seq(5), &[required]), 0);
        assert_eq!((lane_of(&outbox, 3), outbox.len()), (vec![5], before + 1));
    }

    proptest! {
        #[test]
        fn never_over_the_bound_and_in_order(
            steps in prop::collection::vec((prop::collection::vec((0u64..6, 0usize..3), 0..8), any::<bool>()), 1..60)
        ) {
            let (mut outbox, mut pushed, mut gone, mut dropped) = (Outbox::default(), 0, 0, 0);
            for (seq, (effects, deliver)) in steps.into_iter().enumerate() {
                let bodies = [1usize, 70_000, 900_000].map(|n| Bytes::from(vec![seq as u8; n]));
                let effects: Vec<_> = effects.into_iter().map(|(lane, body)| effect(lane, &bodies[body])).collect();
                pushed += effects.len();
                dropped += outbox.push(CONTEXT, Seq(seq as u64 + 1), &effects) as usize;
                let first = outbox.heads().next().map(|(_, id, _)| id);
                if let Some(id) = first.filter(|_| deliver) {
                    outbox.delivered(id);
                    gone += 1;
                }
                check(&outbox);
                prop_assert!(outbox.bytes() <= CONTEXT_BYTES_MAX);
                prop_assert_eq!(outbox.len() + gone + dropped, pushed);
            }
        }
    }
}
