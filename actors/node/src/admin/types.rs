//! JSON of the admin API. Nodes appear by name, groups and contexts as `generation.index.ordinal`
//! in hexadecimal, times as milliseconds since
//! 1970 unless the name says otherwise. Readers of answers ignore fields that they do not know; an order with one is refused.

pub use onemec_core::buffer::BufferFill;
pub use onemec_mobility::strategy::MoveReason;
pub use onemec_runtime::audit::{AuditEvent, AuditLine};
use serde::{Deserialize, Serialize};

/// `GET /admin/v1/health`: 200 once the node serves, 503 with the same body before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The node.
    pub node: String,
    /// It has its lease and serves.
    pub ready: bool,
    /// What it waits for, empty when ready.
    #[serde(default)]
    pub reason: String,
    /// Its boot.
    #[serde(default)]
    pub incarnation: u64,
}

/// `GET /admin/v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster.
    pub cluster: String,
    /// The node that answers.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// The node's lease is valid.
    pub has_lease: bool,
    /// Leader of the directory, if it is known.
    pub directory_leader: Option<String>,
    /// Highest directory entry that is applied here.
    pub directory_applied: u64,
    /// All nodes as this one sees them.
    pub members: Vec<Member>,
    /// This node's supervision tree.
    pub supervision: Option<Supervised>,
    /// Groups that this node leads, and those that it is a replica of.
    pub groups_led: u64,
    /// Replicas held for others.
    pub groups_replicated: u64,
    /// The local buffer, if the node has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferFill>,
    /// Which of all these are in memory.
    #[serde(default)]
    pub memory: GroupMemory,
    /// Federation groups and roles by capability.
    #[serde(default)]
    pub federation: Federation,
    /// Alarms that are on (frequent moves, crash loops, groups below their minimum).
    #[serde(default)]
    pub alarms: Vec<Alarm>,
}

/// Groups in memory and out of it, in [`Status`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupMemory {
    /// Groups in memory.
    pub active: u64,
    /// Groups that have left it: the next request brings them back.
    pub passive: u64,
    /// Bytes of resources and open logs in memory, roughly.
    pub bytes: u64,
    /// Groups that came back since the start.
    pub activations: u64,
    /// Groups that left since the start.
    pub passivations: u64,
}

/// A node in [`Status`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Its boot, 0 if it was never up.
    pub incarnation: u64,
    /// `up`, `dead`, `draining`, `joining`.
    pub state: String,
    /// Roles as in the topology.
    pub roles: Vec<String>,
    /// Point of access.
    pub poa: String,
    /// URL of its admin API, empty if it is not known.
    #[serde(default)]
    pub admin: String,
    /// AEs at home there.
    pub aes: u64,
    /// Load, 0 to 1.
    pub load: f64,
    /// Age of what gossip said about it.
    pub seen_ms_ago: u64,
}

/// A supervised part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Supervised {
    /// Its name.
    pub name: String,
    /// `running`, `restarting`, `passive`, `failed`.
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// Why the last time.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// What it supervises; long lists are cut (`more`).
    #[serde(default)]
    pub children: Vec<Supervised>,
    /// Children that are not listed.
    #[serde(default)]
    pub more: u64,
}

/// Something an operator should look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Code with a page under docs/errors.
    pub code: String,
    /// In words.
    pub text: String,
    /// Since when.
    pub since_ms: u64,
}

/// `GET /admin/v1/directory`: one consistent view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The node that answers.
    pub node: String,
    /// Entry up to which the view is applied.
    pub applied: u64,
    /// All groups.
    pub groups: Vec<Placement>,
}

/// Where a group lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The group.
    pub group: String,
    /// Its contexts.
    pub contexts: Vec<String>,
    /// AE-IDs among them.
    #[serde(default)]
    pub aes: Vec<String>,
    /// Epoch of the primary.
    pub epoch: u64,
    /// Version of the entry.
    pub version: u64,
    /// Who serves; `None` while nobody can.
    pub primary: Option<String>,
    /// In-sync set.
    pub in_sync: Vec<String>,
    /// Members that guarantee synced data.
    pub synced: Vec<String>,
    /// A move is under way.
    #[serde(default)]
    pub moving: bool,
}

/// `GET /admin/v1/aes?home=&after=&limit=`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AePage {
    /// Sorted by AE-ID.
    pub aes: Vec<Ae>,
    /// Give it as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

