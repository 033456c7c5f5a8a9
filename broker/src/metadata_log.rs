//! The metadata log: how topics and registrations outlive the process.
//!
//! Its records lie in a log of our own storage crate, under a topic id that no topic can have, always
//! `synced`. A change is decided on the image, written and synced, and only then applied. A change
//! whose sync failed is in doubt until the next start; the storage crate takes the log offline then,
//! so that nothing can be written after it that contradicts it. At start the log is replayed; when it has grown far beyond what the image needs, the image is written into it
//! once more and everything before is trimmed. A crash in between leaves both, which replays to the
//! same image.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use highwater_coordination::cluster_image::{ApplyError, ClusterImage};
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::metadata_record::{MetadataRecord, MetadataRecordError};
use highwater_protocol::record::{RecordError, RecordIter, RecordLimits};
use highwater_protocol::record_batch::{BatchError, Batches};
use highwater_storage::{
    AppendError, Durability, Engine, Log, LogOptions, PartitionMeta, ReadError, StorageError,
};
use thiserror::Error;
use tracing::warn;

/// Name of the metadata log's directory meta; clients cannot create it, because it is not a topic.
const METADATA_NAME: &str = "__metadata";

/// Records of one batch of a snapshot. A change, in contrast, is always one batch, however large,
/// because a torn write cuts between batches: a change is there whole or not at all.
const SNAPSHOT_RECORDS_PER_BATCH: usize = 10_000;

/// Bytes read at a time when replaying.
const REPLAY_BYTES: usize = 4 << 20;

/// The log is rewritten when it is this many times larger than what the image needs.
const GROWTH_MAX: u64 = 4;

/// A log below this size is never rewritten.
const REWRITE_BYTES_MIN: u64 = 4 << 20;

/// Identity of the metadata log's partition: "highwater" in a fixed id that is no valid v4 UUID.
#[must_use]
pub(crate) fn metadata_partition() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes(*b"highwater-meta\0\0"),
        topic: TopicName::new(METADATA_NAME).expect("the name follows the rule"),
        partition: PartitionId::ZERO,
    }
}

/// How the metadata log is kept.
#[must_use]
pub(crate) fn metadata_options() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 20,
        durability: Durability::Synced,
        retention_ms: None,
        retention_bytes: None,
        ..LogOptions::default()
    }
}

