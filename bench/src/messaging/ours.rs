//! Our transport, driven as the runtime drives it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use onemec_runtime::pki::Pki;
use onemec_runtime::transport::{
    Lane, Message, Options, Profile, Replier, SendError, Service, TransferSource, Transport, Tuning,
};
use onemec_wire::{Cluster, Incarnation, Member, NodeId, ServiceId};
use tokio::task::JoinSet;

use super::side::{ASK_BYTES, BURST_BYTES, Bulk, Outstanding, PIECE_BYTES, PIECES, Pace, Side, per_second};
use crate::latency::Latency;

const SERVICE: ServiceId = ServiceId(300);
const NEAR: NodeId = NodeId(1);
const FAR: NodeId = NodeId(2);
/// All messages of a run have one target, so that they keep their order and a question after them counts them.
const TARGET: u64 = 7;
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The settings that both sides have.
pub(super) fn tuning() -> Tuning {
    // Long times: a stalled machine must not end a measurement.
    Tuning { profile: Profile::Loopback, idle_timeout_ms: 20_000, ..Tuning::default() }
}

fn start(pki: &Pki) -> anyhow::Result<Transport> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let cluster = Cluster { id: [7; 16], generation: 1 };
    let mut options = Options::new(listen, Incarnation(1), cluster, tokio::runtime::Handle::current());
    options.tuning = tuning();
    Ok(Transport::start(options, pki)?)
}

/// Answers questions with what they say, counts messages, takes transfers.
#[derive(Default)]
struct Far {
    told: AtomicU64,
}

impl Service for Far {
    fn tell(&self, _: Member, _: Message) {
        self.told.fetch_add(1, Ordering::Relaxed);
    }
    fn ask(&self, _: Member, message: Message, reply: Replier) {
        // An empty question: how many messages have come?
        let answer = if message.body.is_empty() {
            Bytes::copy_from_slice(&self.told.load(Ordering::Relaxed).to_le_bytes())
        } else {
            message.body.clone()
        };
        reply.reply(Message::answer(answer));
    }
    fn transfer(&self, _: Member, mut source: TransferSource) {
        tokio::spawn(async move {
            while let Ok(Some(_)) = source.next().await {}
            source.accept(Bytes::new()).await;
        });
    }
}

/// The far end; it runs for as long as the transport is kept.
pub(super) fn serve(pki: &Pki) -> anyhow::Result<Transport> {
    let transport = start(pki)?;
    transport.register(SERVICE, Arc::new(Far::default()));
    transport.set_peer(NEAR, Vec::new());
    Ok(transport)
}

/// The near end.
pub(crate) struct Near {
    transport: Transport,
}

impl Near {
    pub(super) async fn connect(pki: &Pki, far: SocketAddr) -> anyhow::Result<Self> {
        let transport = start(pki)?;
        transport.set_peer(FAR, vec![far]);
        let begun = Instant::now();
        while !(transport.connected(FAR) && transport.transfers_connected(FAR)) {
            if begun.elapsed() > PATIENCE {
                bail!("no connection to the far end");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self { transport })
    }

    async fn told(&self) -> anyhow::Result<u64> {
        let question = Message::new(SERVICE, TARGET, Bytes::new());
        let answer = self.transport.ask(FAR, Lane::Message, question, PATIENCE).await?;
        let count: [u8; 8] = answer.body.as_ref().try_into().context("the far end's count")?;
        Ok(u64::from_le_bytes(count))
    }
}

/// One asker: the next question follows the answer. All askers share one histogram: one each, of some hundred KB, would
/// measure the cache.
async fn ask_until(transport: Transport, end: Instant, latency: Arc<Mutex<Latency>>) -> anyhow::Result<()> {
    let body = Bytes::from(vec![7; ASK_BYTES]);
    let mut now = Instant::now();
    while now < end {
        let question = Message::new(SERVICE, TARGET, body.clone());
        transport.ask(FAR, Lane::Message, question, PATIENCE).await?;
        let answered = Instant::now();
        latency.lock().map_err(|_| anyhow!("an asker panicked"))?.record(answered - now);
        now = answered;
    }
    Ok(())
}

impl Side for Near {
    async fn asks(&mut self, outstanding: usize, time: Duration) -> anyhow::Result<Outstanding> {
        let begun = Instant::now();
        let latency = Arc::new(Mutex::new(Latency::new()));
        let mut askers = JoinSet::new();
        for _ in 0..outstanding {
            askers.spawn(ask_until(self.transport.clone(), begun + time, latency.clone()));
        }
        while let Some(ended) = askers.join_next().await {
            ended??;
        }
        let latency = latency.lock().map_err(|_| anyhow!("an asker panicked"))?.clone();
        Ok(Outstanding { rate: per_second(latency.percentiles().count, begun), latency })
    }

    async fn tells(&mut self, bytes: usize, time: Duration) -> anyhow::Result<f64> {
        let body = Bytes::from(vec![7; bytes]);
        let before = self.told().await?;
        let begun = Instant::now();
        while begun.elapsed() < time {
            for _ in 0..BURST_BYTES / bytes.max(1) {
                match self.transport.tell(FAR, Lane::Message, Message::new(SERVICE, TARGET, body.clone())) {
                    Ok(()) => {}
                    Err(SendError::QueueFull) => break,
                    Err(e) => return Err(e.into()),
                }
            }
            tokio::task::yield_now().await;
        }
        // A question after them on their lane: when it is answered, all have arrived. It needs credit like any message.
        let after = loop {
            match self.told().await {
                Ok(count) => break count,
                Err(_) if begun.elapsed() < time + PATIENCE => tokio::task::yield_now().await,
                Err(e) => return Err(e),
            }
        };
        Ok(per_second(after - before, begun))
    }

    fn bulk(&self, pace: Pace) -> Bulk {
        let transport = self.transport.clone();
        Box::pin(async move {
            let piece = Bytes::from(vec![7; PIECE_BYTES]);
            let begun = Instant::now();
            let mut sink = transport.open_transfer(FAR, SERVICE, TARGET, Bytes::new()).await?;
            while !pace.is_over() {
                let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| piece.clone());
                sink.write(&mut pieces).await?;
            }
            let sent = sink.sent_bytes();
            sink.finish().await?;
            Ok(per_second(sent, begun))
        })
    }
}
