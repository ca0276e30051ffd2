//! Keeping connected: one task per peer and purpose dials for ever while the peer is configured, one accepts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use onemec_wire::{CloseCode, NodeId, Purpose};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::Inner;
use super::backoff::Backoff;
use super::error::DownReason;
use super::handshake::{Failed, Greeted};
use super::peer::Peer;
use super::shared::count;

impl Inner {
    /// Runs until it is aborted.
    pub(super) async fn keep_dialling(self: Arc<Self>, peer: Arc<Peer>, purpose: Purpose) {
        let tuning = self.shared.tuning.clone();
        let slot = peer.slot(purpose);
        let mut addresses = peer.addresses.subscribe();
        let mut changed = slot.changed.subscribe();
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let seed = self.shared.me.node.0.rotate_left(32) ^ peer.node.0 ^ self.shared.me.incarnation.0 ^ purpose as u64;
        let mut backoff = Backoff::new(ms(tuning.dial_backoff_min_ms), ms(tuning.dial_backoff_max_ms), seed);
        let mut up_since: Option<Instant> = None;
        let mut refused = None;
        loop {
            let list = addresses.borrow_and_update().clone();
            changed.borrow_and_update();
            if slot.is_up() || list.is_empty() {
                if slot.is_up() {
                    up_since.get_or_insert_with(Instant::now);
                }
                tokio::select! {
                    biased;
                    _ = changed.changed() => {}
                    _ = addresses.changed() => {}
                }
                continue;
            }
            // A connection that dies young does not shorten the pauses, or two nodes that disagree would never rest.
            if up_since.take().is_some_and(|t| t.elapsed() >= ms(tuning.dial_backoff_max_ms)) {
                backoff.reset();
            }
            let mut lasting = false;
            for address in list {
                match timeout(tuning.handshake_timeout(), self.dial(&peer, purpose, address)).await {
                    Ok(Ok(greeted)) => {
                        self.attach(&peer, greeted);
                        refused = None;
                        break;
                    }
                    Ok(Err(Failed::NotNeeded)) => break,
                    Ok(Err(failed)) => {
                        tracing::debug!(peer = %peer.node, %address, ?purpose, ?failed, "dial failed");
                        // Said once, until it changes.
                        let refusal = failed.refusal();
                        if let Some(why) = refusal.as_ref().filter(|_| refusal != refused) {
                            tracing::warn!(
                                peer = %peer.node, %address,
                                "refused: {why}; do both have certificates of one authority and domain, and one version?"
                            );
                        }
                        refused = refusal.or(refused);
                        lasting |= failed.is_lasting();
                    }
                    Err(_) => tracing::debug!(peer = %peer.node, %address, ?purpose, "dial timed out"),
                }
            }
            if slot.is_up() {
                continue;
            }
            let pause = if lasting { backoff.jitter(ms(tuning.dial_backoff_lasting_ms)) } else { backoff.pause() };
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                _ = addresses.changed() => backoff.reset(),
                () = sleep(pause) => {}
            }
        }
    }

    /// Serves a connection that is in its slot, until it closes.
    pub(super) fn attach(self: &Arc<Self>, peer: &Arc<Peer>, greeted: Greeted) {
        let conn = greeted.start();
        let (inner, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            let error = conn.quic.closed().await;
            let reason = conn.finish(&error);
            peer.slot(conn.purpose).gone(&conn, reason);
            if !peer.configured.load(Ordering::Relaxed) {
                inner.forget_if_gone(&peer);
            }
        });
    }

    /// Accepts until the endpoint closes.
    pub(super) async fn accept(self: Arc<Self>) {
        let max = self.shared.tuning.handshakes_max;
        let handshakes = Arc::new(Semaphore::new(max));
        let counters = &self.shared.counters;
        while let Some(incoming) = self.endpoint.accept().await {
            if self.endpoint.open_connections() >= self.shared.tuning.connections_max {
                count(&counters.handshakes_refused);
                incoming.refuse();
                continue;
            }
            let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                count(&counters.handshakes_refused);
                incoming.refuse();
                continue;
            };
            if handshakes.available_permits() < max / 2 && incoming.may_retry() {
                // Under pressure only those who can receive at their address get further.
                let _sent = incoming.retry();
                continue;
            }
            let Ok(connecting) = incoming.accept() else {
                count(&counters.handshakes_failed);
                continue;
            };
            let inner = self.clone();
            tokio::spawn(async move {
                let greeting = async {
                    let quic = connecting.await.map_err(|e| Failed::Ended(DownReason::from(&e)))?;
                    inner.greet(quic).await
                };
                match timeout(inner.shared.tuning.handshake_timeout(), greeting).await {
                    Ok(Ok((peer, greeted))) => inner.attach(&peer, greeted),
                    Ok(Err(Failed::Here(CloseCode::Duplicate) | Failed::NotNeeded)) => {}
                    Ok(Err(failed)) => {
                        count(&inner.shared.counters.handshakes_failed);
                        tracing::debug!(?failed, "incoming handshake failed");
                    }
                    Err(_) => count(&inner.shared.counters.handshakes_failed),
                }
                drop(permit);
            });
        }
    }

    /// The peer that sent a Hello; one that nobody configured is remembered while it is connected.
    pub(super) fn peer_of_hello(&self, node: NodeId, domain: &str) -> Result<Arc<Peer>, CloseCode> {
        let _changes = self.changes.lock();
        match self.peers.load().get(&node) {
            Some(peer) if *peer.domain == *domain => return Ok(peer.clone()),
            // An id of our own domain is never taken by another domain's node, the other way round it is.
            Some(_) if domain != self.domain => return Err(CloseCode::WrongDomain),
            _ => {}
        }
        if self.peers.load().len() >= self.shared.tuning.connections_max {
            return Err(CloseCode::Overloaded);
        }
        let peer = Arc::new(Peer::new(node, domain, false, &self.events));
        self.put_peer(peer.clone());
        Ok(peer)
    }

    fn forget_if_gone(&self, peer: &Arc<Peer>) {
        let _changes = self.changes.lock();
        let same = self.peers.load().get(&peer.node).is_some_and(|p| Arc::ptr_eq(p, peer));
        let same = same && !peer.configured.load(Ordering::Relaxed);
        if same && peer.conns().next().is_none() {
            self.drop_peer(peer.node);
        }
    }
}
