//! Many lives of one store with several groups, each ended at any operation of the disk; a model says what may be found.

use std::collections::BTreeMap;

use super::*;

/// What a group may look like: each change makes a new state; what is found must be one not older than the acknowledged.
#[derive(Clone, Default, PartialEq, Debug)]
struct Shape {
    /// (epoch, body number) by place, from 1 on.
    log: Vec<(u64, u64)>,
    epoch: u64,
}

struct Model {
    shapes: Vec<Shape>,
    acked: Acked,
    committed: usize,
    kept: BTreeMap<u64, bool>,
    /// Kept places at each checkpoint that was tried.
    checkpoints: Vec<(u64, Vec<u64>)>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            shapes: vec![Shape::default()],
            acked: Acked::default(),
            committed: 0,
            kept: BTreeMap::new(),
            checkpoints: vec![(0, Vec::new())],
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

fn body(n: u64) -> Vec<u8> {
    let mut out = n.to_le_bytes().to_vec();
    out.resize(8 + (n as usize * 31) % 150, 7);
    out
}

fn number(record: &Record) -> u64 {
    u64::from_le_bytes(record.body()[..8].try_into().unwrap())
}

impl Model {
    fn last(&self) -> &Shape {
        self.shapes.last().unwrap()
    }

    /// What was found becomes what everybody relies on.
    fn check(&mut self, store: &GroupStore, context: &str) {
        let at = store.positions();
        let fits = |shape: &Shape| {
            shape.log.len() as u64 == at.last.0
                && at.epoch.0 == shape.epoch
                && (at.base.0 + 1..=at.last.0).all(|seq| {
                    let found = store.log.record(Seq(seq)).unwrap();
                    (found.epoch().0, number(&found)) == shape.log[seq as usize - 1]
                })
        };
        let from = self.acked.get() as usize;
        let found = (from..self.shapes.len()).find(|i| fits(&self.shapes[*i]));
        let Some(found) = found else {
            let shapes = &self.shapes[from..];
            panic!("{context} {}: found {at:?}, acknowledged {from}, may be {shapes:?}", store.id());
        };
        let shape = self.shapes[found].clone();
        let (_, kept) = self.checkpoints.iter().rfind(|(seq, _)| *seq == at.base.0).unwrap_or_else(|| {
            panic!("{context}: no checkpoint was tried at {}", at.base);
        });
        for seq in kept {
            let record = store.history().read(Seq(*seq)).unwrap();
            let record = record.unwrap_or_else(|| panic!("{context}: kept {seq} is gone, base {}", at.base));
            assert_eq!(number(&record), shape.log[*seq as usize - 1].1, "{context} {seq}");
        }
        let base = at.base.0;
        let recovered = kept.clone();
        // Replay: what was applied is marked again by the executor.
        self.kept.retain(|seq, _| *seq <= base && recovered.contains(seq));
        self.kept.extend(recovered.iter().map(|seq| (*seq, true)));
        self.shapes = vec![shape];
        self.acked = Acked::default();
        self.committed = self.committed.max(base as usize).min(at.last.0 as usize);
        self.checkpoints = vec![(base, recovered)];
        for seq in base + 1..=self.committed as u64 {
            self.mark(store, seq);
        }
    }

    fn mark(&mut self, store: &GroupStore, seq: u64) {
        let keep = !seq.is_multiple_of(3);
        let released: Vec<Seq> = seq.checked_sub(17).map(Seq).into_iter().collect();
        store.mark(Seq(seq), keep, &released);
        if keep {
            self.kept.insert(seq, true);
        }
        for seq in released {
            self.kept.remove(&seq.0);
        }
    }

