//! Whatever a peer sends as a segment: it is refused, and nothing is left of it.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_runtime::store::append::Drive;
use onemec_runtime::store::disk::SimDisk;
use onemec_runtime::store::segment::SegmentInfo;
use onemec_runtime::store::{Store, StoreOptions};
use onemec_wire::{GroupId, NodeId, Seq};

fuzz_target!(|input: (u64, u64, u64, u32, Vec<Vec<u8>>)| {
    let (first, last, checksum, records, pieces) = input;
    let disk = SimDisk::new();
    let mut options = StoreOptions::default();
    options.wal.append.file_bytes = 65536;
    options.wal.append.drive = Drive::Manual;
    let (store, _) = Store::open(disk.shared(), Path::new("/d"), NodeId(1), 1, options).expect("new");
    let group = store.group_or_new(GroupId::made(1, 1, 0));
    let bytes = pieces.iter().map(|p| p.len() as u64).sum();
    let info = SegmentInfo { first: Seq(first), last: Seq(last), checksum, bytes, records };
    let install = group.begin_install();
    let mut writer = install.segment(info).expect("room");
    let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
    let written = pieces.iter().try_for_each(|piece| writer.write(std::slice::from_ref(piece)));
    if written.and_then(|()| writer.finish()).is_ok() {
        let whole = pieces.concat();
        assert!(whole.starts_with(b"oneSEG01") && whole.ends_with(b"oneSEGE1"));
    }
    drop(install);
    assert!(disk.files().iter().all(|(p, _)| !p.to_string_lossy().ends_with(".tmp")));
});
