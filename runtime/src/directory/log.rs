//! Raft's log and vote in the append file of the directory.
//!
//! A record is one of [`Record`]'s variants; the log is what remains when they are replayed in order. All entries that
//! are not purged are also kept in memory: snapshots bound their number.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bincode::{Decode, Encode};
use onemec_core::lease::{Term, VoteCell};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::codec::{self, CodecError};
use super::message::{WireEntry, WireLogId, WireVote};
use super::storage::{DiskFailed, Opened, Storage};
use super::types::{LogId, RaftEntry, RaftId, StorageError, TypeConfig, Vote};

/// The newest vote of this store, shared with the thread that answers lease rounds.
pub type SharedVoteCell = Arc<Mutex<VoteCell>>;

/// One record of the file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Record {
    /// First of all: who this store is.
    Identity(u64),
    /// The newest vote.
    Vote(WireVote),
    /// Entries, appended behind what is there.
    Entries(Vec<WireEntry>),
    /// Entries from this index on are gone.
    Truncated(u64),
    /// Entries up to this one are in a snapshot.
    Purged(WireLogId),
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A record is damaged or from a newer version. The store is left as it is; the node must come back with an empty one,
    /// as a learner with a new Raft id (rule 14).
    #[error("record {number} of the directory's log is not readable")]
    Record {
        /// Which.
        number: u64,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// There are records, but none that says which store this is. As above.
    #[error("the directory's log does not say which store it is")]
    NoIdentity,
    /// Entries are missing. As above.
    #[error("the directory's log has no entry {0}")]
    Hole(u64),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskFailed),
}

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, (RaftEntry, u64)>,
    purged: Option<LogId>,
    /// The vote and the record that holds it.
    vote: Option<(Vote, u64)>,
    identity_at: u64,
}

/// Raft's log.
#[derive(Clone)]
pub(crate) struct LogStore {
    id: RaftId,
    storage: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
    votes: SharedVoteCell,
    own: Arc<AtomicU64>,
}

impl LogStore {
    /// Replays what was found. An empty store becomes the store `fresh`.
    pub(crate) async fn open(opened: &Opened, fresh: RaftId) -> Result<Self, LogError> {
        let mut state = State::default();
        let mut id = None;
        for (number, bytes) in &opened.records {
            let record = codec::decode(bytes).map_err(|source| LogError::Record { number: *number, source })?;
            replay(&mut state, &mut id, *number, record)?;
        }
        if id.is_none() && !opened.records.is_empty() {
            return Err(LogError::NoIdentity);
        }
        let cell = VoteCell::new(state.vote.map(|(v, _)| term_of(&v)).unwrap_or_default());
        let mut log = Self {
            id: RaftId(id.unwrap_or(fresh.0)),
            storage: opened.storage.clone(),
            state: Arc::new(Mutex::new(state)),
            votes: Arc::new(Mutex::new(cell)),
            own: Arc::default(),
        };
        if id.is_none() {
            let number = log.write(&Record::Identity(fresh.0)).await?;
            log.state.lock().identity_at = number;
        }
        Ok(log)
    }

    /// Raft's id of this store.
    pub(crate) fn id(&self) -> RaftId {
        self.id
    }
    /// Where the log ends.
    pub(crate) fn end(&self) -> Option<LogId> {
        let state = self.state.lock();
        state.entries.last_key_value().map(|(_, (entry, _))| entry.log_id).or(state.purged)
    }
    /// The vote cell.
    pub(crate) fn votes(&self) -> SharedVoteCell {
        self.votes.clone()
    }
    /// Something of a cluster is known here: Raft must not be initialised again.
    pub(crate) fn is_used(&self) -> bool {
        let state = self.state.lock();
        state.purged.is_some() || !state.entries.is_empty()
    }
    /// Counts the entries with commands that this store, as leader, ever put into its log: when it has not moved, a
    /// proposal was certainly not logged.
    pub(crate) fn own_entries(&self) -> u64 {
        self.own.load(Ordering::Acquire)
    }

    async fn write(&mut self, record: &Record) -> Result<u64, DiskFailed> {
        let (sender, receiver) = oneshot::channel();
        let synced = Box::new(move |result| drop(sender.send(result)));
        let number = self.storage.append(encode(record)?, synced)?;
        receiver.await.map_err(|_| DiskFailed("the thread that syncs has ended".into()))??;
        Ok(number)
    }

