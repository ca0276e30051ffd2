//! First answers of repeatable requests, given again until they expire (rule 12).

use std::collections::BTreeMap;

use bytes::Bytes;
use onemec_wire::codec::{Decode, Encode};

use crate::context::{Answer, RepeatKey};

/// So many answers are kept per group; a mark beyond it is refused (I8), never forgotten early.
pub const REPEATS_MAX: usize = 16_384;

/// The table; part of the group's replicated state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Repeats {
    answers: BTreeMap<(String, String), Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Kept {
    expires_ms: u64,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Repeats {
    pub(super) fn answer(&self, key: &RepeatKey) -> Option<Answer> {
        // Cloning the strings of a key is the price of a plain ordered map; requests that repeat are few.
        let kept = self.answers.get(&(key.originator.clone(), key.request.clone()))?;
        Some(Answer { head: Bytes::copy_from_slice(&kept.head), body: Bytes::copy_from_slice(&kept.body) })
    }

    pub(super) fn insert(&mut self, key: RepeatKey, answer: &Answer) {
        let kept = Kept { expires_ms: key.expires_ms, head: answer.head.to_vec(), body: answer.body.to_vec() };
        self.answers.insert((key.originator, key.request), kept);
    }

    /// Forgets what has expired in log time.
    pub(super) fn expire(&mut self, log_time_ms: u64) {
        self.answers.retain(|_, kept| kept.expires_ms > log_time_ms);
    }

    /// First answers of another group, for a context that comes from there.
    pub(super) fn merge(&mut self, other: Self) {
        self.answers.extend(other.answers);
    }

    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}
