use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::disk::{RealDisk, SimDisk};

const DIR: &str = "/log";

fn options() -> AppendOptions {
    AppendOptions {
        file_bytes: 4096 + 2048,
        queue_bytes_max: 1 << 20,
        batch_bytes_max: 900,
        salt: 7,
        drive: Drive::Manual,
        ..AppendOptions::default()
    }
}

type Read = Vec<(Lsn, Vec<u8>)>;

fn open_with(disk: &SimDisk, options: AppendOptions) -> Result<(Append, Recovered, Read), DiskError> {
    let mut read = Vec::new();
    let mut sink = |entry: Entry| read.push((entry.lsn, entry.payload.to_vec()));
    let (append, recovered) = Append::open(disk.shared(), Path::new(DIR), options, &mut sink)?;
    Ok((append, recovered, read))
}

fn open(disk: &SimDisk) -> (Append, Recovered, Read) {
    open_with(disk, options()).unwrap()
}

/// Submits one frame; its number and a counter that grows when it is synced.
fn put(append: &Append, payload: &[u8], acked: &Arc<AtomicUsize>) -> Result<Lsn, SubmitError> {
    let acked = Arc::clone(acked);
    let done = Box::new(move |result: Result<Lsn, Fatal>| {
        if result.is_ok() {
            acked.fetch_add(1, Ordering::Relaxed);
        }
    });
    append.submit(vec![Frame { kind: 1, parts: vec![Bytes::copy_from_slice(payload)] }], done)
}

fn payload(n: u32) -> Vec<u8> {
    let mut out = n.to_le_bytes().to_vec();
    out.resize(4 + (n as usize * 37) % 300, n as u8);
    out
}

/// Runs many lives of one log, each ended by a power cut or a mere end of the process at any operation of the disk, and
/// checks after each that what is found is what was written: all of what was acknowledged, and nothing out of order.
fn lives(seed: u64, lives: u64, failing_syncs: bool) {
    let disk = SimDisk::new();
    let mut log: Vec<Vec<u8>> = Vec::new(); // what the last life found, and so everybody may rely on
    let mut n = 0;
    for life in 0..lives {
        let dice = seed.wrapping_mul(0x9E37_79B9).wrapping_add(life * 7919);
        let Ok((append, recovered, read)) = open_with(&disk, options()) else {
            disk.crash(dice);
            continue;
        };
        let read: Vec<Vec<u8>> = read.into_iter().map(|(_, p)| p).collect();
        assert!(recovered.lost.is_empty(), "seed {seed} life {life}: {:?}", recovered.lost);
        assert!(read.len() >= log.len(), "seed {seed} life {life}: {} of {}", read.len(), log.len());
        for (i, payload) in log.iter().enumerate() {
            assert_eq!(&read[i], payload, "seed {seed} life {life} entry {i}");
        }
        // What is found beyond was submitted in the life before, in that order: `log` is extended below by it.
        log = read;
        if failing_syncs && dice.is_multiple_of(3) {
            disk.fail_sync_after(dice / 3 % 7);
        } else {
            disk.stop_after(dice % 23);
        }
        let acked = Arc::new(AtomicUsize::new(0));
        let mut submitted = Vec::new();
        for step in 0..(dice / 5 % 20) {
            n += 1;
            if put(&append, &payload(n), &acked).is_ok() {
                submitted.push(payload(n));
            }
            if (dice >> (step % 30)) & 1 == 0 {
                append.pump();
            }
        }
        append.pump();
        drop(append);
        if dice.is_multiple_of(4) {
            disk.restart();
        } else {
            disk.crash(dice);
        }
        let durable = acked.load(Ordering::Relaxed);
        log.extend(submitted[..durable].iter().cloned());
        // The rest may be found or not: look with a copy of the rules.
        let before = log.len();
        let Ok((again, _, read)) = open_with(&disk, options()) else {
            disk.crash(dice);
            continue;
        };
        assert!(read.len() >= before, "seed {seed} life {life}: acknowledged entries are gone");
        for (i, (_, payload)) in read.iter().enumerate() {
            let expected = log.get(i).or_else(|| submitted.get(durable + i - before));
            assert_eq!(Some(payload), expected, "seed {seed} life {life} entry {i}");
        }
        log = read.into_iter().map(|(_, p)| p).collect();
        drop(again);
        disk.crash(dice + 1); // what was handed out survives this too
    }
}

#[test]
fn acknowledged_frames_survive_power_cuts_at_every_point() {
    for seed in 0..150 {
        lives(seed, 12, false);
    }
}

#[test]
fn acknowledged_frames_survive_failing_syncs() {
    for seed in 0..150 {
        lives(seed, 12, true);
    }
}

