//! Bugs that were found and mended; each test begins with the story of its bug. simulation/FOUND.md has the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::bundles::Step;
use onemec_core::directory::{
    CONTEXTS_PER_GROUP_MAX, Command, CommandOutcome, ContextSpec, Directory, Durability, Entry, Nonce, Placement,
    Refusal, StoreId, Synced,
};
use onemec_core::group::{
    Goal, GroupBody, GroupMessage, GroupTiming, Input, Live, LogShape, Me, MoveId, MoveOrder, Output, Position, Replica,
};
use onemec_core::time::Mono;
use onemec_wire::{Epoch, GroupId, Member, Seq, Version};

const GROUP: GroupId = GroupId::made(1, 1, 0);
const A: Member = Member::new(1, 1);
const B: Member = Member::new(2, 2);
const C: Member = Member::new(3, 3);

fn live() -> Live {
    Live::new([A, B, C].map(|m| (m, StoreId(m.node.0))))
}

fn placement(epoch: u64, in_sync: &[Member], durability: Durability, sealed: Option<Seq>) -> Placement {
    Placement {
        epoch: Epoch(epoch),
        version: Version(epoch),
        primary: A,
        in_sync: in_sync.iter().copied().collect(),
        synced: Synced::new(),
        sealed,
        durability,
        replicas_wanted: 2,
        contexts: Vec::new(),
    }
}

struct Node {
    replica: Replica,
    out: Vec<Output>,
}

impl Node {
    fn new(timing: GroupTiming, log: LogShape) -> Self {
        let me = Me { group: GROUP, member: A, store: StoreId(1) };
        Self { replica: Replica::new(me, timing, log, Epoch(0), Mono::from_ms(0)), out: Vec::new() }
    }
    fn step(&mut self, ms: u64, input: Input) -> &[Output] {
        self.out.clear();
        self.replica.step(Mono::from_ms(ms), input, &mut self.out);
        &self.out
    }
    fn placed(&mut self, ms: u64, placement: Placement) -> &[Output] {
        self.step(ms, Input::Placement { placement: Some(placement), live: live() })
    }
    fn told(&mut self, ms: u64, from: Member, epoch: u64, body: GroupBody) -> &[Output] {
        let message = GroupMessage { group: GROUP, epoch: Epoch(epoch), body };
        self.step(ms, Input::Peer { from, message, records: Vec::new() })
    }
}

fn ack(held: u64) -> GroupBody {
    GroupBody::Ack { held: Seq(held), synced: Seq(0) }
}

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn proposals(out: &[Output]) -> Vec<&Command> {
    out.iter().filter_map(|o| if let Output::Propose(c) = o { Some(c) } else { None }).collect()
}

/// Seed 2: a `replicated` group fell to one live member with records that were not committed. It could not open below its
/// minimum of two, and a set was repaired only while the gate was open: the group was gone for ever.
#[test]
fn a_closed_group_below_its_minimum_is_repaired() {
    let log = LogShape::recovered(at(0, 0), [at(1, 1)], true);
    let mut a = Node::new(GroupTiming::default(), log);
    a.placed(0, placement(2, &[A], Durability::Replicated, None));
    assert!(!a.replica.is_open());
    let asks = a
        .step(600, Input::Tick)
        .iter()
        .any(|o| matches!(o, Output::Send { message, .. } if matches!(message.body, GroupBody::Append { .. })));
    assert!(asks, "somebody is asked to become a member");
}

/// Seed 28: after an idle time the first write made every backup look overdue, since its silence was counted from its last
/// word and not from when it began to owe one: the primary threw its healthy backup out of the set.
#[test]
fn a_write_after_an_idle_hour_does_not_shrink_the_set() {
    let mut a = Node::new(GroupTiming::default(), LogShape::new());
    a.placed(0, placement(1, &[A, B], Durability::Memory, Some(Seq(0))));
    a.replica.next_place().unwrap();
    let out = a.step(3_600_000, Input::Appended);
    assert_eq!(proposals(out), Vec::<&Command>::new());
}

/// Seeds 4, 15, 28, 45, 46: a replica said how much of its log agreed, records were sent from there, but the window was
/// counted from zero: with a longer common log nothing was ever sent, nor asked again.
#[test]
fn the_window_counts_from_where_the_logs_agree() {
    let timing = GroupTiming { window_max: 4, ..GroupTiming::default() };
    let mut a = Node::new(timing, LogShape::recovered(at(0, 0), (1..=20).map(|s| at(1, s)), true));
    a.placed(0, placement(2, &[A, B], Durability::Memory, None));
    let out = a.told(1, B, 2, GroupBody::Mismatch { nearest: at(1, 18) });
    assert!(out.iter().any(|o| matches!(o, Output::SendRecords { from: Seq(19), upto: Seq(20), .. })), "{out:?}");
}

