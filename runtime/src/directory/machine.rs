//! Raft's state machine: feeds committed entries to the pure [`Directory`], keeps it for local look-ups, announces what
//! changed, and makes and installs snapshots.

use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;
use onemec_core::directory::{CommandOutcome, Directory, Refusal};
use onemec_core::lease::Term;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::changes::{Announcer, ChangeSet};
use super::codec::{self, CodecError};
use super::message::WireSnapshotMeta;
use super::storage::{DiskFailed, Storage};
use super::types::{
    LogId, Logged, OnlyIn, RaftEntry, SnapshotBytes, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};

/// How far this node has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Index of the last entry; 0 is also "none".
    pub index: u64,
    /// The leadership under which it was proposed.
    pub term: Term,
}

/// What look-ups read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) directory: Arc<RwLock<Directory>>,
    pub(crate) applied: watch::Sender<Applied>,
    pub(crate) announcer: Announcer,
}

/// A snapshot as it is stored.
#[derive(Encode, Decode)]
struct StoredSnapshot {
    meta: WireSnapshotMeta,
    checksum: u32,
    directory: Vec<u8>,
}

/// Why the stored snapshot cannot be used: the node must come back with an empty store (rule 14).
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be decoded.
    #[error("the directory's snapshot is not readable")]
    Unreadable(#[from] CodecError),
    /// Its checksum does not fit.
    #[error("the directory's snapshot is damaged")]
    Damaged,
}

type Current = Arc<Mutex<Option<(SnapshotMeta, SnapshotBytes)>>>;

/// The state machine.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    applied: Option<LogId>,
    membership: StoredMembership,
    current: Current,
}

impl Machine {
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        snapshot: Option<&Bytes>,
        changes_max: usize,
    ) -> Result<(Self, Arc<Shared>), SnapshotError> {
        let shared = Arc::new(Shared {
            directory: Arc::default(),
            applied: watch::Sender::default(),
            announcer: Announcer::new(changes_max),
        });
        let mut machine = Self {
            shared: shared.clone(),
            storage,
            applied: None,
            membership: StoredMembership::default(),
            current: Current::default(),
        };
        if let Some(bytes) = snapshot {
            let stored: StoredSnapshot = codec::decode(bytes)?;
            if crc32c::crc32c(&stored.directory) != stored.checksum {
                return Err(SnapshotError::Damaged);
            }
            let directory = codec::decode(&stored.directory)?;
            let meta = SnapshotMeta::from(stored.meta);
            machine.take(&meta, directory);
            *machine.current.lock() = Some((meta, SnapshotBytes(stored.directory.into())));
        }
        Ok((machine, shared))
    }

    fn take(&mut self, meta: &SnapshotMeta, directory: Directory) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        let former = std::mem::replace(&mut *self.shared.directory.write(), directory);
        // Freed outside the lock: it may be large.
        drop(former);
        self.publish();
        self.shared.announcer.rescan();
    }

    fn publish(&self) {
        let Some(id) = self.applied else { return };
        let term = Term { term: id.leader_id.term, leader: id.leader_id.node_id };
        self.shared.applied.send_replace(Applied { index: id.index, term });
    }
}

/// The first membership names the cluster's generation (rule 13: ids contain it).
fn skip(directory: &mut Directory, entry: &RaftEntry) {
    if directory.generation() == 0
        && directory.index() == 0
        && let EntryPayload::Membership(members) = &entry.payload
        && let Some((_, peer)) = members.nodes().next()
    {
        *directory = Directory::new(peer.generation);
    }
    directory.skip(entry.log_id.index);
}

fn is_from_another_reign(logged: &Logged, id: &LogId) -> bool {
    let reign = OnlyIn { term: id.leader_id.term, leader: id.leader_id.node_id };
    logged.only_in.is_some_and(|only| only != reign)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<CommandOutcome>>, StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut results = Vec::new();
        let mut changed = ChangeSet::default();
        {
            let mut directory = self.shared.directory.write();
            for entry in entries {
                self.applied = Some(entry.log_id);
                changed.index = entry.log_id.index;
                if let EntryPayload::Normal(logged) = &entry.payload {
                    if is_from_another_reign(logged, &entry.log_id) {
                        directory.skip(entry.log_id.index);
                        let refusal = Refusal::NotAllowed("the leadership that decided this has ended".into());
                        results.push(vec![CommandOutcome::Refused(refusal); logged.entry.commands.len()]);
                        continue;
                    }
                    let mut outcome = directory.apply(entry.log_id.index, &logged.entry);
                    changed.groups.append(&mut outcome.groups);
                    changed.nodes.append(&mut outcome.nodes);
                    results.push(outcome.outcomes);
                    continue;
                }
                skip(&mut directory, &entry);
                if let EntryPayload::Membership(members) = entry.payload {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                }
                results.push(Vec::new());
            }
        }
        self.publish();
        self.shared.announcer.announce(changed);
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: self.applied.map(|id| id.to_string()).unwrap_or_default(),
        };
        Builder {
            meta,
            directory: self.shared.directory.read().clone(),
            storage: self.storage.clone(),
            current: self.current.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotBytes>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotBytes>,
    ) -> Result<(), StorageError> {
        let failed = |e: &(dyn std::error::Error + 'static)| {
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), AnyError::error(e.to_string())))
        };
        // `serve` has checked that it can be decoded before Raft heard of it.
        let directory = codec::decode(&snapshot.0).map_err(|e| failed(&e))?;
        save(&self.storage, meta, &snapshot, &self.current).await.map_err(|e| failed(&e))?;
        self.take(meta, directory);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let current = self.current.lock().clone();
        Ok(current.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(bytes) }))
    }
}

/// Makes a snapshot from a copy of the directory.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    directory: Directory,
    storage: Arc<dyn Storage>,
    current: Current,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let failed = |text: String| {
            StorageError::from(StorageIOError::write_snapshot(Some(self.meta.signature()), AnyError::error(text)))
        };
        let directory = std::mem::take(&mut self.directory);
        let encoded = tokio::task::spawn_blocking(move || codec::encode(&directory)).await;
        let bytes = encoded.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let bytes = SnapshotBytes(bytes);
        save(&self.storage, &self.meta, &bytes, &self.current).await.map_err(|e| failed(e.to_string()))?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(bytes) })
    }
}

/// Stores a snapshot unless a newer one is there.
async fn save(
    storage: &Arc<dyn Storage>,
    meta: &SnapshotMeta,
    bytes: &SnapshotBytes,
    current: &Current,
) -> Result<(), DiskFailed> {
    let (storage, meta, bytes, current) = (storage.clone(), meta.clone(), bytes.clone(), current.clone());
    let stored = tokio::task::spawn_blocking(move || {
        // Held while it is written: building and installing must not overtake each other on the disk.
        let mut current = current.lock();
        if current.as_ref().is_some_and(|(newest, _)| newest.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        let stored = StoredSnapshot {
            meta: WireSnapshotMeta::from(&meta),
            checksum: crc32c::crc32c(&bytes.0),
            directory: bytes.0.to_vec(),
        };
        storage.save_snapshot(codec::encode(&stored).map_err(|e| DiskFailed(e.to_string()))?)?;
        *current = Some((meta, bytes));
        Ok(())
    });
    stored.await.map_err(|e| DiskFailed(e.to_string()))?
}
