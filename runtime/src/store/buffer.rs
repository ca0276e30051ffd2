//! The local buffer of a node that is cut off, on disk: an append log of its own ([`super::append`]) and what waits in it
//! in memory. Synced before it is acknowledged, bounded by bytes, read back at the next start.
//!
//! A frame is either an operation that was accepted (its number in the log is the `n` of its [`BufferKey`]), or says that
//! one has left. Whether the latter is synced does not matter: an operation that is appended a second time is recognised
//! by its key.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use onemec_core::buffer::{Buffer, BufferError, BufferFill, BufferKey, Left};
use onemec_core::context::{BoxFuture, Op};
use onemec_wire::{ContextId, Incarnation, Member};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::append::{Append, AppendOptions, Drive, Entry, FatalHook, Frame, Lsn, SubmitError};
use super::disk::{Disk, DiskError};

const KIND_ACCEPTED: u8 = 1;
const KIND_LEFT: u8 = 2;
/// Length of a file of the log: also the longest operation, roughly.
const FILE_BYTES: u64 = 4 << 20;
/// What an operation costs beside its bytes.
const OVERHEAD_BYTES: u64 = 128;
/// One operation that does not leave holds up the files behind it: at most so many bytes on disk per byte of the limit.
const DISK_FACTOR: u64 = 4;
/// Context, boot, length of the operation's head.
const HEADER_BYTES: usize = 16 + 8 + 4;

struct Waiting {
    key: BufferKey,
    op: Op,
}

impl Waiting {
    fn bytes(&self) -> u64 {
        cost(&self.op)
    }
}

#[derive(Default)]
struct State {
    by_context: BTreeMap<ContextId, VecDeque<Waiting>>,
    /// Numbers of all that wait, for the release of files.
    numbers: BTreeMap<Lsn, ContextId>,
    /// Waiting or being written.
    bytes: u64,
    fill: BufferFill,
}

impl State {
    fn enter(&mut self, context: ContextId, waiting: Waiting) {
        self.numbers.insert(waiting.key.n, context);
        self.by_context.entry(context).or_default().push_back(waiting);
    }

    fn leave(&mut self, context: ContextId, n: Lsn) -> bool {
        let Some(queue) = self.by_context.get_mut(&context) else { return false };
        let Some(at) = queue.iter().position(|w| w.key.n == n) else { return false };
        let gone = queue.remove(at);
        if queue.is_empty() {
            self.by_context.remove(&context);
        }
        self.numbers.remove(&n);
        self.bytes = self.bytes.saturating_sub(gone.map_or(0, |w| w.bytes()));
        true
    }
}

/// A node's local buffer. Close it before another one is opened on the same folder.
pub struct DiskBuffer {
    member: Member,
    bytes_max: u64,
    append: Append,
    state: Arc<Mutex<State>>,
}

