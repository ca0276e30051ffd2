//! One connection to a peer after its handshake: lanes, credit, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use onemec_wire::greeting;
use onemec_wire::limits::{CREDIT_WINDOW_BYTES_MAX, FIXED_LANES};
use onemec_wire::{CloseCode, Frame, Greeting, LaneNumber, Member, ProtocolError, Purpose, ServiceId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::error::{DownReason, SendError};
use super::lane::{Answer, LaneLimits, LaneQueue, LaneStats};
use super::message::{Lane, Permit, cost};
use super::options::Tuning;
use super::shared::Shared;
use crate::lease::boottime;

/// Bytes of control frames that may wait.
const CONTROL_QUEUE_BYTES_MAX: usize = 64 << 10;
/// A receiver grants again when this part of its window has come back.
const GRANT_PART: u64 = 8;

/// What a conn counts about what it receives; kept over reconnects.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) connections: AtomicU64,
    pub(super) sent_messages: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) sent_copied_bytes: AtomicU64,
    pub(super) received_messages: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) received_copied_bytes: AtomicU64,
    /// When anything came last, in nanoseconds of the clock of leases; 0 if nothing ever did.
    pub(super) heard_ns: AtomicU64,
}

impl Totals {
    pub(super) fn hear(&self) {
        self.heard_ns.store(boottime().0, Ordering::Relaxed);
    }
}

/// A connection. All tasks that serve it end when QUIC closes it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) quic: quinn::Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) totals: Arc<Totals>,
    pub(super) peer: Member,
    pub(super) purpose: Purpose,
    pub(super) dialled_by_us: bool,
    /// Of another domain: federation only.
    pub(super) foreign: bool,
    pub(super) control: LaneQueue,
    lanes: Vec<LaneQueue>,
    message_lanes: u8,
    their_message_lanes: u8,
    lanes_opened_by_peer: AtomicU32,
    going_away: AtomicBool,
    closed_here: Mutex<Option<CloseCode>>,
    /// What we may still send on message lanes.
    credit: AtomicU64,
    /// What the peer may send in all, and has sent.
    granted: AtomicU64,
    received: AtomicU64,
    /// Came back, but was not granted again yet.
    returned: AtomicU64,
    window: u64,
}

impl Conn {
    pub(super) fn new(
        quic: quinn::Connection,
        shared: Arc<Shared>,
        totals: Arc<Totals>,
        ours: &Greeting,
        theirs: &Greeting,
        purpose: Purpose,
        dialled_by_us: bool,
    ) -> Self {
        let tuning = &shared.tuning;
        let lanes: Vec<_> = match purpose {
            Purpose::Lanes => {
                (0..FIXED_LANES + ours.message_lanes).map(|n| LaneQueue::new(n, lane_limits(tuning))).collect()
            }
            Purpose::Transfers => Vec::new(),
        };
        for (number, lane) in (0u8..).zip(&lanes) {
            let _fits = lane.tell(&greeting::lane_open(number));
        }
        let control = LaneQueue::new(
            u8::MAX,
            LaneLimits {
                queue_bytes_max: CONTROL_QUEUE_BYTES_MAX,
                answer_bytes_max: CONTROL_QUEUE_BYTES_MAX,
                asks_max: 0,
            },
        );
        Self {
            quic,
            totals,
            peer: theirs.member,
            purpose,
            dialled_by_us,
            foreign: ours.domain != theirs.domain,
            control,
            lanes,
            message_lanes: ours.message_lanes,
            their_message_lanes: theirs.message_lanes,
            lanes_opened_by_peer: AtomicU32::new(0),
            going_away: AtomicBool::new(false),
            closed_here: Mutex::new(None),
            credit: AtomicU64::new(theirs.credit_bytes),
            granted: AtomicU64::new(ours.credit_bytes),
            received: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            window: ours.credit_bytes,
            shared,
        }
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = (LaneNumber, &LaneQueue)> {
        (0u8..).map(LaneNumber).zip(&self.lanes)
    }

    /// A lane of ours. An answer goes on the lane on which its question came; a peer with more message lanes than we
    /// have gets its answers on the fitting one of ours.
    pub(super) fn lane(&self, number: LaneNumber) -> &LaneQueue {
        self.lanes.get(usize::from(self.own_lane(number).0)).unwrap_or(&self.control)
    }

    /// Our lane for the answers to what came on the peer's lane `number`.
    fn own_lane(&self, number: LaneNumber) -> LaneNumber {
        if number.is_message() {
            LaneNumber(FIXED_LANES + (number.0 - FIXED_LANES) % self.message_lanes.max(1))
        } else {
            number
        }
    }

    /// Who waits for the answer with this correlation; an asker that gave up is forgotten.
    pub(super) fn answered(&self, correlation: u64) -> Option<oneshot::Sender<Answer>> {
        self.lanes.get((correlation & 0xff) as usize)?.answered(correlation)
    }

    pub(super) const fn their_message_lanes(&self) -> u8 {
        self.their_message_lanes
    }

    /// The lane for a message; `Err` if nothing may be sent now.
    pub(super) fn lane_for(&self, lane: Lane, frame: &Frame) -> Result<(LaneNumber, &LaneQueue), SendError> {
        self.check(frame.service)?;
        let number = lane.number(frame.target, self.message_lanes);
        match self.lanes.get(usize::from(number.0)) {
            Some(queue) => Ok((number, queue)),
            None => Err(SendError::NotConnected),
        }
    }

    pub(super) fn check(&self, service: ServiceId) -> Result<(), SendError> {
        if self.going_away.load(Ordering::Relaxed) {
            return Err(SendError::NotConnected);
        }
        if self.foreign && service != ServiceId::FEDERATION {
            return Err(SendError::Forbidden);
        }
        Ok(())
    }

    /// Takes credit for a frame on a message lane; other lanes cost nothing.
    pub(super) fn take_credit(&self, lane: LaneNumber, frame: &Frame) -> Result<u64, SendError> {
        if !lane.is_message() {
            return Ok(0);
        }
        let cost = cost(frame.wire_len());
        let taken = self.credit.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |c| c.checked_sub(cost));
        taken.map(|_| cost).map_err(|_| SendError::QueueFull)
    }

