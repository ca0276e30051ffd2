//! The admin side of the fake cluster.

use std::collections::BTreeMap;

use onemec_node::admin::AdminBackend;
use onemec_node::admin::server::{AdminError, Answer};
use onemec_node::admin::types::{
    Ae, AePage, AuditPage, Candidate, Candidates, CapabilityFile, Deaths, DeathsOrder, Directory, Drain, DrainOrder,
    ForceOrder, Forced, HandoverPage, Health, LabelOrder, Measurements, MeasurementsTaken, MoveOrder, MoveReason,
    MoveResult, NodeOrder, NodeRemoved, Placement, Status, VoterOrder, Voters,
};

use super::{Fault, Shared, State};

pub(crate) struct Backend {
    pub(crate) node: String,
    pub(crate) state: Shared,
}

fn unknown(what: &str) -> AdminError {
    AdminError::new(404, "unknown", format!("{what} is not known"), "look at `onemec ae ls`")
}

fn describe(id: &str, s: &State) -> Option<Ae> {
    let a = s.aes.get(id)?;
    Some(Ae {
        ae_id: id.into(),
        name: a.name.clone(),
        context: format!("c-{id}"),
        group: a.group.clone(),
        home: a.home.clone(),
        primary: a.home.clone(),
        epoch: a.epoch,
        committed: s.places.get(&a.group).copied(),
        state: "active".into(),
        ..Ae::default()
    })
}

impl AdminBackend for Backend {
    fn health(&self) -> Health {
        let ready = !self.state.lock().dead.contains(&self.node);
        Health { node: self.node.clone(), ready, ..Health::default() }
    }
    async fn status(&self) -> Answer<Status> {
        Ok(Status { node: self.node.clone(), cluster: "fake".into(), has_lease: true, ..Status::default() })
    }
    async fn directory(&self) -> Answer<Directory> {
        let s = self.state.lock();
        let mut groups: BTreeMap<String, Placement> = BTreeMap::new();
        for (id, a) in &s.aes {
            let place = groups.entry(a.group.clone()).or_default();
            (place.group, place.epoch, place.primary) = (a.group.clone(), a.epoch, Some(a.home.clone()));
            place.contexts.push(format!("c-{id}"));
            place.aes.push(id.clone());
        }
        Ok(Directory { node: self.node.clone(), applied: 1, groups: groups.into_values().collect() })
    }
    async fn aes(&self, home: Option<String>, after: Option<String>, limit: usize) -> Answer<AePage> {
        let s = self.state.lock();
        let everywhere = s.aes.keys().next().filter(|_| s.fault == Fault::TwoRegistrars);
        let wanted = |(id, a): &(&String, &super::Ae)| {
            (everywhere == Some(id) || home.as_ref().is_none_or(|h| *h == a.home))
                && after.as_ref().is_none_or(|x| *id > x)
        };
        // Short pages, so that paging is used.
        let aes: Vec<Ae> =
            s.aes.iter().filter(wanted).take(limit.min(5)).filter_map(|(id, _)| describe(id, &s)).collect();
        let next = (aes.len() == 5).then(|| aes[4].ae_id.clone());
        Ok(AePage { aes, next })
    }
    async fn ae(&self, ae: String) -> Answer<Ae> {
        describe(&ae, &self.state.lock()).ok_or_else(|| unknown(&ae))
    }
    async fn candidates(&self, ae: String, n: usize) -> Answer<Candidates> {
        let s = self.state.lock();
        let a = s.aes.get(&ae).ok_or_else(|| unknown(&ae))?;
        let other = s.other(&a.home).map(|node| Candidate { node, score: 0.5, ..Candidate::default() });
        Ok(Candidates { ae_id: ae, candidates: other.into_iter().take(n).collect(), ..Candidates::default() })
    }
    async fn order_move(&self, order: MoveOrder) -> Answer<MoveResult> {
        let mut s = self.state.lock();
        let home = s.aes.get(&order.ae).map(|a| a.home.clone()).ok_or_else(|| unknown(&order.ae))?;
        let to = order.to.or_else(|| s.other(&home)).ok_or_else(|| unknown("target"))?;
        if to == home {
            return Ok(MoveResult { state: "refused".into(), text: "it is there".into(), ..MoveResult::default() });
        }
        s.place(&order.ae, &to, order.reason);
        let handover = s.handovers.last().cloned().unwrap_or_default();
        Ok(MoveResult { id: handover.id, state: "done".into(), handover, ..MoveResult::default() })
    }
    async fn move_result(&self, id: u64) -> Answer<MoveResult> {
        let s = self.state.lock();
        let h = s.handovers.iter().find(|h| h.id == id).cloned().ok_or_else(|| unknown("move"))?;
        Ok(MoveResult { id, state: "done".into(), handover: h, ..MoveResult::default() })
    }
    async fn handovers(&self, after: u64, limit: usize) -> Answer<HandoverPage> {
        let s = self.state.lock();
        let handovers: Vec<_> = s.handovers.iter().filter(|h| h.id > after).take(limit).cloned().collect();
        let next = handovers.last().map(|h| h.id).filter(|_| handovers.len() == limit);
        Ok(HandoverPage { handovers, next })
    }
    async fn drain(&self, order: DrainOrder) -> Answer<Drain> {
        let mut s = self.state.lock();
        s.draining.insert(order.node.clone());
        let there: Vec<String> = s.aes.iter().filter(|(_, a)| a.home == order.node).map(|(id, _)| id.clone()).collect();
        for ae in &there {
            if let Some(to) = s.other(&order.node) {
                s.place(ae, &to, MoveReason::Drain);
            }
        }
        let total = u64::try_from(there.len()).unwrap();
        Ok(Drain { id: 1, node: order.node, state: "running".into(), total, ..Drain::default() })
    }
    async fn drain_progress(&self, id: u64) -> Answer<Drain> {
        Ok(Drain { id, state: "done".into(), ..Drain::default() })
    }
    async fn undrain(&self, order: DrainOrder) -> Answer<Drain> {
        self.state.lock().draining.remove(&order.node);
        Ok(Drain { node: order.node, state: "done".into(), ..Drain::default() })
    }
    async fn label(&self, _: String, order: LabelOrder) -> Answer<LabelOrder> {
        Ok(order)
    }

