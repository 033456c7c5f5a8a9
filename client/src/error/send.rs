//! Why a record was not delivered.

use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{PartitionId, TopicName, TopicNameError};
use thiserror::Error;

use super::RequestError;
use super::request::leaves_doubt;
use crate::producer::{PendingBatch, ProducerRecord};

/// Why a record was not accepted or not delivered.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The topic's name breaks the rules.
    #[error(transparent)]
    InvalidTopic(#[from] TopicNameError),
    /// There is no such topic.
    #[error("topic {topic} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: TopicName,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has {partitions} partitions, no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// One record that no batch could hold.
    #[error("the record takes {bytes} bytes; the limit is {bytes_max}")]
    RecordTooLarge {
        /// What it takes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The producer's buffer is full; only from the calls that do not wait.
    #[error("the producer's buffer of {buffer_bytes} bytes is full")]
    BufferFull {
        /// Its size.
        buffer_bytes: usize,
    },
    /// The topic is not known yet and is being asked for; only from the calls that do not wait.
    #[error("the metadata of topic {topic} is not here yet")]
    MetadataPending {
        /// Its name.
        topic: TopicName,
    },
    /// The producer was closed before this record was given to it.
    #[error("the producer is closed")]
    Closed,
    /// The producer was closed, or its runtime shut down, before the record was delivered.
    #[error("{topic}/{partition}: the producer was closed before the record was delivered")]
    Abandoned {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Whether it was sent, so that it may be in the log all the same.
        may_have_committed: bool,
    },
    /// The broker refused the batch for good.
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
    /// The request failed in a way that a retry cannot mend.
    #[error("{topic}/{partition}: {source}")]
    Request {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Why.
        source: RequestError,
    },
    /// Where the records should go could not be found out.
    #[error("no metadata of topic {topic}: {source}")]
    Metadata {
        /// The topic.
        topic: TopicName,
        /// Why.
        source: RequestError,
    },
    /// The cluster gave the producer no id, without which it cannot be idempotent.
    #[error("{topic}: no producer id: {source}")]
    NoProducerId {
        /// The topic.
        topic: TopicName,
        /// Why.
        source: RequestError,
    },
    /// The delivery timeout passed.
    #[error("{topic}/{partition}: not delivered within {} ms in {attempts} attempts{}",
        after.as_millis(), last.as_ref().map(|e| format!("; last: {e}")).unwrap_or_default())]
    DeliveryTimedOut {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The delivery timeout.
        after: Duration,
        /// How often it was sent.
        attempts: u32,
        /// Whether one of the attempts may have been appended.
        may_have_committed: bool,
        /// What the last attempt met.
        last: Option<Box<SendError>>,
    },
    /// A later batch of the partition was already appended when this one came back, so trying again
    /// would have broken the order.
    #[error(
        "{topic}/{partition}: not tried again, because a later batch is already appended: {cause}"
    )]
    Overtaken {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Why it came back.
        cause: Box<SendError>,
    },
    /// The last attempt failed for good, but an earlier one may have been appended.
    #[error("{error}; an earlier attempt may have been appended")]
    Doubtful {
        /// What the last attempt met.
        error: Box<SendError>,
    },
}

impl SendError {
    /// Whether sending the record again can succeed. See also [`SendError::may_have_committed`]:
    /// then sending again may store it twice.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::BufferFull { .. }
            | Self::MetadataPending { .. }
            | Self::DeliveryTimedOut { .. }
            | Self::Abandoned { .. }
            | Self::Overtaken { .. } => true,
            Self::Doubtful { error } => error.is_retriable(),
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Request { source, .. }
            | Self::Metadata { source, .. }
            | Self::NoProducerId { source, .. } => source.is_retriable(),
            Self::InvalidTopic(_)
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the record may be in the log all the same.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        match self {
            Self::DeliveryTimedOut {
                may_have_committed, ..
            }
            | Self::Abandoned {
                may_have_committed, ..
            } => *may_have_committed,
            Self::Doubtful { .. } => true,
            Self::Overtaken { cause, .. } => cause.may_have_committed(),
            // Also where leadership was lost while the records waited to be replicated.
            Self::Refused { code, .. } => leaves_doubt(*code) || *code == ErrorCode::NotLeader,
            Self::Request { source, .. } => source.may_have_committed(),
            Self::InvalidTopic(_)
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::RecordTooLarge { .. }
            | Self::BufferFull { .. }
            | Self::MetadataPending { .. }
            | Self::Closed
            | Self::NoProducerId { .. }
            | Self::Metadata { .. } => false,
        }
    }

    /// A stable name for scripts and metrics; the broker's own where the broker refused.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidTopic(_) => "InvalidTopic",
            Self::UnknownTopic { .. } => "UnknownTopic",
            Self::UnknownPartition { .. } => "UnknownPartition",
            Self::RecordTooLarge { .. } => "RecordTooLarge",
            Self::BufferFull { .. } => "BufferFull",
            Self::MetadataPending { .. } => "MetadataPending",
            Self::Closed => "ProducerClosed",
            Self::Abandoned { .. } => "Abandoned",
            Self::Refused { code, .. } => code.name(),
            Self::Request { source, .. }
            | Self::Metadata { source, .. }
            | Self::NoProducerId { source, .. } => source.code(),
            Self::DeliveryTimedOut { .. } => "DeliveryTimedOut",
            Self::Overtaken { .. } => "Overtaken",
            Self::Doubtful { error } => error.code(),
        }
    }

    /// The broker's code, where the broker refused.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Request { source, .. }
            | Self::Metadata { source, .. }
            | Self::NoProducerId { source, .. } => source.broker_code(),
            Self::Overtaken { cause: error, .. } | Self::Doubtful { error } => error.broker_code(),
            Self::DeliveryTimedOut { last, .. } => last.as_ref().and_then(|e| e.broker_code()),
            _ => None,
        }
    }
}

/// A record that was not accepted, handed back with the reason.
#[derive(Debug, Clone, Error)]
#[error("{error}")]
pub struct Rejected {
    /// The record, untouched. Boxed: it is large and this is the rare way out.
    pub record: Box<ProducerRecord>,
    /// Why.
    pub error: SendError,
}

/// A call for many records that was broken off: some were taken, the rest was not.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct PartlyEnqueued {
    /// The records that were taken, if any were; they will be delivered.
    pub enqueued: Option<PendingBatch>,
    /// Why the next one was not.
    pub error: SendError,
}

/// What a producer could not deliver before it was closed.
#[derive(Debug, Clone, Error)]
#[error("{} records were not delivered before the producer was closed",
    undelivered.iter().map(|u| u64::from(u.records)).sum::<u64>())]
pub struct CloseError {
    /// The batches, those of one partition in order.
    pub undelivered: Vec<Undelivered>,
}

impl CloseError {
    /// How many records were not delivered.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.undelivered
            .iter()
            .map(|batch| u64::from(batch.records))
            .sum()
    }

    /// Whether sending the records again can succeed.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        true
    }

    /// Whether some of them may be in the log all the same.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        self.undelivered
            .iter()
            .any(|batch| batch.may_have_committed)
    }

    /// A stable name for scripts and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "Undelivered"
    }
}

/// A batch that was not delivered.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// Where it should have gone.
    pub topic: TopicName,
    /// Where it should have gone.
    pub partition: PartitionId,
    /// How many records it holds.
    pub records: u32,
    /// Whether it was sent, so that it may be in the log all the same.
    pub may_have_committed: bool,
    /// The records, as an encoded record batch: `highwater_protocol::record::RecordIter` reads it.
    pub batch: Bytes,
}
