//! The moves that this node took part in (row H10): kept in memory and, bounded, on disk over restarts; their figures and
//! alarms.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use onemec_core::context::Contexts as _;
use onemec_mobility::kpi::{MoveAlarm, MoveKpis, MoveOutcome, MoveSample, Phase};
use onemec_mobility::strategy::MoveReason;
use onemec_runtime::exec::body::MoveTimes;
use onemec_runtime::exec::{MOVED, MoveRecord, Runtime};
use onemec_runtime::supervise::{Health, Tree};
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId};
use parking_lot::Mutex;

use super::nodes::Nodes;
use super::steward::AE_KEY;
use crate::admin::types::Handover;

/// Moves that are remembered.
const MOVES_MAX: usize = 16_384;
/// A file of the journal is put aside at this size; the one put aside before it goes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Lines that wait for the disk; more are not written.
const LINES_MAX: usize = 4_096;
/// Devices whose first direct request is waited for.
const AWAITED_MAX: usize = 16_384;
/// The latency after a move is the mean of so many of the device's requests.
const LATENCY_REQUESTS: u32 = 16;
/// The latency before it is a sliding mean: the newest request counts for one part in so many.
const LATENCY_PARTS: u64 = 8;
/// Contexts whose latency is kept.
const LATENCIES_MAX: usize = 65_536;
/// Where the first word about a move is looked for when the second one comes.
const RECENT_MOVES: usize = 256;
/// The journal's file in the data folder.
const FILE: &str = "handovers.jsonl";
const FORMER: &str = "handovers.1.jsonl";
/// Its place in the supervision tree.
const BRANCH: &str = "journal";

struct Awaited {
    id: u64,
    since: Instant,
    /// Requests so far, and how long they took together.
    requests: u32,
    took: Duration,
}

#[derive(Default)]
struct State {
    next: u64,
    moves: VecDeque<Handover>,
    kpis: MoveKpis,
    awaited: HashMap<ContextId, Awaited>,
    /// How long it took to check the tokens of devices that are being brought here, in microseconds.
    authenticated: HashMap<ContextId, u64>,
}

/// See the module.
pub(super) struct Journal {
    nodes: Arc<Nodes>,
    state: Mutex<State>,
    /// So that an ordinary request looks at one number.
    awaited: AtomicUsize,
    /// How long requests of devices take here, in microseconds.
    latency: DashMap<ContextId, u64>,
    lines: SyncSender<Handover>,
}

impl Journal {
    /// Reads what is in the folder and begins to write there.
    pub(super) fn open(dir: &Path, nodes: Arc<Nodes>, tree: Arc<Tree>) -> Self {
        let mut moves: VecDeque<Handover> = VecDeque::new();
        for file in [FORMER, FILE] {
            read(&dir.join(file), &mut moves);
        }
        let (lines, waiting) = sync_channel(LINES_MAX);
        let path = dir.to_owned();
        let writer = std::thread::Builder::new().name("handovers".into()).spawn(move || {
            tree.started(BRANCH);
            let mut health = Health::default();
            // A line that cannot be written is lost; the next one finds its way.
            while catch_unwind(AssertUnwindSafe(|| write(&path, &waiting))).is_err() {
                let pause = health.crashed();
                tree.crashed(BRANCH, "it panicked", &health);
                std::thread::sleep(pause);
                tree.started(BRANCH);
            }
        });
        if let Err(e) = writer {
            tracing::error!("the journal of moves is kept in memory only: {e}");
        }
        let next = moves.back().map_or(1, |h| h.id + 1);
        let state = State { next, moves, ..State::default() };
        Self { nodes, state: Mutex::new(state), awaited: AtomicUsize::new(0), latency: DashMap::new(), lines }
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        self.nodes.name_of(node)
    }

