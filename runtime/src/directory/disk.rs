//! The directory's storage in a folder: an append log of its own, apart from the groups', and a snapshot file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::storage::{DiskFailed, Opened, Storage, Synced};
use crate::store::append::{Append, AppendOptions, Drive, Frame, Lost};
use crate::store::disk::{Disk, DiskError, read_all, write_atomically};

/// Length of a file of the log: the longest record ([`super::propose::ENTRY_BYTES_MAX`] times the entries of one message)
/// fits.
const FILE_BYTES: u64 = 16 << 20;
/// Longest snapshot that is read.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
const SNAPSHOT_NAME: &str = "snapshot";
const LOG_DIR: &str = "log";
const KIND_RECORD: u8 = 1;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskOpenError {
    /// The disk does not do it. Nothing was changed; try again when its reason is gone.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Records that were synced are gone. The store is left as it is; what this voter promised is not known any more, so
    /// that it must come back with an empty folder, as a learner with a new Raft id (rule 14).
    #[error("synced records of the directory's log are lost: {0:?}")]
    Lost(Vec<Lost>),
}

/// Storage in a folder.
pub struct DiskStorage {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: Append,
}

impl DiskStorage {
    /// Opens the folder (made if absent). Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, drive: Drive) -> Result<(Arc<Self>, Opened), DiskOpenError> {
        disk.create_dir(dir)?;
        let options = AppendOptions {
            name: "onemec-raft",
            file_bytes: FILE_BYTES,
            spare_files_max: 1,
            drive,
            ..AppendOptions::default()
        };
        let mut records = Vec::new();
        let (log, recovered) = Append::open(disk.clone(), &dir.join(LOG_DIR), options, &mut |entry| {
            // The payload is a slice of a large buffer: copied out.
            records.push((entry.lsn, Bytes::copy_from_slice(&entry.payload)));
        })?;
        if !recovered.lost.is_empty() {
            return Err(DiskOpenError::Lost(recovered.lost));
        }
        let snapshot = match read_all(&*disk, &dir.join(SNAPSHOT_NAME), SNAPSHOT_BYTES_MAX) {
            Ok(bytes) => Some(bytes),
            Err(DiskError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let storage = Arc::new(Self { disk, dir: dir.to_owned(), log });
        Ok((storage.clone(), Opened { storage, records, snapshot }))
    }

    /// Commits what is queued ([`Drive::Manual`]).
    pub fn pump(&self) {
        self.log.pump();
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> DiskFailed {
    let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    DiskFailed(format!("{error}{cause}"))
}

impl Storage for DiskStorage {
    fn append(&self, record: Bytes, synced: Synced) -> Result<u64, DiskFailed> {
        let frame = Frame { kind: KIND_RECORD, parts: vec![record] };
        // Not refused by a full queue or disk: Raft waits for each record, which bounds them; with a full disk it waits
        // until there is room, instead of stopping for good.
        let done = Box::new(move |result: Result<_, _>| synced(result.map(|_| ()).map_err(|e| failed(&e))));
        self.log.submit_reserved(vec![frame], done).map_err(|e| failed(&e))
    }

    fn release(&self, number: u64) {
        if let Err(error) = self.log.release(number) {
            tracing::warn!(%error, "files of the directory's log are kept longer than needed");
        }
    }

    fn save_snapshot(&self, snapshot: Bytes) -> Result<(), DiskFailed> {
        write_atomically(&*self.disk, &self.dir, SNAPSHOT_NAME, &[&snapshot], true).map_err(|e| failed(&e))
    }
}

impl From<DiskOpenError> for io::Error {
    fn from(error: DiskOpenError) -> Self {
        Self::other(error)
    }
}
