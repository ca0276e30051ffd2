//! A deterministic file system in memory that loses what was not synced, tears writes, and fails on demand.
//!
//! Model: each file has the content that its writers see and the content that is on the platter. A write goes to the
//! first and is remembered; a sync brings what is remembered to the second. At [`SimDisk::crash`] each remembered write is
//! split at 512-byte boundaries and each piece reaches the platter or not, sometimes only in part, as the seed says. Names
//! (creation, renaming, removal) are remembered per folder in the same way; any subset survives. A sync that fails forgets
//! what was remembered, as Linux does: a later sync succeeds without it. Handles from before a crash fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Disk, DiskError, DiskFile, DiskOp, Open};

const SECTOR_BYTES: u64 = 512;

/// A small generator for crash decisions (splitmix64): the same seed, the same crash.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// Bytes that are zero where nothing was written.
#[derive(Debug, Clone, Default)]
struct Content {
    data: Vec<u8>,
    len: u64,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if self.data.len() < to {
            self.data.resize(to, 0);
        }
        self.data[from..to].copy_from_slice(bytes);
        self.len = self.len.max(to as u64);
    }
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.data.truncate(len as usize);
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        buffer[..n].fill(0);
        if let Some(there) = self.data.get(offset as usize..) {
            let m = there.len().min(n);
            buffer[..m].copy_from_slice(&there[..m]);
        }
        n
    }
}

#[derive(Debug, Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Inode {
    seen: Content,
    platter: Content,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    locks: BTreeMap<PathBuf, u64>,
    inode_next: u64,
    /// Grows with each crash or restart: older handles are dead.
    life: u64,
    /// Mutating operations so far (writes, syncs, names).
    ops: u64,
    syncs: u64,
    stop_at_op: Option<u64>,
    fail_sync_at: Option<u64>,
    capacity: Option<u64>,
    sync_delay: Duration,
}

/// The simulated file system. Clones share the disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
    path: PathBuf,
    locked: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// As the trait wants it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Power cut: of what was not synced, the seed decides what is left. Everything that is open is dead.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state.lock();
        let mut dice = Dice(seed);
        // A whole crash leans one way: nothing survived, everything, or a mixture.
        let survives = [0, 20, 50, 80, 100][dice.below(5) as usize];
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            if dice.percent(survives) {
                apply(&mut state.durable_names, change);
            }
        }
        for inode in state.inodes.values_mut() {
            for pending in std::mem::take(&mut inode.pending) {
                match pending {
                    Pending::Length(len) if dice.percent(survives) => inode.platter.set_len(len),
                    Pending::Length(_) => {}
                    Pending::Write(offset, bytes) => tear(&mut dice, survives, &mut inode.platter, offset, &bytes),
                }
            }
            inode.seen = inode.platter.clone();
        }
        state.names = state.durable_names.clone();
        let alive: std::collections::BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| alive.contains(id));
        revive(&mut state);
    }

    /// The process died, the machine did not: everything written is still seen, synced or not. Everything open is dead.
    pub fn restart(&self) {
        revive(&mut self.state.lock());
    }

    /// From the `n`-th further mutating operation on (0: at once) everything fails, as if the process were gone; that
    /// operation itself may have begun.
    pub fn stop_after(&self, n: u64) {
        let mut state = self.state.lock();
        state.stop_at_op = Some(state.ops + n);
    }

    /// The `n`-th further sync of a file (0: the next) fails, and what it should have saved stays unsaved.
    pub fn fail_sync_after(&self, n: u64) {
        let mut state = self.state.lock();
        state.fail_sync_at = Some(state.syncs + n);
    }

    /// Mutating operations so far.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Bytes that fit on the disk, or no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().inodes.values().map(|i| i.seen.len).sum()
    }

    /// Makes each sync take this long (real time: for tests with threads).
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state.lock().sync_delay = delay;
    }

    /// Flips one bit of a file, on the platter and as seen. False if the file is not that long.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut state = self.state.lock();
        let Some(id) = state.names.get(path).copied() else { return false };
        let Some(inode) = state.inodes.get_mut(&id) else { return false };
        for content in [&mut inode.seen, &mut inode.platter] {
            match content.data.get_mut(offset as usize) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => return false,
            }
        }
        true
    }

    /// All files with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        state.names.iter().map(|(p, id)| (p.clone(), state.inodes.get(id).map_or(0, |i| i.seen.len))).collect()
    }
}

