//! Requests that go to other entities: NOTIFY to an AE of ours, verification requests, forwarding to foreign CSEs.

use bytes::Bytes;
use onemec_core::context::{ContextKind, Key, Place};
use onemec_onem2m::access::Operations;
use onemec_onem2m::notification::Notification;
use onemec_onem2m::{AttrId, CseIdentity, Operation, Refusal, Request, Response, Rsc, Ty};

use super::exec::Trouble;
use super::locate::base_key;
use super::{Handled, Inner, Job};
use crate::access::{Access, Asker};
use crate::op::Facts;
use crate::tree::Target;

impl Inner {
    /// NOTIFY to an AE: handed on to its points of access (TS-0004 7.5.1.2.2). Anything else takes no notifications.
    pub(super) async fn notify(&self, job: &Job<'_>, place: &Place, target: &Target) -> Result<Handled, Trouble> {
        if place.kind != ContextKind::AE || *target != Target::root() {
            return Err(Refusal::new(Rsc::OPERATION_NOT_ALLOWED, "this resource takes no notifications").into());
        }
        if let Some(served) = self.index.open(place.context) {
            let tree = served.tree.read();
            let found = tree.find(target).ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, "no such resource"))?;
            let facts = Facts::default();
            let asker = Asker { who: &job.who, facts: &facts, home: &self.me, now_ms: self.contexts.now_ms() };
            if asker.may(&tree, found, Operations::from(Operation::Notify), None) == Access::Denied {
                return Err(Refusal::new(Rsc::ORIGINATOR_HAS_NO_PRIVILEGE, "no privilege to notify").into());
            }
        }
        let facts = self.facts_at(place, target.clone(), &job.call).await;
        let facts = facts.ok_or_else(|| Refusal::new(Rsc::NOT_FOUND, "no such resource"))?;
        let response = self.sender.to_entity(&facts.poa, job.request, job.call.deadline).await?;
        Ok(Handled::from(Response { rqi: job.request.rqi.clone(), ..response }))
    }

    /// Sends a verification request to a notification target (a resource or a URL) and waits for its consent.
    pub(super) async fn send_verification(&self, target: &str, sur: &str, creator: &str) -> Result<(), Refusal> {
        let body = Notification {
            vrq: true,
            sur: Some(sur.to_owned()),
            cr: Some(creator.to_owned()),
            ..Notification::default()
        };
        let response = self.notify_target(target, body.to_json().into(), self.stems.name("vrq"), &self.me).await?;
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
    ) -> Result<Response, Refusal> {
        if !crate::machine::is_url(target) {
            return self.notify_entity(target, body, rqi).await;
        }
        let mut request = Request::new(Operation::Notify, "-", &*from.cse_id, rqi);
        request.pc = Some(body);
        self.sender.send(target, &request).await
    }

    /// Sends a NOTIFY to the AE or CSE behind a resource identifier.
    async fn notify_entity(&self, target: &str, body: Bytes, rqi: String) -> Result<Response, Refusal> {
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
        let response = self.sender.to_entity(&poa, &request, job.call.deadline).await?;
        Ok(Handled::from(Response { rqi: job.request.rqi.clone(), ..response }))
    }

    async fn foreign_poa(&self, cse_id: &str) -> Result<Vec<String>, Trouble> {
        let not_found = || Refusal::new(Rsc::NOT_FOUND, format!("there is no way to {cse_id}"));
        let base = self.contexts.by_key(&base_key(self.contexts.node())).ok_or_else(not_found)?;
        let served = self.index.open(base.context).ok_or_else(not_found)?;
        let tree = served.tree.read();
        let poa = tree
            .nodes()
            .filter(|n| n.ty == Ty::REMOTE_CSE)
            .find(|n| n.text(AttrId::CSI) == Some(cse_id) || n.texts(AttrId::DCSE).any(|d| d == cse_id))
            // Registered CSEs of this very cluster are found in the directory, not here.
            .filter(|n| {
                let csi = n.text(AttrId::CSI).unwrap_or_default();
                self.contexts.by_key(&Key::global(format!("csi:{csi}"))).is_none()
            })
            .and_then(|n| n.attributes.get(AttrId::POA))
            .map(|poa| poa.strings().map(str::to_owned).collect::<Vec<_>>());
        poa.filter(|p| !p.is_empty()).ok_or_else(|| not_found().into())
    }
}
