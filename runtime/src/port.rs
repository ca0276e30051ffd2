//! The transport as directory, leases and gossip see it: asks and datagrams by node and service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use onemec_wire::{FailCode, Member, NodeId, ServiceId};

use crate::directory::net::BoxFuture;
use crate::directory::{AskHandler, DatagramHandler, Net, NetError};
use crate::transport::{Lane, Message, Replier, Service, Transport};

/// Messages up to this length travel on the control lane; longer ones (snapshots) get a stream of their own.
const LANE_BYTES_MAX: usize = 64 << 10;

#[derive(Default, Clone)]
struct Handlers {
    ask: Option<Arc<dyn AskHandler>>,
    datagram: Option<Arc<dyn DatagramHandler>>,
}

/// See the module's documentation.
pub struct Port {
    transport: Transport,
    /// Handlers run here, not on the transport's thread.
    main: tokio::runtime::Handle,
    handlers: DashMap<ServiceId, Handlers>,
}

impl Port {
    /// A port of `transport`; handlers run on the runtime that this is called in.
    pub fn new(transport: Transport) -> Arc<Self> {
        Arc::new(Self { transport, main: tokio::runtime::Handle::current(), handlers: DashMap::new() })
    }

    fn set(&self, service: ServiceId, change: impl FnOnce(&mut Handlers)) {
        let mut entry = self.handlers.entry(service).or_default();
        change(&mut entry);
        let handlers = entry.clone();
        drop(entry);
        self.transport.register(service, Arc::new(Entry { main: self.main.clone(), handlers }));
    }
}

struct Entry {
    main: tokio::runtime::Handle,
    handlers: Handlers,
}

impl Service for Entry {
    fn ask(&self, from: Member, message: Message, reply: Replier) {
        let Some(handler) = &self.handlers.ask else {
            reply.fail(FailCode::NoHandler.number(), "the service answers no questions");
            return;
        };
        let _main = self.main.enter();
        let answer = handler.ask(from.node, message.body.clone());
        tokio::spawn(async move {
            // Without an answer the replier says so when it is dropped.
            if let Some(body) = answer.await {
                reply.reply(Message::answer(body));
            }
        });
    }

    fn datagram(&self, from: Member, body: Bytes) {
        if let Some(handler) = &self.handlers.datagram {
            handler.datagram(from.node, body);
        }
    }
}

impl Net for Port {
    fn me(&self) -> NodeId {
        self.transport.me().node
    }

    fn ask(
        &self,
        to: NodeId,
        service: ServiceId,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetError>> {
        let transport = self.transport.clone();
        Box::pin(async move {
            let large = body.len() > LANE_BYTES_MAX;
            let message = Message::new(service, 0, body);
            let answer = if large {
                transport.call(to, message, deadline).await
            } else {
                transport.ask(to, Lane::Control, message, deadline).await
            };
            match answer {
                Ok(message) => Ok(message.body.clone()),
                Err(e) if e.is_certainly_not_done() => Err(NetError::NotDelivered { to, reason: e.to_string() }),
                Err(e) => Err(NetError::Unknown { to, reason: e.to_string() }),
            }
        })
    }

    fn datagram(&self, to: NodeId, service: ServiceId, body: Bytes) {
        // Its loss does not matter.
        drop(self.transport.datagram(to, service, body));
    }

    fn on_ask(&self, service: ServiceId, handler: Arc<dyn AskHandler>) {
        self.set(service, |h| h.ask = Some(handler));
    }

    fn on_datagram(&self, service: ServiceId, handler: Arc<dyn DatagramHandler>) {
        self.set(service, |h| h.datagram = Some(handler));
    }

    fn off(&self, service: ServiceId) {
        self.handlers.remove(&service);
        self.transport.unregister(service);
    }
}
