//! The lock on the data folder: two processes never share it, and the next one learns how the last one ended.
//!
//! ```text
//!  lock:  | magic "oneLOCK1" | state u64: 1 held, 2 released | incarnation u64 | crc32c u32 |
//! ```
//! The lock is the system's (flock): it goes with the process, however it ends. So whoever gets it knows that no process
//! on this machine works on the folder any more (rule 4: "the lock was taken over").

use std::path::Path;
use std::sync::Arc;

use onemec_wire::Incarnation;

use super::disk::{Disk, DiskFile, read_range};
use super::error::{Before, StoreError};

const MAGIC: &[u8; 8] = b"oneLOCK1";
const HELD: u64 = 1;
const RELEASED: u64 = 2;

/// The lock; given back when dropped.
pub struct FolderLock {
    file: Arc<dyn DiskFile>,
}

impl FolderLock {
    /// Takes the lock on `root`, or fails at once with [`super::disk::DiskError::Locked`].
    pub fn take(disk: &dyn Disk, root: &Path) -> Result<(Self, Before), StoreError> {
        disk.create_dir(root)?;
        let file = disk.lock(&root.join("lock"))?;
        let bytes = read_range(&*file, 0, 28)?;
        let number = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let whole = bytes.get(..24).zip(bytes.get(24..28));
        let whole = whole.is_some_and(|(data, crc)| crc32c::crc32c(data).to_le_bytes() == crc);
        let before = match (whole && bytes.starts_with(MAGIC), number(8), number(16)) {
            (true, Some(RELEASED), Some(n)) => Before::Released(Incarnation(n)),
            (true, Some(_), Some(n)) => Before::Died(Incarnation(n)),
            _ if bytes.is_empty() => Before::Nobody,
            // It died before it could say who it is.
            _ => Before::Died(Incarnation(0)),
        };
        Ok((Self { file }, before))
    }

    fn note(&self, state: u64, incarnation: Incarnation) -> Result<(), StoreError> {
        let data = [&MAGIC[..], &state.to_le_bytes(), &incarnation.0.to_le_bytes()].concat();
        self.file.write_at(0, &[&data, &crc32c::crc32c(&data).to_le_bytes()])?;
        Ok(self.file.sync()?)
    }

    /// Says who holds it now.
    pub fn hold(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        self.note(HELD, incarnation)
    }

    /// Says that the holder ended in order: it serves nothing any more.
    pub fn release(self, incarnation: Incarnation) -> Result<(), StoreError> {
        self.note(RELEASED, incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::{DiskError, RealDisk, SimDisk};

    fn story(disk: &dyn Disk, root: &Path) {
        let (lock, before) = FolderLock::take(disk, root).unwrap();
        assert_eq!(before, Before::Nobody);
        lock.hold(Incarnation(1)).unwrap();
        assert!(matches!(FolderLock::take(disk, root), Err(StoreError::Disk(DiskError::Locked(_)))));
        drop(lock); // the process died
        let (lock, before) = FolderLock::take(disk, root).unwrap();
        assert_eq!(before, Before::Died(Incarnation(1)));
        lock.hold(Incarnation(2)).unwrap();
        lock.release(Incarnation(2)).unwrap();
        let (_lock, before) = FolderLock::take(disk, root).unwrap();
        assert_eq!(before, Before::Released(Incarnation(2)));
    }

    #[test]
    fn the_next_holder_learns_how_the_last_one_ended() {
        story(&SimDisk::new(), Path::new("/d"));
        let dir = tempfile::tempdir().unwrap();
        story(&RealDisk, dir.path());
    }
}
