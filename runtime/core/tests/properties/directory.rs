//! The directory under random commands: names are unique, placements only rise, copies by snapshot are equal.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::{
    ALIASES_PER_GROUP_MAX, Attachment, CONTEXTS_PER_GROUP_MAX, Command, CommandOutcome, ContextSpec, Directory,
    Durability, Entry, Nonce, Placement, Refusal, Standing, StoreId,
};
use onemec_wire::{GroupId, Member, NodeId, Seq};
use proptest::prelude::*;

const NODES: u64 = 4;

/// Turns random bytes into commands that often fit the state.
struct Maker<'a> {
    bytes: std::slice::Iter<'a, u8>,
    boots: u64,
}

impl Maker<'_> {
    fn byte(&mut self) -> u64 {
        self.bytes.next().copied().map_or(0, u64::from)
    }
    fn node(&mut self) -> u64 {
        self.byte() % NODES + 1
    }
    fn member(&mut self, dir: &Directory) -> Member {
        let node = self.node();
        dir.node(NodeId(node)).map_or(Member::new(node, 1), |n| n.member)
    }
    fn group(&mut self, dir: &Directory) -> Option<(GroupId, Placement)> {
        let all: Vec<_> = dir.groups().map(|(g, p)| (g, p.clone())).collect();
        if all.is_empty() { None } else { Some(all[self.byte() as usize % all.len()].clone()) }
    }
    fn spec(&mut self) -> ContextSpec {
        let name = format!("k{}", self.byte() % 6);
        let key = match self.byte() % 3 {
            0 => Key::global(name),
            _ => Key::at(NodeId(self.node()), name),
        };
        ContextSpec { kind: ContextKind::AE, keys: vec![key], pinned: self.byte().is_multiple_of(5), bundle: None }
    }
    fn set(&mut self, dir: &Directory) -> BTreeSet<Member> {
        (0..self.byte() % 3).map(|_| self.member(dir)).collect()
    }

    fn attachment(&mut self, placement: &Placement) -> Option<Attachment> {
        let number = self.byte() % 4;
        placement.contexts.first().filter(|_| number < 3).map(|context| Attachment { context: *context, number })
    }

    fn command(&mut self, dir: &Directory) -> Command {
        let kind = self.byte() % 16;
        if kind < 2 {
            self.boots += 1;
            let (node, lost) = (self.node(), self.byte().is_multiple_of(4));
            let known = dir.node(NodeId(node)).map(|n| n.store);
            let store = known.filter(|_| !lost).unwrap_or(StoreId(1_000 + self.boots));
            return Command::NodeUp { member: Member::new(node, self.boots), store, info: BTreeMap::new() };
        }
        if kind < 4 {
            return Command::NodeDead { member: self.member(dir), forced: self.byte().is_multiple_of(2) };
        }
        let primary = self.member(dir);
        let mut in_sync = self.set(dir);
        in_sync.insert(primary);
        if kind < 6 {
            let contexts = (0..self.byte() % 3).map(|_| self.spec()).collect();
            let durability = if self.byte().is_multiple_of(2) { Durability::Disk } else { Durability::Replicated };
            let nonce = Nonce(u128::from(self.byte()));
            return Command::CreateGroup { nonce, primary, in_sync, durability, replicas_wanted: 2, contexts };
        }
        let Some((group, p)) = self.group(dir) else {
            return Command::SetFact { name: "x".into(), value: None };
        };
        let mut base = p.base(group);
        if self.byte().is_multiple_of(6) {
            base.version.0 = base.version.0.saturating_sub(1);
        }
        match kind {
            6 | 7 => {
                Command::Transfer { base, sealed: Seq(self.byte()), target: primary, attachment: self.attachment(&p) }
            }
            8 => {
                in_sync.insert(p.primary);
                Command::SetInSync { base, in_sync }
            }
            9 => Command::AddContext { base, nonce: Nonce(u128::from(self.byte()) + 1_000), spec: self.spec() },
            10 => match p.contexts.first() {
                Some(context) => Command::DeleteContext { base, context: *context },
                None => Command::Abort { base },
            },
            11 => Command::Force { base, primary },
            12 => match self.group(dir) {
                Some((other, q)) => {
                    let contexts = q.contexts.iter().copied().take(1 + (self.byte() % 2) as usize).collect();
                    Command::Regroup { into: base, from: q.base(other), sealed: Seq(9), contexts }
                }
                None => Command::Abort { base },
            },
            13 => {
                let context = p.contexts.first().copied().unwrap_or(onemec_wire::ContextId::made(9, 9, 9));
                Command::SetKeys { context, claim: self.spec().keys, release: self.spec().keys }
            }
            14 => match self.attachment(&p) {
                Some(attachment) => Command::Attach { attachment, node: p.primary.node },
                None => Command::Abort { base },
            },
            _ => Command::Abort { base },
        }
    }
}

