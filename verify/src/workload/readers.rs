//! Readers that follow all partitions from their beginning, as an application would: one long-lived
//! reader with its prefetching, through whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_client::{
    Client, LeaderEpoch, Offset, PartitionId, ReadBatch, ReadError, Reader, Start,
};

use super::Shared;
use crate::event::{Kind, Moment, Op, Purpose};
use crate::value::Seen;

/// After an error.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows until it is aborted.
pub(super) async fn follow(shared: Arc<Shared>, client: Client, number: u32) {
    let process = format!("reader-{number}");
    let mut reader = loop {
        let partitions = (0..shared.plan.partitions).map(PartitionId::new);
        let builder = client.reader(&shared.plan.topic).partitions(partitions);
        match builder.start(Start::Beginning).build().await {
            Ok(reader) => break reader,
            Err(error) => {
                tracing::debug!(%error, "{process} does not begin");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let starts = reader.positions().into_iter();
    let mut places: BTreeMap<u32, Place> = starts
        .map(|(partition, at)| (partition.get(), Place::chosen(at.get())))
        .collect();
    loop {
        let invoke = shared.recorder.now();
        match reader.next_batch().await {
            Ok(Some(batch)) => {
                let partition = batch.partition().get();
                let place = places.entry(partition).or_default();
                match poll_of(&batch, place, Purpose::Follow) {
                    Ok(op) => shared
                        .recorder
                        .record(process.clone(), invoke, Kind::Ok, op),
                    Err(error) => note_error(&shared, &process, invoke, &error),
                }
            }
            Ok(None) => return,
            Err(error) => {
                note_error(&shared, &process, invoke, &error);
                go_on(&mut reader, &error, &mut places);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    position: u64,
    /// Whether it went there by itself.
    seek: bool,
}

impl Place {
    pub(super) fn chosen(position: u64) -> Self {
        Self {
            position,
            seek: true,
        }
    }

    pub(super) fn position(self) -> u64 {
        self.position
    }
}

/// The event of a batch; moves the place behind it.
pub(super) fn poll_of(
    batch: &ReadBatch,
    place: &mut Place,
    purpose: Purpose,
) -> Result<Op, ReadError> {
    let mut records = Vec::with_capacity(batch.header().record_count as usize);
    for record in batch {
        let record = record?;
        let value = record.value.unwrap_or_default();
        records.push((record.offset.get(), Seen::decode(value)));
    }
    let next = batch.next_offset().get();
    let Place { position, seek } = std::mem::replace(
        place,
        Place {
            position: next,
            seek: false,
        },
    );
    Ok(Op::Poll {
        partition: batch.partition().get(),
        purpose,
        position,
        next,
        seek,
        high_watermark: Some(batch.high_watermark().get()),
        leader_epoch: batch.header().leader_epoch.map(LeaderEpoch::get),
        records,
    })
}

/// Notes what a reader was told instead of records. That its position is not in the log any more is an
/// answer: it was, so this is where records have vanished.
fn note_error(shared: &Shared, process: &str, invoke: Moment, error: &ReadError) {
    tracing::debug!(%error, "{process} has no answer");
    let (kind, partition, position, next) = match error {
        ReadError::OffsetOutOfRange {
            partition,
            requested,
            end,
            ..
        } => (Kind::Ok, partition.get(), requested.get(), end.get()),
        _ => (Kind::Info, 0, 0, 0),
    };
    let op = Op::Poll {
        partition,
        purpose: Purpose::Follow,
        position,
        next,
        seek: true,
        high_watermark: None,
        leader_epoch: None,
        records: Vec::new(),
    };
    shared.recorder.record(process, invoke, kind, op);
}

/// After an error that is reported until the reader is told where to go on.
fn go_on(reader: &mut Reader, error: &ReadError, places: &mut BTreeMap<u32, Place>) {
    let (ReadError::OffsetOutOfRange { partition, .. }
    | ReadError::CorruptBatch { partition, .. }
    | ReadError::UnreadableBatch { partition, .. }) = error
    else {
        return;
    };
    let place = places.entry(partition.get()).or_default();
    place.seek = true;
    if let Err(error) = reader.seek(*partition, Offset::new(place.position)) {
        tracing::debug!(%error, "the reader cannot go on");
    }
}
