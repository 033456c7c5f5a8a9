//! Why a reader cannot go on.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicName, TopicNameError};
use highwater_protocol::record::RecordError;
use highwater_protocol::record_batch::BatchError;
use thiserror::Error;

use super::RequestError;

/// Why a reader could not be built or cannot go on. After a retriable one, calling again goes on
/// where it stopped; after another one, `seek` does.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The topic's name breaks the rules.
    #[error(transparent)]
    InvalidTopic(#[from] TopicNameError),
    /// There is no such topic, or it was deleted, perhaps created again: its offsets mean nothing now.
    #[error("topic {topic} does not exist{}", if *was_there { " any more" } else { "" })]
    UnknownTopic {
        /// Its name.
        topic: TopicName,
        /// Whether it was there when the reader was built.
        was_there: bool,
    },
    /// The topic has no such partition, or the reader does not read it.
    #[error("topic {topic} has {partitions} partitions, no partition {partition} to read")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The position is outside of the log, and the reader was not told where to go on instead.
    #[error("{topic}/{partition}: offset {requested} is outside of {start} to {end}")]
    OffsetOutOfRange {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The position.
        requested: Offset,
        /// First offset that is there.
        start: Offset,
        /// First offset that is not there yet.
        end: Offset,
    },
    /// A batch does not have the checksum that it was stored with, or contradicts itself.
    #[error("{topic}/{partition}: the batch at offset {offset} is damaged: {source}")]
    CorruptBatch {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Where; `seek` past it to go on.
        offset: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The inside of an intact batch cannot be read, or would unfold to more than the limit.
    #[error("{topic}/{partition}: the batch at offset {offset} cannot be read: {source}")]
    UnreadableBatch {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Where; `seek` past it to go on.
        offset: Offset,
        /// What is wrong with it.
        source: Arc<RecordError>,
    },
    /// The broker refuses to read the partition.
    #[error("{topic}/{partition}: {message} ({code})")]
    Refused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
    },
    /// The request failed.
    #[error("cannot read topic {topic}: {source}")]
    Request {
        /// The topic.
        topic: TopicName,
        /// Why.
        source: RequestError,
    },
    /// Retries did not help within the reader's retry timeout.
    #[error("cannot read topic {topic} since {} ms: {last}", after.as_millis())]
    Stalled {
        /// The topic.
        topic: TopicName,
        /// The retry timeout.
        after: Duration,
        /// What the last attempt met.
        last: Box<ReadError>,
    },
}

impl ReadError {
    /// Whether calling again can succeed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Request { source, .. } => source.is_retriable(),
            Self::Stalled { .. } => true,
            Self::InvalidTopic(_)
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::CorruptBatch { .. }
            | Self::UnreadableBatch { .. } => false,
        }
    }

    /// Never: reading changes nothing.
    #[must_use]
    pub const fn may_have_committed(&self) -> bool {
        false
    }

    /// A stable name for scripts and metrics; the broker's own where the broker refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidTopic(_) => "InvalidTopic",
            Self::UnknownTopic { .. } => "UnknownTopic",
            Self::UnknownPartition { .. } => "UnknownPartition",
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange.name(),
            Self::CorruptBatch { .. } => ErrorCode::CorruptBatch.name(),
            Self::UnreadableBatch { .. } => "UnreadableBatch",
            Self::Refused { code, .. } => code.name(),
            Self::Request { source, .. } => source.code(),
            Self::Stalled { .. } => "ReadStalled",
        }
    }

    /// The broker's code, where the broker refused.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            Self::Request { source, .. } => source.broker_code(),
            Self::Stalled { last, .. } => last.broker_code(),
            _ => None,
        }
    }
}