/// Seeds 240 and 378: while a transfer's outcome was unknown, the directory's word that some node had come up (the same
/// placement, another list of the living) was taken for the decision: the source thawed and acknowledged, then the transfer
/// was applied with the old sealed sequence, and the acknowledged operation was lost (rule 9).
#[test]
fn news_of_another_node_does_not_end_a_transfer() {
    let mut a = Node::new(GroupTiming::default(), LogShape::new());
    let here = placement(1, &[A, B], Durability::Memory, Some(Seq(0)));
    a.placed(0, here.clone());
    a.told(1, B, 1, ack(0));
    let order = MoveOrder { id: MoveId(1), goal: Goal::Hand(B), attachment: None, until: Mono::from_ms(1_000) };
    let out = a.step(2, Input::Move(order));
    assert!(matches!(proposals(out)[..], [Command::Transfer { .. }]), "{out:?}");
    let out = a.placed(3, here);
    assert!(!out.iter().any(|o| matches!(o, Output::Gate { open: true, .. } | Output::MoveEnded { .. })), "{out:?}");
    assert!(a.replica.next_place().is_err());
}

/// By reading: a primary that was told of a newer epoch stepped down and forgot why. The next word of a directory that
/// lagged made it begin the same epoch again, and the same positions were filled with other records.
#[test]
fn an_epoch_is_never_begun_twice() {
    let mut a = Node::new(GroupTiming::default(), LogShape::new());
    let here = placement(1, &[A, B], Durability::Memory, Some(Seq(0)));
    a.placed(0, here.clone());
    a.step(1, Input::Appended);
    a.told(2, B, 1, GroupBody::Stale { seen: Epoch(2) });
    a.placed(3, here);
    assert_eq!(a.replica.leads(), None);
}

/// By reading: a history that was sent twice, or came late, replaced the records that its receiver had acknowledged since.
#[test]
fn a_late_history_is_not_wanted() {
    let log = LogShape::recovered(at(1, 5), (6..=9).map(|s| at(1, s)), true);
    let a = Node::new(GroupTiming::default(), log);
    assert!(!a.replica.wants_history(at(1, 5), Epoch(1)));
    assert!(!a.replica.wants_history(at(1, 7), Epoch(1)));
    assert!(a.replica.wants_history(at(1, 12), Epoch(1)));
    assert!(a.replica.wants_history(at(2, 8), Epoch(2)), "what it holds there is not what was committed");
}

/// By reading: a replica that was to be added counted for every acknowledgement, and went on counting when it no longer
/// answered although it was alive (a link cut one way): nothing was committed until the link came back.
#[test]
fn an_addition_that_does_not_answer_is_given_up() {
    let mut a = Node::new(GroupTiming::default(), LogShape::new());
    a.placed(0, placement(1, &[A], Durability::Memory, Some(Seq(0))));
    a.step(500, Input::Tick);
    let mut asked = BTreeSet::new();
    for ms in (510..1_500).step_by(10) {
        asked.extend(a.replica.peers().map(|(m, _, _)| m));
        a.step(ms, Input::Tick);
    }
    assert_eq!(asked, BTreeSet::from([B, C]), "each is asked in turn");
}

fn create(dir: &mut Directory, index: u64, primary: Member, keys: Vec<Key>) -> CommandOutcome {
    let spec = ContextSpec { kind: ContextKind::AE, keys, pinned: false, bundle: None };
    let command = Command::CreateGroup {
        nonce: Nonce(u128::from(index)),
        primary,
        in_sync: BTreeSet::from([primary]),
        durability: Durability::Memory,
        replicas_wanted: 1,
        contexts: vec![spec],
    };
    dir.apply(index, &Entry { time_ms: index, commands: vec![command] }).outcomes.remove(0)
}

/// By reading: two contexts of one group with one name at two homes (a failover leaves a home where its name is taken) were
/// moved to a third home, where both got the same key (I5).
#[test]
fn two_contexts_of_a_group_do_not_meet_under_one_name() {
    let mut dir = Directory::new(1);
    for (i, m) in [A, B, C].into_iter().enumerate() {
        let up = Command::NodeUp { member: m, store: StoreId(m.node.0), info: BTreeMap::new() };
        dir.apply(i as u64 + 1, &Entry { time_ms: 0, commands: vec![up] });
    }
    let CommandOutcome::Created { group, .. } = create(&mut dir, 4, A, vec![Key::at(A.node, "n")]) else { panic!() };
    let base = dir.group(group).unwrap().base(group);
    let spec = ContextSpec { kind: ContextKind::AE, keys: vec![Key::at(B.node, "n")], pinned: false, bundle: None };
    let add = Command::AddContext { base, nonce: Nonce(9), spec };
    dir.apply(5, &Entry { time_ms: 0, commands: vec![add] });
    let base = dir.group(group).unwrap().base(group);
    let transfer = Command::Transfer { base, sealed: Seq(0), target: C, attachment: None };
    let out = dir.apply(6, &Entry { time_ms: 0, commands: vec![transfer] });
    assert!(matches!(out.outcomes[..], [CommandOutcome::Refused(Refusal::KeyTaken { .. })]), "{out:?}");
}

