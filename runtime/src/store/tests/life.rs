//! The ordinary life of a group.

use bytes::Bytes;
use onemec_core::context::History;
use onemec_wire::Incarnation;

use super::*;
use crate::store::disk::{DiskError, RealDisk};
use crate::store::{AppendError, Before};

#[test]
fn a_replica_refuses_what_its_log_cannot_take() {
    let disk = SimDisk::new();
    let (store, _) = open(&disk);
    let g = store.group_or_new(group(0));
    fill(&g, 2, 5);
    let try_append = |r: Record| g.append(vec![r], true, |_| {}).unwrap_err();
    assert!(matches!(try_append(record(g.id(), 2, 7, b"")), AppendError::Gap { last: Seq(5), got: Seq(7) }));
    assert!(matches!(try_append(record(g.id(), 1, 6, b"")), AppendError::StaleEpoch { .. }));
    assert!(matches!(try_append(record(group(1), 2, 6, b"")), AppendError::WrongGroup(_)));
    g.note_epoch(Epoch(4), Box::new(|_| {})).unwrap();
    // What an older reign wrote is handed on by a newer primary: the log takes it after the newer epoch was seen.
    assert!(matches!(try_append(record(g.id(), 1, 6, b"")), AppendError::StaleEpoch { .. }));
    g.append(vec![record(g.id(), 3, 6, b"")], true, |_| {}).unwrap();
    assert!(matches!(g.note_epoch(Epoch(3), Box::new(|_| {})), Err(AppendError::StaleEpoch { .. })));
    store.pump();
    g.prepare(Seq(4), Bytes::new()).unwrap().run().unwrap();
    assert!(matches!(g.truncate(Seq(3), Box::new(|_| {})), Err(AppendError::BelowCheckpoint { .. })));
    assert!(matches!(g.prepare(Seq(3), Bytes::new()), Err(StoreError::Place { .. })));
    let (first, second) = (g.prepare(Seq(5), Bytes::new()).unwrap(), g.prepare(Seq(5), Bytes::new()).unwrap());
    first.run().unwrap();
    assert!(matches!(second.run(), Err(StoreError::Superseded)));
}

#[test]
fn synced_never_counts_what_was_truncated_and_written_anew() {
    let disk = SimDisk::new();
    let (store, _) = open(&disk);
    let g = store.group_or_new(group(0));
    fill(&g, 1, 10);
    g.truncate(Seq(4), Box::new(|_| {})).unwrap();
    fill(&g, 2, 3);
    assert_eq!((g.positions().last, g.positions().synced), (Seq(7), Seq(0)));
    store.pump();
    assert_eq!(g.positions().synced, Seq(7));
    fill(&g, 2, 3);
    assert_eq!(g.positions().synced, Seq(7));
    g.truncate(Seq(5), Box::new(|_| {})).unwrap();
    assert_eq!(g.positions().synced, Seq(5));
    fill(&g, 3, 1);
    assert_eq!((g.positions().last, g.positions().synced), (Seq(6), Seq(5)));
}

#[test]
fn a_quiet_group_does_not_pin_the_log() {
    let disk = SimDisk::new();
    let (store, _) = open(&disk);
    let quiet = store.group_or_new(group(0));
    let records = fill(&quiet, 1, 5);
    quiet.note_epoch(Epoch(9), Box::new(|_| {})).unwrap();
    let busy = store.group_or_new(group(1));
    for round in 0..60 {
        fill(&busy, 1, 10);
        store.pump();
        let last = busy.positions().last;
        busy.prepare(last, Bytes::new()).unwrap().run().unwrap();
        store.maintain().unwrap();
        assert!(store.usage().files <= 6, "round {round}: {:?}", store.usage());
    }
    drop((store, quiet, busy));
    disk.crash(8);
    let (store, _) = open(&disk);
    let quiet = store.group(group(0)).unwrap();
    assert_eq!(quiet.records(Seq(1), 1 << 20), records);
    assert_eq!(quiet.positions().epoch, Epoch(9));
}

