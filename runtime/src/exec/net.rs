//! What a group says to others, over the transport and the directory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::directory::{Base, Command, CommandOutcome};
use onemec_core::group::{GroupBody, GroupMessage, Position};
use onemec_wire::limits::ATTACHMENTS_MAX;
use onemec_wire::{Epoch, GroupId, Member, Record, Rope, ServiceId, codec};

use super::Runtime;
use super::group::GroupMsg;
use super::mailbox::Mailbox;
use super::ports::GroupNet;
use crate::transport::{Lane, Message};

/// Records of one message, in bytes: larger runs are split.
const RUN_BYTES_MAX: usize = 256 << 10;
const PROPOSE_MAX: Duration = Duration::from_secs(2);

struct Net {
    group: GroupId,
    runtime: Runtime,
    mail: Mailbox,
}

impl Runtime {
    pub(super) fn group_net(&self, group: GroupId, mail: Mailbox) -> Arc<dyn GroupNet> {
        Arc::new(Net { group, runtime: self.clone(), mail })
    }
}

/// Lane hash of a group: one group's messages keep their order.
pub(super) fn lane_of(group: GroupId) -> u64 {
    group.index() ^ (u64::from(group.ordinal()) << 48)
}

impl Net {
    fn tell(&self, to: Member, message: GroupMessage, records: Vec<Bytes>) {
        let Ok(body) = codec::encode(&message) else { return };
        let mut out = Message::new(ServiceId::REPLICA, lane_of(message.group), body);
        out.attachments = records.into_iter().map(Rope::from).collect();
        // A loss is found by the machine: it asks again.
        if let Err(e) = self.runtime.inner.parts.transport.tell(Runtime::peer_of(to), Lane::Replication, out) {
            tracing::trace!(%to, group = %message.group, "not sent: {e}");
        }
    }
}

impl GroupNet for Net {
    fn send(&self, to: Member, message: GroupMessage, records: Vec<Bytes>) {
        let mut message = message;
        let mut run: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for record in records {
            if !run.is_empty() && (run.len() >= ATTACHMENTS_MAX || bytes + record.len() > RUN_BYTES_MAX) {
                let last = run.last().and_then(|r| Record::peek(r).ok()).map(|(h, _)| h);
                self.tell(to, message, std::mem::take(&mut run));
                bytes = 0;
                if let (GroupBody::Append { prev, .. }, Some(h)) = (&mut message.body, last) {
                    *prev = Position { epoch: Epoch(h.epoch.get()), seq: onemec_wire::Seq(h.seq.get()) };
                }
            }
            bytes += record.len();
            run.push(record);
        }
        self.tell(to, message, run);
    }

    fn send_history(&self, to: Member, epoch: Epoch) {
        let (runtime, mail, group) = (self.runtime.clone(), self.mail.clone(), self.group);
        tokio::spawn(async move {
            let sent = runtime.send_history(group, to, epoch).await;
            if let Err(e) = &sent {
                tracing::warn!(%to, %group, "history: {e}");
            }
            let (held, bytes) = sent.map_or((None, 0), |(held, bytes)| (Some(held), bytes));
            mail.send(GroupMsg::HistorySent { to, held, bytes });
        });
    }

    fn forget(&self, group: GroupId) {
        let store = self.runtime.inner.parts.store.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(e) = store.delete(group, Box::new(|_| {})) {
                tracing::error!(%group, "forget: {e}");
            }
        });
    }

    fn propose(&self, group: GroupId, command: Command) {
        let (directory, mail) = (self.runtime.inner.parts.directory.clone(), self.mail.clone());
        let base = base_of(&command);
        tokio::spawn(async move {
            match directory.propose_within(command, PROPOSE_MAX).await {
                Ok(CommandOutcome::Refused(refusal)) => {
                    tracing::debug!(%group, "directory refused: {refusal}");
                    if let Some(base) = base {
                        mail.send(GroupMsg::Refused(base));
                    }
                }
                Ok(_) => {}
                // The machine proposes again by itself.
                Err(e) => tracing::debug!(%group, "proposal: {e}"),
            }
        });
    }
}

fn base_of(command: &Command) -> Option<Base> {
    match command {
        Command::AddContext { base, .. }
        | Command::DeleteContext { base, .. }
        | Command::SetInSync { base, .. }
        | Command::SetSynced { base, .. }
        | Command::Transfer { base, .. }
        | Command::Abort { base }
        | Command::Regroup { into: base, .. }
        | Command::Force { base, .. } => Some(*base),
        _ => None,
    }
}