fn revive(state: &mut State) {
    state.life += 1;
    state.locks.clear();
    state.stop_at_op = None;
    state.fail_sync_at = None;
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: NameChange) {
    match change {
        NameChange::Create(path, inode) => {
            names.insert(path, inode);
        }
        NameChange::Rename(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
        NameChange::Remove(path) => {
            names.remove(&path);
        }
    }
}

fn tear(dice: &mut Dice, survives: u64, platter: &mut Content, offset: u64, bytes: &[u8]) {
    let end = offset + bytes.len() as u64;
    let mut at = offset;
    while at < end {
        let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        let piece = &bytes[(at - offset) as usize..(next - offset) as usize];
        if dice.percent(survives) {
            let kept = if dice.percent(5) { dice.below(piece.len() as u64) as usize } else { piece.len() };
            platter.write(at, &piece[..kept]);
        }
        at = next;
    }
}

fn stopped(op: DiskOp, path: &Path) -> DiskError {
    DiskError::Failed { op, path: path.to_owned(), source: Arc::new(io::Error::other("the simulated process is gone")) }
}

impl State {
    /// Counts a mutating operation; fails when the process is gone.
    fn step(&mut self, op: DiskOp, path: &Path) -> Result<(), DiskError> {
        if self.stop_at_op.is_some_and(|at| self.ops >= at) {
            return Err(stopped(op, path));
        }
        self.ops += 1;
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, change.clone());
        self.changes.push(change);
    }

    fn room(&self, more: u64, op: DiskOp, path: &Path) -> Result<(), DiskError> {
        let used: u64 = self.inodes.values().map(|i| i.seen.len).sum();
        match self.capacity {
            Some(capacity) if more > 0 && used + more > capacity => {
                Err(DiskError::NoSpace { op, path: path.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn forget_unnamed(&mut self, id: u64) {
        let named = self.names.values().chain(self.durable_names.values()).any(|i| *i == id);
        let coming = self
            .changes
            .iter()
            .any(|c| matches!(c, NameChange::Create(_, i) | NameChange::Rename(_, _, i) if *i == id));
        if !named && !coming {
            self.inodes.remove(&id);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.state.lock();
        if state.stop_at_op.is_some_and(|at| state.ops >= at) {
            return Err(stopped(DiskOp::Open, path));
        }
        let there = state.names.get(path).copied();
        let inode = match (there, how) {
            (None, Open::Read | Open::Write) => return Err(DiskError::NotFound(path.to_owned())),
            (Some(id), Open::Read | Open::Write) => id,
            (Some(id), Open::Create) => {
                state.step(DiskOp::Open, path)?;
                if let Some(inode) = state.inodes.get_mut(&id) {
                    inode.seen.set_len(0);
                    inode.pending.push(Pending::Length(0));
                }
                id
            }
            (None, Open::Create) => {
                state.step(DiskOp::Open, path)?;
                state.room(1, DiskOp::Open, path)?;
                let id = state.inode_next;
                state.inode_next += 1;
                state.inodes.insert(id, Inode::default());
                state.change(NameChange::Create(path.to_owned(), id));
                id
            }
        };
        let life = state.life;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life, path: path.to_owned(), locked: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step(DiskOp::Rename, from)?;
        let id = state.names.get(from).copied().ok_or_else(|| DiskError::NotFound(from.to_owned()))?;
        state.change(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step(DiskOp::SyncDir, dir)?;
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            let path = match &change {
                NameChange::Create(p, _) | NameChange::Rename(_, p, _) | NameChange::Remove(p) => p,
            };
            if path.parent() == Some(dir) {
                apply(&mut state.durable_names, change);
            } else {
                state.changes.push(change);
            }
        }
        let alive: std::collections::BTreeSet<u64> =
            state.names.values().chain(state.durable_names.values()).copied().collect();
        let gone: Vec<u64> = state.inodes.keys().copied().filter(|id| !alive.contains(id)).collect();
        for id in gone {
            state.forget_unnamed(id);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        let names = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(names.filter_map(|p| p.file_name().and_then(|n| n.to_str()).map(str::to_owned)).collect())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        state.step(DiskOp::Remove, path)?;
        if state.names.contains_key(path) {
            state.change(NameChange::Remove(path.to_owned()));
        }
        Ok(())
    }

    fn create_dir(&self, _dir: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let how = if self.state.lock().names.contains_key(path) { Open::Write } else { Open::Create };
        self.open(path, how)?;
        let mut state = self.state.lock();
        let Some(inode) = state.names.get(path).copied() else { return Err(DiskError::NotFound(path.to_owned())) };
        let life = state.life;
        if state.locks.contains_key(path) {
            return Err(DiskError::Locked(path.to_owned()));
        }
        state.locks.insert(path.to_owned(), life);
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life, path: path.to_owned(), locked: true }))
    }
}

impl SimFile {
    fn with<T>(
        &self,
        op: DiskOp,
        mutates: bool,
        f: impl FnOnce(&mut State) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut state = self.disk.state.lock();
        if state.life != self.life {
            return Err(stopped(op, &self.path));
        }
        if mutates {
            if op == DiskOp::Write && state.stop_at_op == Some(state.ops) {
                // The last write of a dying process: it may have begun.
                let result = f(&mut state);
                state.ops += 1;
                return result.and(Err(stopped(op, &self.path)));
            }
            state.step(op, &self.path)?;
        }
        f(&mut state)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        self.with(DiskOp::Write, true, |state| {
            let bytes = parts.concat();
            let end = offset + bytes.len() as u64;
            let len = state.inodes.get(&self.inode).map_or(0, |i| i.seen.len);
            state.room(end.saturating_sub(len), DiskOp::Write, &self.path)?;
            if let Some(inode) = state.inodes.get_mut(&self.inode) {
                inode.seen.write(offset, &bytes);
                inode.pending.push(Pending::Write(offset, bytes));
            }
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.with(DiskOp::Read, false, |state| {
            Ok(state.inodes.get(&self.inode).map_or(0, |i| i.seen.read(offset, buffer)))
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        let delay = self.disk.state.lock().sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.with(DiskOp::Sync, true, |state| {
            let failing = state.fail_sync_at == Some(state.syncs);
            state.syncs += 1;
            let Some(inode) = state.inodes.get_mut(&self.inode) else { return Ok(()) };
            let pending = std::mem::take(&mut inode.pending);
            if failing {
                return Err(DiskError::from_io(
                    DiskOp::Sync,
                    &self.path,
                    io::Error::other("injected failure of a sync"),
                ));
            }
            for pending in pending {
                match pending {
                    Pending::Write(offset, bytes) => inode.platter.write(offset, &bytes),
                    Pending::Length(len) => inode.platter.set_len(len),
                }
            }
            Ok(())
        })
    }

    fn bytes(&self) -> Result<u64, DiskError> {
        self.with(DiskOp::Read, false, |state| Ok(state.inodes.get(&self.inode).map_or(0, |i| i.seen.len)))
    }

    fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        self.with(DiskOp::Allocate, true, |state| {
            let len = state.inodes.get(&self.inode).map_or(0, |i| i.seen.len);
            state.room(bytes.saturating_sub(len), DiskOp::Allocate, &self.path)?;
            if let Some(inode) = state.inodes.get_mut(&self.inode)
                && bytes > len
            {
                inode.seen.set_len(bytes);
                inode.pending.push(Pending::Length(bytes));
            }
            Ok(())
        })
    }

    fn truncate(&self, bytes: u64) -> Result<(), DiskError> {
        self.with(DiskOp::Allocate, true, |state| {
            if let Some(inode) = state.inodes.get_mut(&self.inode) {
                inode.seen.set_len(bytes);
                inode.pending.push(Pending::Length(bytes));
            }
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.locked {
            let mut state = self.disk.state.lock();
            if state.locks.get(&self.path) == Some(&self.life) {
                state.locks.remove(&self.path);
            }
        }
    }
}
