//! Whatever lies in an append file: reading it back neither panics nor hands out what was not written.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_runtime::store::append::{Append, AppendOptions, Drive, Frame};
use onemec_runtime::store::disk::{Open, SimDisk};

fn options() -> AppendOptions {
    AppendOptions { file_bytes: 16384, salt: 1, drive: Drive::Manual, ..AppendOptions::default() }
}

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (at, junk) = input;
    let disk = SimDisk::new();
    let dir = Path::new("/log");
    let Ok((append, _)) = Append::open(disk.shared(), dir, options(), &mut |_| {}) else { return };
    for n in 0..8u8 {
        let frame = Frame { kind: 1, parts: vec![Bytes::from(vec![n; 20 + usize::from(n) * 9])] };
        append.submit(vec![frame], Box::new(|_| {})).expect("room");
        append.pump();
    }
    drop(append);
    disk.restart();
    let path = disk.files().first().expect("a file").0.clone();
    let file = disk.shared().open(&path, Open::Write).expect("there");
    file.write_at(u64::from(at) % 16384, &[&junk]).expect("room");
    let read = Append::open(disk.shared(), dir, options(), &mut |entry| {
        let n = entry.payload[0];
        assert!(entry.payload.len() == 20 + usize::from(n) * 9 && entry.payload.iter().all(|b| *b == n));
    });
    assert!(read.is_ok());
});
