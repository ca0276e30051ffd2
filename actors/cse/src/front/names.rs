//! Names of the children of a CSEBase (rule 17): AEs are contexts of their own and have theirs in the directory, so the
//! other children claim theirs there as well. The claim comes first, the resource after it; a claim without a resource is
//! given up, by whoever made it or by the next AE that wants the name.

use bytes::Bytes;
use onemec_core::context::{CallOptions, ContextKind, CreateError, Key, Place};
use onemec_onem2m::id::is_name;
use onemec_onem2m::{CseIdentity, Refusal, Rsc, Ty};
use onemec_wire::ContextId;

use super::exec::{Done, Trouble};
use super::locate::base_key;
use super::{Cse, Inner};
use crate::access::Stop;
use crate::op::{Action, Write};
use crate::tree::{Start, Target};

impl Cse {
    /// A child of a CSEBase that is served here is gone.
    pub(crate) async fn give_up_name(&self, base: ContextId, name: &str) -> Result<(), Refusal> {
        self.inner.give_up_name(base, name).await.map_err(Trouble::refusal)
    }
}

impl Inner {
    /// CREATE of a child of a CSEBase that is no AE. `given` is the name in its representation.
    pub(super) async fn create_base_child(
        &self,
        base: &Place,
        mut write: Write,
        given: Option<String>,
        body: Bytes,
        call: &CallOptions,
    ) -> Result<Done, Trouble> {
        let Action::Create(ty) = write.action else {
            return Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "this creates nothing").into());
        };
        let name = match given {
            Some(name) if !is_name(&name) => return self.write(base, write, body, call).await,
            Some(name) => name,
            None => self.stems.name(Ty(ty).info().map_or("res", |i| i.short)),
        };
        write.name = Some(name.clone());
        self.look_first(base, &write, &body)?;
        let (key, host) = (Key::at(base.home, format!("rn:{name}")), write.home.identity());
        let is_new = self.contexts.by_key(&key).is_none_or(|holder| holder.context != base.context);
        if is_new {
            self.claim_name(base, &key).await?;
        }
        let done = self.write(base, write, body, call).await;
        match &done {
            Err(Trouble::Unknown(_)) => {}
            Err(_) if is_new => drop(self.contexts.set_keys(base.context, Vec::new(), vec![key]).await),
            Err(_) => {}
            // An earlier child of this name may have gone meanwhile, and its name with it.
            Ok(_) if self.contexts.by_key(&key).is_none_or(|holder| holder.context != base.context) => {
                if let Err(trouble) = self.claim_name(base, &key).await {
                    self.take_back(base, name, &host, call).await;
                    return Err(trouble);
                }
            }
            Ok(_) => {}
        }
        done
    }

    /// What is refused anyway claims no name: as far as this node can tell without asking others.
    fn look_first(&self, base: &Place, write: &Write, body: &Bytes) -> Result<(), Refusal> {
        let Some(served) = self.index.open(base.context) else { return Ok(()) };
        let tree = served.tree.read();
        match crate::machine::plan(&tree, &*served.history, self.contexts.now_ms(), write, body) {
            Err(Stop::Refused(refusal)) => Err(refusal),
            Ok(()) | Err(Stop::Needs(_)) => Ok(()),
        }
    }

    async fn claim_name(&self, base: &Place, key: &Key) -> Result<(), Trouble> {
        match self.contexts.set_keys(base.context, vec![key.clone()], Vec::new()).await {
            Ok(()) => Ok(()),
            Err(CreateError::KeyTaken { key, .. }) => {
                let name = key.name.trim_start_matches("rn:");
                Err(Refusal::new(Rsc::CONFLICT, format!("there is an AE named {name} already")).into())
            }
            Err(full @ CreateError::GroupFull { .. }) => {
                Err(Refusal::new(Rsc::NOT_ACCEPTABLE, full.to_string()).into())
            }
            Err(CreateError::Call(error)) => Err(error.into()),
        }
    }

    async fn take_back(&self, base: &Place, name: String, host: &CseIdentity, call: &CallOptions) {
        let target = Target { start: Start::Root, path: vec![name] };
        let delete = self.own_write(Action::Delete, target, host);
        if let Err(trouble) = self.write(base, delete, Bytes::new(), call).await {
            tracing::warn!(reason = trouble.refusal().debug, "a child of the CSEBase has the name of an AE");
        }
    }

    async fn give_up_name(&self, base: ContextId, name: &str) -> Result<(), Trouble> {
        let Some(place) = self.contexts.by_id(base) else { return Ok(()) };
        let key = Key::at(place.home, format!("rn:{name}"));
        for (claim, release) in [(vec![], vec![key.clone()]), (vec![key], vec![])] {
            // Somebody may have created it again: before the name is given up, or while it is.
            if self.has_child(base, name) == claim.is_empty() {
                continue;
            }
            match self.contexts.set_keys(base, claim, release).await {
                Ok(()) | Err(CreateError::KeyTaken { .. } | CreateError::GroupFull { .. }) => {}
                Err(CreateError::Call(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A name that our CSEBase holds for a child that there is not: given up. True if it was.
    pub(super) async fn free_stale_name(&self, key: &Key, holder: ContextId) -> Result<bool, Trouble> {
        let Some(name) = key.name.strip_prefix("rn:") else { return Ok(false) };
        let ours = self.contexts.by_key(&base_key(self.contexts.node())).filter(|p| p.kind == ContextKind::CSE_BASE);
        if ours.is_none_or(|base| base.context != holder) || self.has_child(holder, name) {
            return Ok(false);
        }
        self.give_up_name(holder, name).await.map(|()| true)
    }

    /// Whether a CSEBase that is served here has a child of this name; of another one nothing is known, so yes.
    fn has_child(&self, base: ContextId, name: &str) -> bool {
        let Some(served) = self.index.open(base) else { return true };
        let tree = served.tree.read();
        tree.root().is_none_or(|root| tree.child(root.seq, name).is_some())
    }
}
