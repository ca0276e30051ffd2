//! A local buffer that lives in memory.

use std::collections::{BTreeMap, VecDeque};

use onemec_core::buffer::{Buffer, BufferError, BufferFill, BufferKey, Left};
use onemec_core::context::{BoxFuture, Op};
use onemec_wire::{ContextId, Incarnation, NodeId};
use parking_lot::Mutex;

/// Holds so many operations, however long they are.
pub struct MemoryBuffer {
    operations_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<ContextId, VecDeque<(BufferKey, Op)>>,
    fill: BufferFill,
}

impl MemoryBuffer {
    /// An empty buffer.
    pub fn new(operations_max: u64) -> Self {
        Self { operations_max, state: Mutex::default() }
    }
}

impl Buffer for MemoryBuffer {
    fn put(&self, context: ContextId, op: Op) -> BoxFuture<'_, Result<BufferKey, BufferError>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            if state.fill.waiting >= self.operations_max {
                state.fill.overflowed += 1;
                return Err(BufferError::Full);
            }
            (state.fill.waiting, state.fill.accepted) = (state.fill.waiting + 1, state.fill.accepted + 1);
            let key = BufferKey { node: NodeId(1), incarnation: Incarnation(1), n: state.fill.accepted };
            state.waiting.entry(context).or_default().push_back((key, op));
            Ok(key)
        })
    }
    fn holds(&self, context: ContextId) -> bool {
        self.state.lock().waiting.contains_key(&context)
    }
    fn contexts(&self, limit: usize) -> Vec<ContextId> {
        self.state.lock().waiting.keys().take(limit).copied().collect()
    }
    fn first(&self, context: ContextId) -> Option<(BufferKey, Op)> {
        self.state.lock().waiting.get(&context)?.front().cloned()
    }
    fn left(&self, context: ContextId, key: BufferKey, how: Left) {
        let mut state = self.state.lock();
        let Some(queue) = state.waiting.get_mut(&context) else { return };
        queue.retain(|(k, _)| *k != key);
        if queue.is_empty() {
            state.waiting.remove(&context);
        }
        state.fill.waiting -= 1;
        match how {
            Left::Appended => state.fill.appended += 1,
            Left::Refused => state.fill.refused += 1,
        }
    }
    fn fill(&self) -> BufferFill {
        BufferFill { bytes_max: self.operations_max, ..self.state.lock().fill }
    }
}
