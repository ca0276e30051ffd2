//! The real file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskError, DiskFile, DiskOp, Open};

/// Most parts that one system call takes (IOV_MAX).
const PARTS_PER_CALL_MAX: usize = 1024;

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealDisk {
    /// As the trait wants it.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        let file = options.open(path).map_err(|e| DiskError::from_io(DiskOp::Open, path, e))?;
        Ok(Arc::new(RealFile { file, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        std::fs::rename(from, to).map_err(|e| DiskError::from_io(DiskOp::Rename, from, e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| DiskError::from_io(DiskOp::SyncDir, dir, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let failed = |e| DiskError::from_io(DiskOp::List, dir, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DiskError::from_io(DiskOp::Remove, path, e)),
            _ => Ok(()),
        }
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        if dir.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(dir).map_err(|e| DiskError::from_io(DiskOp::CreateDir, dir, e))?;
        for above in dir.ancestors().skip(1).take(3) {
            if !above.as_os_str().is_empty() {
                self.sync_dir(above)?;
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(|e| DiskError::from_io(DiskOp::Lock, path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Arc::new(RealFile { file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Err(DiskError::Locked(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(DiskError::from_io(DiskOp::Lock, path, e)),
        }
    }
}

impl RealFile {
    fn failed(&self, op: DiskOp) -> impl Fn(io::Error) -> DiskError + '_ {
        move |e| DiskError::from_io(op, &self.path, e)
    }

    fn write_some(&self, offset: u64, parts: &[&[u8]]) -> io::Result<usize> {
        if let [one] = parts {
            return self.file.write_at(one, offset);
        }
        let slices: Vec<IoSlice<'_>> = parts.iter().take(PARTS_PER_CALL_MAX).map(|p| IoSlice::new(p)).collect();
        rustix::io::pwritev(&self.file, &slices, offset).map_err(io::Error::from)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let mut rest: Vec<&[u8]> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
        let mut from = 0;
        while let Some(left) = rest.get_mut(from..).filter(|l| !l.is_empty()) {
            let mut written = match self.write_some(offset, left) {
                Ok(0) => return Err(self.failed(DiskOp::Write)(io::ErrorKind::WriteZero.into())),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(DiskOp::Write)(e)),
            };
            offset += written as u64;
            for part in left {
                if written < part.len() {
                    *part = &part[written..];
                    break;
                }
                written -= part.len();
                from += 1;
            }
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(DiskOp::Read)(e)),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.failed(DiskOp::Sync))
    }

    fn bytes(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(self.failed(DiskOp::Read))?.len())
    }

    fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file, flags, 0, bytes) {
            Ok(()) => Ok(()),
            // A file system without preallocation: the length alone has to do.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(bytes).map_err(self.failed(DiskOp::Allocate)),
            Err(e) => Err(self.failed(DiskOp::Allocate)(e.into())),
        }
    }

    fn truncate(&self, bytes: u64) -> Result<(), DiskError> {
        self.file.set_len(bytes).map_err(self.failed(DiskOp::Allocate))
    }
}