/// The metadata log cannot be read or written; without it a broker must not serve.
#[derive(Debug, Error)]
pub enum MetadataLogError {
    /// It could not be created.
    #[error("metadata log: {0}")]
    Storage(#[from] StorageError),
    /// A change could not be written.
    #[error("metadata log: {0}")]
    Append(#[from] AppendError),
    /// A change was written and could not be made durable: the next start shows whether it was made.
    #[error("metadata log: the change may or may not have been made: {0}")]
    InDoubt(#[source] StorageError),
    /// Partitions without the log that says what they are.
    #[error("the metadata log is missing, but there are {partitions} partition directories")]
    Missing {
        /// How many.
        partitions: usize,
    },
    /// It could not be read.
    #[error("metadata log: {0}")]
    Read(#[from] ReadError),
    /// A batch in it is damaged.
    #[error("metadata log is damaged at offset {offset}: {source}")]
    Batch {
        /// Where the read began.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// A record in it is damaged.
    #[error("metadata log is damaged at offset {offset}: {source}")]
    Record {
        /// Where the read began.
        offset: Offset,
        /// What is wrong.
        source: RecordError,
    },
    /// A record in it is from a newer version, or damaged.
    #[error("metadata record at offset {offset} cannot be decoded: {source}")]
    Decode {
        /// Which record.
        offset: Offset,
        /// What is wrong.
        source: MetadataRecordError,
    },
    /// A record in it contradicts those before.
    #[error("metadata record at offset {offset} cannot be applied: {source}")]
    Apply {
        /// Which record.
        offset: Offset,
        /// What is wrong.
        source: ApplyError,
    },
}

/// The metadata log and the image that it amounts to.
#[derive(Debug)]
pub(crate) struct MetadataLog {
    log: Arc<Log>,
    image: ClusterImage,
    /// Topics that the replayed records delete.
    deleted: HashSet<TopicId>,
}

impl MetadataLog {
    /// Creates an empty one.
    pub(crate) fn create(engine: &Engine) -> Result<Self, MetadataLogError> {
        let log = engine.create_log(metadata_partition(), metadata_options())?;
        Ok(Self {
            log,
            image: ClusterImage::default(),
            deleted: HashSet::new(),
        })
    }

    /// Replays an existing one.
    pub(crate) fn replay(log: Arc<Log>) -> Result<Self, MetadataLogError> {
        let mut image = ClusterImage::default();
        let mut deleted = HashSet::new();
        let mut position = log.log_start();
        while position < log.end() {
            let slice = log.read(position, log.end(), REPLAY_BYTES)?;
            for batch in Batches::new(&slice.records) {
                let (_, batch) = batch.map_err(|source| MetadataLogError::Batch {
                    offset: position,
                    source,
                })?;
                let batch = slice.records.slice_ref(batch);
                apply_batch(&mut image, batch, log.log_start(), &mut deleted)?;
            }
            position = slice.next;
        }
        Ok(Self {
            log,
            image,
            deleted,
        })
    }

    pub(crate) fn image(&self) -> &ClusterImage {
        &self.image
    }

    /// Whether the records that were replayed delete this topic.
    pub(crate) fn was_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    /// The image as it will be once these records are committed.
    pub(crate) fn preview(
        &self,
        records: &[MetadataRecord],
    ) -> Result<ClusterImage, MetadataLogError> {
        let mut next = self.image.clone();
        for record in records {
            next.apply(record)
                .map_err(|source| MetadataLogError::Apply {
                    offset: self.log.end(),
                    source,
                })?;
        }
        Ok(next)
    }

    /// Makes records durable and applies them. On an error nothing was applied.
    pub(crate) fn commit(
        &mut self,
        records: &[MetadataRecord],
        now: Timestamp,
    ) -> Result<(), MetadataLogError> {
        if records.is_empty() {
            return Ok(());
        }
        let next = self.preview(records)?;
        self.write(records, now)?;
        self.image = next;
        Ok(())
    }

    /// Rewrites the log when it is much larger than its image. Returns whether it was.
    pub(crate) fn compact(&mut self, now: Timestamp) -> Result<bool, MetadataLogError> {
        if self.log.size_bytes() < REWRITE_BYTES_MIN {
            return Ok(false);
        }
        let snapshot = self.image.snapshot();
        let needed: u64 = snapshot
            .iter()
            .map(|record| record.encode().len() as u64 + 16)
            .sum();
        if self.log.size_bytes() < needed.saturating_mul(GROWTH_MAX) {
            return Ok(false);
        }
        let from = self.log.end();
        self.log.roll()?;
        for chunk in snapshot.chunks(SNAPSHOT_RECORDS_PER_BATCH) {
            self.write(chunk, now)?;
        }
        self.log.trim_prefix(from)?;
        Ok(true)
    }

    fn write(&self, records: &[MetadataRecord], now: Timestamp) -> Result<(), MetadataLogError> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        for record in records {
            builder.push(now, None, Some(&record.encode()), &[]);
        }
        let appended = self.log.append(&builder.build(), LeaderEpoch::ZERO, now)?;
        match self.log.flush() {
            Ok(_) => Ok(()),
            // What failed came after the sync of the records, a checkpoint for example. They are
            // durable, so the next start will see them, and so must the image.
            Err(error) if self.log.durable_end() >= appended.end_offset => {
                warn!(%error, "metadata log: the change is durable, what follows it failed");
                Ok(())
            }
            Err(error) => Err(MetadataLogError::InDoubt(error)),
        }
    }
}

fn apply_batch(
    image: &mut ClusterImage,
    batch: Bytes,
    log_start: Offset,
    deleted: &mut HashSet<TopicId>,
) -> Result<(), MetadataLogError> {
    let damaged = |source| MetadataLogError::Record {
        offset: log_start,
        source,
    };
    for record in RecordIter::new(batch, RecordLimits::default()).map_err(damaged)? {
        let record = record.map_err(damaged)?;
        // A trimmed log can begin inside of a batch.
        if record.offset < log_start {
            continue;
        }
        let offset = record.offset;
        let value = record.value.unwrap_or_default();
        let decoded = MetadataRecord::decode(value)
            .map_err(|source| MetadataLogError::Decode { offset, source })?;
        if let MetadataRecord::TopicDeleted { id } = decoded {
            deleted.insert(id);
        }
        image
            .apply(&decoded)
            .map_err(|source| MetadataLogError::Apply { offset, source })?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "metadata_log_tests.rs"]
mod tests;