    pub(super) fn put_credit(&self, bytes: u64) {
        let add = |c: u64| Some(c.saturating_add(bytes).min(CREDIT_WINDOW_BYTES_MAX));
        let _always = self.credit.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add);
    }

    pub(super) fn credit(&self) -> u64 {
        self.credit.load(Ordering::Relaxed)
    }

    /// The peer used credit; a breach if it had none.
    pub(super) fn receive(self: &Arc<Self>, lane: LaneNumber, frame_bytes: usize) -> Result<Permit, ProtocolError> {
        if !lane.is_message() {
            return Ok(Permit::Free);
        }
        let cost = cost(frame_bytes);
        let received = self.received.fetch_add(cost, Ordering::AcqRel) + cost;
        let granted = self.granted.load(Ordering::Acquire);
        if received > granted {
            return Err(ProtocolError::Credit { used: received - granted });
        }
        Ok(Permit::Credit(self.clone(), cost))
    }

    /// A received message was dropped: its credit goes back, in large parts.
    pub(super) fn give_back(&self, cost: u64) {
        if self.returned.fetch_add(cost, Ordering::AcqRel) + cost < self.window / GRANT_PART {
            return;
        }
        let bytes = self.returned.swap(0, Ordering::AcqRel);
        if bytes > 0 {
            self.granted.fetch_add(bytes, Ordering::AcqRel);
            let _gone = self.control.tell(&greeting::credit(bytes));
        }
    }

    /// The peer opens one of its lanes; each once.
    pub(super) fn open_lane(&self, lane: LaneNumber) -> Result<(), ProtocolError> {
        let bit = 1u32 << (lane.0 % 32);
        if self.lanes_opened_by_peer.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            Ok(())
        } else {
            Err(ProtocolError::Lane(lane.0.into()))
        }
    }

    pub(super) fn go_away(&self) {
        self.going_away.store(true, Ordering::Relaxed);
    }

    /// Closes with a code; the first code counts.
    pub(super) fn close(&self, code: CloseCode) {
        self.closed_here.lock().get_or_insert(code);
        self.quic.close(code.number().into(), b"");
    }

    /// Closes because the peer broke the protocol.
    pub(super) fn breach(&self, error: ProtocolError) {
        tracing::warn!(peer = %self.peer, %error, "protocol broken by a peer, connection closed");
        self.shared.breach(self.peer.node);
        self.close(error.code());
    }

    /// QUIC has closed it: everyone who waits hears about it. Called once.
    pub(super) fn finish(&self, error: &quinn::ConnectionError) -> DownReason {
        self.control.close();
        for (_, lane) in self.lanes() {
            lane.close();
            let LaneStats { messages, bytes, copied_bytes, .. } = lane.stats();
            self.totals.sent_messages.fetch_add(messages, Ordering::Relaxed);
            self.totals.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.totals.sent_copied_bytes.fetch_add(copied_bytes, Ordering::Relaxed);
        }
        match (error, *self.closed_here.lock()) {
            (quinn::ConnectionError::LocallyClosed, Some(code)) => DownReason::ClosedHere(code),
            (error, _) => DownReason::from(error),
        }
    }
}

fn lane_limits(tuning: &Tuning) -> LaneLimits {
    LaneLimits {
        queue_bytes_max: tuning.lane_queue_bytes_max,
        answer_bytes_max: tuning.lane_answer_bytes_max,
        asks_max: tuning.asks_pending_max,
    }
}
