//! Writing checkpoints: kept records of the tail go into segments, segments that are mostly dead are rewritten, and one
//! file switches to the new state. After an error everything is as before.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};

use super::append::Lsn;
use super::checkpoint::{Checkpoint, segment_name};
use super::error::StoreError;
use super::group::GroupStore;
use super::node::Shared;
use super::segment::{self, Segment};
use super::seqset::SeqSet;

/// So many small neighbours are put together.
const SMALL_RUN: usize = 4;

/// What a checkpoint did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealing {
    /// Records written into segments, rewritten ones included.
    pub records: usize,
    /// Segments made.
    pub made: usize,
    /// Segments replaced or dropped.
    pub dropped: usize,
}

/// A checkpoint that is ready to be written.
pub struct CheckpointJob {
    group: Arc<GroupStore>,
    seq: Seq,
    epoch: Epoch,
    base: Seq,
    snapshot: Bytes,
    kept: SeqSet,
    records: Vec<Record>,
    /// The checkpoint that this one follows.
    after: Option<u64>,
}

impl CheckpointJob {
    pub(super) fn new(group: &Arc<GroupStore>, seq: Seq, snapshot: Bytes) -> Result<Self, StoreError> {
        let sealed = group.history.sealed.read();
        let (base, epoch, records) = group.log.read(|tail| {
            let at = tail.positions();
            if seq < at.base || seq > at.last {
                return Err(StoreError::Place { seq, base: at.base, last: at.last });
            }
            let before = sealed.checkpoint.as_ref().map_or(Epoch(0), |c| c.epoch);
            let epoch = if seq == at.base { before } else { tail.get(seq).map_or(before, Record::epoch) };
            let kept = tail.iter().take_while(|r| r.seq() <= seq).filter(|r| sealed.kept.contains(r.seq()));
            Ok((at.base, epoch, kept.cloned().collect()))
        })?;
        let mut kept = sealed.kept.clone();
        kept.truncate(seq);
        let after = sealed.checkpoint.as_ref().map(|c| c.generation);
        Ok(Self { group: Arc::clone(group), seq, epoch, base, snapshot, kept, records, after })
    }

    /// Writes it: blocks for several syncs. When it returns, the checkpoint is durable and the tail is shorter.
    pub fn run(self) -> Result<Sealing, StoreError> {
        let dead = self.group.work.lock();
        GroupStore::check_alive(*dead)?;
        let shared = &self.group.shared;
        let (before, floor) = {
            let sealed = self.group.history.sealed.read();
            if sealed.checkpoint.as_ref().map(|c| c.generation) != self.after {
                return Err(StoreError::Superseded);
            }
            (sealed.segments.clone(), sealed.checkpoint.as_ref().map_or(0, |c| c.floor))
        };
        let mut made = Made::new(shared, self.group.id());
        let mut segments = before;
        let first = self.base.next();
        made.records((first, self.seq), &self.records, &mut segments)?;
        compact(&self.group, &mut made, &self.kept, &mut segments);
        let next = Next { seq: self.seq, epoch: self.epoch, floor, kept: self.kept.clone(), segments };
        let sealing = switch(&self.group, made, next, &self.snapshot)?;
        self.group.log.sealed(self.seq);
        Ok(sealing)
    }
}

/// Segments that were written and are removed again unless a checkpoint comes to name them.
pub(super) struct Made<'a> {
    shared: &'a Arc<Shared>,
    group: GroupId,
    segments: Vec<Arc<Segment>>,
    records: usize,
    kept: bool,
}

impl<'a> Made<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, group: GroupId) -> Self {
        Self { shared, group, segments: Vec::new(), records: 0, kept: false }
    }

    fn one(&mut self, range: (Seq, Seq), records: &[Record]) -> Result<Arc<Segment>, StoreError> {
        let generation = self.shared.next_generation();
        let name = segment_name(self.group, generation);
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        let written = segment::write(&**disk, dir, &name, self.group, range, records);
        let info = self.shared.watch(written)?;
        let path: PathBuf = dir.join(name);
        let segment = Arc::new(Segment::new(Arc::clone(disk), path, generation, self.group, info));
        self.segments.push(Arc::clone(&segment));
        self.records += records.len();
        Ok(segment)
    }

    /// Segments of the usual length for `records` in `range`, added to `to`.
    pub(super) fn records(
        &mut self,
        range: (Seq, Seq),
        records: &[Record],
        to: &mut Vec<Arc<Segment>>,
    ) -> Result<(), StoreError> {
        let (mut from, mut bytes, mut first) = (0, 0, range.0);
        for (i, record) in records.iter().enumerate() {
            bytes += record.bytes().len();
            let last = i + 1 == records.len();
            if bytes >= self.shared.options.segment_bytes || last {
                let upto = if last { range.1 } else { record.seq() };
                to.push(self.one((first, upto), records.get(from..=i).unwrap_or_default())?);
                (from, bytes, first) = (i + 1, 0, upto.next());
            }
        }
        Ok(())
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.segments.iter().for_each(|s| s.doom());
        }
    }
}