/// A registered AE. `GET /admin/v1/aes/{AE-ID or name}` gives one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ae {
    /// AE-ID (stem).
    pub ae_id: String,
    /// Resource name.
    pub name: String,
    /// Context.
    pub context: String,
    /// Group.
    pub group: String,
    /// The node whose CSE is its registrar.
    pub home: String,
    /// The node that serves it.
    pub primary: String,
    /// Epoch of the group.
    pub epoch: u64,
    /// Highest committed place in the group's log; `None` if its primary did not say.
    pub committed: Option<u64>,
    /// In-sync set.
    pub in_sync: Vec<String>,
    /// `active`, `moving`, `unavailable` (nobody leads it), `unconfirmed` (its primary is silent, and so many nodes are
    /// dead that an operator must confirm it: `onemec confirm-deaths`).
    pub state: String,
    /// What it waits for, in words; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Former homes whose addresses still lead to it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Other AEs that move with it.
    #[serde(default)]
    pub bundle: Vec<String>,
    /// Where its data may be; `None`: anywhere.
    #[serde(default)]
    pub residency: Option<String>,
    /// Bytes of its group's history at the primary; `None` if that did not say.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Instances held in its containers; `None` if its primary did not say, or has it not in memory (`ae show` wakes it).
    #[serde(default)]
    pub instances: Option<u64>,
    /// Its name in our DNS; `None` without a zone, or if the AE-ID is too long for a name.
    #[serde(default)]
    pub dns_name: Option<String>,
}

/// `POST /admin/v1/moves`: answered with a [`MoveResult`] once it has ended (or 504 after `deadline_ms`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveOrder {
    /// AE-ID or name; its whole group moves.
    pub ae: String,
    /// Target node; `None`: the best candidate.
    pub to: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: MoveReason,
    /// Give up after; 0: the topology's `move_ms_max`.
    #[serde(default)]
    pub deadline_ms: u64,
}

/// What became of a move. `GET /admin/v1/moves/{id}` gives it as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MoveResult {
    /// Its number.
    pub id: u64,
    /// `done`, `refused`, `aborted`, `unknown`, or the state while it runs: `prepare`, `ready`, `freeze`, `transfer`,
    /// `activate`, `settle`.
    pub state: String,
    /// Reason code when it is not done, with a page under docs/errors.
    #[serde(default)]
    pub code: String,
    /// In words.
    #[serde(default)]
    pub text: String,
    /// The KPIs as far as they are known.
    pub handover: Handover,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// KPIs of one move (row H10). `GET /admin/v1/handovers?after=&limit=` gives a [`HandoverPage`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// Number of the move, rising per answering node, also over restarts. Left out (0) in the answer to an order if the
    /// answering node had no part in the move, or nothing was moved.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u64,
    /// The same at every node that took part: boot of the source and its number there, or group and epoch of a takeover.
    #[serde(default)]
    pub key: String,
    /// The AEs of the group.
    pub aes: Vec<String>,
    /// The group.
    pub group: String,
    /// Why.
    pub reason: MoveReason,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Epoch after it.
    pub epoch: u64,
    /// When it was asked for.
    pub begun_ms: u64,
    /// `done` or how it ended otherwise.
    pub outcome: String,
    /// Why it was not done, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Until the target was ready.
    pub prepare_us: u64,
    /// From closing the source's gate to the open gate of the target. Of a takeover: from the last sign of life of the dead
    /// primary at the new one to its open gate.
    pub interruption_us: u64,
    /// Of this, until the directory's command was applied at the source. Of a takeover: until the dead primary's death was
    /// applied at the new one.
    #[serde(default)]
    pub freeze_us: u64,
    /// Of this, from there to the target's open gate. Of a takeover: from the news of the death to the open gate.
    #[serde(default)]
    pub activate_us: u64,
    /// The directory command of it.
    pub commit_us: u64,
    /// Check of the handover token, where the device came by itself; 0 otherwise.
    #[serde(default)]
    pub authentication_us: u64,
    /// Until the device's first request came directly to the target, counted there; `None` if it has not yet.
    #[serde(default)]
    pub attach_us: Option<u64>,
    /// How long the device's requests took at the source before the move, from the request's arrival at its door to the
    /// answer (a sliding mean); `None` if it sent none there.
    #[serde(default)]
    pub latency_before_us: Option<u64>,
    /// The same at the target, mean of the first ones; `None` until so many have come.
    #[serde(default)]
    pub latency_after_us: Option<u64>,
    /// Operations that were parked and forwarded.
    pub parked: u64,
    /// Bytes sent to the target.
    pub bytes: u64,
    /// How the context went over (`replication`, `reference`, `re-creation`, `re-registration`).
    pub mode: String,
    /// Id of its trace, as a collector shows it; empty for takeovers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
}