    async fn measure(&self, _: Measurements) -> Answer<MeasurementsTaken> {
        Ok(MeasurementsTaken::default())
    }

    async fn voters(&self) -> Answer<Voters> {
        Ok(Voters::default())
    }
    async fn change_voters(&self, order: VoterOrder) -> Answer<Voters> {
        Err(unknown(&order.node))
    }
    async fn remove_node(&self, order: NodeOrder) -> Answer<NodeRemoved> {
        Err(unknown(&order.node))
    }
    async fn force(&self, group: String, _: ForceOrder) -> Answer<Forced> {
        Err(unknown(&group))
    }
    async fn confirm_deaths(&self, order: DeathsOrder) -> Answer<Deaths> {
        Err(unknown(&order.nodes.join(",")))
    }

    async fn audit(&self, after: u64, limit: usize) -> Answer<AuditPage> {
        let s = self.state.lock();
        let all = s.audit.get(&self.node).map(Vec::as_slice).unwrap_or_default();
        let lines: Vec<_> = all.iter().filter(|l| l.n > after).take(limit).cloned().collect();
        let next = lines.last().map(|l| l.n).filter(|_| lines.len() == limit);
        Ok(AuditPage { lines, next })
    }
    async fn capabilities(&self) -> Answer<CapabilityFile> {
        Ok(CapabilityFile { version: "fake".into(), ..CapabilityFile::default() })
    }
    async fn metrics(&self) -> String {
        "onemec_up 1\n".into()
    }
}
