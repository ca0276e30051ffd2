//! A group that is taken over from a peer.

use bytes::Bytes;
use onemec_core::context::History;

use super::*;
use crate::store::seqset::SeqSet;

/// A source with segments and a tail.
fn source(disk: &SimDisk) -> (Store, Vec<Record>) {
    let (store, _) = open(disk);
    let group = store.group_or_new(group(0));
    let mut records = fill(&group, 3, 40);
    for r in &records {
        group.mark(r.seq(), r.seq().0 % 4 != 0, &[]);
    }
    store.pump();
    group.prepare(Seq(35), Bytes::from_static(b"the state at 35")).unwrap().run().unwrap();
    records.truncate(35);
    (store, records)
}

/// Copies as the transfer does: manifest, segments in uneven pieces, then the commit.
fn copy(from: &GroupStore, to: &Arc<GroupStore>) -> Result<usize, StoreError> {
    let export = from.export()?.unwrap();
    let mut install = to.begin_install();
    let mut sent = 0;
    for segment in &export.segments {
        if install.reuse(segment.info()) {
            continue;
        }
        sent += 1;
        let mut writer = install.segment(segment.info())?;
        let bytes = segment.bytes()?;
        for (i, piece) in bytes.chunks(77).enumerate() {
            let piece = Bytes::copy_from_slice(piece);
            let half = if i % 2 == 0 { piece.len() / 2 } else { 0 };
            writer.write(&[piece.slice(..half), piece.slice(half..)])?;
        }
        install.add(writer.finish()?);
    }
    install.commit(export.seq, export.epoch, export.kept, &export.snapshot)?;
    Ok(sent)
}

/// The copy is whole; or what was there before is.
fn is_copy(store: &Store, records: &[Record]) -> bool {
    let Some(group) = store.group(group(0)) else { return false };
    if group.positions().base != Seq(35) {
        return false;
    }
    assert_eq!(group.positions().last, Seq(35), "nothing of the old past is left");
    assert_eq!(group.snapshot().unwrap().unwrap().2, &b"the state at 35"[..]);
    for r in records {
        let expected = (r.seq().0 % 4 != 0).then_some(r);
        assert_eq!(group.history().record(r.seq()).as_ref(), expected);
    }
    true
}

fn is_old(store: &Store, old: &[Record]) -> bool {
    let Some(group) = store.group(group(0)) else { return old.is_empty() };
    let at = group.positions();
    at.last.0 as usize == old.len() && old.iter().all(|r| group.history().record(r.seq()).as_ref() == Some(r))
}

#[test]
fn an_installation_is_all_or_nothing_whenever_the_power_goes() {
    let origin = SimDisk::new();
    let (source, records) = source(&origin);
    let from = source.group(group(0)).unwrap();
    let (mut whole, mut old_left, mut n) = (0, 0, 0);
    loop {
        let disk = SimDisk::new();
        let (store, _) = open(&disk);
        // The target has a past of its own: a checkpoint, and a tail that is longer than what comes.
        let to = store.group_or_new(group(0));
        let old = fill(&to, 2, 50);
        old.iter().for_each(|r| to.mark(r.seq(), true, &[]));
        store.pump();
        to.prepare(Seq(10), Bytes::from_static(b"old")).unwrap().run().unwrap();
        disk.stop_after(n);
        let result = copy(&from, &to);
        if result.is_ok() {
            disk.stop_after(1 << 40);
            assert!(is_copy(&store, &records));
        }
        drop((store, to));
        disk.crash(n);
        let (store, recovery) = open(&disk);
        assert!(recovery.damage.is_empty(), "op {n}: {:?}", recovery.damage);
        if is_copy(&store, &records) {
            whole += 1;
            // It goes on where the checkpoint ends.
            let group = store.group(group(0)).unwrap();
            fill(&group, 3, 2);
            store.pump();
            drop((store, group));
            disk.crash(n);
            assert_eq!(open(&disk).0.group(super::group(0)).unwrap().positions().last, Seq(37));
        } else {
            assert!(result.is_err(), "op {n}: it was reported done");
            assert!(is_old(&store, &old), "op {n}");
            old_left += 1;
        }
        if result.is_ok() {
            break;
        }
        n += 1;
    }
    assert!(n > 10 && whole > 0 && old_left > 5, "{n} {whole} {old_left}");
}

#[test]
fn segments_that_are_here_already_are_not_sent_again() {
    let (a, b) = (SimDisk::new(), SimDisk::new());
    let (source, records) = source(&a);
    let from = source.group(group(0)).unwrap();
    let (store, _) = open(&b);
    let to = store.group_or_new(group(0));
    assert!(copy(&from, &to).unwrap() > 1);
    assert!(is_copy(&store, &records));
    assert_eq!(copy(&from, &to).unwrap(), 0);
    assert!(is_copy(&store, &records));
    let infos = |g: &GroupStore| g.manifest().into_iter().map(|(info, _)| info).collect::<Vec<_>>();
    assert_eq!(infos(&to), infos(&from));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let (a, b) = (SimDisk::new(), SimDisk::new());
    let (source, _) = source(&a);
    let from = source.group(group(0)).unwrap();
    let export = from.export().unwrap().unwrap();
    let (store, _) = open(&b);
    let to = store.group_or_new(group(0));
    let files = b.files();
    let segment = &export.segments[0];
    let bytes = segment.bytes().unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.to_vec();
        bad[at] ^= 4;
        let mut writer = to.begin_install().segment(segment.info()).unwrap();
        let result = writer.write(&[Bytes::from(bad)]).and_then(|()| writer.finish());
        assert!(matches!(result, Err(StoreError::Received(_))), "byte {at}");
    }
    let mut writer = to.begin_install().segment(segment.info()).unwrap();
    writer.write(&[bytes.slice(..bytes.len() - 1)]).unwrap();
    assert!(writer.finish().is_err());
    let mut writer = to.begin_install().segment(segment.info()).unwrap();
    writer.write(std::slice::from_ref(&bytes)).unwrap();
    assert!(writer.write(&[Bytes::from_static(b"more")]).is_err());
    drop(writer);
    let kept = SeqSet::from_ranges([(Seq(1), Seq(1))]).unwrap();
    let result = to.begin_install().commit(Seq(35), Epoch(3), kept, &Bytes::new());
    assert!(matches!(result, Err(StoreError::Received(_))));
    assert_eq!(b.files(), files);
}
