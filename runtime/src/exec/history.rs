//! Histories travel over a transfer stream: a snapshot, then every kept record as it is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use onemec_core::group::Position;
use onemec_wire::{Epoch, GroupId, Member, Record, Seq, ServiceId, codec};

use super::Runtime;
use super::body::HistoryHeader;
use super::group::GroupMsg;
use super::net::lane_of;
use super::ports::GroupLog;
use crate::transport::TransferSource;

/// Longest snapshot that is accepted.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Most bytes of kept records that are accepted at once.
const RECORD_BYTES_MAX: u64 = 4 << 30;

impl Runtime {
    pub(super) async fn send_history(
        &self,
        to: Member,
        epoch: Epoch,
        base: Position,
        snapshot: Bytes,
        kept: BTreeSet<Seq>,
        log: Arc<dyn GroupLog>,
    ) -> Result<Position, String> {
        let group = log.group();
        let wanted: Vec<Seq> = kept.into_iter().filter(|s| *s <= base.seq).collect();
        let mut record_bytes = 0;
        for seq in &wanted {
            record_bytes += log.record(*seq).ok_or_else(|| format!("kept record {seq} is missing"))?.bytes().len() as u64;
        }
        let header = HistoryHeader {
            group,
            epoch,
            base,
            snapshot_bytes: snapshot.len() as u64,
            snapshot_crc: crc32c::crc32c(&snapshot),
            records: wanted.len() as u64,
            record_bytes,
        };
        let header = codec::encode(&header).map_err(|e| e.to_string())?;
        let transport = &self.inner.parts.transport;
        let mut sink = transport
            .open_transfer(Self::peer_of(to), ServiceId::MOVE, lane_of(group), header)
            .await
            .map_err(|e| e.to_string())?;
        sink.write_one(snapshot).await.map_err(|e| e.to_string())?;
        for seq in wanted {
            let record = log.record(seq).ok_or_else(|| format!("kept record {seq} is missing"))?;
            sink.write_one(record.bytes().clone()).await.map_err(|e| e.to_string())?;
        }
        sink.finish().await.map_err(|e| e.to_string())?;
        Ok(base)
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
        if header.snapshot_bytes > SNAPSHOT_BYTES_MAX || header.record_bytes > RECORD_BYTES_MAX {
            return Err("history is too large".into());
        }
        if self.inner.parts.directory.read().was_deleted(header.group) {
            return Err("the group was deleted".into());
        }
        let mut pending = BytesMut::new();
        let mut snapshot: Option<Bytes> = None;
        let mut kept = Vec::new();
        let (mut taken, total) = (0, header.snapshot_bytes + header.record_bytes);
        while let Some(piece) = source.next().await.map_err(|e| e.to_string())? {
            taken += piece.len() as u64;
            if taken > total {
                return Err("more bytes than were announced".into());
            }
            pending.extend_from_slice(&piece);
            if snapshot.is_none() && pending.len() as u64 >= header.snapshot_bytes {
                let bytes = pending.split_to(header.snapshot_bytes as usize).freeze();
                if crc32c::crc32c(&bytes) != header.snapshot_crc {
                    return Err("snapshot is damaged".into());
                }
                snapshot = Some(bytes);
            }
            if snapshot.is_some() {
                take_records(&mut pending, header.group, &mut kept)?;
            }
        }
        let snapshot = snapshot.ok_or("the snapshot is cut off")?;
        if !pending.is_empty() || kept.len() as u64 != header.records {
            return Err("the records are cut off".into());
        }
        let group = self.group(header.group)?;
        let found = self.inner.parts.store.open(header.group)?;
        let (log, base, epoch) = (found.log, header.base, header.epoch);
        let stored = snapshot.clone();
        tokio::task::spawn_blocking(move || log.install(base, epoch, &stored, &kept))
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        group
            .actor
            .send_message(GroupMsg::Installed { base, epoch, from, snapshot })
            .map_err(|e| e.to_string())
    }
}

/// Takes the whole records off the front.
fn take_records(pending: &mut BytesMut, group: GroupId, kept: &mut Vec<Record>) -> Result<(), String> {
    loop {
        let len = match Record::peek(pending) {
            Ok((_, len)) if pending.len() >= len => len,
            Ok(_) | Err(onemec_wire::record::RecordError::Short { .. }) => return Ok(()),
            Err(e) => return Err(e.to_string()),
        };
        let (record, _) = Record::parse(&pending.split_to(len).freeze()).map_err(|e| e.to_string())?;
        if record.group() != group {
            return Err("a record of another group".into());
        }
        kept.push(record);
    }
}
