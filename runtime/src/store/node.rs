//! The store of a node: opens everything, in the order that makes it consistent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use onemec_wire::{Epoch, GroupId, Incarnation, NodeId, Seq};
use parking_lot::{Condvar, Mutex, RwLock};

use super::append::{Append, AppendOptions, Drive, Entry, Fatal, FatalHook, Recovered, Step};
use super::checkpoint::{Checkpoint, GroupFile, checkpoint_name, segment_name};
use super::disk::{Disk, DiskError, DiskOp, TEMPORARY};
use super::error::{Before, Damage, DamageKind, StoreError};
use super::group::GroupStore;
use super::history::Sealed;
use super::lock::FolderLock;
use super::meta::{self, Identity, Meta};
use super::segment::{OpenSegments, Segment};
use super::wal::{Cleaned, Floors, GroupDone, RecoveredGroup, Tail, Wal, WalOptions, WalRecovery};

/// How often the store looks whether the log has grown too long.
const MAINTENANCE_INTERVAL: Duration = Duration::from_millis(250);

/// Called for damage that is found while the store works.
pub type DamageHook = Arc<dyn Fn(&Damage) + Send + Sync>;

/// How a store is run.
#[derive(Clone)]
pub struct StoreOptions {
    /// Number of the first boot of a new folder: higher than that of any boot of this node whose folder is lost.
    pub first_incarnation: Incarnation,
    /// The groups' log.
    pub wal: WalOptions,
    /// A tail from this length on wants a checkpoint.
    pub tail_bytes_max: usize,
    /// Usual length of a segment.
    pub segment_bytes: usize,
    /// Segments that are open at the same time.
    pub open_segments_max: usize,
    /// Bytes of their indexes in memory.
    pub open_index_bytes_max: usize,
    /// Called when a sync or write has failed: the process must end.
    pub on_fatal: FatalHook,
    /// Called for damage that is found while working.
    pub on_damage: DamageHook,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            first_incarnation: Incarnation(1),
            wal: WalOptions::default(),
            tail_bytes_max: 256 << 10,
            segment_bytes: 256 << 10,
            open_segments_max: 256,
            open_index_bytes_max: 4 << 20,
            on_fatal: Arc::new(|_| {}),
            on_damage: Arc::new(|_| {}),
        }
    }
}

/// What all groups share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) wal: Wal,
    pub(super) open: OpenSegments,
    pub(super) options: StoreOptions,
    generation: AtomicU64,
}

impl Shared {
    /// A number for a new file.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn damaged(&self, damage: &Damage) {
        (self.options.on_damage)(damage);
    }

    /// Reports a failed sync to the hook that ends the process.
    pub(super) fn watch<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Disk(cause @ DiskError::Failed { op: DiskOp::Sync | DiskOp::SyncDir, .. })) = &result {
            (self.options.on_fatal)(&Fatal { cause: cause.clone() });
        }
        result
    }
}

/// What was found at the start.
#[derive(Debug)]
pub struct Recovery {
    /// Who the node is now.
    pub identity: Identity,
    /// How the process before this one ended.
    pub before: Before,
    /// Groups found.
    pub groups: Vec<GroupId>,
    /// Damage. Groups it concerns are recorded as not complete.
    pub damage: Vec<Damage>,
    /// Frames of the log that were read.
    pub log_frames: u64,
}

