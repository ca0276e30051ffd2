//! Entries change the state here and nowhere else.

use std::collections::BTreeSet;

use onemec_wire::{ContextId, Epoch, GroupId, Member, Seq, Version};

use super::attachment::{Attached, Attachment};
use super::command::{Base, Command, CommandOutcome, ContextSpec, Entry, Nonce, Refusal};
use super::{
    CONTEXTS_PER_GROUP_MAX, ContextEntry, Directory, Durability, EntryOutcome, NONCE_MS_MAX, NONCES_MAX, Placement,
    Synced,
};
use crate::group::{Flaw, planted};

impl Directory {
    /// Applies the entry at `index`. Indexes rise; an index that was applied already does nothing.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> EntryOutcome {
        let mut out = EntryOutcome::default();
        if index <= self.index {
            return out;
        }
        self.index = index;
        self.time_ms = self.time_ms.max(entry.time_ms);
        self.forget_old_nonces();
        let mut ordinal = 0;
        for command in &entry.commands {
            let outcome = match self.execute(command, &mut ordinal, &mut out) {
                Ok(outcome) => outcome,
                Err(refusal) => CommandOutcome::Refused(refusal),
            };
            out.outcomes.push(outcome);
        }
        out
    }

    /// Raft entries that carry no commands (elections, membership) still move the index.
    pub fn skip(&mut self, index: u64) {
        self.index = self.index.max(index);
    }

    fn execute(
        &mut self,
        command: &Command,
        ordinal: &mut u32,
        out: &mut EntryOutcome,
    ) -> Result<CommandOutcome, Refusal> {
        match command {
            Command::NodeUp { member, store, info } => self.node_up(*member, *store, info.clone(), out)?,
            Command::NodeDead { member, forced } => self.node_dead(*member, *forced, out)?,
            Command::NodeRemove { node } => self.node_remove(*node, out)?,
            Command::CreateGroup { nonce, primary, in_sync, durability, replicas_wanted, contexts } => {
                let placement = (*primary, in_sync, *durability, *replicas_wanted);
                return self.create_group(*nonce, placement, contexts, ordinal, out);
            }
            Command::AddContext { base, nonce, spec } => return self.add_context(*base, *nonce, spec, ordinal, out),
            Command::DeleteContext { base, context } => self.delete_context(*base, *context, out)?,
            Command::SetInSync { base, in_sync } => self.set_in_sync(*base, in_sync, out)?,
            Command::SetSynced { base, synced } => self.set_synced(*base, synced, out)?,
            Command::Transfer { base, sealed, target, attachment } => {
                self.transfer(*base, (*sealed, *target), *attachment, out)?
            }
            Command::Attach { attachment, node } => self.attach(*attachment, *node)?,
            Command::Abort { base } => {
                self.change(*base, out)?;
            }
            Command::Regroup { into, from, sealed, contexts } => {
                self.regroup((*into, *from), *sealed, contexts, out)?
            }
            Command::SetKeys { context, claim, release } => self.set_keys(*context, claim, release)?,
            Command::SetBundle { context, bundle } => self.set_bundle(*context, bundle.clone(), out)?,
            Command::CreateEmpty { nonce, primary, durability, replicas_wanted, begin } => {
                let (durability, wanted) = (*durability, *replicas_wanted);
                return self.create_empty(*nonce, *primary, (durability, wanted), *begin, ordinal, out);
            }
            Command::DropEmpty { base } => {
                if !self.check(*base)?.contexts.is_empty() {
                    return Err(Refusal::NotAllowed("the group has contexts".into()));
                }
                self.groups.remove(&base.group);
                out.groups.insert(base.group);
            }
            Command::Force { base, primary } => self.force(*base, *primary, out)?,
            Command::AddFact { name, value } => {
                self.facts.entry(name.clone()).or_insert_with(|| value.clone());
            }
            Command::SetFact { name, value } => match value {
                Some(value) => drop(self.facts.insert(name.clone(), value.clone().into())),
                None => drop(self.facts.remove(name)),
            },
        }
        Ok(CommandOutcome::Done)
    }

    /// Every command on a group is a compare-and-set on (group, epoch, version) (rule 4).
    fn check(&self, base: Base) -> Result<&Placement, Refusal> {
        let p = self.groups.get(&base.group).ok_or(Refusal::NoGroup)?;
        if (p.epoch, p.version) == (base.epoch, base.version) || planted(Flaw::IgnoreBase) {
            Ok(p)
        } else {
            Err(Refusal::Stale { epoch: p.epoch, version: p.version })
        }
    }

    fn change(&mut self, base: Base, out: &mut EntryOutcome) -> Result<&mut Placement, Refusal> {
        self.check(base)?;
        let p = self.groups.get_mut(&base.group).ok_or(Refusal::NoGroup)?;
        p.version = p.version.next();
        out.groups.insert(base.group);
        Ok(p)
    }

    fn create_group(
        &mut self,
        nonce: Nonce,
        (primary, in_sync, durability, replicas_wanted): (Member, &BTreeSet<Member>, Durability, u8),
        contexts: &[ContextSpec],
        ordinal: &mut u32,
        out: &mut EntryOutcome,
    ) -> Result<CommandOutcome, Refusal> {
        if let Some(created) = self.created_before(nonce) {
            return Ok(created);
        }
        if !in_sync.contains(&primary) || contexts.is_empty() {
            return Err(Refusal::BadSet);
        }
        if let Some(dead) = in_sync.iter().find(|m| !self.is_live(**m)) {
            return Err(Refusal::NotLive(*dead));
        }
        check_contexts(contexts.len())?;
        self.check_specs(contexts)?;
        let group = self.insert_group((primary, in_sync.clone()), durability, replicas_wanted, Seq(0), ordinal);
        let ids: Vec<ContextId> = contexts.iter().map(|spec| self.insert_context(group, spec, ordinal)).collect();
        self.remember(nonce, group, &ids);
        out.groups.insert(group);
        Ok(CommandOutcome::Created { group, contexts: ids })
    }

    /// What a proposal under the same nonce created: proposed twice, executed once.
    fn created_before(&self, nonce: Nonce) -> Option<CommandOutcome> {
        let (_, group, contexts) = self.nonces.get(&nonce).filter(|_| !planted(Flaw::NonceReplayed))?;
        Some(CommandOutcome::Created { group: *group, contexts: contexts.clone() })
    }

    /// A group without contexts, whose log begins after `begin`.
    fn insert_group(
        &mut self,
        (primary, in_sync): (Member, BTreeSet<Member>),
        durability: Durability,
        replicas_wanted: u8,
        begin: Seq,
        ordinal: &mut u32,
    ) -> GroupId {
        let group = GroupId::made(self.generation, self.index, take(ordinal));
        let synced = match durability {
            Durability::Disk => self.synced_of(primary),
            Durability::Memory | Durability::Replicated => Synced::new(),
        };
        let placement = Placement {
            epoch: Epoch(1),
            version: Version(1),
            primary,
            in_sync,
            synced,
            sealed: Some(begin),
            durability,
            replicas_wanted,
            contexts: Vec::new(),
        };
        self.groups.insert(group, placement);
        group
    }

    fn add_context(
        &mut self,
        base: Base,
        nonce: Nonce,
        spec: &ContextSpec,
        ordinal: &mut u32,
        out: &mut EntryOutcome,
    ) -> Result<CommandOutcome, Refusal> {
        if let Some(created) = self.created_before(nonce) {
            return Ok(created);
        }
        check_contexts(self.check(base)?.contexts.len() + 1)?;
        self.check_specs(std::slice::from_ref(spec))?;
        self.change(base, out)?;
        let context = self.insert_context(base.group, spec, ordinal);
        self.remember(nonce, base.group, &[context]);
        Ok(CommandOutcome::Created { group: base.group, contexts: vec![context] })
    }

    fn check_specs(&self, specs: &[ContextSpec]) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for key in specs.iter().flat_map(|s| &s.keys) {
            if !seen.insert(key) {
                return Err(Refusal::NotAllowed(format!("key {key:?} twice in one command")));
            }
        }
        specs.iter().try_for_each(|spec| self.check_free(&spec.keys, None))
    }

    fn insert_context(&mut self, group: GroupId, spec: &ContextSpec, ordinal: &mut u32) -> ContextId {
        let context = ContextId::made(self.generation, self.index, take(ordinal));
        let Some(p) = self.groups.get_mut(&group) else { return context };
        p.contexts.push(context);
        let entry = ContextEntry {
            kind: spec.kind,
            group,
            home: p.primary.node,
            pinned: spec.pinned,
            keys: spec.keys.clone(),
            aliases: Vec::new(),
            bundle: spec.bundle.clone(),
            attached: Attached::default(),
        };
        self.homes.entry((entry.home, entry.kind)).or_default().insert(context);
        self.contexts.insert(context, entry);
        self.enter_bundle(context, spec.bundle.clone());
        self.claim(&spec.keys, context);
        context
    }

    fn delete_context(&mut self, base: Base, context: ContextId, out: &mut EntryOutcome) -> Result<(), Refusal> {
        if !self.check(base)?.contexts.contains(&context) {
            return Err(Refusal::NoContext);
        }
        self.release_keys(context);
        self.enter_bundle(context, None);
        if let Some(entry) = self.contexts.remove(&context) {
            self.leave_home(entry.home, entry.kind, context);
        }
        let p = self.change(base, out)?;
        p.contexts.retain(|c| *c != context);
        if p.contexts.is_empty() {
            self.groups.remove(&base.group);
        }
        Ok(())
    }

    fn set_in_sync(&mut self, base: Base, in_sync: &BTreeSet<Member>, out: &mut EntryOutcome) -> Result<(), Refusal> {
        let p = self.check(base)?;
        if !in_sync.contains(&p.primary) {
            return Err(Refusal::BadSet);
        }
        let added = in_sync.difference(&p.in_sync);
        if let Some(dead) = added.copied().find(|m| !self.is_live(*m)) {
            return Err(Refusal::NotLive(dead));
        }
        self.change(base, out)?.in_sync = in_sync.clone();
        Ok(())
    }

    fn set_synced(&mut self, base: Base, synced: &Synced, out: &mut EntryOutcome) -> Result<(), Refusal> {
        let p = self.check(base)?;
        if synced.is_empty() && p.durability == Durability::Disk {
            return Err(Refusal::BadSet);
        }
        self.change(base, out)?.synced = synced.clone();
        Ok(())
    }

    /// Rule 8: applies only if the target is live and the names are free at its home; the set becomes old ∪ target.
    fn transfer(
        &mut self,
        base: Base,
        (sealed, target): (Seq, Member),
        attachment: Option<Attachment>,
        out: &mut EntryOutcome,
    ) -> Result<(), Refusal> {
        let p = self.check(base)?;
        if p.primary == target {
            return Err(Refusal::NotAllowed(format!("{target} is primary already")));
        }
        if !self.is_live(target) {
            return Err(Refusal::NotLive(target));
        }
        self.check_home(base.group, target.node)?;
        if let Some(attachment) = attachment {
            self.check_attachment(base.group, attachment)?;
            self.count_attachment(attachment, target.node);
        }
        let p = self.change(base, out)?;
        p.epoch = p.epoch.next();
        p.primary = target;
        p.in_sync.insert(target);
        p.sealed = Some(sealed);
        self.move_home(base.group, target.node);
        Ok(())
    }

    /// Rule 16: one entry, epoch = max + 1, both groups sealed by their common leader. The state travels in the log of
    /// `into`, so that the sets need not be equal; but what was held by many is not given to fewer.
    fn regroup(
        &mut self,
        (into, from): (Base, Base),
        sealed: Seq,
        contexts: &[ContextId],
        out: &mut EntryOutcome,
    ) -> Result<(), Refusal> {
        let a = self.check(into)?;
        let b = self.check(from)?;
        let known = contexts.iter().all(|c| b.contexts.contains(c)) && !contexts.is_empty();
        if into.group == from.group || (a.primary, a.durability) != (b.primary, b.durability) || !known {
            return Err(Refusal::NotAllowed("a regroup needs two groups with one leader and one durability".into()));
        }
        if a.in_sync.len() < b.in_sync.len() {
            return Err(Refusal::BadSet);
        }
        check_contexts(a.contexts.len() + contexts.len())?;
        let epoch = a.epoch.max(b.epoch).next();
        for context in contexts {
            if let Some(entry) = self.contexts.get_mut(context) {
                entry.group = into.group;
            }
        }
        let rest = self.change(from, out)?;
        rest.contexts.retain(|c| !contexts.contains(c));
        if rest.contexts.is_empty() {
            self.groups.remove(&from.group);
        }
        let p = self.change(into, out)?;
        p.epoch = epoch;
        p.sealed = Some(sealed);
        p.contexts.extend(contexts);
        self.trim_aliases(into.group);
        Ok(())
    }

    fn set_bundle(
        &mut self,
        context: ContextId,
        bundle: Option<String>,
        out: &mut EntryOutcome,
    ) -> Result<(), Refusal> {
        let group = self.contexts.get(&context).ok_or(Refusal::NoContext)?.group;
        self.enter_bundle(context, bundle);
        out.groups.insert(group);
        Ok(())
    }

    fn create_empty(
        &mut self,
        nonce: Nonce,
        primary: Member,
        (durability, replicas_wanted): (Durability, u8),
        begin: Seq,
        ordinal: &mut u32,
        out: &mut EntryOutcome,
    ) -> Result<CommandOutcome, Refusal> {
        if let Some(created) = self.created_before(nonce) {
            return Ok(created);
        }
        if !self.is_live(primary) {
            return Err(Refusal::NotLive(primary));
        }
        let set = BTreeSet::from([primary]);
        let group = self.insert_group((primary, set), durability, replicas_wanted, begin, ordinal);
        self.remember(nonce, group, &[]);
        out.groups.insert(group);
        Ok(CommandOutcome::Created { group, contexts: Vec::new() })
    }

    fn force(&mut self, base: Base, primary: Member, out: &mut EntryOutcome) -> Result<(), Refusal> {
        let p = self.check(base)?;
        if self.is_live(p.primary) {
            return Err(Refusal::NotAllowed(format!("primary {} is alive", p.primary)));
        }
        if !self.is_live(primary) {
            return Err(Refusal::NotLive(primary));
        }
        self.install_primary(base.group, primary, BTreeSet::from([primary]), out);
        Ok(())
    }

    fn synced_of(&self, member: Member) -> Synced {
        self.nodes.get(&member.node).map(|n| (member.node, n.store)).into_iter().collect()
    }

    fn remember(&mut self, nonce: Nonce, group: GroupId, contexts: &[ContextId]) {
        self.nonces.insert(nonce, (self.time_ms, group, contexts.to_vec()));
    }

    fn forget_old_nonces(&mut self) {
        if self.nonces.len() < NONCES_MAX / 2 {
            return;
        }
        let oldest = self.time_ms.saturating_sub(NONCE_MS_MAX);
        self.nonces.retain(|_, (at, _, _)| *at >= oldest);
        while self.nonces.len() >= NONCES_MAX {
            let Some(first) = self.nonces.iter().min_by_key(|(_, (at, _, _))| *at).map(|(n, _)| *n) else { return };
            self.nonces.remove(&first);
        }
    }
}

/// May a group have so many contexts (I8)?
fn check_contexts(contexts: usize) -> Result<(), Refusal> {
    let full = Refusal::GroupFull { contexts_max: CONTEXTS_PER_GROUP_MAX as u32 };
    if contexts <= CONTEXTS_PER_GROUP_MAX { Ok(()) } else { Err(full) }
}

fn take(ordinal: &mut u32) -> u32 {
    let mine = *ordinal;
    *ordinal += 1;
    mine
}