#[test]
fn released_records_leave_the_disk() {
    let disk = SimDisk::new();
    let (store, _) = open(&disk);
    let g = store.group_or_new(group(0));
    let mut all = Vec::new();
    // A container that keeps its newest twenty instances.
    for _ in 0..40 {
        for r in fill(&g, 1, 10) {
            let old = r.seq().0.checked_sub(20).map(Seq);
            g.mark(r.seq(), true, &Vec::from_iter(old));
            all.push(r);
        }
        store.pump();
        g.prepare(g.positions().last, Bytes::from_static(b"state")).unwrap().run().unwrap();
        let bytes: u64 = g.manifest().iter().map(|(info, _)| info.bytes).sum();
        assert!(bytes < 12_000, "{bytes}: {:?}", g.manifest());
    }
    for (i, r) in all.iter().enumerate() {
        let expected = (i >= all.len() - 20).then_some(r);
        assert_eq!(g.history().record(r.seq()).as_ref(), expected, "{i}");
    }
    let segments = |disk: &SimDisk| disk.files().iter().filter(|(p, _)| p.to_string_lossy().contains(".seg")).count();
    assert_eq!(segments(&disk), g.manifest().len());
}

#[test]
fn a_deleted_group_stays_deleted_and_may_come_again() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let (store, _) = open(&disk);
        for n in 0..2 {
            let g = store.group_or_new(group(n));
            fill(&g, 1, 12).iter().for_each(|r| g.mark(r.seq(), true, &[]));
            store.pump();
            g.prepare(Seq(10), Bytes::new()).unwrap().run().unwrap();
        }
        let g = store.group(group(0)).unwrap();
        let acked = Acked::default();
        store.delete(group(0), acked.at(1)).unwrap();
        assert!(g.append(vec![record(group(0), 1, 13, b"")], true, |_| {}).is_err());
        store.pump();
        assert_eq!(acked.get(), 1);
        let again = seed % 2 == 0;
        if again {
            fill(&store.group_or_new(group(0)), 5, 3);
            store.pump();
        }
        drop((store, g));
        disk.crash(seed);
        let (store, recovery) = open(&disk);
        assert!(recovery.damage.is_empty());
        assert_eq!(store.group(group(0)).map(|g| g.positions().last), again.then_some(Seq(3)));
        assert_eq!(store.group(group(1)).unwrap().positions().last, Seq(12));
    }
}

#[test]
fn whoever_asks_first_for_a_new_group_all_get_the_same() {
    let (store, _) = open(&SimDisk::new());
    let ask = || (0..20_000).map(|n| store.group_or_new(group(n))).collect::<Vec<_>>();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(ask);
        (ask(), other.join().unwrap())
    });
    let twice = one.iter().zip(&other).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(twice, 0, "groups have two stores");
}

#[test]
fn it_works_on_a_real_disk_with_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.wal.append.drive = Drive::Thread;
    let open = || Store::open(RealDisk::shared(), dir.path(), NodeId(3), 1, options.clone());
    let (store, recovery) = open().unwrap();
    assert_eq!((recovery.before, recovery.identity.incarnation), (Before::Nobody, Incarnation(1)));
    assert!(matches!(open(), Err(StoreError::Disk(DiskError::Locked(_)))));
    let mut all = Vec::new();
    for n in 0..4 {
        let g = store.group_or_new(group(n));
        for _ in 0..30 {
            for r in fill(&g, 1, 5) {
                g.mark(r.seq(), true, &[]);
                all.push(r);
            }
            if g.wants_checkpoint() {
                g.prepare(g.positions().last, Bytes::from_static(b"s")).unwrap().run().unwrap();
            }
        }
    }
    store.close().unwrap();
    drop(store);
    let (store, recovery) = open().unwrap();
    assert_eq!((recovery.before, recovery.identity.incarnation), (Before::Released(Incarnation(1)), Incarnation(2)));
    assert!(recovery.damage.is_empty());
    for r in &all {
        assert_eq!(store.group(r.group()).unwrap().history().record(r.seq()).as_ref(), Some(r));
    }
    drop(store);
    assert_eq!(open().unwrap().1.before, Before::Died(Incarnation(2)));
}