impl DiskBuffer {
    /// Opens the buffer in `dir` (made if absent) with what waits in it.
    ///
    /// # Errors
    /// If the disk cannot be used; what lies there is as it was.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        member: Member,
        bytes_max: u64,
        drive: Drive,
        on_fatal: FatalHook,
    ) -> Result<Self, DiskError> {
        let mut state = State::default();
        let options = AppendOptions {
            name: "onemec-buffer",
            file_bytes: FILE_BYTES,
            queue_bytes_max: usize::try_from(bytes_max.max(FILE_BYTES)).unwrap_or(usize::MAX),
            spare_files_max: 1,
            drive,
            on_fatal,
            ..AppendOptions::default()
        };
        let mut sink = |entry: Entry| recover(&mut state, member, &entry);
        let (append, recovered) = Append::open(disk, dir, options, &mut sink)?;
        for lost in recovered.lost {
            tracing::error!("the local buffer is damaged: {lost:?}");
        }
        let floor = state.numbers.first_key_value().map_or(recovered.next_lsn, |(n, _)| *n);
        append.release(floor)?;
        Ok(Self { member, bytes_max, append, state: Arc::new(Mutex::new(state)) })
    }

    /// Takes nothing more, and ends its thread. What waits stays on the disk.
    pub fn close(&self) {
        self.append.close();
    }

    /// The log, to be driven by hand.
    #[cfg(test)]
    fn pump(&self) -> super::append::Step {
        self.append.pump()
    }

    /// Room for one operation, taken before it is written.
    fn reserve(&self, bytes: u64) -> Result<(), BufferError> {
        let mut state = self.state.lock();
        let full = state.bytes.saturating_add(bytes) > self.bytes_max;
        let spread = self.append.usage().bytes > self.bytes_max.saturating_mul(DISK_FACTOR).max(2 * FILE_BYTES);
        if full || spread {
            state.fill.overflowed += 1;
            return Err(BufferError::Full);
        }
        state.bytes += bytes;
        Ok(())
    }

    fn release(&self) {
        let floor = match self.state.lock().numbers.first_key_value() {
            Some((n, _)) => *n,
            None => self.append.next_lsn(),
        };
        if self.append.usage().oldest_end.is_some_and(|end| end <= floor)
            && let Err(e) = self.append.release(floor)
        {
            tracing::warn!("the local buffer keeps a file that it does not need: {e}");
        }
    }

    async fn put_op(&self, context: ContextId, op: Op) -> Result<BufferKey, BufferError> {
        let bytes = cost(&op);
        self.reserve(bytes)?;
        let (synced, wait) = oneshot::channel();
        let (state, member, kept) = (Arc::clone(&self.state), self.member, op.clone());
        let frame = Frame {
            kind: KIND_ACCEPTED,
            parts: vec![header(context, member.incarnation, op.head.len()), op.head, op.body],
        };
        let submitted = self.append.submit(
            vec![frame],
            // On the committer's thread, in the order of the log: so the order per context is that of the log.
            Box::new(move |written| {
                let mut state = state.lock();
                let end = match written {
                    Ok(n) => {
                        let key = BufferKey { node: member.node, incarnation: member.incarnation, n };
                        state.enter(context, Waiting { key, op: kept });
                        state.fill.accepted += 1;
                        Ok(key)
                    }
                    Err(fatal) => {
                        state.bytes = state.bytes.saturating_sub(bytes);
                        Err(BufferError::Disk(fatal.to_string()))
                    }
                };
                // A client that has gone away meanwhile is not told; the operation stays.
                let _ = synced.send(end);
            }),
        );
        if let Err(e) = submitted {
            let mut state = self.state.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
            state.fill.overflowed += 1;
            return Err(match e {
                SubmitError::Full { .. } | SubmitError::TooLong { .. } => BufferError::Full,
                other => BufferError::Disk(other.to_string()),
            });
        }
        wait.await.unwrap_or_else(|_| Err(BufferError::Disk("the buffer was closed".into())))
    }
}

impl Buffer for DiskBuffer {
    fn put(&self, context: ContextId, op: Op) -> BoxFuture<'_, Result<BufferKey, BufferError>> {
        Box::pin(self.put_op(context, op))
    }

    fn holds(&self, context: ContextId) -> bool {
        self.state.lock().by_context.contains_key(&context)
    }

    fn contexts(&self, limit: usize) -> Vec<ContextId> {
        self.state.lock().by_context.keys().take(limit).copied().collect()
    }

    fn first(&self, context: ContextId) -> Option<(BufferKey, Op)> {
        let state = self.state.lock();
        let first = state.by_context.get(&context)?.front()?;
        Some((first.key, first.op.clone()))
    }

    fn left(&self, context: ContextId, key: BufferKey, how: Left) {
        {
            let mut state = self.state.lock();
            if !state.leave(context, key.n) {
                return;
            }
            match how {
                Left::Appended => state.fill.appended += 1,
                Left::Refused => state.fill.refused += 1,
            }
        }
        let frame = Frame { kind: KIND_LEFT, parts: vec![Bytes::copy_from_slice(&key.n.to_le_bytes())] };
        // If this is lost, the operation is appended again after a restart, and recognised by its key.
        if let Err(e) = self.append.submit_reserved(vec![frame], Box::new(|_| {})) {
            tracing::debug!("the local buffer did not note that {key} has left: {e}");
        }
        self.release();
    }

    fn fill(&self) -> BufferFill {
        let state = self.state.lock();
        let waiting = state.numbers.len() as u64;
        BufferFill { waiting, bytes: state.bytes, bytes_max: self.bytes_max, ..state.fill }
    }
}