/// A page of [`Handover`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HandoverPage {
    /// Oldest first.
    pub handovers: Vec<Handover>,
    /// Give it as `after` to go on; `None` at the end.
    pub next: Option<u64>,
}

/// `GET /admin/v1/aes/{ae}/candidates?n=` (row G07).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidates {
    /// The AE.
    pub ae_id: String,
    /// The policy that scored.
    pub policy: String,
    /// Best first: also the fallback order.
    pub candidates: Vec<Candidate>,
    /// Nodes that are out of the question, with the reason.
    pub excluded: Vec<Excluded>,
}

/// A possible target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// 0 to 1, higher is better.
    pub score: f64,
    /// What the score is made of: term and contribution.
    pub terms: Vec<(String, f64)>,
    /// It has a complete replica already.
    pub has_replica: bool,
    /// Age of the data that the score rests on.
    pub age_ms: u64,
}

/// A node that is no target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// The node.
    pub node: String,
    /// Reason code.
    pub code: String,
    /// In words.
    pub text: String,
}

/// `POST /admin/v1/drains`: answered at once with a [`Drain`]. `POST /admin/v1/undrain`: the node takes devices again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    /// The node to empty.
    pub node: String,
    /// Move to this node only; `None`: the best candidate each.
    #[serde(default)]
    pub to: Option<String>,
}

/// `POST /admin/v1/aes/{ae}/label`: where the data of an AE may be (row G15). It need not be registered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelOrder {
    /// As in the topology's residency rules; `null`: the rules hold again. It cannot be left out.
    #[serde(deserialize_with = "Option::deserialize")]
    pub label: Option<String>,
}

/// `POST /admin/v1/measurements`: what the network measured (row H05), at most 1000 at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurements {
    /// In any order.
    pub measurements: Vec<Measurement>,
}

/// One measurement: either a signal (`node` and `dbm`) or a place (`lat` and `lon`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measurement {
    /// AE-ID or name of the device.
    pub ae: String,
    /// The node at which, or of which, the signal was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Received power (RSRP), dBm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dbm: Option<f64>,
    /// Degrees north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lat: Option<f64>,
    /// Degrees east.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lon: Option<f64>,
}

/// What became of measurements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasurementsTaken {
    /// How many count.
    pub taken: u64,
    /// The first 100 that do not, with the reason each.
    pub refused: Vec<MeasurementRefused>,
}

/// A measurement that does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasurementRefused {
    /// The device as it was named.
    pub ae: String,
    /// Why.
    pub text: String,
}

/// Progress of a drain. `GET /admin/v1/drains/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Its number.
    pub id: u64,
    /// The node.
    pub node: String,
    /// `running`, `done`, `failed` (it is tried again while the node stays marked).
    pub state: String,
    /// Groups that were there: `moved`, `failed_over`, `running`, `waiting` and those that did not move.
    pub total: u64,
    /// Moved so far.
    pub moved: u64,
    /// No longer there because the node died: other members of their groups lead them.
    #[serde(default)]
    pub failed_over: u64,
    /// `node-died` if the node died during the drain; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Under way.
    #[serde(default)]
    pub running: u64,
    /// Waiting.
    #[serde(default)]
    pub waiting: u64,
    /// Stay, since they belong to the CSEBase.
    #[serde(default)]
    pub pinned: u64,
    /// Not moved, with the reason each (the first 100).
    pub failed: Vec<NotMoved>,
}

/// A group that a drain did not move; it is served where it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMoved {
    /// AE-IDs of the group.
    pub aes: Vec<String>,
    /// The group.
    pub group: String,
    /// Reason code, with a page under docs/errors.
    pub code: String,
    /// In words.
    pub text: String,
}

/// `GET /admin/v1/capabilities`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CapabilityFile {
    /// Version of the program.
    pub version: String,
    /// oneM2M resource types with their operations.
    pub resource_types: serde_json::Value,
    /// Everything else by area.
    pub areas: serde_json::Value,
    /// All nodes, as they say themselves.
    #[serde(default)]
    pub nodes: Vec<NodeCapabilities>,
}

/// A page of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// In order.
    pub lines: Vec<AuditLine>,
    /// Give it as `after` to go on; `None` at the end.
    pub next: Option<u64>,
}