fn check(dir: &Directory) -> Result<(), TestCaseError> {
    let mut keys: BTreeMap<Key, onemec_wire::ContextId> = BTreeMap::new();
    let mut listed = 0;
    for (group, p) in dir.groups() {
        prop_assert!(p.in_sync.contains(&p.primary), "{} is led from outside its set", group);
        prop_assert!(!p.contexts.is_empty() && p.contexts.len() <= CONTEXTS_PER_GROUP_MAX);
        let aliases: usize = p.contexts.iter().filter_map(|c| dir.context(*c)).map(|c| c.aliases.len()).sum();
        prop_assert!(aliases <= ALIASES_PER_GROUP_MAX);
        listed += p.contexts.len();
        for context in &p.contexts {
            let entry = dir.context(*context);
            prop_assert!(entry.is_some_and(|c| c.group == group), "I5, I6: {} is not in {}", context, group);
        }
    }
    prop_assert_eq!(listed, dir.contexts_after(None).count());
    for (id, c) in dir.contexts_after(None) {
        for (key, alias) in c.keys.iter().map(|k| (k, false)).chain(c.aliases.iter().map(|k| (k, true))) {
            let other = keys.insert(key.clone(), id).filter(|o| *o != id);
            prop_assert!(other.is_none(), "I5: {:?} belongs to {:?} and {}", key, other, id);
            let place = dir.place_by_key(key);
            prop_assert!(
                place.is_some_and(|p| p.context == id && p.alias == alias),
                "{:?} does not lead to {}",
                key,
                id
            );
        }
    }
    Ok(())
}