/// Drops dead segments, rewrites those under half live, puts small neighbours together. What cannot be read or written
/// stays as it is: that is no reason to do without the checkpoint.
fn compact(group: &GroupStore, made: &mut Made<'_>, kept: &SeqSet, segments: &mut Vec<Arc<Segment>>) {
    let limit = group.shared.options.segment_bytes as u64;
    let live = |s: &Segment| {
        let info = s.info();
        let records = kept.count_in(info.first, info.last).min(u64::from(info.records));
        (records, info.bytes * records / u64::from(info.records.max(1)))
    };
    segments.retain(|s| live(s).0 > 0);
    let mut out = Vec::with_capacity(segments.len());
    let mut rest = &segments[..];
    while let Some(first) = rest.first() {
        let sparse = |s: &Segment| live(s).0 * 2 < u64::from(s.info().records);
        let poor = |s: &Segment| sparse(s) || live(s).1 < limit / 4;
        let mut bytes = 0;
        let fits = |s: &&Arc<Segment>| {
            bytes += live(s).1;
            poor(s) && bytes <= limit
        };
        let run = rest.iter().take_while(fits).count();
        let (now, later) = rest.split_at(run.max(1));
        if now.iter().any(|s| sparse(s)) || run >= SMALL_RUN {
            let range = (first.info().first, now.last().map_or(first.info().last, |s| s.info().last));
            match rewrite(group, made, kept, range, now) {
                Ok(new) => out.push(new),
                Err(_) => out.extend(now.iter().cloned()),
            }
        } else {
            out.extend(now.iter().cloned());
        }
        rest = later;
    }
    *segments = out;
}

fn rewrite(
    group: &GroupStore,
    made: &mut Made<'_>,
    kept: &SeqSet,
    range: (Seq, Seq),
    segments: &[Arc<Segment>],
) -> Result<Arc<Segment>, StoreError> {
    let mut records = Vec::new();
    for segment in segments {
        let live = segment.records(&group.shared.open, |seq| kept.contains(seq));
        records.extend(live.inspect_err(|error| group.history.report(error, segment))?);
    }
    made.one(range, &records)
}

/// The state to switch to.
pub(super) struct Next {
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) floor: Lsn,
    pub(super) kept: SeqSet,
    pub(super) segments: Vec<Arc<Segment>>,
}

/// Writes the checkpoint and makes it the one that counts. The caller holds the group's `work` lock.
pub(super) fn switch(
    group: &GroupStore,
    mut made: Made<'_>,
    next: Next,
    snapshot: &Bytes,
) -> Result<Sealing, StoreError> {
    let shared = &group.shared;
    let mut checkpoint = Checkpoint {
        group: group.id(),
        seq: next.seq,
        epoch: next.epoch,
        floor: next.floor,
        generation: shared.next_generation(),
        segments: next.segments.iter().map(|s| (s.generation, s.info())).collect(),
        kept: next.kept,
        snapshot_bytes: 0,
        snapshot_crc: 0,
    };
    // The names of the segments are durable before a checkpoint that names them can be.
    shared.watch(shared.disk.sync_dir(&shared.dir).map_err(Into::into))?;
    shared.watch(checkpoint.write(&*shared.disk, &shared.dir, snapshot))?;
    // From here on a crash may find the new checkpoint: its segments stay.
    made.kept = true;
    shared.watch(shared.disk.sync_dir(&shared.dir).map_err(Into::into))?;
    let (old, dropped) = {
        let mut sealed = group.history.sealed.write();
        let dropped: Vec<Arc<Segment>> = std::mem::replace(&mut sealed.segments, next.segments)
            .into_iter()
            .filter(|old| !checkpoint.segments.iter().any(|(generation, _)| *generation == old.generation))
            .collect();
        (sealed.checkpoint.replace(checkpoint), dropped)
    };
    for segment in &dropped {
        segment.doom();
        shared.open.close(segment.generation);
    }
    if let Some(old) = old {
        // If this fails, the next start removes it.
        let _ = old.remove(&*shared.disk, &shared.dir);
    }
    // Segments that were made and merged away at once go as well.
    let named = &group.history.sealed.read().segments;
    for segment in made.segments.iter().filter(|m| !named.iter().any(|n| n.generation == m.generation)) {
        segment.doom();
    }
    Ok(Sealing { records: made.records, made: made.segments.len(), dropped: dropped.len() })
}
