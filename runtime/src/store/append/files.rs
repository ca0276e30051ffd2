//! The set of files of a log: opening, beginning the next, giving back what is no longer needed.
//!
//! Beside `log-<serial>` a folder holds `spare-<n>` (full-length files to be used again) and `first`, which says what is
//! no longer needed, written before anything is removed:
//!
//! ```text
//! | magic "oneFRST1" u64 | version u32 | crc32c u32 | first serial u64 | first lsn u64 |
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::committer::{Core, Started};
use super::format::{FILE_HEADER_BYTES, FileHeader, file_name, serial_of};
use super::{AppendOptions, Entry, Lost, Lsn, Recovered, scan};
use crate::store::disk::{Disk, DiskError, DiskFile, Open, TEMPORARY, read_all, read_range, write_atomically};

const FIRST: &str = "first";
const FIRST_MAGIC: &[u8; 8] = b"oneFRST1";
const FIRST_VERSION: u32 = 1;
const FIRST_BYTES: usize = 32;

fn first_encode(serial: u64, lsn: Lsn) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIRST_BYTES);
    out.extend_from_slice(FIRST_MAGIC);
    out.extend_from_slice(&FIRST_VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&serial.to_le_bytes());
    out.extend_from_slice(&lsn.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.splice(12..16, crc.to_le_bytes());
    out
}