fn check_death(before: &Directory, after: &Directory, member: Member) -> Result<(), TestCaseError> {
    for (group, old) in before.groups().filter(|(_, p)| p.primary == member) {
        let Some(new) = after.group(group) else { continue };
        let live: BTreeSet<Member> = old.in_sync.iter().copied().filter(|m| after.is_live(*m)).collect();
        let is_synced = |m: &Member| after.node(m.node).is_some_and(|n| old.synced.contains(&(m.node, n.store)));
        if live.is_empty() {
            prop_assert!(
                new.primary == member || is_synced(&new.primary),
                "only a synced store may lead without a set"
            );
        } else {
            prop_assert!(live.contains(&new.primary), "rule 15: a live complete replica leads");
            prop_assert!(!live.iter().any(is_synced) || is_synced(&new.primary), "rule 15: a synced one first");
            prop_assert_eq!(&new.in_sync, &live);
        }
        prop_assert_eq!(&new.synced, &old.synced, "rule 6: deaths never change the synced set");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn names_are_unique_and_placements_only_rise(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        let mut dir = Directory::new(7);
        let mut maker = Maker { bytes: bytes.iter(), boots: 1 };
        for node in 1..=NODES {
            let up = Command::NodeUp { member: Member::new(node, 1), store: StoreId(node), info: BTreeMap::new() };
            dir.apply(node, &Entry { time_ms: 0, commands: vec![up] });
        }
        let (mut index, mut made) = (NODES, BTreeMap::new());
        while !maker.bytes.as_slice().is_empty() {
            index += 1;
            let command = maker.command(&dir);
            let before = dir.clone();
            let out = dir.apply(index, &Entry { time_ms: index, commands: vec![command.clone()] });
            prop_assert_eq!(out.outcomes.len(), 1);
            check(&dir)?;
            for (group, old) in before.groups() {
                if let Some(new) = dir.group(group) {
                    prop_assert!(new.epoch >= old.epoch && new.version >= old.version);
                    prop_assert!(new == old || new.version > old.version, "a change without a version: {:?}", command);
                    prop_assert!(new == old || out.groups.contains(&group));
                } else {
                    prop_assert!(dir.was_deleted(group) && out.groups.contains(&group));
                }
            }
            match (&command, &out.outcomes[0]) {
                (_, CommandOutcome::Refused(_)) => {
                    prop_assert_eq!(before.groups().collect::<Vec<_>>(), dir.groups().collect::<Vec<_>>());
                }
                (Command::CreateGroup { nonce, .. }, CommandOutcome::Created { group, .. }) => {
                    let first = *made.entry(*nonce).or_insert(*group);
                    prop_assert_eq!(first, *group, "one nonce, one group");
                }
                (Command::Transfer { attachment: Some(a), .. } | Command::Attach { attachment: a, .. }, _) => {
                    let count = |d: &Directory| d.context(a.context).map_or(0, |c| c.attached.count);
                    prop_assert_eq!(count(&before), a.number, "only the next re-attachment counts");
                    prop_assert_eq!(count(&dir), a.number + 1);
                }
                (Command::NodeDead { member, .. }, _) => check_death(&before, &dir, *member)?,
                _ => {}
            }
            if index.is_multiple_of(16) {
                let config = bincode::config::standard().with_fixed_int_encoding();
                let bytes = bincode::encode_to_vec(&dir, config).unwrap();
                let (copy, _): (Directory, usize) = bincode::decode_from_slice(&bytes, config).unwrap();
                prop_assert_eq!(&copy, &dir);
            }
        }
    }
}

fn spec(n: usize, home: u64, names: usize) -> ContextSpec {
    let keys = (0..names).map(|k| Key::at(NodeId(home), format!("c{n}k{k}"))).collect();
    ContextSpec { kind: ContextKind::AE, keys, pinned: false, bundle: None }
}

/// A directory with four nodes and one group of `contexts` contexts at node 1, each with `names` names.
fn grown(contexts: usize, names: usize) -> (Directory, GroupId, u64) {
    let mut dir = Directory::new(7);
    for node in 1..=NODES {
        let up = Command::NodeUp { member: Member::new(node, 1), store: StoreId(node), info: BTreeMap::new() };
        dir.apply(node, &Entry { time_ms: 0, commands: vec![up] });
    }
    let primary = Member::new(1, 1);
    let command = Command::CreateGroup {
        nonce: Nonce(1),
        primary,
        in_sync: [primary].into(),
        durability: Durability::Memory,
        replicas_wanted: 1,
        contexts: (0..contexts).map(|n| spec(n, 1, names)).collect(),
    };
    let out = dir.apply(NODES + 1, &Entry { time_ms: 1, commands: vec![command] });
    let CommandOutcome::Created { group, .. } = out.outcomes[0] else { panic!("{out:?}") };
    (dir, group, NODES + 1)
}

/// One command after the others.
fn run(dir: &mut Directory, command: Command) -> CommandOutcome {
    let index = dir.index() + 1;
    dir.apply(index, &Entry { time_ms: index, commands: vec![command] }).outcomes.remove(0)
}

fn transfer(dir: &Directory, group: GroupId, to: u64, attachment: Option<Attachment>) -> Command {
    let base = dir.group(group).unwrap().base(group);
    Command::Transfer { base, sealed: Seq(0), target: Member::new(to, 1), attachment }
}

#[test]
fn one_permission_makes_one_re_attachment() {
    let (mut dir, group, _) = grown(2, 1);
    let [context, other] = dir.group(group).unwrap().contexts[..] else { panic!("two contexts") };
    let number = |number| Attachment { context, number };
    let stands = |dir: &Directory, n, node| dir.standing(number(n), NodeId(node)).unwrap();
    assert_eq!(stands(&dir, 0, 2), Standing::Next);
    assert_eq!(stands(&dir, 1, 2), Standing::Unheard);

    // An operator's move and a failover leave it as it is: the device need not have heard of them.
    let moved = transfer(&dir, group, 3, None);
    assert_eq!(run(&mut dir, moved), CommandOutcome::Done);
    run(&mut dir, Command::NodeDead { member: Member::new(3, 1), forced: false });
    assert_eq!(stands(&dir, 0, 2), Standing::Next);

    // Asked at two nodes at once: the directory takes the first, the other changes nothing.
    let (to_2, to_4) =
        (transfer(&dir, group, 2, Some(number(0))), |dir: &Directory| transfer(dir, group, 4, Some(number(0))));
    assert_eq!(run(&mut dir, to_2), CommandOutcome::Done);
    let before = dir.group(group).cloned();
    let late = to_4(&dir);
    assert_eq!(run(&mut dir, late), CommandOutcome::Refused(Refusal::Attached { count: 1 }));
    assert_eq!(dir.group(group).cloned(), before);
    assert_eq!((stands(&dir, 0, 2), stands(&dir, 0, 4)), (Standing::Done, Standing::Spent));
    // The other context of the group came along; its own permission is used up where it is shown.
    let other = Attachment { context: other, number: 0 };
    assert_eq!(dir.standing(other, NodeId(2)), Some(Standing::Next));
    assert!(matches!(
        run(&mut dir, Command::Attach { attachment: other, node: NodeId(4) }),
        CommandOutcome::Refused(_)
    ));
    assert_eq!(run(&mut dir, Command::Attach { attachment: other, node: NodeId(2) }), CommandOutcome::Done);
    let again = run(&mut dir, Command::Attach { attachment: other, node: NodeId(2) });
    assert_eq!(again, CommandOutcome::Refused(Refusal::Attached { count: 1 }));

    // Moved on by others: what led to node 2 is no longer a repeat.
    let on = transfer(&dir, group, 4, None);
    run(&mut dir, on);
    assert_eq!((stands(&dir, 0, 2), stands(&dir, 1, 2)), (Standing::Spent, Standing::Next));
}

/// A creation that is proposed again after an unknown outcome makes one group, also without contexts.
#[test]
fn an_empty_group_is_made_once_per_nonce() {
    let (mut dir, group, _) = grown(1, 1);
    let create = |nonce| Command::CreateEmpty {
        nonce: Nonce(nonce),
        primary: Member::new(2, 1),
        durability: Durability::Disk,
        replicas_wanted: 2,
        begin: Seq(7),
    };
    let CommandOutcome::Created { group: first, contexts } = run(&mut dir, create(9)) else { panic!("not made") };
    let made = dir.group(first).unwrap();
    assert_eq!((contexts.len(), made.sealed, made.synced.len()), (0, Some(Seq(7)), 1));
    assert_eq!(run(&mut dir, create(9)), CommandOutcome::Created { group: first, contexts: Vec::new() });
    assert!(matches!(run(&mut dir, create(10)), CommandOutcome::Created { group, .. } if group != first));
    assert_eq!(dir.groups().count(), 3);
    assert_ne!(first, group);
}

#[test]
fn i8_a_full_group_takes_no_further_context() {
    let (mut dir, group, index) = grown(CONTEXTS_PER_GROUP_MAX - 1, 1);
    for (i, full) in [(1, false), (2, true)] {
        let base = dir.group(group).unwrap().base(group);
        let spec = spec(CONTEXTS_PER_GROUP_MAX + i, 1, 1);
        let command = Command::AddContext { base, nonce: Nonce(1 + i as u128), spec };
        let out = dir.apply(index + i as u64, &Entry { time_ms: 2, commands: vec![command] });
        let refused = CommandOutcome::Refused(Refusal::GroupFull { contexts_max: CONTEXTS_PER_GROUP_MAX as u32 });
        assert_eq!(out.outcomes[0] == refused, full, "{out:?}");
    }
    assert_eq!(dir.group(group).unwrap().contexts.len(), CONTEXTS_PER_GROUP_MAX);
}

#[test]
fn i8_a_travelling_group_forgets_its_oldest_names_first() {
    let (contexts, names) = (CONTEXTS_PER_GROUP_MAX, 3);
    let (mut dir, group, mut index) = grown(contexts, names);
    for home in [2, 3, 4] {
        index += 1;
        let base = dir.group(group).unwrap().base(group);
        let command = Command::Transfer { base, sealed: Seq(0), target: Member::new(home, 1), attachment: None };
        let out = dir.apply(index, &Entry { time_ms: index, commands: vec![command] });
        assert_eq!(out.outcomes[0], CommandOutcome::Done);
        check(&dir).unwrap();
    }
    // 64 contexts with three names each: the last home is remembered whole, of the one before it what fits.
    let known = |home: u64| {
        let all = (0..contexts).flat_map(|n| spec(n, home, names).keys);
        all.filter(|k| dir.place_by_key(k).is_some()).count()
    };
    assert_eq!((known(4), known(3)), (contexts * names, contexts * names));
    assert_eq!((known(2), known(1)), (ALIASES_PER_GROUP_MAX - contexts * names, 0));
}