#[test]
fn a_failed_sync_is_final_and_told_to_everybody() {
    let disk = SimDisk::new();
    let fatal = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&fatal);
    let on_fatal: FatalHook = Arc::new(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let (append, ..) = open_with(&disk, AppendOptions { on_fatal, ..options() }).unwrap();
    let acked = Arc::new(AtomicUsize::new(0));
    disk.fail_sync_after(0);
    put(&append, b"one", &acked).unwrap();
    put(&append, b"two", &acked).unwrap();
    assert_eq!(append.pump(), Step::Failed);
    assert_eq!((acked.load(Ordering::Relaxed), fatal.load(Ordering::Relaxed)), (0, 1));
    assert!(matches!(put(&append, b"three", &acked), Err(SubmitError::Fatal(_))));
    assert_eq!(append.synced(), 0);
}

#[test]
fn a_panic_of_the_committer_is_final_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let on_fatal: FatalHook = Arc::new(move |fatal| tell.send(fatal.cause.to_string()).unwrap());
    let options = AppendOptions { on_fatal, drive: Drive::Thread, ..AppendOptions::default() };
    let (append, _) = Append::open(RealDisk::shared(), dir.path(), options, &mut |_| {}).unwrap();
    let frame = || vec![Frame { kind: 1, parts: vec![Bytes::from_static(b"one")] }];
    append.submit(frame(), Box::new(|_| panic!("a test wants it"))).unwrap();
    assert!(told.recv().unwrap().contains("failed"));
    assert!(matches!(append.submit(frame(), Box::new(|_| {})), Err(SubmitError::Fatal(_))));
}

#[test]
fn damage_is_told_from_a_torn_end() {
    let disk = SimDisk::new();
    let (append, ..) = open(&disk);
    let acked = Arc::default();
    let mut lsns = Vec::new();
    for n in 0..4 {
        lsns.push(put(&append, &payload(n + 8), &acked).unwrap());
        append.pump();
    }
    drop(append);
    disk.restart();
    let (_, length) = disk.files()[0].clone();
    let file = disk.files()[0].0.clone();
    let mut damaged = 0;
    for byte in (4096..length).step_by(5) {
        // Each position on a fresh copy of the story: what is opened is changed by it.
        let disk = SimDisk::new();
        let (append, ..) = open(&disk);
        for n in 0..4 {
            put(&append, &payload(n + 8), &acked).unwrap();
            append.pump();
        }
        drop(append);
        disk.restart();
        if !disk.flip_bit(&file, byte, 3) {
            break;
        }
        let (_, recovered, read) = open(&disk);
        let lost: u64 = recovered.lost.iter().map(|l| l.lsns.end - l.lsns.start).sum();
        // Behind the last frame is only the mark, whose loss means nothing.
        let frames = lsns.iter().filter(|lsn| !read.iter().any(|(l, _)| l == *lsn)).count() as u64;
        assert!(frames <= 1, "byte {byte}: one frame at most");
        assert!(lost >= frames, "byte {byte}: {frames} frames lost, {lost} reported");
        damaged += frames;
        for (lsn, data) in read {
            let n = lsns.iter().position(|l| *l == lsn).unwrap() as u32;
            assert_eq!(data, payload(n + 8));
        }
    }
    assert!(damaged > 20);
}

#[test]
fn a_damaged_header_costs_nothing_and_a_missing_file_is_reported() {
    let disk = SimDisk::new();
    let (append, ..) = open(&disk);
    let acked = Arc::default();
    for n in 0..40 {
        put(&append, &payload(n), &acked).unwrap();
        append.pump();
    }
    drop(append);
    disk.restart();
    let files = disk.files();
    assert!(files.len() > 3);
    disk.flip_bit(&files[1].0, 9, 0);
    let (append, recovered, read) = open(&disk);
    assert_eq!((recovered.lost.len(), read.len()), (0, 40));
    drop(append);
    disk.shared().remove(&files[1].0).unwrap();
    let (_, recovered, read) = open(&disk);
    let lost: u64 = recovered.lost.iter().map(|l| l.lsns.end - l.lsns.start).sum();
    assert!(read.len() < 40 && lost >= 40 - read.len() as u64);
}