fn first_decode(bytes: &[u8]) -> Option<(u64, Lsn)> {
    let serial = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    let lsn = u64::from_le_bytes(bytes.get(24..32)?.try_into().ok()?);
    (bytes == first_encode(serial, lsn)).then_some((serial, lsn))
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: AppendOptions,
    sink: &mut dyn FnMut(Entry),
) -> Result<(Core, Recovered), DiskError> {
    disk.create_dir(dir)?;
    let mut recovered = Recovered::default();
    let first = match read_all(&*disk, &dir.join(FIRST), 4096) {
        Ok(bytes) => first_decode(&bytes).or_else(|| {
            recovered.lost.push(Lost { file: dir.join(FIRST), lsns: 0..0 });
            None
        }),
        Err(DiskError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let (first_serial, first_lsn) = first.unwrap_or((0, 1));
    let (mut serials, mut spares) = (Vec::new(), Vec::new());
    for name in disk.list(dir)? {
        match serial_of(&name) {
            Some(serial) if serial >= first_serial => serials.push(serial),
            Some(_) => give_back(&*disk, dir, &options, &name, &mut spares)?,
            None if spares.contains(&name) => {}
            None if name.starts_with("spare-") && spares.len() < options.spare_files_max => spares.push(name),
            None if name.starts_with("spare-") || name.ends_with(TEMPORARY) => disk.remove(&dir.join(&name))?,
            None => {}
        }
    }
    let mut files = read_files(&*disk, dir, &serials, first, &mut recovered, sink)?;
    let next_lsn = recovered.next_lsn.max(first_lsn).max(options.lsn_min).max(1);
    recovered.next_lsn = next_lsn;
    let serial = files.last_key_value().map_or(first_serial.max(1), |(last, _)| last + 1);
    files.insert(serial, next_lsn);
    let file = create(&*disk, dir, &options, &mut spares, serial, next_lsn)?;
    let core = Core::new(disk, dir.to_owned(), options, file, files, next_lsn);
    *core.spares.lock() = spares;
    Ok((core, recovered))
}

/// Hands out what the files hold, after making durable what might not be. Returns the files that are worth keeping.
fn read_files(
    disk: &dyn Disk,
    dir: &Path,
    serials: &[u64],
    first: Option<(u64, Lsn)>,
    recovered: &mut Recovered,
    sink: &mut dyn FnMut(Entry),
) -> Result<BTreeMap<u64, Lsn>, DiskError> {
    let mut files = BTreeMap::new();
    let mut expected = first.map(|(_, lsn)| lsn);
    let mut missing_from = first.map(|(serial, _)| serial);
    for (i, &serial) in serials.iter().enumerate() {
        let path = dir.join(file_name(serial));
        let end = match serials.get(i + 1) {
            Some(&next) => first_lsn_of(disk, dir, next)?,
            None => None,
        };
        let file = disk.open(&path, Open::Write)?;
        let is_last = i + 1 == serials.len();
        let scanned = scan::scan(&*file, serial, expected, end, sink)?;
        if is_last && scanned.header_damaged && scanned.frames == 0 {
            if scanned.looks_used {
                let from = expected.unwrap_or(1);
                recovered.lost.push(Lost { file: path.clone(), lsns: from..from + 1 });
                recovered.next_lsn = from + 1;
            }
            disk.remove(&path)?; // its creation was cut short, or nothing in it can be read
            continue;
        }
        // A hole in the serials, or frames that neither this file nor the one before holds: files are missing.
        if missing_from.is_some_and(|s| s != serial) || expected.is_some_and(|e| e < scanned.first_lsn) {
            let lsns = expected.unwrap_or(scanned.first_lsn)..scanned.first_lsn;
            recovered.lost.push(Lost { file: path.clone(), lsns });
        }
        if scanned.header_damaged {
            recovered.lost.push(Lost { file: path.clone(), lsns: scanned.first_lsn..scanned.first_lsn });
        }
        recovered.lost.extend(scanned.lost.iter().map(|lsns| Lost { file: path.clone(), lsns: lsns.clone() }));
        if is_last {
            save_again(&*file, scanned.doubtful)?;
            // What lies behind is not part of the log; the room is given back.
            file.truncate(scanned.used_bytes)?;
            file.sync()?;
        }
        recovered.frames += scanned.frames;
        recovered.next_lsn = scanned.next_lsn;
        files.insert(serial, scanned.first_lsn);
        expected = Some(scanned.next_lsn);
        missing_from = Some(serial + 1);
    }
    Ok(files)
}

/// The sync of these bytes may have failed without anybody seeing it: what is read may be only in the memory of the
/// system. They are written anew, and synced.
fn save_again(file: &dyn DiskFile, range: std::ops::Range<u64>) -> Result<(), DiskError> {
    let len = range.end.saturating_sub(range.start) as usize;
    if len > 0 {
        let bytes = read_range(file, range.start, len)?;
        file.write_at(range.start, &[&bytes])?;
    }
    Ok(())
}

fn first_lsn_of(disk: &dyn Disk, dir: &Path, serial: u64) -> Result<Option<Lsn>, DiskError> {
    let file = disk.open(&dir.join(file_name(serial)), Open::Read)?;
    let bytes = read_range(&*file, 0, FILE_HEADER_BYTES as usize)?;
    Ok(FileHeader::read(&bytes, serial).map(|(first_lsn, _)| first_lsn))
}

/// Begins file `serial`. After an error there is no such file.
pub(super) fn begin(core: &Core, serial: u64, first_lsn: Lsn) -> Result<Started, DiskError> {
    create(&*core.disk, &core.dir, &core.options, &mut core.spares.lock(), serial, first_lsn)
}

fn create(
    disk: &dyn Disk,
    dir: &Path,
    options: &AppendOptions,
    spares: &mut Vec<String>,
    serial: u64,
    first_lsn: Lsn,
) -> Result<Started, DiskError> {
    let salt = crc32c::crc32c(&[options.salt.to_le_bytes(), serial.to_le_bytes(), first_lsn.to_le_bytes()].concat());
    let path = dir.join(file_name(serial));
    let spare = spares.pop();
    let file = match &spare {
        Some(name) => {
            disk.rename(&dir.join(name), &path)?;
            disk.open(&path, Open::Write)?
        }
        None => disk.open(&path, Open::Create)?,
    };
    let made = (|| {
        if spare.is_none() {
            file.allocate(options.file_bytes)?;
        }
        disk.sync_dir(dir)?;
        file.write_at(0, &[&FileHeader::new(serial, first_lsn, salt).block()])?;
        file.sync()
    })();
    match made {
        Ok(()) => Ok(Started { serial, file, salt }),
        Err(error) => {
            let _ = disk.remove(&path); // the first error is the one that counts
            Err(error)
        }
    }
}

fn give_back(
    disk: &dyn Disk,
    dir: &Path,
    options: &AppendOptions,
    name: &str,
    spares: &mut Vec<String>,
) -> Result<(), DiskError> {
    let path = dir.join(name);
    let whole = disk.open(&path, Open::Read).and_then(|f| f.bytes()).is_ok_and(|b| b == options.file_bytes);
    if whole && spares.len() < options.spare_files_max {
        let spare = name.replacen("log-", "spare-", 1);
        disk.rename(&path, &dir.join(&spare))?;
        spares.push(spare);
        return Ok(());
    }
    disk.remove(&path)
}

pub(super) fn release(core: &Core, before: Lsn) -> Result<(), DiskError> {
    let _one_at_a_time = core.releasing.lock();
    let current = core.writer.lock().serial;
    let (drop, keep) = {
        let queue = core.queue.lock();
        let mut drop = Vec::new();
        let mut keep = None;
        for ((&serial, _), (&next, &next_first)) in queue.files.iter().zip(queue.files.iter().skip(1)) {
            if next_first > before || next > current {
                break;
            }
            drop.push(serial);
            keep = Some((next, next_first));
        }
        (drop, keep)
    };
    let Some((keep_serial, keep_lsn)) = keep else { return Ok(()) };
    write_atomically(&*core.disk, &core.dir, FIRST, &[&first_encode(keep_serial, keep_lsn)], true)?;
    for serial in drop {
        give_back(&*core.disk, &core.dir, &core.options, &file_name(serial), &mut core.spares.lock())?;
        core.queue.lock().files.remove(&serial);
    }
    Ok(())
}