    /// A move of which this node was source or target.
    pub(super) fn ended(&self, runtime: &Runtime, record: &MoveRecord) {
        let me = runtime.member().node;
        let moved = record.result == MOVED;
        let arrived = moved && record.target == me;
        let mut handover = self.handover_of(runtime, record);
        if moved && record.source.node == me {
            let latencies: Vec<u64> = record.contexts.iter().filter_map(|c| Some(self.latency.remove(c)?.1)).collect();
            handover.latency_before_us = mean(&latencies);
        }
        let mut state = self.state.lock();
        if arrived && let Some(known) = recent(&mut state.moves, &handover.key) {
            // The source tells twice: at once, and when it has heard that the group is served here.
            (known.activate_us, known.interruption_us) = (handover.activate_us, handover.interruption_us);
            drop(self.lines.try_send(known.clone()));
            return;
        }
        if arrived {
            let known = record.contexts.iter().filter_map(|c| state.authenticated.remove(c)).max();
            handover.authentication_us = known.unwrap_or(0);
        }
        // One of the two ends counts it, or a cluster's figures would show every move twice.
        if record.source.node == me {
            let times = &record.times;
            let phases = [
                (Phase::Prepare, times.prepare_us),
                (Phase::Freeze, times.freeze_us),
                (Phase::Commit, times.commit_us),
                (Phase::Activate, times.activate_us),
                (Phase::Interruption, times.interruption_us()),
                (Phase::LatencyBefore, handover.latency_before_us.unwrap_or(0)),
            ];
            let known = phases.len() - usize::from(handover.latency_before_us.is_none());
            state.kpis.ended(MoveSample {
                group: record.group,
                reason: handover.reason,
                at_ms: runtime.now_ms(),
                outcome: if moved { MoveOutcome::Moved } else { MoveOutcome::Failed(&record.result) },
                phases: if moved { phases.get(..known).unwrap_or_default() } else { &[] },
                parked: u64::from(times.parked),
                bytes: times.bytes,
                lost: 0,
            });
        }
        if handover.authentication_us > 0 {
            state.kpis.measured(handover.reason, Phase::Authentication, handover.authentication_us);
        }
        let id = self.keep(&mut state, handover);
        if arrived {
            self.await_devices(&mut state, &record.contexts, id);
        }
    }

    /// Groups that this node leads now because another one died, which was `silent_us` silent by then; the gate opened
    /// `us` later.
    pub(super) fn failed_over(
        &self,
        runtime: &Runtime,
        (group, contexts): (GroupId, &[ContextId]),
        from: Member,
        (silent_us, us): (u64, u64),
    ) {
        let epoch = runtime.directory().read().group(group).map_or(Epoch(0), |p| p.epoch);
        let record = MoveRecord {
            id: 0,
            source: from,
            target: runtime.member().node,
            group,
            contexts: contexts.to_vec(),
            epoch,
            reason: MoveReason::Failover.as_str().into(),
            at_ms: runtime.now_ms(),
            result: MOVED.into(),
            text: String::new(),
            times: MoveTimes { freeze_us: silent_us, activate_us: us, ..MoveTimes::default() },
            // A takeover has no order and no second end: it is a trace of its own, with nothing in it.
            trace: onemec_runtime::trace::TraceContext::default(),
        };
        let handover = Handover { key: format!("{group}/{epoch}"), ..self.handover_of(runtime, &record) };
        let mut state = self.state.lock();
        state.kpis.ended(MoveSample {
            group,
            reason: MoveReason::Failover,
            at_ms: runtime.now_ms(),
            outcome: MoveOutcome::Moved,
            phases: &[(Phase::Freeze, silent_us), (Phase::Activate, us), (Phase::Interruption, silent_us + us)],
            parked: 0,
            bytes: 0,
            lost: 0,
        });
        let id = self.keep(&mut state, handover);
        self.await_devices(&mut state, contexts, id);
    }

