//! Bodies of the services CALL and MOVE: what nodes ask of each other about contexts and groups. Payloads travel as
//! attachments: the operation's head and body, the answer's head and body, in this order.

use onemec_core::context::{ContextKind, Key, RepeatKey};
use onemec_core::directory::{Attachment, ContextSpec};
use onemec_core::group::Position;
use onemec_wire::codec::{Decode, Encode};
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, Seq};

use crate::trace::TraceContext;

/// How often a call may be forwarded (rule 11).
pub const HOPS_MAX: u8 = 3;

/// CALL: ask.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CallBody {
    /// Run an operation (its attachments) on a context.
    Write {
        /// The context.
        context: ContextId,
        /// The epoch of its group as the sender knows it.
        epoch: Epoch,
        /// Forwarded so often.
        hops: u8,
        /// Set for repeatable requests.
        repeat: Option<RepeatKey>,
    },
    /// Read from a context.
    Read {
        /// The context.
        context: ContextId,
        /// The epoch of its group as the sender knows it.
        epoch: Epoch,
        /// Forwarded so often.
        hops: u8,
    },
    /// Create a context inside a group that the receiver leads.
    CreateIn {
        /// The group.
        group: GroupId,
        /// The context.
        spec: ContextSpec,
        /// Set for repeatable requests.
        repeat: Option<RepeatKey>,
    },
}

/// CALL: reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CallReply {
    /// The answer is attached.
    Answer,
    /// The context was created; its first answer is attached.
    Created(ContextId),
    /// A key is taken.
    KeyTaken {
        /// Which.
        key: Key,
        /// By whom.
        holder: ContextId,
    },
    /// Never applied; try again (503).
    NotApplied {
        /// Why.
        reason: String,
        /// When trying again makes sense.
        retry_ms: u32,
    },
    /// It may still be applied (504).
    Unknown {
        /// Why.
        reason: String,
    },
    /// The receiver is not primary: it knows of this one.
    NotHere {
        /// The primary.
        primary: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The receiver has never heard of the context.
    NotFound,
    /// The context was deleted.
    Deleted,
    /// The repeat mark cannot be honoured.
    RepeatWindow,
    /// The group has as many contexts as it may have.
    GroupFull {
        /// So many.
        contexts_max: u32,
    },
}

/// Groups in one question for figures.
pub const FIGURES_MAX: usize = 1_000;

/// MOVE: ask.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MoveBody {
    /// To the primary: move this group to `target`.
    Order {
        /// The group.
        group: GroupId,
        /// The node that takes over.
        target: NodeId,
        /// Why: goes into the record of the move.
        reason: String,
        /// The move is this re-attachment of a client.
        attachment: Option<Attachment>,
        /// Catching up may take so long.
        catch_up_ms: u32,
        /// The span of the order.
        trace: TraceContext,
    },
    /// To a replica: which segments of the group have you? Those need not be sent.
    Manifest {
        /// The group.
        group: GroupId,
    },
    /// To the target: would you take it?
    Admit {
        /// The group.
        group: GroupId,
        /// Its contexts and their kinds.
        contexts: Vec<(ContextId, ContextKind)>,
        /// Bytes of history that will come.
        history_bytes: u64,
        /// Why.
        reason: String,
        /// Keep room for it; `false`: only a question.
        reserve: bool,
        /// The asker's span.
        trace: TraceContext,
    },
    /// To the target: this became of the move. If it succeeded, the answer comes when the target serves.
    Ended(MoveRecord),
    /// To the target, after that: the same record with how long it took until the target served.
    Timed(MoveRecord),
    /// To any node: answer once you have applied the directory up to this entry.
    Reach {
        /// The entry.
        index: u64,
    },
    /// To the primary: what have you of this group?
    View {
        /// The group.
        group: GroupId,
    },
    /// To a node: what have you of these groups, as they are? Wakes none of them; [`FIGURES_MAX`] at most.
    Figures {
        /// The groups.
        groups: Vec<GroupId>,
    },
}