/// A node's store.
pub struct Store {
    shared: Arc<Shared>,
    root: PathBuf,
    meta: Meta,
    identity: Identity,
    groups: RwLock<BTreeMap<GroupId, Arc<GroupStore>>>,
    lock: Mutex<Option<FolderLock>>,
    maintenance: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the data folder `root` of `node`, a new one if there is none. Everything that is handed out afterwards is
    /// durable. Blocks.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        node: NodeId,
        cluster_generation: u32,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), StoreError> {
        let (lock, before) = FolderLock::take(&*disk, root)?;
        let identity = meta::boot(&*disk, root, node, cluster_generation, options.first_incarnation)?;
        lock.hold(identity.incarnation)?;
        let meta = Meta::open(Arc::clone(&disk), root.join("meta"))?;
        let dir = root.join("groups");
        disk.create_dir(&dir)?;
        let found = Files::read(&*disk, &dir)?;
        let floors: Floors = found.checkpoints.iter().map(|(id, c)| (*id, c.floor)).collect();
        let mut wal_options = options.wal.clone();
        let (hook, node_hook) = (Arc::clone(&wal_options.append.on_fatal), Arc::clone(&options.on_fatal));
        wal_options.append.on_fatal = Arc::new(move |fatal| {
            hook(fatal);
            node_hook(fatal);
        });
        let drive = wal_options.append.drive;
        let (wal, log) = Wal::open(Arc::clone(&disk), &root.join("wal"), wal_options, &floors)?;
        let open = OpenSegments::new(options.open_segments_max, options.open_index_bytes_max);
        let generation = AtomicU64::new(found.generation_max + 1);
        let shared = Arc::new(Shared { disk, dir, wal, open, options, generation });
        let store = Self {
            shared,
            root: root.to_owned(),
            meta,
            identity,
            groups: RwLock::default(),
            lock: Mutex::new(Some(lock)),
            maintenance: Arc::default(),
            thread: Mutex::new(None),
        };
        let log_frames = log.frames;
        let damage = store.assemble(found, log)?;
        if drive == Drive::Thread {
            store.start_maintenance(root)?;
        }
        let groups = store.groups();
        Ok((store, Recovery { identity, before, groups, damage, log_frames }))
    }

    fn assemble(&self, found: Files, log: WalRecovery) -> Result<Vec<Damage>, StoreError> {
        let Files { mut checkpoints, mut damage, .. } = found;
        let WalRecovery { groups: mut tails, damage: wal_damage, .. } = log;
        if let Some(wal_damage) = wal_damage {
            damage.extend(wal_damage.lost.into_iter().map(|l| Damage { group: None, what: DamageKind::Log(l) }));
            let tail = |(id, loss)| Damage { group: Some(id), what: DamageKind::Tail(loss) };
            damage.extend(wal_damage.groups.into_iter().map(tail));
        }
        let ids: BTreeSet<GroupId> = checkpoints.keys().chain(tails.keys()).copied().collect();
        for id in ids {
            let checkpoint = checkpoints.remove(&id);
            let (base, epoch) = checkpoint.as_ref().map_or((Seq(0), Epoch(0)), |c| (c.seq, c.epoch));
            let recovered: RecoveredGroup = tails.remove(&id).unwrap_or_default();
            let (tail, hole) = recovered.into_tail(base, epoch);
            if let Some(hole) = hole {
                let what = DamageKind::TailHole { last: hole.last, found: hole.found };
                damage.push(Damage { group: Some(id), what });
            }
            self.groups.write().insert(id, self.make(id, tail, checkpoint));
        }
        // Damage may be forgotten by the log when its file is given back: what it means for a group is recorded.
        let hurt: BTreeSet<GroupId> = damage.iter().filter_map(|d| d.group).collect();
        for id in hurt {
            if let Some(group) = self.group(id).filter(|g| g.positions().complete) {
                group.set_complete(false, Box::new(|_| {}))?;
            }
        }
        Ok(damage)
    }

    fn make(&self, id: GroupId, tail: Tail, checkpoint: Option<Checkpoint>) -> Arc<GroupStore> {
        let shared = &self.shared;
        let log = shared.wal.add(id, tail);
        let segments = checkpoint.iter().flat_map(|c| &c.segments).map(|(generation, info)| {
            let path = shared.dir.join(segment_name(id, *generation));
            Arc::new(Segment::new(Arc::clone(&shared.disk), path, *generation, id, *info))
        });
        let segments = segments.collect();
        let kept = checkpoint.as_ref().map(|c| c.kept.clone()).unwrap_or_default();
        GroupStore::new(Arc::clone(shared), log, Sealed { checkpoint, segments, kept })
    }

    fn start_maintenance(&self, root: &Path) -> Result<(), StoreError> {
        let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&self.maintenance));
        let work = move || {
            let (stopped, wake) = &*stop;
            let mut stopped = stopped.lock();
            while !*stopped {
                wake.wait_for(&mut stopped, MAINTENANCE_INTERVAL);
                if !*stopped && shared.wal.wants_cleaning() {
                    // A full disk or a failed log: tried again later, or the process is about to end.
                    let _ = parking_lot::MutexGuard::unlocked(&mut stopped, || shared.wal.clean());
                }
            }
        };
        let spawned = std::thread::Builder::new().name("onemec-clean".into()).spawn(work);
        *self.thread.lock() = Some(spawned.map_err(|e| DiskError::from_io(DiskOp::Open, root, e))?);
        Ok(())
    }

    /// Who the node is in this boot.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Small named values.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// All groups that are here.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.read().keys().copied().collect()
    }

    /// A group that is here.
    pub fn group(&self, id: GroupId) -> Option<Arc<GroupStore>> {
        self.groups.read().get(&id).cloned()
    }

    /// A group that is here, or a new empty one. Nothing is written before its first record or state.
    pub fn group_or_new(&self, id: GroupId) -> Arc<GroupStore> {
        // Looked up and made under one lock: two stores of one group would each know half of it.
        let mut groups = self.groups.write();
        let group = groups.entry(id).or_insert_with(|| self.make(id, Tail::after(Seq(0), Epoch(0)), None));
        Arc::clone(group)
    }

    /// Deletes a group here; `done` when that is durable. No error if it is not here. Writes files.
    pub fn delete(&self, id: GroupId, done: GroupDone) -> Result<(), StoreError> {
        match self.group(id) {
            None => {
                done(Ok(()));
                Ok(())
            }
            Some(group) => {
                group.delete(done)?;
                self.groups.write().remove(&id);
                Ok(())
            }
        }
    }

    /// Opens another log below the data folder, for example the directory's. Its failure ends the process like any other.
    pub fn open_log(
        &self,
        name: &str,
        mut options: AppendOptions,
        sink: &mut dyn FnMut(Entry),
    ) -> Result<(Append, Recovered), StoreError> {
        let (hook, node_hook) = (Arc::clone(&options.on_fatal), Arc::clone(&self.shared.options.on_fatal));
        options.on_fatal = Arc::new(move |fatal| {
            hook(fatal);
            node_hook(fatal);
        });
        Ok(Append::open(Arc::clone(&self.shared.disk), &self.root.join(name), options, sink)?)
    }

    /// Commits by hand ([`Drive::Manual`]).
    pub fn pump(&self) -> Step {
        self.shared.wal.pump()
    }

    /// Shortens the log if it is longer than it should be. Done by a thread of the store except with [`Drive::Manual`].
    pub fn maintain(&self) -> Result<Cleaned, super::wal::CleanError> {
        if self.shared.wal.wants_cleaning() { self.shared.wal.clean() } else { Ok(Cleaned::default()) }
    }

    /// The log's use of the disk.
    pub fn usage(&self) -> super::append::Usage {
        self.shared.wal.usage()
    }

    /// How long syncs of the log took.
    pub fn syncs(&self) -> crate::meter::Counted {
        self.shared.wal.syncs()
    }

    /// Commits what is queued and gives the folder back: the node serves nothing any more.
    pub fn close(&self) -> Result<(), StoreError> {
        self.stop();
        self.shared.wal.close();
        match self.lock.lock().take() {
            Some(lock) => lock.release(self.identity.incarnation),
            None => Ok(()),
        }
    }

    fn stop(&self) {
        *self.maintenance.0.lock() = true;
        self.maintenance.1.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join(); // its panic has been printed already
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of groups as it was found.
struct Files {
    checkpoints: BTreeMap<GroupId, Checkpoint>,
    damage: Vec<Damage>,
    generation_max: u64,
}

impl Files {
    fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, StoreError> {
        // A renaming may have been seen only in memory: from here on what is seen is durable.
        disk.sync_dir(dir)?;
        let mut newest: BTreeMap<GroupId, u64> = BTreeMap::new();
        let (mut segments, mut old) = (BTreeSet::new(), Vec::new());
        let mut generation_max = 0;
        for name in disk.list(dir)? {
            match GroupFile::of(&name) {
                Some(GroupFile::Checkpoint(group, generation)) => {
                    generation_max = generation_max.max(generation);
                    // The list is sorted: a later one of the same group is newer.
                    if let Some(older) = newest.insert(group, generation) {
                        old.push(dir.join(checkpoint_name(group, older)));
                    }
                }
                Some(GroupFile::Segment(group, generation)) => {
                    generation_max = generation_max.max(generation);
                    segments.insert((group, generation));
                }
                None if name.ends_with(TEMPORARY) => old.push(dir.join(name)),
                None => {}
            }
        }
        let mut found = Self { checkpoints: BTreeMap::new(), damage: Vec::new(), generation_max };
        for (group, generation) in newest {
            match Checkpoint::read(disk, dir, group, generation) {
                Ok(checkpoint) => found.take(dir, checkpoint, &mut segments),
                Err(StoreError::Damaged { file, .. }) => {
                    found.damage.push(Damage { group: Some(group), what: DamageKind::Checkpoint { file } });
                    segments.retain(|(g, _)| *g != group);
                }
                Err(error) => return Err(error),
            }
        }
        old.extend(segments.into_iter().map(|(group, generation)| dir.join(segment_name(group, generation))));
        for path in old {
            disk.remove(&path)?;
        }
        Ok(found)
    }

    /// Takes a checkpoint, and its segments out of those that are left over.
    fn take(&mut self, dir: &Path, checkpoint: Checkpoint, segments: &mut BTreeSet<(GroupId, u64)>) {
        let group = checkpoint.group;
        for (generation, info) in &checkpoint.segments {
            if !segments.remove(&(group, *generation)) {
                let file = dir.join(segment_name(group, *generation));
                let what = DamageKind::Segment { file, first: info.first, last: info.last, offset: 0 };
                self.damage.push(Damage { group: Some(group), what });
            }
        }
        self.checkpoints.insert(group, checkpoint);
    }
}