/// The body of every answer that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Code with a page under docs/errors.
    pub code: String,
    /// What happened, and what it did to the state.
    pub message: String,
    /// What to do next.
    pub next_step: String,
    /// When trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Who belongs together and who does what, by what nodes say of themselves (rows O03, O04).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federation {
    /// The groups of the topology.
    pub groups: Vec<FederationGroup>,
    /// All roles.
    pub roles: Vec<FederationRole>,
}

/// A federation group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationGroup {
    /// Its name.
    pub name: String,
    /// The live nodes that satisfy its rule.
    pub members: Vec<String>,
}

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationRole {
    /// `handover-anchor`, `swarm-worker`, `learning-participant`.
    pub role: String,
    /// Who has it.
    pub holders: Vec<String>,
}

/// `GET /admin/v1/voters`: the members of the directory's Raft group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voters {
    /// Voters first.
    pub members: Vec<Voter>,
}

/// A member of the directory's Raft group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Its node.
    pub node: String,
    /// Its store: another one after its disk was lost.
    pub store: String,
    /// It votes; else it learns.
    pub votes: bool,
    /// It leads.
    pub leads: bool,
    /// Its node is up.
    pub up: bool,
}

/// What to do about a voter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoterAction {
    /// The node votes.
    #[default]
    Add,
    /// It learns only.
    Remove,
    /// Another one votes in its place, in one step.
    Replace,
}

/// `POST /admin/v1/voters`: answered with [`Voters`]. Giving an order twice does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoterOrder {
    /// What.
    pub action: VoterAction,
    /// The node.
    pub node: String,
    /// Of a replacement: who votes from now on.
    #[serde(default)]
    pub by: Option<String>,
    /// Give up after; 0: 20 s. 50 s at most.
    #[serde(default)]
    pub deadline_ms: u64,
}

/// `POST /admin/v1/nodes/remove`: answered with [`NodeRemoved`]. Giving an order twice does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOrder {
    /// The node.
    pub node: String,
    /// Answer after this time, done or not; 0: 20 s. 50 s at most.
    #[serde(default)]
    pub deadline_ms: u64,
}

/// How far the removal of a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRemoved {
    /// The node.
    pub node: String,
    /// It is out. If not, nothing was changed: give the order again.
    pub done: bool,
    /// The first 20 groups that count on it, with the reason.
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

/// `POST /admin/v1/groups/{group}/force`: an operator lets a node lead a group of which no member is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceOrder {
    /// The node.
    pub node: String,
    /// What was acknowledged and is not in its store is lost, and that is wanted.
    #[serde(default)]
    pub accept_data_loss: bool,
}

/// A group that is led by order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// The group.
    pub group: String,
    /// Who leads it.
    pub node: String,
    /// In which epoch.
    pub epoch: u64,
    /// What the node held of the group before; `None`: nothing, or the group was led already.
    #[serde(default)]
    pub copy: Option<HeldCopy>,
    /// What was lost.
    pub text: String,
}

/// How far a node's copy of a group's log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCopy {
    /// Place of its last record.
    pub seq: u64,
    /// Epoch of it: what was acknowledged in later ones is not in it.
    pub epoch: u64,
    /// When it was written (milliseconds since 1970); `None` if that lies in a checkpoint.
    pub at_ms: Option<u64>,
}

impl HeldCopy {
    /// In words, at this time (milliseconds since 1970).
    pub fn text(&self, now_ms: u64) -> String {
        let age = |at: u64| format!("written {} s ago", now_ms.saturating_sub(at) / 1_000);
        let when = self.at_ms.map_or_else(|| "in a checkpoint".to_owned(), age);
        format!("its copy ends at place {} of epoch {}, {when}", self.seq, self.epoch)
    }
}

/// `POST /admin/v1/deaths`: an operator confirms that nodes are dead, although many are. At the directory's leader only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeathsOrder {
    /// The nodes.
    pub nodes: Vec<String>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths {
    /// Dead in the directory now.
    pub dead: Vec<String>,
    /// Not: they still ask for leases, or their lease has not run out yet.
    pub alive: Vec<String>,
}

/// What a node said of itself by gossip (rows O01, O02).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeCapabilities {
    /// The node.
    pub node: String,
    /// Age of what it said; the asked node's own is 0.
    pub age_ms: u64,
    /// It still holds.
    pub fresh: bool,
    /// Processor, memory, accelerators, place, energy, APIs, trust.
    pub capabilities: onemec_runtime::membership::Capabilities,
    /// How busy it is.
    pub load: onemec_runtime::membership::Load,
}
