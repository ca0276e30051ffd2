//! The store as a whole, on the crash-simulating disk.

mod crash;
mod damage;
mod install;
mod life;
mod speed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onemec_wire::record::{Record, RecordKind, RecordMeta};
use onemec_wire::{ContextId, Epoch, GroupId, NodeId, Seq};

use super::append::{AppendOptions, Drive, Fatal};
use super::disk::SimDisk;
use super::wal::WalOptions;
use super::{GroupStore, Recovery, Store, StoreError, StoreOptions};

fn group(n: u32) -> GroupId {
    GroupId::made(1, 10, n)
}

fn record(group: GroupId, epoch: u64, seq: u64, body: &[u8]) -> Record {
    let meta = RecordMeta {
        kind: RecordKind::Operation,
        group,
        context: ContextId::made(1, 10, 99),
        epoch: Epoch(epoch),
        seq: Seq(seq),
        time_ms: 1,
    };
    Record::build(meta, b"h", body).unwrap()
}

fn options() -> StoreOptions {
    let append = AppendOptions {
        file_bytes: 4096 + 4096,
        queue_bytes_max: 1 << 20,
        batch_bytes_max: 1500,
        salt: 3,
        drive: Drive::Manual,
        ..AppendOptions::default()
    };
    StoreOptions {
        wal: WalOptions { append, files_min: 3 },
        tail_bytes_max: 2000,
        segment_bytes: 1200,
        open_segments_max: 3,
        open_index_bytes_max: 400,
        ..StoreOptions::default()
    }
}

fn try_open(disk: &SimDisk) -> Result<(Store, Recovery), StoreError> {
    Store::open(disk.shared(), Path::new("/d"), NodeId(1), 1, options())
}

fn open(disk: &SimDisk) -> (Store, Recovery) {
    try_open(disk).unwrap()
}

/// Counts what was acknowledged: the highest number passed.
#[derive(Clone, Default)]
struct Acked(Arc<AtomicU64>);

impl Acked {
    fn at(&self, n: u64) -> Box<dyn FnOnce(Result<(), Fatal>) + Send> {
        let cell = Arc::clone(&self.0);
        Box::new(move |result| {
            if result.is_ok() {
                cell.fetch_max(n, Ordering::Relaxed);
            }
        })
    }
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Appends `count` records after the last, with bodies that tell them apart.
fn fill(group: &GroupStore, epoch: u64, count: u64) -> Vec<Record> {
    let last = group.positions().last.0;
    let body = |seq: u64| format!("{}-{epoch}-{seq}-{}", group.id(), "x".repeat(seq as usize * 13 % 90));
    let records: Vec<Record> =
        (last + 1..=last + count).map(|seq| record(group.id(), epoch, seq, body(seq).as_bytes())).collect();
    group.append(records.clone(), true, |_| {}).unwrap();
    records
}
