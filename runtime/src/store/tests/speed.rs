//! How fast the group commit is, beside the disk alone. Not a test of a figure: prints a table.
//! `cargo test --release -p onemec-runtime --lib store::tests::speed -- --ignored --nocapture`

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::*;
use crate::store::append::{Append, Frame};
use crate::store::disk::{Open, RealDisk};

const RUN: Duration = Duration::from_secs(2);
const RECORD_BYTES: usize = 300;

fn print(name: &str, mut times: Vec<Duration>, took: Duration) {
    times.sort();
    let at = |p: usize| times.get(times.len() * p / 100).copied().unwrap_or_default().as_micros();
    let rate = times.len() as f64 / took.as_secs_f64();
    println!("{name:44} {rate:>9.0}/s   p50 {:>6} us   p99 {:>6} us", at(50), at(99));
}

/// One thread that writes and syncs.
fn bare(name: &str, dir: &Path, prepare: impl Fn(&dyn crate::store::disk::DiskFile)) {
    let disk = RealDisk::shared();
    let file = disk.open(&dir.join("bare"), Open::Create).unwrap();
    prepare(&*file);
    file.sync().unwrap();
    let data = vec![7u8; RECORD_BYTES + 56];
    let (start, mut times, mut at) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < RUN {
        let t = Instant::now();
        file.write_at(at, &[&data]).unwrap();
        file.sync().unwrap();
        times.push(t.elapsed());
        at += data.len() as u64;
    }
    print(name, times, start.elapsed());
}

/// `threads` appenders, each waiting for its record before the next.
fn many(name: &str, threads: usize, submit: impl Fn(usize, u64, Box<dyn FnOnce() + Send>) + Sync) {
    let start = Instant::now();
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let submit = &submit;
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                scope.spawn(move || {
                    let (mut times, mut n) = (Vec::new(), 0);
                    while start.elapsed() < RUN {
                        n += 1;
                        let (tell, told) = sync_channel(1);
                        let begun = Instant::now();
                        submit(t, n, Box::new(move || tell.send(()).unwrap()));
                        told.recv().unwrap();
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    print(&format!("{name}, {threads} appenders"), times, start.elapsed());
}

#[test]
#[ignore = "prints figures; run it alone and in release mode"]
fn group_commit_beside_the_bare_disk() {
    let dir = tempfile::tempdir_in(std::env::var("STORE_BENCH_DIR").unwrap_or("/var/tmp".into())).unwrap();
    let length = 64 << 20;
    bare("bare write + fdatasync, growing file", dir.path(), |_| {});
    bare("bare write + fdatasync, fallocate", dir.path(), |file| file.allocate(length).unwrap());
    bare("bare write + fdatasync, zeros written", dir.path(), |file| {
        let zeros = vec![0; 1 << 20];
        (0..64).for_each(|n| file.write_at(n << 20, &[&zeros]).unwrap());
    });
    for threads in [1, 8, 64] {
        let at = dir.path().join(format!("append{threads}"));
        let options = AppendOptions::default();
        let (append, _) = Append::open(RealDisk::shared(), &at, options, &mut |_| {}).unwrap();
        let payload = bytes::Bytes::from(vec![5; RECORD_BYTES]);
        many("append", threads, |_, _, done| {
            let frame = Frame { kind: 1, parts: vec![payload.clone()] };
            append.submit(vec![frame], Box::new(move |r| r.map(|_| done()).unwrap())).unwrap();
        });
    }
    for threads in [1, 8, 64] {
        let at = dir.path().join(format!("store{threads}"));
        let (store, _) = Store::open(RealDisk::shared(), &at, NodeId(1), 1, StoreOptions::default()).unwrap();
        let groups: Vec<_> = (0..threads).map(|t| store.group_or_new(group(t as u32))).collect();
        many("group store", threads, |t, n, done| {
            let body = [3; RECORD_BYTES - 81];
            let r = record(groups[t].id(), 1, n, &body);
            groups[t].append(vec![r], true, move |r| r.map(|()| done()).unwrap()).unwrap();
            if groups[t].wants_checkpoint() {
                groups[t].log.sealed(Seq(n - 1));
            }
        });
    }
}
