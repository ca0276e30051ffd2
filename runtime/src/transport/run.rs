//! The tasks that serve a connection: control stream, lanes in both directions, incoming streams, datagrams.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use onemec_wire::greeting;
use onemec_wire::{
    Channel, CloseCode, FailCode, Frame, Item, LaneNumber, ProtocolError, Purpose, Role, ServiceId, datagram,
};
use tokio::time::{Duration, Instant};

use super::conn::Conn;
use super::lane;
use super::message::{Message, Permit};
use super::service::{Replier, Way, refused};
use super::shared::{Services, count};
use super::{call, transfer};

/// Pieces taken from a stream at once.
pub(super) const PIECES: usize = 32;

/// A stream ended: by a breach, or since the connection is gone.
pub(super) enum End {
    Breach(ProtocolError),
    Gone,
}

impl From<ProtocolError> for End {
    fn from(error: ProtocolError) -> Self {
        Self::Breach(error)
    }
}

/// Starts all tasks of `conn`; they end by themselves when it closes.
pub(super) fn start(conn: &Arc<Conn>, send: quinn::SendStream, recv: quinn::RecvStream, channel: Channel) {
    spawn(conn, |conn| async move { write_control(&conn, send).await });
    guarded(conn, |conn| async move { read_control(&conn, recv, channel).await });
    match conn.purpose {
        Purpose::Lanes => {
            for (number, _) in conn.lanes() {
                spawn(conn, move |conn| async move { write_lane(&conn, number).await });
            }
            spawn(conn, |conn| async move { accept_lanes(&conn).await });
            spawn(conn, |conn| async move { call::accept(&conn).await });
            guarded(conn, |conn| async move { read_datagrams(&conn).await });
        }
        Purpose::Transfers => spawn(conn, |conn| async move { transfer::accept(&conn).await }),
    }
}

fn spawn<F: Future<Output = ()> + Send + 'static>(conn: &Arc<Conn>, f: impl FnOnce(Arc<Conn>) -> F) {
    let (task, fall) = (f(conn.clone()), fall(conn));
    tokio::spawn(async move {
        let _fall = fall;
        task.await;
    });
}

/// Spawns a task whose breach closes the connection.
pub(super) fn guarded<F>(conn: &Arc<Conn>, f: impl FnOnce(Arc<Conn>) -> F)
where
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let conn = conn.clone();
    spawn(&conn.clone(), |for_task| {
        let task = f(for_task);
        async move {
            if let Err(End::Breach(error)) = task.await {
                conn.breach(error);
            }
        }
    });
}

/// A connection that has lost one of its tasks would be up and half deaf: it is closed, and dialled again. That is its
/// supervision; its tasks are in no tree.
fn fall(conn: &Arc<Conn>) -> OnPanic<impl FnMut() + Send + use<>> {
    let conn = conn.clone();
    OnPanic(move || {
        tracing::error!(peer = %conn.peer, "a task of this connection panicked, connection closed");
        conn.close(CloseCode::Internal);
    })
}

/// Does something when it is dropped by a panic.
struct OnPanic<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

async fn write_control(conn: &Conn, mut send: quinn::SendStream) {
    lane::write(&conn.control, &mut send).await;
}

async fn write_lane(conn: &Conn, number: LaneNumber) {
    let Ok(mut send) = conn.quic.open_uni().await else { return };
    if number == LaneNumber::CONTROL {
        // Helps a little when the path is full (TRANSPORT.md).
        let _closed = send.set_priority(1);
    }
    lane::write(conn.lane(number), &mut send).await;
}

/// Reads more of a stream into its channel; false at its end.
pub(super) async fn fill(recv: &mut quinn::RecvStream, channel: &mut Channel) -> Result<(bool, u64), End> {
    let mut pieces = [const { Bytes::new() }; PIECES];
    match recv.read_chunks(&mut pieces).await {
        Ok(Some(n)) => {
            let mut bytes = 0;
            for piece in pieces.into_iter().take(n) {
                bytes += piece.len() as u64;
                channel.push(piece);
            }
            Ok((true, bytes))
        }
        Ok(None) => Ok((false, 0)),
        Err(_) => Err(End::Gone),
    }
}

async fn read_control(conn: &Conn, mut recv: quinn::RecvStream, mut channel: Channel) -> Result<(), End> {
    loop {
        while let Some(item) = channel.next()? {
            match item {
                Item::Credit(bytes) => conn.put_credit(bytes),
                Item::GoAway(why) => {
                    tracing::info!(peer = %conn.peer, code = why.code, text = %why.text, "peer goes away");
                    conn.go_away();
                }
                Item::Ping(number) => {
                    // A peer that pings without reading the answers gets none.
                    let _full = conn.control.tell(&greeting::pong(number));
                }
                _ => {}
            }
        }
        if !fill(&mut recv, &mut channel).await?.0 {
            return channel.end().map_err(End::from);
        }
    }
}

