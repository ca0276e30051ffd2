//! The oneM2M resource tree as a deterministic state machine: no clock, no randomness, no I/O. One machine for the context
//! of an AE and for that of a CSEBase.
//!
//! Each procedure is a *plan* (all checks, in the order of TS-0004 7.2.2.2, against a tree that it may only read) and its
//! *execution* (which cannot fail). `admit` plans and drops the plan; `apply` plans again, since other operations may have
//! come between, and executes.

mod begin;
mod container;
mod create;
mod delete;
mod events;
mod expiry;
mod factory;
mod group;
mod history;
mod remote_cse;
mod subscription;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use onemec_core::context::{Answer, Env, History, Machine, Op, Outcome};
use onemec_onem2m::{CseIdentity, Operation, Refusal, ResultContent, Rsc, result};
use onemec_wire::{Record, RecordKind, Seq};
use parking_lot::RwLock;

pub(crate) use events::{BUNDLE_LANE, NAME_LANE};
pub use events::{Notice, NoticeKind};
pub use factory::TreeFactory;

pub use begin::check_ae;
pub(crate) use subscription::is_url;

use crate::access::{Asker, Stop};
use crate::index::{CseIndex, Served};
use crate::op::{Action, Reply, TreeOp, Write};
use crate::tree::Tree;
use crate::view::View;

/// How long a resource lives whose creator did not say so and whose parent does not limit it: five years.
pub(crate) const LIFETIME_MS: u64 = 5 * 365 * 24 * 3600 * 1000;

/// Content of a successful operation.
type Done = Result<(Reply, Vec<u8>), Stop>;

/// What a procedure is given.
pub(crate) struct Cx<'a> {
    /// Who asks.
    pub(crate) asker: Asker<'a>,
    /// Place of the record.
    pub(crate) seq: Seq,
    /// Log time.
    pub(crate) now_ms: u64,
    /// Bodies, that of the record itself included.
    pub(crate) history: &'a dyn History,
    /// Where the context is at home.
    pub(crate) home: &'a CseIdentity,
}

impl<'a> Cx<'a> {
    pub(crate) fn view<'t>(&'t self, tree: &'t Tree) -> View<'t> {
        View { tree, history: self.history, home: self.home }
    }
}

/// The machine of one context.
pub struct TreeMachine {
    env: Env,
    index: CseIndex,
    tree: Arc<RwLock<Tree>>,
}

impl TreeMachine {
    pub(crate) fn new(env: Env, index: CseIndex, tree: Tree) -> Self {
        Self { env, index, tree: Arc::new(RwLock::new(tree)) }
    }

    fn write(
        &self,
        tree: &mut Tree,
        record: &Record,
        write: &Write,
        body: &Bytes,
        history: &dyn History,
        outcome: &mut Outcome,
    ) -> Done {
        let home = write.home.identity();
        let now_ms = record.time_ms();
        let asker = Asker { who: &write.who, facts: &write.facts, home: &home, now_ms };
        let cx = Cx { asker, seq: record.seq(), now_ms, history, home: &home };
        let done = match write.action {
            Action::Create(ty) => {
                let plan = create::plan(tree, &cx, write, ty, body)?;
                create::execute(tree, &cx, write, plan, outcome)
            }
            Action::Update => {
                let plan = update::plan(tree, &cx, write, body)?;
                update::execute(tree, &cx, write, plan, outcome)
            }
            Action::Delete => {
                let plan = delete::plan(tree, &cx, write)?;
                delete::execute(tree, &cx, plan, outcome)
            }
        };
        tree.home = Some(write.home.clone());
        done
    }

    fn apply_op(&self, record: &Record, op: &Op, outcome: &mut Outcome) -> Done {
        let body = &op.body;
        let Some(op) = TreeOp::read(&op.head) else {
            return Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "the operation cannot be read").into());
        };
        let history = history::WithRecord { record, kept: &*self.env.history };
        let mut tree = self.tree.write();
        match op {
            TreeOp::BeginAe(begin) => begin::ae(&mut tree, record, &begin, &history),
            TreeOp::BeginBase(home) => begin::base(&mut tree, record, &home),
            TreeOp::SetBase(home) => begin::set_base(&mut tree, record, &home),
            TreeOp::Write(write) => self.write(&mut tree, record, &write, body, &history, outcome),
            TreeOp::Append(_, key) if tree.has_appended(key) => Ok((appended_before(), Vec::new())),
            TreeOp::Append(write, key) => {
                let done = self.write(&mut tree, record, &write, body, &history, outcome)?;
                tree.note_appended(key);
                Ok(done)
            }
            TreeOp::Notified(subscription) => {
                subscription::count_down(&mut tree, record, subscription, &history, outcome);
                Ok((Reply::Done { rsc: Rsc::OK.0, created: None, next_offset: None }, Vec::new()))
            }
        }
    }
}

