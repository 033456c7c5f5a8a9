//! Storage errors as clients see them. Exhaustive matches: a new error must be given its code.

use highwater_protocol::error_code::ErrorCode;
use highwater_storage::{AppendError, ReadError, SequenceError, StorageError};

use crate::partition::Partition;
use crate::partitions::Refusal;

pub(super) fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::DiskFull { .. } => ErrorCode::DiskFull,
        AppendError::Offline { .. } | AppendError::Io(_) => ErrorCode::PartitionOffline,
        AppendError::Batch(_) | AppendError::EpochMissing => ErrorCode::CorruptBatch,
        AppendError::Empty => ErrorCode::InvalidBatch,
        AppendError::TooLarge { .. } => ErrorCode::BatchTooLarge,
        AppendError::EpochWentBack { .. } => ErrorCode::FencedLeaderEpoch,
        AppendError::Sequence(SequenceError::OutOfOrder { .. }) => ErrorCode::OutOfOrderSequence,
        AppendError::Sequence(SequenceError::InvalidEpoch { .. }) => {
            ErrorCode::InvalidProducerEpoch
        }
        AppendError::Sequence(SequenceError::PartlyDuplicate) => ErrorCode::InvalidBatch,
        AppendError::NotContiguous { .. } | AppendError::OffsetsExhausted => ErrorCode::Internal,
    }
}

pub(super) fn read_refusal(partition: &Partition, error: &ReadError) -> Refusal {
    let code = match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Offline(_) | ReadError::Io(_) | ReadError::Damaged(_) => {
            ErrorCode::PartitionOffline
        }
    };
    refusal(partition, code, error)
}

pub(super) fn storage_refusal(partition: &Partition, error: &StorageError) -> Refusal {
    let code = match error {
        StorageError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StorageError::Io(io) if io.is_disk_full() => ErrorCode::DiskFull,
        StorageError::Io(_)
        | StorageError::Offline(_)
        | StorageError::NotFound { .. }
        | StorageError::AlreadyExists { .. } => ErrorCode::PartitionOffline,
        StorageError::EpochWentBack { .. } => ErrorCode::FencedLeaderEpoch,
    };
    refusal(partition, code, error)
}

fn refusal(partition: &Partition, code: ErrorCode, error: &dyn std::fmt::Display) -> Refusal {
    let message = format!(
        "topic {} partition {}: {error}",
        partition.topic(),
        partition.partition()
    );
    Refusal { code, message }
}
