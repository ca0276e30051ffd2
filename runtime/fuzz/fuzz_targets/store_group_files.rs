//! Whatever lies in checkpoints and segments: the store opens, reads records as they were written or reports damage.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_runtime::store::append::Drive;
use onemec_runtime::store::disk::{Open, SimDisk};
use onemec_runtime::store::{Store, StoreOptions};
use onemec_wire::record::{Record, RecordKind, RecordMeta};
use onemec_wire::{ContextId, Epoch, GroupId, NodeId, Seq};

fn open(disk: &SimDisk) -> Option<Store> {
    let mut options = StoreOptions { segment_bytes: 600, ..StoreOptions::default() };
    options.wal.append.file_bytes = 65536;
    options.wal.append.salt = 1;
    options.wal.append.drive = Drive::Manual;
    Store::open(disk.shared(), Path::new("/d"), NodeId(1), 1, options).ok().map(|(store, _)| store)
}

fuzz_target!(|input: (u8, u16, Vec<u8>)| {
    let (which, at, junk) = input;
    let disk = SimDisk::new();
    let id = GroupId::made(1, 1, 0);
    let mut records = Vec::new();
    {
        let store = open(&disk).expect("new");
        let group = store.group_or_new(id);
        for seq in 1..=12 {
            let context = ContextId::made(1, 1, 1);
            let kind = RecordKind::Operation;
            let meta = RecordMeta { kind, group: id, context, epoch: Epoch(1), seq: Seq(seq), time_ms: 1 };
            records.push(Record::build(meta, b"head", &[seq as u8; 40]).expect("short"));
        }
        group.append(records.clone(), |_| {}).expect("room");
        records.iter().for_each(|r| group.mark(r.seq(), true, &[]));
        store.pump();
        group.prepare(Seq(10), Bytes::from_static(b"s")).and_then(|job| job.run()).expect("room");
        store.close().expect("room");
    }
    let files: Vec<_> = disk.files().into_iter().filter(|(p, _)| p.starts_with("/d/groups")).collect();
    let (path, length) = &files[usize::from(which) % files.len()];
    let file = disk.shared().open(path, Open::Write).expect("there");
    file.write_at(u64::from(at) % (length + 1), &[&junk]).expect("room");
    let store = open(&disk).expect("opens whatever a group's files hold");
    if let Some(group) = store.group(id) {
        for written in &records {
            if let Ok(Some(read)) = group.history().read(written.seq()) {
                assert_eq!(&read, written);
            }
        }
        let _ = group.verify();
    }
});