/// MOVE: reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MoveReply {
    /// The move is done.
    Moved(MoveRecord),
    /// The target takes it.
    Admitted,
    /// So it is.
    Noted,
    /// What is here of a group.
    View(GroupView),
    /// What is here of each group that was asked for.
    Figures(Vec<GroupView>),
    /// Segments that are here.
    Manifest(Vec<SegmentLine>),
    /// No, and why.
    Refused {
        /// A short word for machines, for example `target-dead`.
        code: String,
        /// A sentence for people.
        reason: String,
    },
}

/// How long the states of a move took, in microseconds (row H10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, serde::Serialize, serde::Deserialize)]
pub struct MoveTimes {
    /// From the order to the freeze: admission, history, tail. The source serves on.
    pub prepare_us: u64,
    /// From the freeze to the applied transfer: operations are parked.
    pub freeze_us: u64,
    /// Of these, the directory's command: from its proposal to its application here.
    pub commit_us: u64,
    /// From the applied transfer to the target's open gate, as the source learnt of it (one round trip included).
    pub activate_us: u64,
    /// Operations that were parked and forwarded.
    pub parked: u32,
    /// Bytes of history and log that were sent to the target.
    pub bytes: u64,
}

impl MoveTimes {
    /// From closing the source's gate to the open gate of the target.
    pub const fn interruption_us(&self) -> u64 {
        self.freeze_us.saturating_add(self.activate_us)
    }
}

/// A move that has ended (row H10).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MoveRecord {
    /// Its number at its source; with the source's boot it is unique.
    pub id: u64,
    /// Which boot was the source.
    pub source: Member,
    /// Target node.
    pub target: NodeId,
    /// The group.
    pub group: GroupId,
    /// Its contexts.
    pub contexts: Vec<ContextId>,
    /// Epoch after it.
    pub epoch: Epoch,
    /// Why it was ordered.
    pub reason: String,
    /// When it began (milliseconds since 1970, the source's clock).
    pub at_ms: u64,
    /// `moved`, or the failure's code.
    pub result: String,
    /// The failure in words.
    pub text: String,
    /// How long its states took.
    pub times: MoveTimes,
    /// Its span at the source.
    pub trace: TraceContext,
}

/// What a node has of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct GroupView {
    /// Its log is committed up to here.
    pub committed: u64,
    /// Bytes of its history.
    pub bytes: u64,
    /// Where its log ends here, committed or not; `None` if this node holds no copy.
    pub end: Option<LogEnd>,
    /// Resources that each of its contexts holds, those that are in memory.
    pub held: Vec<(ContextId, u64)>,
    /// A move of it is under way.
    pub moving: bool,
}

/// The end of a copy of a group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct LogEnd {
    /// Place of the last record.
    pub seq: u64,
    /// Epoch in which it was written.
    pub epoch: u64,
    /// Its log time (milliseconds since 1970); `None` if it lies in a checkpoint.
    pub at_ms: Option<u64>,
}

/// A segment of a history, as both sides name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SegmentLine {
    /// First place that it speaks for.
    pub first: Seq,
    /// Last place that it speaks for.
    pub last: Seq,
    /// Its checksum.
    pub checksum: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
}

/// Header of a transfer stream on MOVE: the snapshot follows, then the segments that are sent, each as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HistoryHeader {
    /// The group.
    pub group: GroupId,
    /// The primary's epoch.
    pub epoch: Epoch,
    /// Where the checkpoint was taken.
    pub base: Position,
    /// Bytes of the snapshot, which comes first.
    pub snapshot_bytes: u64,
    /// crc32c of the snapshot.
    pub snapshot_crc: u32,
    /// Kept records, as ranges.
    pub kept: Vec<(Seq, Seq)>,
    /// The segments in order; `true`: its bytes follow, `false`: the receiver has it already.
    pub segments: Vec<(SegmentLine, bool)>,
}