    fn handover_of(&self, runtime: &Runtime, r: &MoveRecord) -> Handover {
        let directory = runtime.directory().read();
        let ae = |c: &ContextId| directory.context(*c)?.keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY));
        Handover {
            key: format!("{}/{}", r.source, r.id),
            aes: r.contexts.iter().filter_map(ae).map(str::to_owned).collect(),
            group: r.group.to_string(),
            reason: r.reason.parse().unwrap_or_default(),
            from: self.name_of(r.source.node),
            to: self.name_of(r.target),
            epoch: r.epoch.0,
            begun_ms: r.at_ms,
            outcome: if r.result == MOVED { "done".into() } else { r.result.clone() },
            text: r.text.clone(),
            prepare_us: r.times.prepare_us,
            freeze_us: r.times.freeze_us,
            interruption_us: r.times.interruption_us(),
            commit_us: r.times.commit_us,
            activate_us: r.times.activate_us,
            parked: u64::from(r.times.parked),
            bytes: r.times.bytes,
            mode: "replication".into(),
            trace_id: if r.trace.trace == 0 { String::new() } else { r.trace.trace_id() },
            ..Handover::default()
        }
    }

    /// An order that led to this record, in the form of the admin API. It has no number if this node had no part in the
    /// move.
    pub(super) fn shown(&self, runtime: &Runtime, record: &MoveRecord) -> Handover {
        let shown = self.handover_of(runtime, record);
        let id = recent(&mut self.state.lock().moves, &shown.key).map_or(0, |known| known.id);
        Handover { id, ..shown }
    }

    fn keep(&self, state: &mut State, mut handover: Handover) -> u64 {
        handover.id = state.next;
        state.next += 1;
        if state.moves.len() == MOVES_MAX {
            state.moves.pop_front();
        }
        // Beyond the bound a line is lost on disk, not in memory: moves do not wait for disks.
        drop(self.lines.try_send(handover.clone()));
        let id = handover.id;
        state.moves.push_back(handover);
        id
    }

    fn await_devices(&self, state: &mut State, contexts: &[ContextId], id: u64) {
        for context in contexts {
            if state.awaited.len() < AWAITED_MAX || state.awaited.contains_key(context) {
                let (since, took) = (Instant::now(), Duration::ZERO);
                state.awaited.insert(*context, Awaited { id, since, requests: 0, took });
            }
        }
        self.awaited.store(state.awaited.len(), Ordering::Relaxed);
    }

    /// The originator of a context has asked this node directly, and the answer took so long. Called with every request.
    pub(super) fn came(&self, context: ContextId, took: Duration) {
        self.keep_latency(context, micros(took));
        if self.awaited.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut state = self.state.lock();
        let Some(awaited) = state.awaited.get_mut(&context) else { return };
        awaited.requests += 1;
        awaited.took += took;
        let (id, requests) = (awaited.id, awaited.requests);
        let (attached, latency) = (micros(awaited.since.elapsed()), micros(awaited.took / requests));
        if requests == LATENCY_REQUESTS {
            state.awaited.remove(&context);
            self.awaited.store(state.awaited.len(), Ordering::Relaxed);
        }
        let first = state.moves.front().map_or(0, |h| h.id);
        let at = usize::try_from(id.saturating_sub(first)).unwrap_or(usize::MAX);
        let Some(handover) = state.moves.get_mut(at).filter(|h| h.id == id) else { return };
        let measured = match requests {
            1 if handover.attach_us.is_none() => {
                handover.attach_us = Some(attached);
                (Phase::Attach, attached)
            }
            LATENCY_REQUESTS if handover.latency_after_us.is_none() => {
                handover.latency_after_us = Some(latency);
                (Phase::LatencyAfter, latency)
            }
            _ => return,
        };
        let (reason, line) = (handover.reason, handover.clone());
        state.kpis.measured(reason, measured.0, measured.1);
        drop(self.lines.try_send(line));
    }

    fn keep_latency(&self, context: ContextId, us: u64) {
        if let Some(mut mean) = self.latency.get_mut(&context) {
            *mean = (*mean * (LATENCY_PARTS - 1) + us) / LATENCY_PARTS;
        } else if self.latency.len() < LATENCIES_MAX {
            self.latency.insert(context, us);
        }
    }

    /// The token of a device that is to be brought here was checked.
    pub(super) fn authenticated(&self, context: ContextId, us: u64) {
        let mut state = self.state.lock();
        if state.authenticated.len() < AWAITED_MAX {
            state.authenticated.insert(context, us.max(1));
        }
    }

    /// Up to `limit` moves after number `after`, and whether there are more.
    pub(super) fn page(&self, after: u64, limit: usize) -> (Vec<Handover>, bool) {
        let state = self.state.lock();
        let mut found = state.moves.iter().filter(|h| h.id > after);
        let page = found.by_ref().take(limit).cloned().collect();
        (page, found.next().is_some())
    }

    /// The alarms that are on.
    pub(super) fn alarms(&self, now_ms: u64) -> Vec<MoveAlarm> {
        self.state.lock().kpis.alarms(now_ms)
    }

    /// The figures as Prometheus text.
    pub(super) fn render(&self, now_ms: u64) -> String {
        self.state.lock().kpis.render(now_ms)
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn mean(values: &[u64]) -> Option<u64> {
    values.iter().sum::<u64>().checked_div(values.len() as u64)
}

fn recent<'a>(moves: &'a mut VecDeque<Handover>, key: &str) -> Option<&'a mut Handover> {
    moves.iter_mut().rev().take(RECENT_MOVES).find(|h| h.key == key)
}