/// An executor that crashed is made anew from its store within its own reign. It took the seal of the move that had begun
/// the reign for the end of its log, and cut off what it had acknowledged since.
#[test]
fn an_executor_made_anew_keeps_what_its_reign_logged() {
    let log = LogShape::recovered(at(0, 0), [at(1, 1), at(2, 2), at(2, 3)], true);
    let mut a = Node::new(GroupTiming::default(), log);
    let out = a.placed(0, placement(2, &[A, B], Durability::Replicated, Some(Seq(1)))).to_vec();
    assert!(!out.iter().any(|o| matches!(o, Output::Truncate(_))), "{out:?}");
    a.told(1, B, 2, ack(3));
    assert_eq!((a.replica.commit(), a.replica.is_open()), (Seq(3), true));
}

/// An executor proposed a transfer, crashed, and was made anew within the same boot and epoch. It knew nothing of the transfer,
/// opened its gate, and acknowledged what the transfer, applied a moment later, cut off (rule 9). The same with a proposed
/// addition: it was applied, and the member lacked what had been acknowledged without it (rule 5).
#[test]
fn an_executor_made_anew_settles_what_was_proposed_before_it_opens() {
    let here = placement(2, &[A, B], Durability::Memory, None);
    let mut a = Node::new(GroupTiming::default(), LogShape::recovered(at(0, 0), [at(1, 1), at(2, 2)], true));
    a.replica = a.replica.after_crash((here.epoch, here.version));
    let out = a.placed(0, here.clone()).to_vec();
    assert_eq!(proposals(&out), [&Command::Abort { base: here.base(GROUP) }]);
    a.told(1, B, 2, ack(2));
    assert_eq!((a.replica.commit(), a.replica.is_open()), (Seq(2), false), "held by all, but not settled");
    // Who is alive changes nothing; a lost proposal is repeated.
    a.placed(2, here.clone());
    let again = a.step(1_000, Input::Tick).to_vec();
    assert!(proposals(&again).contains(&&Command::Abort { base: here.base(GROUP) }), "{again:?}");
    assert!(!a.replica.is_open());
    let settled = Placement { version: here.version.next(), ..here };
    a.placed(1_001, settled);
    assert!(a.replica.is_open(), "a version of its own settles it");
}

/// By reading: a device with more AEs than a group may have contexts asked the directory for ever to join a group that was
/// full. What finds no room stays where it is (I8).
#[test]
fn a_bundle_larger_than_a_group_comes_to_rest() {
    let mut dir = Directory::new(1);
    let up = Command::NodeUp { member: A, store: StoreId(A.node.0), info: BTreeMap::new() };
    dir.apply(1, &Entry { time_ms: 0, commands: vec![up] });
    let spec = ContextSpec { kind: ContextKind::AE, keys: Vec::new(), pinned: false, bundle: Some("device".into()) };
    let mut make = |index: u64, contexts: usize| {
        let command = Command::CreateGroup {
            nonce: Nonce(u128::from(index)),
            primary: A,
            in_sync: BTreeSet::from([A]),
            durability: Durability::Memory,
            replicas_wanted: 1,
            contexts: vec![spec.clone(); contexts],
        };
        let out = dir.apply(index, &Entry { time_ms: 0, commands: vec![command] });
        assert!(matches!(out.outcomes[..], [CommandOutcome::Created { .. }]), "{out:?}");
        dir.bundle_steps(A)
    };
    assert_eq!(make(2, CONTEXTS_PER_GROUP_MAX - 1), []);
    let steps = make(3, 3);
    assert!(matches!(&steps[..], [Step::Join { contexts, .. }] if contexts.len() == 1), "as many as fit: {steps:?}");
    let Some(Step::Join { from, into, contexts }) = steps.into_iter().next() else { panic!() };
    let (into, from) = (dir.group(into).unwrap().base(into), dir.group(from).unwrap().base(from));
    let regroup = Command::Regroup { into, from, sealed: Seq(0), contexts };
    dir.apply(4, &Entry { time_ms: 0, commands: vec![regroup] });
    assert_eq!(dir.bundle_steps(A), [], "two stay where they are");
}

/// By reading: a node made an empty group for contexts that were to part, and died. Nobody else had a copy, so nobody could lead
/// it, and it stood in the directory for ever.
#[test]
fn an_empty_group_goes_with_the_node_that_was_to_fill_it() {
    let mut dir = Directory::new(1);
    for (i, m) in [A, B, C].into_iter().enumerate() {
        let up = Command::NodeUp { member: m, store: StoreId(m.node.0), info: BTreeMap::new() };
        dir.apply(i as u64 + 1, &Entry { time_ms: 0, commands: vec![up] });
    }
    let (nonce, begin) = (Nonce(7), Seq(100));
    let empty = Command::CreateEmpty { nonce, primary: A, durability: Durability::Disk, replicas_wanted: 2, begin };
    let dead = Command::NodeDead { member: A, forced: false };
    let out = dir.apply(4, &Entry { time_ms: 0, commands: vec![empty] });
    let [CommandOutcome::Created { group, .. }] = out.outcomes[..] else { panic!("{out:?}") };
    dir.apply(5, &Entry { time_ms: 0, commands: vec![dead] });
    assert!(dir.group(group).is_none() && dir.was_deleted(group));
}