#[test]
fn a_full_disk_stops_and_goes_on() {
    let disk = SimDisk::new();
    let (append, ..) = open(&disk);
    disk.set_capacity(Some(disk.used_bytes() + 100));
    let acked = Arc::new(AtomicUsize::new(0));
    let mut taken = 0;
    let refused = (0..40).find_map(|n| {
        let result = put(&append, &payload(n), &acked);
        taken += usize::from(result.is_ok());
        append.pump();
        result.err()
    });
    assert!(matches!(refused, Some(SubmitError::NoSpace)));
    assert!(acked.load(Ordering::Relaxed) < taken);
    assert_eq!(append.pump(), Step::NoSpace);
    disk.set_capacity(None);
    assert_eq!(append.pump(), Step::Idle);
    assert_eq!(acked.load(Ordering::Relaxed), taken);
    assert!(put(&append, b"again", &acked).is_ok());
    append.pump();
    drop(append);
    disk.crash(3);
    assert_eq!(open(&disk).2.len(), taken + 1);
}

#[test]
fn a_full_queue_refuses_and_too_long_a_frame_too() {
    let disk = SimDisk::new();
    let (append, ..) = open_with(&disk, AppendOptions { queue_bytes_max: 600, ..options() }).unwrap();
    let acked = Arc::new(AtomicUsize::new(0));
    assert!(matches!(put(&append, &[0; 5000], &acked), Err(SubmitError::TooLong { .. })));
    let mut taken = 0;
    while put(&append, &[1; 100], &acked).is_ok() {
        taken += 1;
    }
    assert!((3..=5).contains(&taken));
    assert!(matches!(put(&append, &[1; 100], &acked), Err(SubmitError::Full { .. })));
    append.pump();
    assert!(put(&append, &[1; 100], &acked).is_ok());
}

#[test]
fn released_files_are_used_again_and_old_bytes_are_not_taken_for_new() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let acked = Arc::new(AtomicUsize::new(0));
        let (mut n, mut released) = (0, 0);
        let mut kept: Read = Vec::new();
        for life in 0..6 {
            let (append, recovered, read) = open(&disk);
            assert!(recovered.lost.is_empty(), "seed {seed} life {life} {:?}", recovered.lost);
            let read: Read = read.into_iter().filter(|(lsn, _)| *lsn >= released).collect();
            kept.retain(|(lsn, _)| *lsn >= released);
            assert_eq!(read, kept, "seed {seed} life {life}");
            for _ in 0..30 {
                n += 1;
                let lsn = put(&append, &payload(n), &acked).unwrap();
                append.pump();
                kept.push((lsn, payload(n)));
                if n % 11 == 0 {
                    released = lsn - 4;
                    append.release(released).unwrap();
                }
            }
            assert!(append.usage().files < 6, "{:?}", append.usage());
            drop(append);
            disk.crash(seed * 31 + life);
        }
        assert!(disk.files().len() < 12, "{:?}", disk.files());
    }
}

#[test]
fn many_threads_on_a_real_disk_are_completed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let options = AppendOptions { file_bytes: 1 << 20, drive: Drive::Thread, ..AppendOptions::default() };
    let (append, _) = Append::open(RealDisk::shared(), dir.path(), options.clone(), &mut |_| {}).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for t in 0..8u8 {
            let (append, order) = (&append, &order);
            scope.spawn(move || {
                for i in 0..100u8 {
                    let (tell, told) = std::sync::mpsc::channel();
                    let order = Arc::clone(order);
                    let done = Box::new(move |result: Result<Lsn, Fatal>| {
                        order.lock().push(result.unwrap());
                        tell.send(()).unwrap();
                    });
                    let parts = vec![Bytes::copy_from_slice(&[t, i]), Bytes::from(vec![t; 2000])];
                    append.submit(vec![Frame { kind: 2, parts }], done).unwrap();
                    told.recv().unwrap();
                }
            });
        }
    });
    append.close();
    let order = order.lock().clone();
    assert!(order.is_sorted() && order.len() == 800);
    let mut next = [0u8; 8];
    let (_, recovered) = Append::open(RealDisk::shared(), dir.path(), options, &mut |entry| {
        let (t, i) = (entry.payload[0], entry.payload[1]);
        assert_eq!(next[t as usize], i);
        next[t as usize] += 1;
    })
    .unwrap();
    assert!(recovered.lost.is_empty());
    assert_eq!(next, [100; 8]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_behind_the_header_are_read_without_harm(
        junk in proptest::collection::vec(any::<u8>(), 0..1500),
        at in 0u64..1500,
    ) {
        let disk = SimDisk::new();
        let (append, ..) = open(&disk);
        let acked = Arc::default();
        for n in 0..5 {
            put(&append, &payload(n), &acked).unwrap();
        }
        append.pump();
        drop(append);
        disk.restart();
        let file = disk.shared().open(&disk.files()[0].0, crate::store::disk::Open::Write).unwrap();
        file.write_at(4096 + at, &[&junk]).unwrap();
        let (_, _, read) = open(&disk);
        for (lsn, data) in read {
            prop_assert_eq!(data, payload(lsn as u32 - 1));
        }
    }
}
