//! The file system as the store sees it: one small trait, a real implementation and one that simulates crashes.
//!
//! Contract, as weak as real disks are: what was written is durable only after [`DiskFile::sync`] of that file; that a
//! name exists, was renamed or removed is durable only after [`Disk::sync_dir`] of its folder. Until then a crash may keep
//! any part of it. A failed sync says nothing about later ones: whoever gets that error must not sync again and believe it.

mod real;
mod sim;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use real::RealDisk;
pub use sim::SimDisk;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Must exist; read only.
    Read,
    /// Must exist; read and write.
    Write,
    /// New and empty, or emptied; read and write.
    Create,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Gives a file another name, replacing what has it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;
    /// The names of the files in a folder, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;
    /// Removes a file. Durable after [`Disk::sync_dir`]. A file that is not there is no error.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;
    /// Creates a folder and those above it; it may exist. Durable when this returns.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;
    /// Takes the exclusive lock on a file (created if absent) until the returned file is dropped.
    /// Fails with [`DiskError::Locked`] at once when somebody else has it.
    fn lock(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError>;
}

/// An open file. Positions are explicit, so that it can be shared.
pub trait DiskFile: Send + Sync {
    /// Writes all parts one after the other from `offset` on.
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), DiskError>;
    /// Reads until `buffer` is full or the file ends; says how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;
    /// Makes everything written so far durable (fdatasync).
    fn sync(&self) -> Result<(), DiskError>;
    /// Length in bytes.
    fn bytes(&self) -> Result<u64, DiskError>;
    /// Makes the file `bytes` long, with its blocks reserved and what was not written reading as zero.
    fn allocate(&self, bytes: u64) -> Result<(), DiskError>;
    /// Cuts the file.
    fn truncate(&self, bytes: u64) -> Result<(), DiskError>;
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DiskOp {
    Open,
    Write,
    Read,
    Sync,
    Allocate,
    Rename,
    Remove,
    List,
    SyncDir,
    CreateDir,
    Lock,
}

/// Why the disk did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiskError {
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// The disk is full: nothing that was durable has changed; try again when there is space. Never reported by a sync.
    #[error("no space left: {op:?} of {}", .path.display())]
    NoSpace {
        /// What was tried.
        op: DiskOp,
        /// On which file.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{} is locked by another process", .0.display())]
    Locked(PathBuf),
    /// The operation failed. For a write or a sync: the state of the file is not known, do not go on with it.
    #[error("{op:?} of {} failed", .path.display())]
    Failed {
        /// What was tried.
        op: DiskOp,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl DiskError {
    /// From what the system said.
    pub fn from_io(op: DiskOp, path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if op != DiskOp::Sync => {
                Self::NoSpace { op, path: path.to_owned() }
            }
            _ => Self::Failed { op, path: path.to_owned(), source: Arc::new(error) },
        }
    }

    /// The disk was full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

/// Ending of files that are being written; whatever has it after a start is removed.
pub const TEMPORARY: &str = ".tmp";

/// Writes a whole file so that after a crash it is there entirely or not at all: temporary, synced, renamed, and the
/// folder synced if `sync_dir`. On an error the old file, if any, is unchanged.
pub fn write_atomically(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    parts: &[&[u8]],
    sync_dir: bool,
) -> Result<(), DiskError> {
    let temporary = dir.join(format!("{name}{TEMPORARY}"));
    let written = (|| {
        let file = disk.open(&temporary, Open::Create)?;
        file.write_at(0, parts)?;
        file.sync()
    })();
    if let Err(error) = written {
        // The error that counts is the first; what is left over is removed at the next start too.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.rename(&temporary, &dir.join(name))?;
    if sync_dir { disk.sync_dir(dir) } else { Ok(()) }
}

/// Reads a whole file that must not be longer than `bytes_max`.
pub fn read_all(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Bytes, DiskError> {
    let file = disk.open(path, Open::Read)?;
    let bytes = file.bytes()?;
    if bytes > bytes_max {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("{bytes} bytes, at most {bytes_max}"));
        return Err(DiskError::from_io(DiskOp::Read, path, error));
    }
    read_range(&*file, 0, bytes as usize)
}

/// Reads `len` bytes from `offset` on; fewer if the file ends.
pub fn read_range(file: &dyn DiskFile, offset: u64, len: usize) -> Result<Bytes, DiskError> {
    let mut buffer = vec![0; len];
    let read = file.read_at(offset, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer.into())
}
