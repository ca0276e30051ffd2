//! Effects that wait for delivery: state of the group, in order per lane.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use onemec_wire::ContextId;
use onemec_wire::codec::{Decode, Encode};

use crate::context::{Effect, EffectId};

/// A lane: effects of one subscription, delivered one after the other.
pub type Lane = (ContextId, u64);

/// The outbox of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Outbox {
    lanes: BTreeMap<Lane, VecDeque<Waiting>>,
}

/// An effect.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Waiting {
    id: EffectId,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Outbox {
    pub(super) fn push(&mut self, id: EffectId, effect: &Effect) {
        let waiting = Waiting { id, head: effect.head.to_vec(), body: effect.body.to_vec() };
        self.lanes.entry((id.context, effect.lane)).or_default().push_back(waiting);
    }

    /// The first effect of every lane.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Lane, EffectId, Effect)> + '_ {
        self.lanes.iter().filter_map(|(lane, queue)| {
            let first = queue.front()?;
            let effect = Effect {
                lane: lane.1,
                head: Bytes::copy_from_slice(&first.head),
                body: Bytes::copy_from_slice(&first.body),
            };
            Some((*lane, first.id, effect))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(VecDeque::len).sum()
    }

    /// An effect was delivered.
    pub(super) fn delivered(&mut self, id: EffectId) {
        self.lanes.retain(|_, queue| {
            queue.retain(|w| w.id != id);
            !queue.is_empty()
        });
    }

    /// What waits of a context, by lane.
    pub(super) fn of(&self, context: ContextId) -> Vec<(u64, Vec<Waiting>)> {
        let mine = self.lanes.range((context, 0)..=(context, u64::MAX));
        mine.map(|((_, lane), queue)| (*lane, queue.iter().cloned().collect())).collect()
    }

    /// The effects of a context that comes from another group.
    pub(super) fn put(&mut self, context: ContextId, lanes: Vec<(u64, Vec<Waiting>)>) {
        self.lanes.extend(lanes.into_iter().map(|(lane, queue)| ((context, lane), queue.into())));
    }

    /// The context says the rest in another group.
    pub(super) fn drop_lanes_of(&mut self, context: ContextId) {
        self.lanes.retain(|(c, _), _| *c != context);
    }

    /// A context has ended; what it still wanted to say is said, except by itself.
    pub(super) fn lanes_of(&self, context: ContextId) -> usize {
        self.lanes.keys().filter(|(c, _)| *c == context).count()
    }
}