async fn accept_lanes(conn: &Arc<Conn>) {
    while let Ok(recv) = conn.quic.accept_uni().await {
        guarded(conn, |conn| async move { read_lane(&conn, recv).await });
    }
}

async fn read_lane(conn: &Arc<Conn>, mut recv: quinn::RecvStream) -> Result<(), End> {
    let mut channel = Channel::new(Role::Lane { message_lanes: conn.their_message_lanes() });
    let mut lane = LaneNumber::CONTROL;
    let mut copied = 0;
    loop {
        let (more, bytes) = fill(&mut recv, &mut channel).await?;
        let messages = hand_on(conn, &mut channel, &mut lane)?;
        let totals = &conn.totals;
        totals.hear();
        totals.received_messages.fetch_add(messages, Ordering::Relaxed);
        totals.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        let copied_now = channel.copied_bytes();
        totals.received_copied_bytes.fetch_add(copied_now - copied, Ordering::Relaxed);
        copied = copied_now;
        if !more {
            return channel.end().map_err(End::from);
        }
    }
}

/// Hands on everything that has come on a lane: one look at the clock and at the services for all of it. How many frames.
fn hand_on(conn: &Arc<Conn>, channel: &mut Channel, lane: &mut LaneNumber) -> Result<u64, ProtocolError> {
    let now = Instant::now();
    let services = conn.shared.services.load();
    let mut frames = 0;
    while let Some(item) = channel.next()? {
        frames += 1;
        match item {
            Item::LaneOpen(number) => {
                conn.open_lane(number)?;
                *lane = number;
            }
            Item::Tell(frame) => {
                let permit = conn.receive(*lane, frame.wire_len())?;
                tell(conn, &services, frame, permit);
            }
            Item::Ask(frame) => {
                let permit = conn.receive(*lane, frame.wire_len())?;
                let way = Way::Lane { conn: conn.clone(), lane: *lane, correlation: frame.correlation };
                answer(conn, &services, frame, permit, way, now);
            }
            // Nobody waits: the asker gave up, which is no breach.
            Item::Reply(frame) => {
                if let Some(asker) = conn.answered(frame.correlation) {
                    let _gone = asker.send(Ok(Message::from_frame(frame, Permit::Free)));
                }
            }
            Item::Fail(frame, fail) => {
                if let Some(asker) = conn.answered(frame.correlation) {
                    let _gone = asker.send(Err(refused(fail.code, fail.text)));
                }
            }
            _ => {}
        }
    }
    Ok(frames)
}

/// False, and the connection closed, if a peer of another domain uses what it may not.
pub(super) fn allowed(conn: &Conn, service: ServiceId) -> bool {
    let allowed = !conn.foreign || service == ServiceId::FEDERATION;
    if !allowed {
        conn.shared.breach(conn.peer.node);
        conn.close(onemec_wire::CloseCode::FederationOnly);
    }
    allowed
}

fn tell(conn: &Conn, services: &Services, frame: Frame, permit: Permit) {
    let service = frame.service;
    if !allowed(conn, service) {
        return;
    }
    let message = Message::from_frame(frame, permit);
    if !conn.shared.with_service_of(services, service, |s| s.tell(conn.peer, message)) {
        count(&conn.shared.counters.messages_dropped);
    }
}

/// Hands a question to its service.
pub(super) fn answer(conn: &Conn, services: &Services, frame: Frame, permit: Permit, way: Way, now: Instant) {
    let service = frame.service;
    if !allowed(conn, service) {
        return;
    }
    let deadline = (frame.deadline_ms > 0).then(|| now + Duration::from_millis(frame.deadline_ms.into()));
    let mut reply = Some(Replier::new(way, service, frame.target, deadline));
    let message = Message::from_frame(frame, permit);
    conn.shared.with_service_of(services, service, |s| {
        if let Some(reply) = reply.take() {
            s.ask(conn.peer, message, reply);
        }
    });
    if let Some(reply) = reply {
        reply.fail(FailCode::NoHandler.number(), "");
    }
}

async fn read_datagrams(conn: &Arc<Conn>) -> Result<(), End> {
    while let Ok(bytes) = conn.quic.read_datagram().await {
        conn.totals.hear();
        let (service, body) = datagram::decode(&bytes)?;
        if allowed(conn, service) {
            conn.shared.with_service(service, |s| s.datagram(conn.peer, body));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn only_a_panic_is_a_fall() {
        static FALLS: AtomicUsize = AtomicUsize::new(0);
        let fall = || {
            OnPanic(|| {
                FALLS.fetch_add(1, Ordering::Relaxed);
            })
        };
        let (ends, panics, stays) = (fall(), fall(), fall());
        tokio::spawn(async move { drop(ends) }).await.unwrap();
        let aborted = tokio::spawn(async move {
            let _stays = stays;
            std::future::pending::<()>().await;
        });
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(FALLS.load(Ordering::Relaxed), 0);
        let panicked = tokio::spawn(async move {
            let _panics = panics;
            panic!("a test wants it");
        });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(FALLS.load(Ordering::Relaxed), 1);
    }
}
