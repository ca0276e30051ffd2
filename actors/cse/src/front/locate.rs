//! From `To` to the context that holds the resource (TS-0001 7.2, TS-0004 7.3.2.8), wherever that is served.

use onemec_core::context::{ContextKind, Key, Place};
use onemec_onem2m::address::{Address, Scope};
use onemec_onem2m::{Refusal, Rsc};
use onemec_wire::NodeId;

use super::Inner;
use super::exec::Trouble;
use crate::tree::{Start, Target};

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Located {
    /// In a context of this cluster.
    Context(Place, Target),
    /// At a CSE outside the cluster.
    Foreign {
        /// Its CSE-ID.
        cse_id: String,
    },
}

/// The key of the CSEBase at a node.
pub(super) fn base_key(node: NodeId) -> Key {
    Key::at(node, "base")
}

impl Inner {
    /// Finds the context; NOT_FOUND only after a look-up that is not stale (rule 11).
    pub(super) async fn locate(&self, to: &str) -> Result<Located, Trouble> {
        let address = Address::parse(to)?;
        let mut segments = address.segments.as_slice();
        let node = match address.scope {
            Scope::Cse => self.contexts.node(),
            Scope::Absolute { sp_id, .. } if *sp_id != *self.me.sp_id => {
                return Err(not_found("another service provider's domain, to which there is no way"));
            }
            Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } if *cse_id == *self.me.cse_id => self.contexts.node(),
            Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } => {
                // `/S12`: an AE-ID that needs no CSE.
                if segments.is_empty() && cse_id.starts_with("/S") {
                    let key = Key::global(format!("aei:{}", &cse_id[1..]));
                    if let Some(place) = self.contexts.by_key(&key) {
                        return Ok(Located::Context(place, Target::root()));
                    }
                }
                match self.find(Key::global(format!("csi:{cse_id}"))).await? {
                    Some(base) => base.home,
                    None => return Ok(Located::Foreign { cse_id: cse_id.to_owned() }),
                }
            }
        };
        let Some((first, rest)) = segments.split_first() else { return self.base(node, &[]).await };
        if let Some((context, seq)) = crate::rid::parse(first) {
            let place = self.contexts.by_id(context).ok_or_else(|| not_found("no such resource"))?;
            return Ok(Located::Context(place, Target { start: Start::Place(seq), path: owned(rest) }));
        }
        if *first == "-" || (node == self.contexts.node() && *first == &*self.me.base_name) {
            return self.below_base(node, rest).await;
        }
        segments = rest;
        if first.starts_with(['C', 'S'])
            && let Some(place) = self.ae(node, first)
        {
            return Ok(Located::Context(place, Target { start: Start::Root, path: owned(segments) }));
        }
        let identity = self.identity_of(node).await?.into_owned();
        if *first == &*identity.base_name || *first == identity.cse_id.trim_start_matches('/') {
            return self.below_base(node, segments).await;
        }
        // The name of another CSE's CSEBase: a client that was sent here by DNS and keeps its addresses.
        if address.scope == Scope::Cse
            && let Some(base) = self.contexts.by_key(&Key::global(format!("base:{first}")))
        {
            return self.below_base(base.home, segments).await;
        }
        if first.starts_with(['C', 'S'])
            && let Some(place) = self.find(self.ae_key(node, first)).await?
        {
            return Ok(Located::Context(place, Target { start: Start::Root, path: owned(segments) }));
        }
        Err(not_found("no such resource"))
    }

    /// The AE with a stem, as seen from a CSE.
    pub(super) fn ae(&self, node: NodeId, stem: &str) -> Option<Place> {
        self.contexts.by_key(&self.ae_key(node, stem)).or_else(|| {
            // Stems that we allocated are unique in the cluster.
            stem.starts_with('C').then(|| self.contexts.by_key(&Key::global(format!("stem:{stem}")))).flatten()
        })
    }

    pub(super) fn ae_key(&self, node: NodeId, stem: &str) -> Key {
        let name = format!("aei:{stem}");
        if stem.starts_with('S') { Key::global(name) } else { Key::at(node, name) }
    }

    /// What lies at a path below the CSEBase of a node: an AE's context, or the CSEBase's own.
    async fn below_base(&self, node: NodeId, path: &[&str]) -> Result<Located, Trouble> {
        if let Some((name, _)) = path.split_first()
            && let Some(place) = self.contexts.by_key(&Key::at(node, format!("rn:{name}")))
        {
            return Ok(below(place, path));
        }
        self.base(node, path).await
    }

    async fn base(&self, node: NodeId, path: &[&str]) -> Result<Located, Trouble> {
        let place = self.find(base_key(node)).await?.ok_or_else(|| not_found("the CSE has no CSEBase yet"))?;
        Ok(Located::Context(place, Target { start: Start::Root, path: owned(path) }))
    }

    /// A look-up whose "no" is not stale.
    pub(super) async fn find(&self, key: Key) -> Result<Option<Place>, Trouble> {
        match self.contexts.by_key(&key) {
            Some(place) => Ok(Some(place)),
            None => Ok(self.contexts.by_key_linearizable(key, self.internal_call().deadline).await?),
        }
    }

    /// Whether an AE is now where a path below our CSEBase pointed to nothing: asked before a 404 (rule 11).
    pub(super) async fn look_again(&self, to: &str) -> Result<Option<Located>, Trouble> {
        let address = Address::parse(to)?;
        let [first, name, ..] = address.segments.as_slice() else { return Ok(None) };
        if *first != "-" && *first != &*self.me.base_name {
            return Ok(None);
        }
        // An address that names another CSE is not ours to answer, even if we have an AE of that name.
        let node = match address.scope {
            Scope::Absolute { sp_id, .. } if *sp_id != *self.me.sp_id => return Ok(None),
            Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } if *cse_id != *self.me.cse_id => {
                match self.contexts.by_key(&Key::global(format!("csi:{cse_id}"))) {
                    Some(base) => base.home,
                    None => return Ok(None),
                }
            }
            _ => self.contexts.node(),
        };
        let key = Key::at(node, format!("rn:{name}"));
        let place = self.contexts.by_key_linearizable(key, self.internal_call().deadline).await?;
        let path = address.segments.get(1..).unwrap_or_default();
        Ok(place.map(|place| below(place, path)))
    }
}

/// What a path below a CSEBase leads to, given who has its first name: an AE, whose context begins there, or the CSEBase.
fn below(holder: Place, path: &[&str]) -> Located {
    let known = usize::from(holder.kind != ContextKind::CSE_BASE);
    let path = owned(path.get(known..).unwrap_or_default());
    Located::Context(holder, Target { start: Start::Root, path })
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|s| (*s).to_owned()).collect()
}

fn not_found(what: &str) -> Trouble {
    Refusal::new(Rsc::NOT_FOUND, what).into()
}
