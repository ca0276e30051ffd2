//! Damage is found, named, and stays where it is.

use bytes::Bytes;
use onemec_core::context::History;
use parking_lot::Mutex;

use super::*;
use crate::store::disk::DiskError;
use crate::store::{Damage, DamageKind};

/// Two groups with some history in segments and a tail.
fn story(disk: &SimDisk) -> Vec<Record> {
    let (store, _) = open(disk);
    let mut all = Vec::new();
    for n in 0..2 {
        let group = store.group_or_new(group(n));
        let records = fill(&group, 1, 30);
        for r in &records {
            group.mark(r.seq(), true, &[]);
        }
        group.set_complete(true, Box::new(|_| {})).unwrap();
        store.pump();
        group.prepare(Seq(20), Bytes::from_static(b"state")).unwrap().run().unwrap();
        all.extend(records);
    }
    store.pump();
    store.close().unwrap();
    all
}

#[test]
fn any_flipped_bit_is_reported_and_never_read() {
    let reference = SimDisk::new();
    let all = story(&reference);
    let files = reference.files();
    let (mut reported, mut tried) = (0, 0);
    for (path, bytes) in files {
        let name = path.to_string_lossy().into_owned();
        let kind = ["/groups/", "/wal/"].into_iter().find(|k| name.contains(k));
        let Some(kind) = kind.filter(|_| !name.contains("spare") && !name.ends_with("first")) else { continue };
        for offset in (0..bytes).step_by(if kind == "/wal/" { 41 } else { 17 }) {
            let disk = SimDisk::new();
            story(&disk);
            disk.restart();
            if !disk.flip_bit(&path, offset, (offset % 8) as u8) {
                break;
            }
            tried += 1;
            let seen: Arc<Mutex<Vec<Damage>>> = Arc::default();
            let hook = Arc::clone(&seen);
            let options =
                StoreOptions { on_damage: Arc::new(move |d| hook.lock().push(d.clone())), ..super::options() };
            let (store, recovery) = Store::open(disk.shared(), Path::new("/d"), NodeId(1), 1, options).unwrap();
            let mut missing = 0;
            for written in &all {
                let group = store.group(written.group());
                match group.and_then(|g| g.history().record(written.seq())) {
                    Some(read) => assert_eq!(&read, written, "{name} byte {offset}"),
                    None => missing += 1,
                }
            }
            let verified = store.groups().iter().all(|id| store.group(*id).unwrap().verify().is_ok());
            let told = !recovery.damage.is_empty() || !seen.lock().is_empty() || !verified;
            assert!(told || missing == 0, "{name} byte {offset}: {missing} missing without a word");
            reported += usize::from(told);
            for damage in &recovery.damage {
                if let Some(group) = damage.group.and_then(|id| store.group(id)) {
                    assert!(!group.positions().complete);
                }
            }
        }
    }
    assert!(reported > 200 && tried > reported, "{reported} of {tried}");
}

#[test]
fn a_damaged_segment_is_repaired_with_records_from_a_peer() {
    let disk = SimDisk::new();
    let all = story(&disk);
    disk.restart();
    let segments: Vec<_> = disk.files().into_iter().filter(|(p, _)| p.to_string_lossy().ends_with(".seg")).collect();
    disk.flip_bit(&segments[0].0, 100, 1);
    let (store, _) = open(&disk);
    let group = store.group(group(0)).unwrap();
    let StoreError::Damaged { file, .. } = group.verify().unwrap_err() else { panic!("not found") };
    assert_eq!(file, segments[0].0);
    let (info, _) = group.manifest()[0];
    let peer: Vec<Record> = all.iter().filter(|r| r.group() == group.id()).cloned().collect();
    assert!(matches!(group.repair(info.first, &peer[1..]), Err(StoreError::Received(_))));
    group.repair(info.first, &peer).unwrap();
    group.verify().unwrap();
    drop((store, group));
    disk.crash(4);
    let (store, recovery) = open(&disk);
    assert!(recovery.damage.is_empty());
    for written in &all {
        let read = store.group(written.group()).unwrap().history().record(written.seq());
        assert_eq!(read.as_ref(), Some(written));
    }
}

#[test]
fn a_missing_segment_and_a_damaged_checkpoint_are_reported() {
    let disk = SimDisk::new();
    story(&disk);
    disk.restart();
    let ending = |end: &str| disk.files().into_iter().find(|(p, _)| p.to_string_lossy().ends_with(end)).unwrap().0;
    disk.shared().remove(&ending(".seg")).unwrap();
    let (store, recovery) = open(&disk);
    let [Damage { group: Some(hurt), what: DamageKind::Segment { .. } }] = &recovery.damage[..] else {
        panic!("{:?}", recovery.damage)
    };
    assert!(!store.group(*hurt).unwrap().positions().complete);
    store.close().unwrap();
    drop(store);
    disk.flip_bit(&ending(".ckp"), 30, 1);
    let (_, recovery) = open(&disk);
    assert!(recovery.damage.iter().any(|d| matches!(d.what, DamageKind::Checkpoint { .. })), "{recovery:?}");
}

#[test]
fn a_full_disk_changes_nothing_and_work_goes_on_when_there_is_space() {
    let disk = SimDisk::new();
    let (store, _) = open(&disk);
    let group = store.group_or_new(group(0));
    let records = fill(&group, 1, 20);
    records.iter().for_each(|r| group.mark(r.seq(), true, &[]));
    store.pump();
    disk.set_capacity(Some(disk.used_bytes() + 10));
    let before = (group.positions(), group.manifest(), disk.files());
    let refused = group.prepare(Seq(20), Bytes::from_static(b"s")).unwrap().run().unwrap_err();
    assert!(refused.is_no_space(), "{refused:?}");
    assert!(matches!(refused, StoreError::Disk(DiskError::NoSpace { .. })));
    assert_eq!((group.positions(), group.manifest(), disk.files()), before);
    disk.set_capacity(None);
    group.prepare(Seq(20), Bytes::from_static(b"s")).unwrap().run().unwrap();
    assert_eq!(group.positions().base, Seq(20));
    drop((store, group));
    disk.crash(1);
    let (store, _) = open(&disk);
    let group = store.group(super::group(0)).unwrap();
    for r in &records {
        assert_eq!(group.history().record(r.seq()).as_ref(), Some(r));
    }
}
