//! Batches on their way, and the builders that make them.

use bytes::Bytes;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{PartitionId, Timestamp, TopicName};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, ProducerStamp};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ack::{BatchState, Ticket};
use super::record::RecordSlices;
use crate::error::SendError;

/// A batch that still takes records.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) builder: BatchBuilder,
    pub(super) ticket: Ticket,
    /// What its records were counted as against the buffer.
    pub(super) charged: usize,
    pub(super) opened_at: Instant,
}

impl OpenBatch {
    pub(super) fn new(
        builder: BatchBuilder,
        topic: TopicName,
        partition: PartitionId,
        now: Instant,
    ) -> Self {
        let ticket = Ticket {
            state: BatchState::new(topic, partition),
            sent: false,
        };
        Self {
            builder,
            ticket,
            charged: 0,
            opened_at: now,
        }
    }

    /// Whether a record that takes up to `bytes` still belongs in here. One record always does.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, limits: &BatchLimits) -> bool {
        self.builder.is_empty()
            || (self.builder.len_bytes() + bytes <= limits.bytes
                && self.builder.count() < limits.records)
    }

    /// Appends a record; returns its place in the batch.
    #[inline]
    pub(super) fn push(
        &mut self,
        record: &RecordSlices<'_>,
        timestamp: Timestamp,
        charge: usize,
    ) -> u32 {
        self.charged += charge;
        self.builder
            .push(timestamp, record.key, record.value, record.headers)
            .relative_offset
    }

    /// Finishes it: compression and checksum happen here.
    pub(super) fn close(mut self, number: u64, stamp: Option<ProducerStamp>) -> Batch {
        let records = self.builder.count();
        self.builder.set_producer(stamp);
        let bytes = self.builder.build();
        Batch {
            number,
            records,
            stamp,
            numbered: false,
            first: false,
            bytes,
            builder: self.builder,
            ticket: self.ticket,
            charged: self.charged,
            opened_at: self.opened_at,
            attempts: 0,
            may_be_appended: false,
            in_doubt: false,
            last_error: None,
        }
    }
}

/// A finished batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its place among the batches of its partition.
    pub(super) number: u64,
    pub(super) records: u32,
    /// The producer that its bytes name.
    pub(super) stamp: Option<ProducerStamp>,
    /// Whether it was sent under that name, which it keeps then.
    pub(super) numbered: bool,
    /// Whether everything in front of it was resolved when it was last sent.
    pub(super) first: bool,
    pub(super) bytes: Bytes,
    /// Made the bytes and gets their memory back.
    pub(super) builder: BatchBuilder,
    pub(super) ticket: Ticket,
    pub(super) charged: usize,
    pub(super) opened_at: Instant,
    pub(super) attempts: u32,
    /// Whether one of the attempts may have been appended.
    pub(super) may_be_appended: bool,
    /// Whether the last of them may have been.
    pub(super) in_doubt: bool,
    pub(super) last_error: Option<SendError>,
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) bytes: usize,
    pub(super) records: u32,
}

/// Builders whose batches are done, for the next ones: their memory is warm and mapped.
///
/// Two kinds, so that a partition that sees a small record now and then does not occupy the memory
/// of a full batch.
#[derive(Debug)]
pub(super) struct Builders {
    compression: Compression,
    level: Option<i32>,
    batch_bytes: usize,
    /// Most that are kept of each kind.
    kept_max: usize,
    small: Mutex<Vec<BatchBuilder>>,
    large: Mutex<Vec<BatchBuilder>>,
}

/// Memory that small batches share.
const SMALL_CHUNK_BYTES: usize = 16 << 10;
/// Batches up to this size count as small.
pub(super) const SMALL_BATCH_BYTES: usize = 8 << 10;

impl Builders {
    pub(super) fn new(
        compression: Compression,
        level: Option<i32>,
        batch_bytes: usize,
        kept_max: usize,
    ) -> Self {
        let batch_bytes = batch_bytes + BATCH_HEADER_BYTES;
        let (small, large) = (Mutex::default(), Mutex::default());
        Self {
            compression,
            level,
            batch_bytes,
            kept_max,
            small,
            large,
        }
    }

    pub(super) fn take(&self, large: bool) -> BatchBuilder {
        let (pool, chunk_bytes) = if large {
            (&self.large, self.batch_bytes)
        } else {
            (&self.small, SMALL_CHUNK_BYTES.min(self.batch_bytes))
        };
        // The last one returned is the warmest.
        pool.lock().pop().unwrap_or_else(|| {
            BatchBuilder::with_chunk_bytes(self.compression, self.level, chunk_bytes)
        })
    }

    /// Takes a builder back, after the batch that it made was dropped.
    pub(super) fn give_back(&self, builder: BatchBuilder, batch_bytes: usize) {
        let large = batch_bytes > SMALL_BATCH_BYTES;
        let mut pool = if large {
            self.large.lock()
        } else {
            self.small.lock()
        };
        if pool.len() < self.kept_max {
            pool.push(builder);
        }
    }
}
