//! Discovery in one context; over a CSEBase see `gather`.

use bytes::Bytes;
use onemec_core::context::{CallOptions, ContextKind, Place};
use onemec_onem2m::{Refusal, ResultContent, Rsc, result};

use super::exec::{Done, Trouble};
use super::{Inner, Job};
use crate::access::{Asker, Stop};
use crate::index::Served;
use crate::op::{self, Read, ReadOp, Reply};
use crate::read::Discovered;
use crate::tree::Target;
use crate::view::View;

impl Inner {
    pub(super) async fn discover(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Done, Trouble> {
        let read = self.read_of(job, place, target).await?;
        if place.kind == ContextKind::CSE_BASE && target.path.is_empty() {
            return self.gather(place, read, &job.call).await;
        }
        let rcn = job.request.rcn.unwrap_or(ResultContent::DiscoveryReferences);
        let found = self.discover_in(place, read, &job.call).await?;
        let body = result::discovered(&found.references, rcn)?;
        Ok(Done { rsc: Rsc::OK.0, next_offset: found.next_offset, body: Bytes::from(body), ..Done::default() })
    }

    /// Searches one context, here or where it is served.
    async fn discover_in(&self, place: &Place, mut read: Read, call: &CallOptions) -> Result<Discovered, Trouble> {
        for _ in 0..2 {
            let done = match self.index.open(place.context) {
                Some(served) => self.discover_here(&served, &read),
                None => {
                    let op = ReadOp::Discover(Box::new(read.clone()));
                    let (reply, body) = self.read_there(place, &op, call).await?;
                    match (reply, op::read_references(&body)) {
                        (Reply::References(next_offset), Some(references)) => {
                            Ok(Discovered { references, next_offset })
                        }
                        (Reply::Needs(needs), _) => Err(Stop::Needs(needs)),
                        (Reply::Refused { rsc, debug }, _) => Err(Refusal::new(Rsc(rsc), debug).into()),
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

    pub(super) fn discover_here(&self, served: &Served, read: &Read) -> Result<Discovered, Stop> {
        let home = read.home.identity();
        let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms: self.contexts.now_ms() };
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home };
        crate::read::discover(&view, read, &asker, false)
    }
}