/// Makes all checks of a write against a tree, and changes nothing.
pub(crate) fn plan(tree: &Tree, history: &dyn History, now_ms: u64, write: &Write, body: &Bytes) -> Result<(), Stop> {
    let home = write.home.identity();
    let asker = Asker { who: &write.who, facts: &write.facts, home: &home, now_ms };
    let cx = Cx { asker, seq: Seq(u64::MAX), now_ms, history, home: &home };
    match write.action {
        Action::Create(ty) => create::plan(tree, &cx, write, ty, body).map(drop),
        Action::Update => update::plan(tree, &cx, write, body).map(drop),
        Action::Delete => delete::plan(tree, &cx, write).map(drop),
    }
}

fn appended_before() -> Reply {
    Reply::Done { rsc: Rsc::CREATED.0, created: None, next_offset: None }
}

/// Whether the operation may have this result content: checked before anything is changed.
fn check_result_content(operation: Operation, rcn: u8) -> Result<(), Refusal> {
    let rcn = ResultContent::from_u8(rcn).ok_or_else(|| Refusal::bad_request(format!("rcn {rcn} is not known")))?;
    result::check(operation, false, rcn)
}

/// A request with filter criteria but without `fu` works only on a resource that matches (TS-0004 7.3.3.1).
fn check_condition(tree: &Tree, cx: &Cx<'_>, write: &Write, found: crate::tree::Found) -> Result<(), Refusal> {
    let Some(text) = &write.filter else { return Ok(()) };
    let filter = onemec_onem2m::filter::FilterCriteria::from_json(text)?;
    filter.check()?;
    let view = cx.view(tree);
    match view.handle(found) {
        Some(handle) if filter.has_conditions() && !filter.matches(&view, &handle) => {
            Err(Refusal::new(Rsc::NOT_FOUND, "the resource does not match the filter criteria"))
        }
        _ => Ok(()),
    }
}

/// An answer from the end of a procedure.
pub(crate) fn answer(done: Result<(Reply, Vec<u8>), Stop>) -> Answer {
    match done {
        Ok((reply, body)) => reply.answer(body),
        Err(Stop::Refused(refusal)) => Reply::refused(&refusal).answer(Bytes::new()),
        Err(Stop::Needs(needs)) => Reply::Needs(needs).answer(Bytes::new()),
    }
}

impl Machine for TreeMachine {
    fn admit(&self, now_ms: u64, op: &Op) -> Result<(), Answer> {
        let Some(read) = TreeOp::read(&op.head) else {
            return Err(Reply::refused(&Refusal::bad_request("the operation cannot be read")).answer(Bytes::new()));
        };
        let tree = self.tree.read();
        match read {
            TreeOp::Append(_, key) if tree.has_appended(key) => Err(appended_before().answer(Bytes::new())),
            TreeOp::Write(write) | TreeOp::Append(write, _) => {
                plan(&tree, &*self.env.history, now_ms, &write, &op.body).map_err(|stop| answer(Err(stop)))
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, record: &Record, op: &Op, outcome: &mut Outcome) -> Answer {
        let done = self.apply_op(record, op, outcome);
        if record.kind() == RecordKind::CreateContext && done.is_err() {
            // A context without its root is of no use.
            outcome.finished = true;
        }
        answer(done)
    }

    fn next_timer(&self) -> Option<u64> {
        self.tree.read().next_expiration()
    }

    fn run_timers(&mut self, record: &Record, outcome: &mut Outcome) {
        let history = history::WithRecord { record, kept: &*self.env.history };
        expiry::run(&mut self.tree.write(), record, &history, outcome);
    }

    fn snapshot(&self) -> Bytes {
        self.tree.read().to_snapshot()
    }

    fn kept(&self) -> Vec<Seq> {
        let tree = self.tree.read();
        tree.nodes().filter_map(|n| n.instances.as_ref()).flat_map(|i| i.iter()).map(|i| i.seq).collect()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.tree.read().memory_bytes()
    }

    fn serving(&mut self, primary: bool) {
        if primary {
            let served =
                Served { tree: self.tree.clone(), gate: self.env.gate.clone(), history: self.env.history.clone() };
            self.index.enter(self.env.context, served);
        } else {
            self.index.leave(self.env.context, &self.tree);
        }
    }
}

impl Drop for TreeMachine {
    fn drop(&mut self) {
        self.index.leave(self.env.context, &self.tree);
    }
}