fn cost(op: &Op) -> u64 {
    (op.head.len() + op.body.len()) as u64 + OVERHEAD_BYTES
}

fn header(context: ContextId, incarnation: Incarnation, head_len: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    out.put_u32_le(context.generation());
    out.put_u64_le(context.index());
    out.put_u32_le(context.ordinal());
    out.put_u64_le(incarnation.0);
    out.put_u32_le(u32::try_from(head_len).unwrap_or(u32::MAX));
    out.freeze()
}

/// Takes a frame of the log in; one that cannot be read passed its checksum and is from a newer version.
fn recover(state: &mut State, member: Member, entry: &Entry) {
    match entry.kind {
        KIND_ACCEPTED => match read(&entry.payload) {
            Some((context, incarnation, op)) => {
                let key = BufferKey { node: member.node, incarnation, n: entry.lsn };
                state.bytes += cost(&op);
                state.enter(context, Waiting { key, op });
            }
            None => tracing::error!("frame {} of the local buffer cannot be read", entry.lsn),
        },
        KIND_LEFT => {
            let n = entry.payload.get(..8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
            if let Some(context) = state.numbers.get(&n).copied() {
                state.leave(context, n);
            }
        }
        other => tracing::error!("frame {} of the local buffer has the unknown kind {other}", entry.lsn),
    }
}

fn read(payload: &Bytes) -> Option<(ContextId, Incarnation, Op)> {
    use bytes::Buf;
    let mut header = payload.get(..HEADER_BYTES)?;
    let context = ContextId::made(header.get_u32_le(), header.get_u64_le(), header.get_u32_le());
    let incarnation = Incarnation(header.get_u64_le());
    let head_len = header.get_u32_le() as usize;
    let rest = payload.get(HEADER_BYTES..)?;
    let (head, body) = rest.split_at_checked(head_len)?;
    // The payload is a slice of a larger buffer.
    Some((context, incarnation, Op { head: Bytes::copy_from_slice(head), body: Bytes::copy_from_slice(body) }))
}

#[cfg(test)]
mod tests {
    use super::super::append::Step;
    use super::super::disk::SimDisk;
    use super::*;
    use onemec_wire::NodeId;

    const DIR: &str = "/buffer";

    fn open(disk: &SimDisk, boot: u64, bytes_max: u64) -> DiskBuffer {
        let member = Member { node: NodeId(7), incarnation: Incarnation(boot) };
        DiskBuffer::open(disk.shared(), Path::new(DIR), member, bytes_max, Drive::Manual, Arc::new(|_| {})).unwrap()
    }

    fn context(i: u64) -> ContextId {
        ContextId::made(1, i, 0)
    }

    fn op(n: u64) -> Op {
        Op { head: Bytes::from(format!("head {n}")), body: Bytes::from(vec![b'x'; 100]) }
    }

    /// Puts one operation; `None` if its end was not told.
    fn put(buffer: &DiskBuffer, c: u64, n: u64) -> Option<Result<BufferKey, BufferError>> {
        let mut put = std::pin::pin!(buffer.put(context(c), op(n)));
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(end) = put.as_mut().poll(&mut nothing) {
            return Some(end);
        }
        buffer.pump();
        match put.as_mut().poll(&mut nothing) {
            std::task::Poll::Ready(end) => Some(end),
            std::task::Poll::Pending => None,
        }
    }

    fn drain(buffer: &DiskBuffer, c: u64) -> Vec<Bytes> {
        let mut heads = Vec::new();
        while let Some((key, op)) = buffer.first(context(c)) {
            buffer.left(context(c), key, Left::Appended);
            heads.push(op.head);
        }
        heads
    }

    #[test]
    fn what_was_accepted_survives_every_power_cut_in_order() {
        for seed in 0..40 {
            let disk = SimDisk::new();
            let mut accepted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            let mut last = None;
            let mut n = 0;
            for boot in 1..5 {
                let buffer = open(&disk, boot, 1 << 20);
                disk.stop_after(5 + seed % 23);
                for _ in 0..10 {
                    n += 1;
                    if let Some(Ok(key)) = put(&buffer, n % 3, n) {
                        assert!(last < Some(key), "keys rise");
                        last = Some(key);
                        accepted.entry(n % 3).or_default().push(n);
                    }
                }
                drop(buffer);
                disk.crash(seed * 31 + boot);
                disk.restart();
            }
            let buffer = open(&disk, 9, 1 << 20);
            for (c, wanted) in accepted {
                let got: Vec<u64> = drain(&buffer, c)
                    .iter()
                    .map(|h| std::str::from_utf8(h).unwrap().trim_start_matches("head ").parse().unwrap())
                    .collect();
                // What was written and not told may be there as well.
                let told: Vec<u64> = got.iter().copied().filter(|n| wanted.contains(n)).collect();
                assert_eq!(told, wanted, "seed {seed}");
                assert!(got.is_sorted(), "seed {seed}: {got:?}");
            }
        }
    }

    #[test]
    fn what_has_left_does_not_come_back() {
        let disk = SimDisk::new();
        let buffer = open(&disk, 1, 1 << 20);
        for n in 0..4 {
            put(&buffer, 1, n).unwrap().unwrap();
        }
        let (key, _) = buffer.first(context(1)).unwrap();
        buffer.left(context(1), key, Left::Appended);
        assert!(matches!(buffer.pump(), Step::Committed | Step::Idle));
        drop(buffer);
        let buffer = open(&disk, 2, 1 << 20);
        let (key, op) = buffer.first(context(1)).unwrap();
        assert_eq!((key.incarnation, &op.head[..]), (Incarnation(1), &b"head 1"[..]));
        assert_eq!(buffer.fill().waiting, 3);
    }

    #[test]
    fn it_is_bounded_and_has_room_again() {
        let disk = SimDisk::new();
        let buffer = open(&disk, 1, 1_000);
        let mut taken = 0;
        while put(&buffer, 1, taken).unwrap().is_ok() {
            taken += 1;
        }
        assert!(taken > 1 && buffer.fill().bytes <= 1_000);
        assert_eq!(put(&buffer, 2, 99), Some(Err(BufferError::Full)));
        assert_eq!(drain(&buffer, 1).len() as u64, taken);
        put(&buffer, 2, 99).unwrap().unwrap();
        assert_eq!(
            buffer.fill(),
            BufferFill {
                waiting: 1,
                bytes: cost(&op(99)),
                bytes_max: 1_000,
                accepted: taken + 1,
                overflowed: 2,
                appended: taken,
                refused: 0,
            }
        );
    }

    #[test]
    fn files_that_nobody_needs_are_given_back() {
        let disk = SimDisk::new();
        let buffer = open(&disk, 1, 32 << 20);
        let big = Op { head: Bytes::from_static(b"h"), body: Bytes::from(vec![0; 1 << 20]) };
        for _ in 0..40 {
            let mut put = std::pin::pin!(buffer.put(context(1), big.clone()));
            let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(put.as_mut().poll(&mut nothing).is_pending());
            buffer.pump();
            assert!(matches!(put.as_mut().poll(&mut nothing), std::task::Poll::Ready(Ok(_))));
            assert_eq!(drain(&buffer, 1).len(), 1);
            buffer.pump();
        }
        assert!(buffer.append.usage().files <= 2, "{:?}", buffer.append.usage());
    }
}
