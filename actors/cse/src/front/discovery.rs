//! Discovery, and retrieves that show the children of a CSEBase: over its own context and those of its AEs.

use std::sync::Arc;

use bytes::Bytes;
use onemec_core::context::{CallOptions, ContextKind, History, Place};
use onemec_onem2m::filter::FilterCriteria;
use onemec_onem2m::limits::RESULTS_MAX;
use onemec_onem2m::result::{self, Reference};
use onemec_onem2m::{CseIdentity, Refusal, ResultContent, Rsc, Ty};
use onemec_wire::ContextId;
use parking_lot::RawRwLock;
use parking_lot::lock_api::ArcRwLockReadGuard;

use super::exec::{Done, Trouble};
use super::{Inner, Job};
use crate::access::{Asker, Stop};
use crate::index::Served;
use crate::op::{Read, ReadOp, Reply};
use crate::read::Discovered;
use crate::tree::{Target, Tree};
use crate::view::View;

/// Places that are asked of the directory at once.
const PAGE: usize = 256;

impl Inner {
    pub(super) async fn discover(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Done, Trouble> {
        let rcn = match job.request.rcn {
            None => ResultContent::DiscoveryReferences,
            Some(rcn) => rcn,
        };
        let read = self.read_of(job, place, target).await?;
        let everything = place.kind == ContextKind::CSE_BASE && target.path.is_empty();
        let found = if everything {
            self.discover_all(place, read, &job.call).await?
        } else {
            self.discover_in(place, read, false, &job.call).await?
        };
        let body = result::discovered(&found.references, rcn)?;
        Ok(Done { rsc: Rsc::OK.0, created: None, next_offset: found.next_offset, body: Bytes::from(body) })
    }

    /// Searches the context of a CSEBase, then those of its AEs until there is enough. A context that gives no answer in
    /// time makes the result a partial one.
    async fn discover_all(&self, base: &Place, mut read: Read, call: &CallOptions) -> Result<Discovered, Trouble> {
        let mut filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?.unwrap_or_default();
        let offset = filter.ofst.take().unwrap_or(1).max(1) as usize;
        let limit = filter.lim.take().map_or(RESULTS_MAX, |l| l as usize).min(RESULTS_MAX);
        let enough = offset.saturating_add(limit);
        filter.lim = u32::try_from(enough).ok();
        read.filter = Some(filter.to_json());
        let mut references = Vec::new();
        let mut incomplete = false;
        let own = self.discover_in(base, read.clone(), false, call).await?;
        references.extend(own.references);
        let mut after = None;
        let mut looked = 0;
        'pages: while references.len() < enough {
            let page = self.contexts.at_home(base.home, ContextKind::AE, after, PAGE);
            for place in &page {
                looked += 1;
                if references.len() >= enough || looked > self.options.discovery_contexts_max {
                    incomplete |= looked > self.options.discovery_contexts_max;
                    break 'pages;
                }
                let mut below = read.clone();
                below.target = Target::root();
                match self.discover_in(place, below, true, call).await {
                    Ok(found) => references.extend(found.references),
                    Err(Trouble::Refused(_)) => {}
                    Err(_) => incomplete = true,
                }
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|p| p.context);
        }
        let more = references.len() >= enough || incomplete;
        let shown: Vec<Reference> = references.into_iter().skip(offset - 1).take(limit).collect();
        let next = more.then(|| u32::try_from(offset + shown.len()).unwrap_or(u32::MAX));
        Ok(Discovered { references: shown, next_offset: next })
    }

    /// Searches one context, here or where it is served.
    pub(super) async fn discover_in(
        &self,
        place: &Place,
        mut read: Read,
        with_target: bool,
        call: &CallOptions,
    ) -> Result<Discovered, Trouble> {
        for _ in 0..2 {
            let done = match self.index.open(place.context) {
                Some(served) => self.discover_here(&served, &read, with_target),
                None => {
                    let op = ReadOp::Discover(Box::new(read.clone()), with_target);
                    match self.read_there(place, &op, call).await?.0 {
                        Reply::Discovered(found, next_offset) => {
                            let references = found
                                .into_iter()
                                .map(|(name, ty, address)| Reference { name, ty: Ty(ty), address })
                                .collect();
                            Ok(Discovered { references, next_offset })
                        }
                        Reply::Needs(needs) => Err(Stop::Needs(needs)),
                        Reply::Refused { rsc, debug } => Err(Refusal::new(Rsc(rsc), debug).into()),
                        _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "unexpected answer").into()),
                    }
                }
            };
            match done {
                Ok(found) => return Ok(found),
                Err(Stop::Refused(refusal)) => return Err(refusal.into()),
                Err(Stop::Needs(needs)) => self.fetch(&needs, &read.who, &mut read.facts, call).await?,
            }
        }
        Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "access cannot be decided").into())
    }

    pub(super) fn discover_here(&self, served: &Served, read: &Read, with_target: bool) -> Result<Discovered, Stop> {
        let home = read.home.identity();
        let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms: self.contexts.now_ms() };
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home, below: &[] };
        crate::read::discover(&view, read, &asker, with_target)
    }

    /// Whether a retrieve shows AEs as children of their CSEBase.
    pub(super) fn needs_forest(&self, place: &Place, read: &Read) -> bool {
        place.kind == ContextKind::CSE_BASE
            && read.target.path.is_empty()
            && matches!(
                ResultContent::from_u8(read.rcn),
                Some(
                    ResultContent::AttributesAndChildren
                        | ResultContent::AttributesAndChildReferences
                        | ResultContent::ChildReferences
                        | ResultContent::Children
                )
            )
    }

    /// A retrieve over a CSEBase and those of its AEs that are served here. The read locks of all of them are held
    /// together; each writer holds only its own, so nobody waits in a circle.
    pub(super) fn retrieve_forest(
        &self,
        base: &Served,
        read: &Read,
        asker: &Asker<'_>,
        place: &Place,
    ) -> Result<(Reply, Vec<u8>), Stop> {
        let below = self.served_aes(place);
        let guards: Vec<Leaf> = below
            .iter()
            .map(|s| Leaf { tree: parking_lot::RwLock::read_arc(&s.tree), history: s.history.clone() })
            .collect();
        let home: &CseIdentity = asker.home;
        let views: Vec<View<'_>> =
            guards.iter().map(|leaf| View { tree: &leaf.tree, history: &*leaf.history, home, below: &[] }).collect();
        let tree = base.tree.read();
        let view = View { tree: &tree, history: &*base.history, home, below: &views };
        crate::read::retrieve(&view, read, asker)
    }

    fn served_aes(&self, base: &Place) -> Vec<Served> {
        let mut served = Vec::new();
        let mut after: Option<ContextId> = None;
        loop {
            let page = self.contexts.at_home(base.home, ContextKind::AE, after, PAGE);
            served.extend(page.iter().filter_map(|p| self.index.open(p.context)));
            if page.len() < PAGE || served.len() >= RESULTS_MAX {
                return served;
            }
            after = page.last().map(|p| p.context);
        }
    }
}

struct Leaf {
    tree: ArcRwLockReadGuard<RawRwLock, Tree>,
    history: Arc<dyn History>,
}
