//! Histories travel over a transfer stream: the snapshot of the last checkpoint, then the segments that the receiver lacks,
//! from disk to wire to disk as they are.

use bytes::{Bytes, BytesMut};
use onemec_core::group::Position;
use onemec_wire::{Epoch, GroupId, Member, ServiceId, codec};

use super::Runtime;
use super::body::{HistoryHeader, MoveBody, MoveReply, SegmentLine};
use super::group::GroupMsg;
use super::net::lane_of;
use crate::store::group::GroupStore;
use crate::store::install::{Export, Install};
use crate::store::segment::{SegmentInfo, SegmentWriter};
use crate::store::seqset::SeqSet;
use crate::transport::TransferSource;

/// Longest snapshot that is accepted.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Most segments of one group.
const SEGMENTS_MAX: usize = 65_536;

impl From<SegmentInfo> for SegmentLine {
    fn from(s: SegmentInfo) -> Self {
        Self { first: s.first, last: s.last, checksum: s.checksum, bytes: s.bytes, records: s.records }
    }
}

impl From<SegmentLine> for SegmentInfo {
    fn from(s: SegmentLine) -> Self {
        Self { first: s.first, last: s.last, checksum: s.checksum, bytes: s.bytes, records: s.records }
    }
}

impl Runtime {
    /// The segments of a group that lie here, for a sender who wants to spare them.
    pub(super) fn manifest(&self, group: GroupId) -> Vec<SegmentLine> {
        let store = self.inner.parts.store.group(group);
        store.map_or_else(Vec::new, |s| s.manifest().into_iter().map(|(info, _)| info.into()).collect())
    }

    /// Sends what lies before the tail; says where that ends and how many bytes were sent.
    pub(super) async fn send_history(
        &self,
        group: GroupId,
        to: Member,
        epoch: Epoch,
    ) -> Result<(Position, u64), String> {
        let store = self.inner.parts.store.group(group).ok_or("the group is not here")?;
        let export = blocking(move || store.export()).await?.ok_or("there is no checkpoint yet")?;
        let known = match self.ask_move(to.node, group, &MoveBody::Manifest { group }, super::moves::ADMIT_MAX).await {
            Ok(MoveReply::Manifest(lines)) => lines,
            _ => Vec::new(),
        };
        let Export { seq, epoch: at, kept, snapshot, segments } = export;
        let base = Position { epoch: at, seq };
        let lines = segments.iter().map(|s| SegmentLine::from(s.info()));
        let header = HistoryHeader {
            group,
            epoch,
            base,
            snapshot_bytes: snapshot.len() as u64,
            snapshot_crc: crc32c::crc32c(&snapshot),
            kept: kept.ranges().collect(),
            segments: lines.map(|l| (l, !known.contains(&l))).collect(),
        };
        let sent: Vec<bool> = header.segments.iter().map(|(_, sent)| *sent).collect();
        let header = codec::encode(&header).map_err(|e| e.to_string())?;
        let transport = &self.inner.parts.transport;
        let open = transport.open_transfer(Self::peer_of(to), ServiceId::MOVE, lane_of(group), header);
        let mut sink = open.await.map_err(|e| e.to_string())?;
        let mut total = snapshot.len() as u64;
        sink.write_one(snapshot).await.map_err(|e| e.to_string())?;
        for (segment, sent) in segments.into_iter().zip(sent) {
            if sent {
                let bytes = blocking(move || segment.bytes()).await?;
                total += bytes.len() as u64;
                sink.write_one(bytes).await.map_err(|e| e.to_string())?;
            }
        }
        sink.finish().await.map_err(|e| e.to_string())?;
        Ok((base, total))
    }

    /// Takes a history in. It is on this node's disk before the sender hears of it.
    pub(super) async fn receive_history(&self, from: Member, mut source: TransferSource) {
        match self.take_history(from, &mut source).await {
            Ok(()) => source.accept(Bytes::new()).await,
            Err(e) => {
                tracing::warn!(%from, "history refused: {e}");
                source.refuse(onemec_wire::code::SERVICE_CODE_MIN, &e).await;
            }
        }
    }

    async fn take_history(&self, from: Member, source: &mut TransferSource) -> Result<(), String> {
        let header: HistoryHeader = codec::decode(&source.header).map_err(|e| e.to_string())?;
        if header.snapshot_bytes > SNAPSHOT_BYTES_MAX || header.segments.len() > SEGMENTS_MAX {
            return Err("history is too large".into());
        }
        if self.inner.parts.directory.read().was_deleted(header.group) {
            return Err("the group was deleted".into());
        }
        let kept = SeqSet::from_ranges(header.kept.iter().copied()).ok_or("kept ranges are out of order")?;
        let store = self.inner.parts.store.group_or_new(header.group);
        let (snapshot, install) = receive(source, &header, &store).await?;
        let (base, epoch, stored) = (header.base, header.epoch, snapshot.clone());
        let (reply, wanted) = tokio::sync::oneshot::channel();
        self.tell_group(header.group, GroupMsg::WantsHistory(base, epoch, reply));
        if !wanted.await.unwrap_or(false) {
            return Err("the replica has no use for it (any more)".into());
        }
        blocking(move || install.commit(base.seq, base.epoch, kept, &stored)).await?;
        let installed = GroupMsg::Installed { base, epoch, from, snapshot };
        self.tell_group(header.group, installed);
        Ok(())
    }
}

/// Reads snapshot and segments; segments go to files as their pieces come.
async fn receive(
    source: &mut TransferSource,
    header: &HistoryHeader,
    store: &std::sync::Arc<GroupStore>,
) -> Result<(Bytes, Install), String> {
    let mut install = store.begin_install();
    let mut pieces = Pieces::default();
    let mut snapshot = BytesMut::with_capacity(header.snapshot_bytes.min(1 << 20) as usize);
    while (snapshot.len() as u64) < header.snapshot_bytes {
        let want = header.snapshot_bytes as usize - snapshot.len();
        snapshot.extend_from_slice(&pieces.next(source, want).await?);
    }
    if crc32c::crc32c(&snapshot) != header.snapshot_crc {
        return Err("snapshot is damaged".into());
    }
    for (line, sent) in &header.segments {
        let info = SegmentInfo::from(*line);
        if !sent {
            if !install.reuse(info) {
                return Err("a segment that was to be here is not".into());
            }
            continue;
        }
        let mut writer: SegmentWriter = install.segment(info).map_err(|e| e.to_string())?;
        let mut left = line.bytes;
        while left > 0 {
            let piece = pieces.next(source, usize::try_from(left).unwrap_or(usize::MAX)).await?;
            left -= piece.len() as u64;
            writer.write(&[piece]).map_err(|e| e.to_string())?;
        }
        install.add(blocking(move || writer.finish()).await?);
    }
    if pieces.left.is_empty() && source.next().await.map_err(|e| e.to_string())?.is_none() {
        Ok((snapshot.freeze(), install))
    } else {
        Err("more bytes than were announced".into())
    }
}

/// Received pieces, cut where one thing ends and the next begins.
#[derive(Default)]
struct Pieces {
    left: Bytes,
}

impl Pieces {
    async fn next(&mut self, source: &mut TransferSource, want: usize) -> Result<Bytes, String> {
        while self.left.is_empty() {
            self.left = source.next().await.map_err(|e| e.to_string())?.ok_or("the history is cut off")?;
        }
        let n = want.min(self.left.len());
        Ok(self.left.split_to(n))
    }
}

async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    f: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(f).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
