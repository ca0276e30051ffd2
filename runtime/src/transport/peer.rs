//! A peer: its addresses, and at most one connection for each purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use onemec_wire::greeting::{self, Decision, Slot as SlotView};
use onemec_wire::{CloseCode, Member, NodeId, Purpose};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use super::conn::{Conn, Totals};
use super::error::DownReason;

/// A change that users of the transport see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Messages to this boot of the node can be sent from now on.
    Up(Member),
    /// The connection is gone, and with it everything that was under way on it.
    Down(Member, DownReason),
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) domain: Box<str>,
    /// Set by the node's configuration; others are forgotten when they go.
    pub(super) configured: AtomicBool,
    pub(super) lanes: Slot,
    pub(super) transfers: Slot,
    pub(super) totals: Arc<Totals>,
    /// Where to dial; empty: never dialled, it dials us.
    pub(super) addresses: watch::Sender<Vec<SocketAddr>>,
    /// The tasks that dial.
    pub(super) diallers: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Peer {
    pub(super) fn new(node: NodeId, domain: &str, configured: bool, events: &broadcast::Sender<Event>) -> Self {
        Self {
            node,
            domain: domain.into(),
            configured: AtomicBool::new(configured),
            lanes: Slot::new(Some(events.clone())),
            transfers: Slot::new(None),
            totals: Arc::default(),
            addresses: watch::Sender::new(Vec::new()),
            diallers: Mutex::default(),
        }
    }
    pub(super) const fn slot(&self, purpose: Purpose) -> &Slot {
        match purpose {
            Purpose::Lanes => &self.lanes,
            Purpose::Transfers => &self.transfers,
        }
    }
    pub(super) fn conns(&self) -> impl Iterator<Item = Arc<Conn>> {
        [&self.lanes, &self.transfers].into_iter().filter_map(|s| s.current.load_full())
    }
    /// Dials no more and closes what there is.
    pub(super) fn close(&self, code: CloseCode) {
        for dialler in self.diallers.lock().drain(..) {
            dialler.abort();
        }
        self.conns().for_each(|c| c.close(code));
    }
}

/// The place of the one connection for one purpose. Its lock is held only for the decisions, never across an await.
#[derive(Debug)]
pub(super) struct Slot {
    /// Read on the hot path.
    pub(super) current: ArcSwapOption<Conn>,
    state: Mutex<SlotState>,
    /// Grows with each change; diallers wait on it.
    pub(super) changed: watch::Sender<u64>,
    events: Option<broadcast::Sender<Event>>,
}

#[derive(Debug, Default)]
struct SlotState {
    /// Number of the dial that has sent its Hello.
    hello_sent: Option<u64>,
    dials: u64,
    /// Newest boot of the peer that was ever connected: older ones are refused for ever.
    newest: Option<Member>,
}

/// A dial that may send its Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dial(u64);

impl Slot {
    fn new(events: Option<broadcast::Sender<Event>>) -> Self {
        Self { current: ArcSwapOption::empty(), state: Mutex::default(), changed: watch::Sender::new(0), events }
    }

    pub(super) fn is_up(&self) -> bool {
        self.current.load().is_some()
    }

    /// A dial is about to send its Hello; `None` if there is a connection by now.
    pub(super) fn begin_dial(&self) -> Option<Dial> {
        let mut state = self.state.lock();
        if self.is_up() {
            return None;
        }
        state.dials += 1;
        state.hello_sent = Some(state.dials);
        Some(Dial(state.dials))
    }

    /// The dial came to nothing.
    pub(super) fn end_dial(&self, dial: Dial) {
        let mut state = self.state.lock();
        if state.hello_sent == Some(dial.0) {
            state.hello_sent = None;
        }
    }

    /// The dial was welcomed: `conn` takes the place, unless the dial was given up for the peer's own in the meantime.
    pub(super) fn dialled(&self, dial: Dial, conn: &Arc<Conn>) -> Result<(), CloseCode> {
        let mut state = self.state.lock();
        if state.hello_sent != Some(dial.0) {
            return Err(CloseCode::Duplicate);
        }
        state.hello_sent = None;
        if state.newest.is_some_and(|n| n.incarnation > conn.peer.incarnation) {
            return Err(CloseCode::StaleIncarnation);
        }
        self.install(&mut state, conn);
        Ok(())
    }

    /// A Hello of the peer came: decides by the rule of [`greeting::on_hello`], and puts `conn` in place if it is taken.
    pub(super) fn greeted(&self, me: NodeId, conn: &Arc<Conn>) -> Result<(), CloseCode> {
        let mut state = self.state.lock();
        let view = match &*self.current.load() {
            Some(old) => SlotView::Up { peer: old.peer, dialled_by_us: old.dialled_by_us },
            None if state.newest.is_some_and(|n| n.incarnation > conn.peer.incarnation) => {
                return Err(CloseCode::StaleIncarnation);
            }
            None if state.hello_sent.is_some() => SlotView::HelloSent,
            None => SlotView::Empty,
        };
        match greeting::on_hello(me, conn.peer, view) {
            Decision::Refuse(code) => Err(code),
            Decision::Accept => {
                state.hello_sent = None;
                self.install(&mut state, conn);
                Ok(())
            }
        }
    }

    fn install(&self, state: &mut SlotState, conn: &Arc<Conn>) {
        if let Some(old) = self.current.swap(Some(conn.clone())) {
            old.close(CloseCode::Replaced);
            self.tell(Event::Down(old.peer, DownReason::ClosedHere(CloseCode::Replaced)));
        }
        state.newest = Some(conn.peer);
        self.tell(Event::Up(conn.peer));
        self.changed.send_modify(|n| *n += 1);
    }

    /// `conn` is gone. True if it was in place.
    pub(super) fn gone(&self, conn: &Arc<Conn>, reason: DownReason) -> bool {
        let state = self.state.lock();
        let in_place = self.current.load().as_ref().is_some_and(|c| Arc::ptr_eq(c, conn));
        if in_place {
            self.current.store(None);
            self.tell(Event::Down(conn.peer, reason));
            self.changed.send_modify(|n| *n += 1);
        }
        drop(state);
        in_place
    }

    fn tell(&self, event: Event) {
        tracing::info!(?event, "transport");
        if let Some(events) = &self.events {
            let _nobody = events.send(event);
        }
    }
}