    fn step(&mut self, dice: &mut Dice, counter: &mut u64, store: &Arc<GroupStore>) {
        let next = self.shapes.len() as u64;
        match dice.below(10) {
            0..=5 => {
                let mut shape = self.last().clone();
                let mut records = Vec::new();
                for _ in 0..=dice.below(4) {
                    *counter += 1;
                    shape.log.push((shape.epoch, *counter));
                    records.push(record(store.id(), shape.epoch, shape.log.len() as u64, &body(*counter)));
                }
                // Half of them wait for no sync: what is told to be synced must be found all the same.
                let sync = dice.below(2) == 0;
                if store.append(records, sync, self.acked.at(next)).is_ok() {
                    self.shapes.push(shape);
                }
            }
            6 => {
                let mut shape = self.last().clone();
                shape.epoch += 1;
                if store.note_epoch(Epoch(shape.epoch), self.acked.at(next)).is_ok() {
                    self.shapes.push(shape);
                }
            }
            7 => {
                let mut shape = self.last().clone();
                let room = (shape.log.len() - self.committed) as u64;
                // A truncation that removes nothing is done at once and says nothing about what is queued.
                let after = self.committed + dice.below(room.max(1)) as usize;
                shape.log.truncate(after);
                if room > 0 && store.truncate(Seq(after as u64), self.acked.at(next)).is_ok() {
                    self.shapes.push(shape);
                }
            }
            _ => {
                // Commit what is surely durable, apply it, and sometimes seal it.
                let durable = (store.positions().synced.0 as usize).max(self.committed);
                for seq in self.committed as u64 + 1..=durable as u64 {
                    self.mark(store, seq);
                }
                self.committed = durable;
                if dice.below(2) == 0 {
                    let seq = durable as u64;
                    let kept = self.kept.keys().copied().filter(|k| *k <= seq).collect();
                    self.checkpoints.push((seq, kept));
                    let snapshot = bytes::Bytes::from(format!("state at {seq}"));
                    // An error means that the disk is gone: the next life finds the old or the new.
                    let _ = store.prepare(Seq(seq), snapshot).and_then(|job| job.run());
                }
            }
        }
    }
}

fn lives(seed: u64, lives: u64, failing_syncs: bool) -> usize {
    let disk = SimDisk::new();
    let mut models: BTreeMap<u32, Model> = (0..3).map(|n| (n, Model::default())).collect();
    let mut dice = Dice(seed);
    let (mut counter, mut cleaned) = (0, 0);
    for life in 0..lives {
        let context = format!("seed {seed} life {life}");
        if dice.below(4) == 0 {
            disk.stop_after(dice.below(40)); // dies while it opens
            drop(try_open(&disk));
            disk.crash(dice.below(1 << 30));
        }
        let (store, recovery) = open(&disk);
        assert!(recovery.damage.is_empty(), "{context}: {:?}", recovery.damage);
        for (n, model) in &mut models {
            model.check(&store.group_or_new(group(*n)), &context);
        }
        if failing_syncs && dice.below(3) == 0 {
            disk.fail_sync_after(dice.below(20));
        } else {
            disk.stop_after(dice.below(250));
        }
        for _ in 0..dice.below(80) {
            let n = dice.below(3) as u32;
            models.get_mut(&n).unwrap().step(&mut dice, &mut counter, &store.group(group(n)).unwrap());
            if dice.below(3) == 0 {
                store.pump();
            }
            if dice.below(6) == 0
                && let Ok(done) = store.maintain()
            {
                cleaned += done.files;
            }
        }
        drop(store);
        if dice.below(4) == 0 {
            disk.restart();
        } else {
            disk.crash(dice.below(1 << 30));
        }
    }
    let files = disk.files();
    assert!(files.len() < 60, "seed {seed}: {} files", files.len());
    cleaned
}

#[test]
fn what_was_acknowledged_survives_power_cuts_at_every_point() {
    let cleaned: usize = (0..60).map(|seed| lives(seed, 15, false)).sum();
    assert!(cleaned > 100, "the test must reach cleaning: {cleaned}");
}

#[test]
fn what_was_acknowledged_survives_failing_syncs() {
    (1000..1060).for_each(|seed| {
        lives(seed, 15, true);
    });
}
