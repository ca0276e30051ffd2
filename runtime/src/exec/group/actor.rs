//! The actor around a group's executor, and its supervisor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onemec_wire::GroupId;
use parking_lot::Mutex;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{GroupExec, GroupMsg};
use crate::supervise::{Health, Tree};

/// Makes an executor from what the store holds; called at the start and after each crash.
pub type MakeExec = Arc<dyn Fn(GroupId, ActorRef<GroupMsg>) -> Result<GroupExec, String> + Send + Sync>;

/// The actor of one group.
pub struct GroupActor;

impl Actor for GroupActor {
    type Msg = GroupMsg;
    type State = GroupExec;
    type Arguments = (GroupId, MakeExec);

    async fn pre_start(
        &self,
        myself: ActorRef<GroupMsg>,
        (group, make): Self::Arguments,
    ) -> Result<GroupExec, ActorProcessingErr> {
        make(group, myself).map_err(Into::into)
    }

    async fn handle(
        &self,
        myself: ActorRef<GroupMsg>,
        message: GroupMsg,
        exec: &mut GroupExec,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(after) = exec.handle(message) {
            // The handle is of no use: the tick goes nowhere when the actor is gone.
            drop(myself.send_after(after, || GroupMsg::Tick));
        }
        if exec.has_rested() {
            myself.stop(Some("the group has left memory".into()));
        }
        if exec.is_forgotten() {
            myself.stop(Some("the group is gone from this node".into()));
        }
        if exec.has_failed() {
            return Err("the store refused what the group counts on".into());
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<GroupMsg>, exec: &mut GroupExec) -> Result<(), ActorProcessingErr> {
        exec.close();
        Ok(())
    }
}

/// Told when a group's actor has ended.
pub type Ended = Arc<dyn Fn(GroupId, End) + Send + Sync>;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself; this one.
    Stopped(ActorId),
    /// It failed, and the pause is over: it is to be made anew.
    Failed,
}

/// Supervises all groups of a node.
pub struct GroupsSupervisor {
    /// The node's supervision tree.
    pub tree: Arc<Tree>,
    /// Which actor serves which group.
    pub ids: Arc<Mutex<HashMap<ActorId, GroupId>>>,
    /// What to do about an ended actor.
    pub ended: Ended,
}

/// What the supervisor is told.
pub enum GroupsMsg {
    /// The pause after a crash is over.
    Again(GroupId),
}

impl Actor for GroupsSupervisor {
    type Msg = GroupsMsg;
    type State = HashMap<GroupId, Health>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<GroupsMsg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        _: ActorRef<GroupsMsg>,
        m: GroupsMsg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let GroupsMsg::Again(group) = m;
        (self.ended)(group, End::Failed);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<GroupsMsg>,
        event: SupervisionEvent,
        crashes: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                if let Some(group) = self.ids.lock().remove(&cell.get_id()) {
                    crashes.remove(&group);
                    (self.ended)(group, End::Stopped(cell.get_id()));
                }
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                let Some(group) = self.ids.lock().remove(&cell.get_id()) else { return Ok(()) };
                let health = crashes.entry(group).or_default();
                let pause: Duration = health.crashed();
                tracing::error!(%group, ?pause, "group actor failed: {error}");
                self.tree.crashed(&format!("groups/{group}"), &error.to_string(), health);
                drop(myself.send_after(pause, move || GroupsMsg::Again(group)));
            }
            _ => {}
        }
        Ok(())
    }
}
