//! Names: unique keys, their swap when a context changes its home, and aliases of former homes (rule 17).

use std::collections::BTreeMap;

use onemec_wire::{ContextId, GroupId, NodeId};

use super::{ALIASES_PER_GROUP_MAX, Directory, KeyEntry, Refusal};
use crate::context::{ContextKind, Key};

/// Names of one context (I8).
const KEYS_PER_CONTEXT_MAX: usize = 10_000;

impl Directory {
    /// Fails if one of `keys` belongs to a context other than `claimant`. An alias is as good as a present name: requests
    /// for it must keep reaching the context that moved away (I7).
    pub(super) fn check_free(&self, keys: &[Key], claimant: Option<ContextId>) -> Result<(), Refusal> {
        for key in keys {
            if let Some(entry) = self.keys.get(key)
                && Some(entry.context) != claimant
            {
                return Err(Refusal::KeyTaken { key: key.clone(), holder: entry.context });
            }
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, keys: &[Key], context: ContextId) {
        for key in keys {
            self.keys.insert(key.clone(), KeyEntry { context, alias: false });
        }
    }

    /// [`super::Command::SetKeys`]
    pub(super) fn set_keys(&mut self, context: ContextId, claim: &[Key], release: &[Key]) -> Result<(), Refusal> {
        let entry = self.contexts.get(&context).ok_or(Refusal::NoContext)?;
        self.check_free(claim, Some(context))?;
        let new: Vec<Key> = claim.iter().filter(|k| !entry.keys.contains(k)).cloned().collect();
        if entry.keys.len() + new.len() > KEYS_PER_CONTEXT_MAX + release.len() {
            return Err(Refusal::NotAllowed(format!("a context has no more than {KEYS_PER_CONTEXT_MAX} names")));
        }
        if new.iter().any(|k| k.home.is_some_and(|home| home != entry.home)) {
            return Err(Refusal::NotAllowed("a context has names at its own home only".into()));
        }
        let Some(entry) = self.contexts.get_mut(&context) else { return Err(Refusal::NoContext) };
        entry.keys.retain(|k| !release.contains(k));
        entry.keys.extend(new.iter().cloned());
        for key in release {
            if self.keys.get(key).is_some_and(|e| e.context == context && !e.alias) {
                self.keys.remove(key);
            }
        }
        self.claim(&new, context);
        Ok(())
    }

    /// The names that a context would have with its home at `home`.
    fn keys_at(&self, context: ContextId, home: NodeId) -> Vec<Key> {
        let Some(entry) = self.contexts.get(&context) else { return Vec::new() };
        if entry.pinned {
            return entry.keys.clone();
        }
        entry.keys.iter().map(|k| Key { home: k.home.map(|_| home), name: k.name.clone() }).collect()
    }

    /// Fails if a context of the group could not have its home at `home` because a name is taken there.
    pub(super) fn check_home(&self, group: GroupId, home: NodeId) -> Result<(), Refusal> {
        let Some(placement) = self.groups.get(&group) else { return Err(Refusal::NoGroup) };
        // Two contexts of one group may have homes of their own (a failover leaves a home where its names are taken): they
        // must not meet under one name.
        let mut seen = BTreeMap::new();
        for context in &placement.contexts {
            let keys = self.keys_at(*context, home);
            self.check_free(&keys, Some(*context))?;
            for key in keys {
                if let Some(holder) = seen.insert(key.clone(), *context)
                    && holder != *context
                {
                    return Err(Refusal::KeyTaken { key, holder });
                }
            }
        }
        Ok(())
    }

    /// Moves the home of all contexts of a group that are not pinned; `check_home` has passed.
    pub(super) fn move_home(&mut self, group: GroupId, home: NodeId) {
        let Some(placement) = self.groups.get(&group) else { return };
        for context in placement.contexts.clone() {
            let new = self.keys_at(context, home);
            let Some(entry) = self.contexts.get_mut(&context) else { continue };
            if entry.pinned || entry.home == home {
                continue;
            }
            let from = std::mem::replace(&mut entry.home, home);
            let kind = entry.kind;
            let old = std::mem::replace(&mut entry.keys, new.clone());
            entry.aliases.retain(|k| !new.contains(k));
            entry.aliases.extend(old.iter().filter(|k| !new.contains(k)).cloned());
            let aliases = entry.aliases.clone();
            for key in aliases {
                self.keys.insert(key, KeyEntry { context, alias: true });
            }
            self.claim(&new, context);
            self.leave_home(from, kind, context);
            self.homes.entry((home, kind)).or_default().insert(context);
        }
        self.trim_aliases(group);
    }

    /// Takes a context out of the index by home.
    pub(super) fn leave_home(&mut self, home: NodeId, kind: ContextKind, context: ContextId) {
        if let Some(ids) = self.homes.get_mut(&(home, kind)) {
            ids.remove(&context);
            if ids.is_empty() {
                self.homes.remove(&(home, kind));
            }
        }
    }

    /// Forgets the aliases of a group that are over its bound.
    pub(super) fn trim_aliases(&mut self, group: GroupId) {
        let Some(placement) = self.groups.get(&group) else { return };
        let count = |c: &ContextId| self.contexts.get(c).map_or(0, |e| e.aliases.len());
        let mut counts: Vec<(usize, ContextId)> = placement.contexts.iter().map(|c| (count(c), *c)).collect();
        let mut all: usize = counts.iter().map(|(n, _)| n).sum();
        while all > ALIASES_PER_GROUP_MAX {
            // Of several with equally many the first created, so that every node decides alike.
            let Some((n, context)) = counts.iter_mut().max_by_key(|(n, c)| (*n, std::cmp::Reverse(*c))) else { return };
            if let Some(entry) = self.contexts.get_mut(context) {
                let oldest = entry.aliases.remove(0);
                self.keys.remove(&oldest);
            }
            (*n, all) = (*n - 1, all - 1);
        }
    }

    /// Frees all names of a context.
    pub(super) fn release_keys(&mut self, context: ContextId) {
        if let Some(entry) = self.contexts.get(&context) {
            for key in entry.keys.iter().chain(&entry.aliases) {
                self.keys.remove(key);
            }
        }
    }
}