/// Takes in a file's lines; a later line of the same number replaces the earlier one, what cannot be read is left out.
fn read(path: &Path, moves: &mut VecDeque<Handover>) {
    let Ok(file) = File::open(path) else { return };
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let Ok(handover) = serde_json::from_str::<Handover>(&line) else { continue };
        let last = moves.back().map_or(0, |h| h.id);
        if handover.id > last {
            if moves.len() == MOVES_MAX {
                moves.pop_front();
            }
            moves.push_back(handover);
        } else if let Ok(at) = moves.binary_search_by_key(&handover.id, |h| h.id)
            && let Some(known) = moves.get_mut(at)
        {
            *known = handover;
        }
    }
}

fn write(dir: &Path, lines: &Receiver<Handover>) {
    let path = dir.join(FILE);
    let mut file = open(&path);
    while let Ok(handover) = lines.recv() {
        let full = file.as_ref().and_then(|f| f.metadata().ok()).is_some_and(|m| m.len() > FILE_BYTES_MAX);
        if full {
            drop(std::fs::rename(&path, dir.join(FORMER)));
            file = open(&path);
        }
        let Some(f) = &mut file else { continue };
        let Ok(mut line) = serde_json::to_vec(&handover) else { continue };
        line.push(b'\n');
        if let Err(e) = f.write_all(&line) {
            // These are figures, not data: the node serves on.
            tracing::error!("journal of moves: {e}; kept in memory only from now on");
            file = None;
        }
    }
}

fn open(path: &PathBuf) -> Option<File> {
    match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => Some(file),
        Err(e) => {
            tracing::error!("journal of moves {}: {e}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, attach_us: Option<u64>) -> String {
        serde_json::to_string(&Handover { id, attach_us, ..Handover::default() }).unwrap() + "\n"
    }

    #[test]
    fn later_lines_replace_earlier_ones_and_torn_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let text = line(1, None) + &line(2, None) + &line(1, Some(7)) + "{\"id\":3,";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let topology = crate::topology::parse(include_str!("../../../../cluster-configs/local-3.toml")).unwrap();
        let journal = Journal::open(dir.path(), Arc::new(Nodes::new(&topology)), Arc::default());
        let (page, more) = journal.page(0, 1);
        assert_eq!((page[0].id, page[0].attach_us, more), (1, Some(7), true));
        let (page, more) = journal.page(1, 10);
        assert_eq!((page.len(), page[0].id, more), (1, 2, false));
        assert_eq!(journal.state.lock().next, 3);
    }
}