    fn save_entries(&self, entries: Vec<RaftEntry>, callback: LogFlushed<TypeConfig>) -> Result<(), DiskFailed> {
        let record = Record::Entries(entries.iter().map(WireEntry::from).collect());
        let synced = Box::new(move |result: Result<(), DiskFailed>| {
            callback.log_io_completed(result.map_err(io::Error::other));
        });
        let mut state = self.state.lock();
        let number = self.storage.append(encode(&record)?, synced)?;
        for entry in entries {
            if matches!(entry.payload, EntryPayload::Normal(_)) && entry.log_id.leader_id.node_id == self.id.0 {
                self.own.fetch_add(1, Ordering::AcqRel);
            }
            state.entries.insert(entry.log_id.index, (entry, number));
        }
        Ok(())
    }
}

fn encode(record: &Record) -> Result<bytes::Bytes, DiskFailed> {
    codec::encode(record).map_err(|e| DiskFailed(e.to_string()))
}

/// A vote as the lease machines see it.
pub(crate) fn term_of(vote: &Vote) -> Term {
    Term { term: vote.leader_id.term, leader: vote.leader_id.node_id }
}

fn replay(state: &mut State, id: &mut Option<u64>, number: u64, record: Record) -> Result<(), LogError> {
    match record {
        Record::Identity(raft) => {
            *id = Some(raft);
            state.identity_at = number;
        }
        Record::Vote(vote) => state.vote = Some((vote.into(), number)),
        Record::Truncated(since) => drop(state.entries.split_off(&since)),
        Record::Purged(upto) => {
            state.entries = state.entries.split_off(&(upto.index + 1));
            state.purged = Some(upto.into());
        }
        Record::Entries(entries) => {
            for entry in entries {
                let entry = RaftEntry::from(entry);
                let index = entry.log_id.index;
                let next = match (state.entries.last_key_value(), state.purged) {
                    (Some((last, _)), _) => Some(last + 1),
                    (None, Some(purged)) => Some(purged.index + 1),
                    // Records that were released may be found again, or not: the first entry may have any index then,
                    // and a `Purged` record follows.
                    (None, None) => None,
                };
                match next {
                    Some(next) if index > next => return Err(LogError::Hole(next)),
                    _ => drop(state.entries.insert(index, (entry, number))),
                }
            }
        }
    }
    Ok(())
}

fn write_failed(error: DiskFailed) -> StorageError {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        let state = self.state.lock();
        Ok(state.entries.range(range).map(|(_, (entry, _))| entry.clone()).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let purged = self.state.lock().purged;
        Ok(LogState { last_purged_log_id: purged, last_log_id: self.end() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        // Rule 1: the cell moves before the vote can leave this node, so that no round is confirmed against it later.
        self.votes.lock().voted(term_of(vote));
        let number = self.write(&Record::Vote((*vote).into())).await;
        let number = number.map_err(|e| StorageError::from(StorageIOError::write_vote(AnyError::new(&e))))?;
        self.state.lock().vote = Some((*vote, number));
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state.lock().vote.map(|(vote, _)| vote))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.save_entries(entries.into_iter().collect(), callback).map_err(write_failed)
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        self.write(&Record::Truncated(since.index)).await.map_err(write_failed)?;
        self.state.lock().entries.split_off(&since.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let number = self.write(&Record::Purged(upto.into())).await.map_err(write_failed)?;
        let oldest = {
            let mut state = self.state.lock();
            state.entries = state.entries.split_off(&(upto.index + 1));
            state.purged = Some(upto);
            state.entries.first_key_value().map_or(number, |(_, (_, at))| (*at).min(number))
        };
        self.keep_small_records(oldest).await.map_err(write_failed)?;
        // Blocks for some syncs, which nobody needs to wait for.
        let storage = self.storage.clone();
        drop(tokio::task::spawn_blocking(move || storage.release(oldest)));
        Ok(())
    }
}

impl LogStore {
    /// Writes identity and vote again when their records are about to be released.
    async fn keep_small_records(&mut self, oldest: u64) -> Result<(), DiskFailed> {
        let (identity_at, vote) = {
            let state = self.state.lock();
            (state.identity_at, state.vote)
        };
        if identity_at < oldest {
            let number = self.write(&Record::Identity(self.id.0)).await?;
            self.state.lock().identity_at = number;
        }
        if let Some((vote, at)) = vote
            && at < oldest
        {
            let number = self.write(&Record::Vote(vote.into())).await?;
            self.state.lock().vote = Some((vote, number));
        }
        Ok(())
    }
}
