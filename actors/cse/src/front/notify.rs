//! Requests that go to other entities: NOTIFY to an AE of ours, verification requests, forwarding to foreign CSEs.

use bytes::Bytes;
use onemec_core::context::{ContextKind, Place};
use onemec_onem2m::access::Operations;
use onemec_onem2m::notification::Notification;
use onemec_onem2m::{AttrId, CseIdentity, Operation, Refusal, Request, Response, Rsc, Ty};

use super::exec::Trouble;
use super::locate::base_key;
use super::{Handled, Inner, Job};
use crate::access::{Asker, Stop};
use crate::notify::Answered;
use crate::op::{ReadOp, Reply, Way};
use crate::tree::{Node, Target, Tree};

impl Inner {
    /// NOTIFY to an AE: handed on to its points of access (TS-0004 7.5.1.2.2) if the originator may. Anything else takes no notifications.
    pub(super) async fn notify(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Handled, Trouble> {
        if place.kind != ContextKind::AE || *target != Target::root() {
            return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "this resource takes no notifications").into());
        }
        let way = self.way(job, place, target.clone()).await?;
        let response = self.sender.to_entity(&way.to, job.request, job.call.deadline).await?.response;
        Ok(Handled::from(Response { rqi: job.request.rqi.clone(), ..response }))
    }

    /// Where a fan-out point or an AE leads this request to; refused to those who have no privilege for it.
    pub(super) async fn way(&self, job: &Job<'_>, place: &Place, target: Target) -> Result<Way, Trouble> {
        let operation = Operations::from(job.request.op);
        let mut read = self.read_of(job, place, &target).await?;
        for _ in 0..3 {
            let decided = match self.index.open(place.context) {
                Some(served) => {
                    let home = read.home.identity();
                    let now_ms = self.contexts.now_ms();
                    let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms };
                    let tree = served.tree.read();
                    crate::read::way(&tree, &target, operation, &asker)
                }
                None => {
                    let op = ReadOp::Way(Box::new(read.clone()), operation.0);
                    match self.read_there(place, &op, &job.call).await?.0 {
                        Reply::Way(way) => Ok(way),
                        Reply::Needs(needs) => Err(Stop::Needs(needs)),
                        Reply::Refused { rsc, debug } => Err(Refusal::new(Rsc(rsc), debug).into()),
                        _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "unexpected answer").into()),
                    }
                }
            };
            match decided {
                Ok(way) => return Ok(way),
                Err(Stop::Refused(refusal)) => return Err(refusal.into()),
                Err(Stop::Needs(needs)) => self.fetch(&needs, &read.who, &mut read.facts, &job.call).await?,
            }
        }
        Err(Refusal::new(Rsc::ORIGINATOR_HAS_NO_PRIVILEGE, "access cannot be decided").into())
    }

    /// Sends a verification request to a notification target (a resource or a URL) and waits for its consent.
    pub(super) async fn send_verification(&self, target: &str, sur: &str, creator: &str) -> Result<(), Refusal> {
        let body = Notification {
            vrq: true,
            sur: Some(sur.to_owned()),
            cr: Some(creator.to_owned()),
            ..Notification::default()
        };
        let response =
            self.notify_target(target, body.to_json().into(), self.stems.name("vrq"), &self.me).await?.response;
        if response.rsc.is_success() {
            Ok(())
        } else {
            Err(Refusal::new(response.rsc, format!("answered {}", response.rsc)))
        }
    }

    /// Sends a NOTIFY to a target of notifications, in the name of a CSE.
    pub(crate) async fn notify_target(
        &self,
        target: &str,
        body: Bytes,
        rqi: String,
        from: &CseIdentity,
    ) -> Result<Answered, Refusal> {
        if !crate::machine::is_url(target) {
            return self.notify_entity(target, body, rqi).await;
        }
        let mut request = Request::new(Operation::Notify, "-", &*from.cse_id, rqi);
        request.pc = Some(body);
        self.sender.send(target, &request).await
    }

    /// Sends a NOTIFY to the AE or CSE behind a resource identifier.
    async fn notify_entity(&self, target: &str, body: Bytes, rqi: String) -> Result<Answered, Refusal> {
        let call = self.internal_call();
        let unreachable = || Refusal::new(Rsc::TARGET_NOT_REACHABLE, format!("{target} cannot be reached"));
        let facts = match self.resource_facts(target, &call).await {
            Some(facts) if !facts.poa.is_empty() => facts,
            // An identifier of an AE or CSE that is no address: a stem is one, `/csi/Cx` too; others have no resource here.
            _ => return Err(unreachable()),
        };
        let mut request = Request::new(Operation::Notify, target, &*self.me.cse_id, rqi);
        request.pc = Some(body);
        self.sender.to_entity(&facts.poa, &request, call.deadline).await
    }

    /// Forwards a request to a CSE outside the cluster that is registered here, or behind one that is (TS-0004 7.3.2.6).
    pub(super) async fn forward(&self, job: &Job<'_>, cse_id: &str) -> Result<Handled, Trouble> {
        let poa = self.foreign_poa(cse_id).await?;
        let mut request = job.request.clone();
        // A stem that leaves its registrar becomes SP-relative.
        request.fr = Some(job.who.id.clone());
        let response = self.sender.to_entity(&poa, &request, job.call.deadline).await?.response;
        Ok(Handled::from(Response { rqi: job.request.rqi.clone(), ..response }))
    }

    /// Its points of access, as the nearest CSE of the cluster that knows it has them.
    async fn foreign_poa(&self, cse_id: &str) -> Result<Vec<String>, Trouble> {
        if let Some(poa) = self.remote_cse(cse_id, points_of_access).filter(|p| !p.is_empty()) {
            return Ok(poa);
        }
        // The tree rule (TS-0004 7.3.2.6) leads to the registrar and down again: all of that way lies in this cluster.
        let (call, question) = (self.internal_call(), ReadOp::Route(cse_id.to_owned()));
        let bases: Vec<Place> = self.peers.iter().filter_map(|p| self.contexts.by_key(&base_key(*p.key()))).collect();
        let asked = bases.iter().map(async |base| match self.read_there(base, &question, &call).await {
            Ok((Reply::Facts(Some(facts)), _)) if !facts.poa.is_empty() => Some(facts.poa),
            _ => None,
        });
        let known = futures_util::future::join_all(asked).await.into_iter().flatten().next();
        known.ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, format!("there is no way to {cse_id}")).into())
    }

    /// Looks at the remoteCSE below our CSEBase that stands for a CSE: its own, or the one behind which it is.
    pub(super) fn remote_cse<T>(&self, cse_id: &str, look: impl FnOnce(&Node) -> T) -> Option<T> {
        let base = self.contexts.by_key(&base_key(self.contexts.node()))?;
        let served = self.index.open(base.context)?;
        let tree = served.tree.read();
        remote_cse_in(&tree, cse_id).map(look)
    }
}

/// The remoteCSE in a CSEBase's tree that leads to a CSE.
pub(super) fn remote_cse_in<'t>(tree: &'t Tree, cse_id: &str) -> Option<&'t Node> {
    tree.nodes()
        .filter(|n| n.ty == Ty::REMOTE_CSE)
        .find(|n| n.text(AttrId::CSI) == Some(cse_id) || n.texts(AttrId::DCSE).any(|d| d == cse_id))
}

fn points_of_access(remote_cse: &Node) -> Vec<String> {
    remote_cse.texts(AttrId::POA).map(str::to_owned).collect()
}
