//! Taking a group from a peer: a checkpoint with its segments, instead of whatever was here.

use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{Epoch, Seq};

use super::checkpoint::{Checkpoint, segment_name};
use super::error::StoreError;
use super::group::GroupStore;
use super::seal::{Made, Next, switch};
use super::segment::{ReceivedSegment, Segment, SegmentInfo, SegmentWriter};
use super::seqset::SeqSet;

/// Everything of a group apart from its tail.
pub struct Export {
    /// The last record that the snapshot covers.
    pub seq: Seq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Records up to there that are kept.
    pub kept: SeqSet,
    /// The machines' state.
    pub snapshot: Bytes,
    /// The sealed segments; [`Segment::bytes`] is what is sent.
    pub segments: Vec<Arc<Segment>>,
}

/// An installation under way. Dropped before its commit, it leaves nothing.
pub struct Install {
    group: Arc<GroupStore>,
    segments: Vec<Arc<Segment>>,
    received: Vec<Arc<Segment>>,
    committed: bool,
}

impl Install {
    pub(super) fn new(group: Arc<GroupStore>) -> Self {
        Self { group, segments: Vec::new(), received: Vec::new(), committed: false }
    }

    /// Takes the segment from what is here already, if it is the same and undamaged: then it need not be sent. Reads a
    /// file.
    pub fn reuse(&mut self, info: SegmentInfo) -> bool {
        let same = self.group.history.sealed.read().segments.iter().find(|s| s.info() == info).cloned();
        match same {
            Some(segment) if segment.bytes().is_ok() => {
                self.segments.push(segment);
                true
            }
            _ => false,
        }
    }

    /// A writer for a segment that is being received. Writers may work side by side.
    pub fn segment(&self, info: SegmentInfo) -> Result<SegmentWriter, StoreError> {
        let shared = &self.group.shared;
        let generation = shared.next_generation();
        let path = shared.dir.join(segment_name(self.group.id(), generation));
        SegmentWriter::new(Arc::clone(&shared.disk), path, generation, self.group.id(), info)
    }

    /// Adds a segment whose writer has finished.
    pub fn add(&mut self, received: ReceivedSegment) {
        let shared = &self.group.shared;
        let (id, generation) = (self.group.id(), received.generation);
        let path = shared.dir.join(segment_name(id, generation));
        let segment = Arc::new(Segment::new(Arc::clone(&shared.disk), path, generation, id, received.info));
        self.received.push(Arc::clone(&segment));
        self.segments.push(segment);
    }

    /// Replaces what is here, tail included, by what was received. Durable when it returns; after an error everything is
    /// as before. Blocks for some syncs. Nothing may be appended to the group meanwhile.
    pub fn commit(mut self, seq: Seq, epoch: Epoch, kept: SeqSet, snapshot: &Bytes) -> Result<(), StoreError> {
        self.segments.sort_by_key(|s| s.info().first);
        check(&self.segments, seq, &kept)?;
        let group = Arc::clone(&self.group);
        let dead = group.work.lock();
        GroupStore::check_alive(*dead)?;
        let (floor, guard) = group.shared.wal.floor();
        let next = Next { seq, epoch, floor, kept: kept.clone(), segments: self.segments.clone() };
        let made = Made::new(&group.shared, group.id());
        switch(&group, made, next, snapshot)?;
        self.committed = true;
        group.history.sealed.write().kept = kept;
        group.log.reset(seq, epoch);
        drop(guard);
        Ok(())
    }
}

fn check(segments: &[Arc<Segment>], seq: Seq, kept: &SeqSet) -> Result<(), StoreError> {
    let infos = segments.iter().map(|s| s.info());
    if infos.clone().zip(infos.clone().skip(1)).any(|(a, b)| a.last >= b.first) {
        return Err(StoreError::Received("segments overlap"));
    }
    if infos.clone().next_back().is_some_and(|last| last.last > seq) || kept.ranges().any(|(_, last)| last > seq) {
        return Err(StoreError::Received("segments or kept records lie behind the snapshot"));
    }
    let covered: u64 = infos.map(|i| kept.count_in(i.first, i.last)).sum();
    if covered != kept.count() {
        return Err(StoreError::Received("kept records are in no segment"));
    }
    Ok(())
}

impl Drop for Install {
    fn drop(&mut self) {
        if !self.committed {
            self.received.iter().for_each(|s| s.doom());
        }
    }
}

impl GroupStore {
    /// Replaces a damaged segment, the one that begins at `first`, by one with these records, which a peer gave: those of
    /// its range that are kept. Blocks for some syncs; after an error everything is as before.
    pub fn repair(&self, first: Seq, records: &[Record]) -> Result<(), StoreError> {
        let dead = self.work.lock();
        Self::check_alive(*dead)?;
        let (checkpoint, mut segments) = {
            let sealed = self.history.sealed.read();
            let Some(checkpoint) = sealed.checkpoint.clone() else {
                return Err(StoreError::Received("there is nothing to repair"));
            };
            (checkpoint, sealed.segments.clone())
        };
        let Some(at) = segments.iter().position(|s| s.info().first == first) else {
            return Err(StoreError::Received("there is no such segment"));
        };
        let range = segments.get(at).map_or((first, first), |s| (s.info().first, s.info().last));
        let inside = |r: &&Record| r.group() == self.id() && range.0 <= r.seq() && r.seq() <= range.1;
        let wanted = |r: &&Record| checkpoint.kept.contains(r.seq());
        let records: Vec<Record> = records.iter().filter(inside).filter(wanted).cloned().collect();
        let rising = records.iter().zip(records.iter().skip(1)).all(|(a, b)| a.seq() < b.seq());
        if !rising || records.len() as u64 != checkpoint.kept.count_in(range.0, range.1) {
            return Err(StoreError::Received("not all kept records of the segment"));
        }
        let snapshot = checkpoint.snapshot(&*self.shared.disk, &self.shared.dir)?;
        let mut made = Made::new(&self.shared, self.id());
        let mut new = Vec::new();
        made.records(range, &records, &mut new)?;
        segments.splice(at..=at, new);
        let Checkpoint { seq, epoch, floor, kept, .. } = checkpoint;
        switch(self, made, Next { seq, epoch, floor, kept, segments }, &snapshot)?;
        Ok(())
    }
}
