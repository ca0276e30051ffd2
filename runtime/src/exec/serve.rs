//! The node's side of the services REPLICA, CALL and MOVE.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::context::Op;
use onemec_core::group::GroupMessage;
use onemec_wire::{CopyMeter, Member, Record, Rope, ServiceId, codec};

use super::Runtime;
use super::body::{CallBody, MoveBody};
use super::group::GroupMsg;
use super::passive::Entry;
use crate::transport::{Event, Message, Replier, Service, TransferSource};

/// A caller that does not say how long it waits.
const CALL_MAX: Duration = Duration::from_secs(10);

struct Replication(Runtime);
struct Calls(Runtime);
struct Moves(Runtime);

impl Runtime {
    pub(super) fn register_services(&self) {
        let t = &self.inner.parts.transport;
        t.register(ServiceId::REPLICA, Arc::new(Replication(self.clone())));
        t.register(ServiceId::CALL, Arc::new(Calls(self.clone())));
        t.register(ServiceId::MOVE, Arc::new(Moves(self.clone())));
        let mut events = t.events();
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                let up = match events.recv().await {
                    Ok(Event::Up(member)) => Some(member),
                    Ok(Event::Down(..)) => None,
                    // Some were missed: everybody may have come back.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => None,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                };
                let Some(inner) = weak.upgrade() else { return };
                if let Some(member) = up {
                    for entry in &inner.groups {
                        // A passive group was told and acknowledged everything before.
                        if let Entry::Active(g) = entry.value() {
                            g.mail.send(GroupMsg::Connected(member));
                        }
                    }
                }
            }
        });
    }
}

impl Service for Replication {
    fn tell(&self, from: Member, message: Message) {
        let _main = self.0.inner.main.enter();
        let Ok(m) = codec::decode::<GroupMessage>(&message.body) else {
            tracing::warn!(%from, "a group message that cannot be read");
            return;
        };
        let mut records = Vec::with_capacity(message.attachments.len());
        for rope in message.attachments {
            match Record::parse(&contiguous(rope)) {
                Ok((record, _)) if record.group() == m.group => records.push(record),
                Ok(_) | Err(_) => {
                    // Damaged on its way or at its sender: never spread (the primary will send again).
                    tracing::error!(%from, group = %m.group, "a damaged record was refused");
                    return;
                }
            }
        }
        let runtime = &self.0;
        if !runtime.inner.groups.contains_key(&m.group) && runtime.inner.parts.directory.read().was_deleted(m.group) {
            return;
        }
        runtime.tell_group(m.group, GroupMsg::Peer(from, m, records));
    }
}

/// Small pieces are copied out, since a slice would pin the whole receive batch; a large single piece is kept as it came.
fn contiguous(rope: Rope) -> Bytes {
    const KEEP_BYTES_MIN: usize = 16 << 10;
    let meter = CopyMeter::default();
    if rope.chunk_count() == 1 && rope.len() >= KEEP_BYTES_MIN {
        rope.to_contiguous(&meter)
    } else {
        rope.copy_out(&meter)
    }
}

impl Service for Calls {
    fn ask(&self, _from: Member, message: Message, reply: Replier) {
        let _main = self.0.inner.main.enter();
        let Ok(body) = codec::decode::<CallBody>(&message.body) else {
            reply.fail(onemec_wire::code::SERVICE_CODE_MIN, "a call that cannot be read");
            return;
        };
        let mut parts = message.attachments.into_iter().map(contiguous);
        let op = Op { head: parts.next().unwrap_or_default(), body: parts.next().unwrap_or_default() };
        let runtime = self.0.clone();
        let left = reply.time_left().unwrap_or(CALL_MAX);
        runtime.serve_call(body, op, left, reply);
    }
}

impl Service for Moves {
    fn ask(&self, _from: Member, message: Message, reply: Replier) {
        let _main = self.0.inner.main.enter();
        let Ok(body) = codec::decode::<MoveBody>(&message.body) else {
            reply.fail(onemec_wire::code::SERVICE_CODE_MIN, "a move that cannot be read");
            return;
        };
        let runtime = self.0.clone();
        tokio::spawn(async move {
            let answer = runtime.serve_move(body).await;
            match codec::encode(&answer) {
                Ok(body) => reply.reply(Message::answer(body)),
                Err(e) => reply.fail(onemec_wire::code::SERVICE_CODE_MIN, &e.to_string()),
            }
        });
    }

    fn transfer(&self, from: Member, source: TransferSource) {
        let _main = self.0.inner.main.enter();
        let runtime = self.0.clone();
        tokio::spawn(async move { runtime.receive_history(from, source).await });
    }
}
