//! What can be wrong with a batch.

use thiserror::Error;

use super::LOG_OVERHEAD;
use crate::error_code::ErrorCode;
use crate::ids::{Offset, Timestamp};
use crate::limits::BATCH_BYTES_MAX_LIMIT;

/// Why bytes are not a record batch, or not one that is allowed here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("a record batch needs {needed} bytes, {have} are there")]
    TooShort {
        /// What the header or the length field asks for.
        needed: usize,
        /// What is there.
        have: usize,
    },
    /// The length field is smaller than a header or larger than any batch can be.
    #[error("the batch length field says {length}; possible are 49 to {max}", max = BATCH_BYTES_MAX_LIMIT as usize - LOG_OVERHEAD)]
    Length {
        /// The field.
        length: i32,
    },
    /// Not format 2.
    #[error("record batch has magic {magic}; only 2 is supported")]
    Magic {
        /// The field.
        magic: u8,
    },
    /// The checksum does not match the bytes.
    #[error("record batch checksum is {actual:#010x}, its header says {expected:#010x}")]
    Crc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// Record count and offsets contradict each other.
    #[error(
        "{record_count} records and a last offset delta of {last_offset_delta} contradict each other"
    )]
    Counts {
        /// The record count.
        record_count: u32,
        /// The last offset delta.
        last_offset_delta: u32,
    },
    /// A batch without records.
    #[error("record batch is empty")]
    Empty,
    /// The codec bits name no codec.
    #[error("compression codec {code} is unknown")]
    UnknownCompression {
        /// The bits.
        code: u8,
    },
    /// The max timestamp is before the base timestamp.
    #[error("the max timestamp {max_timestamp} is before the base timestamp {base_timestamp}")]
    Timestamps {
        /// The base timestamp.
        base_timestamp: Timestamp,
        /// The max timestamp.
        max_timestamp: Timestamp,
    },
    /// A field is negative that must not be.
    #[error("{field} of the record batch is {value}")]
    Negative {
        /// The field.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// The last offset would be past the end of the offset space.
    #[error("base offset {base_offset} plus {last_offset_delta} is past the largest offset")]
    OffsetOverflow {
        /// The base offset.
        base_offset: Offset,
        /// The last offset delta.
        last_offset_delta: u32,
    },
    /// Larger than the limit of the caller.
    #[error("record batch has {batch_bytes} bytes; the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        batch_bytes: u32,
        /// The limit.
        bytes_max: u32,
    },
    /// Only some of producer id, producer epoch and base sequence are there.
    #[error("producer id, producer epoch and base sequence go together")]
    PartialProducer,
    /// Something that only brokers write.
    #[error("producers must not write {what}")]
    NotForProducers {
        /// What it is.
        what: &'static str,
    },
    /// Something that this version does not do yet.
    #[error("{what} are not supported yet")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
}

impl BatchError {
    /// The wire code that tells a client.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooShort { .. }
            | Self::Length { .. }
            | Self::Magic { .. }
            | Self::Crc { .. }
            | Self::Counts { .. }
            | Self::Negative { .. }
            | Self::OffsetOverflow { .. } => ErrorCode::CorruptBatch,
            Self::Empty | Self::NotForProducers { .. } | Self::PartialProducer => {
                ErrorCode::InvalidBatch
            }
            Self::UnknownCompression { .. } => ErrorCode::UnsupportedCompression,
            Self::Timestamps { .. } => ErrorCode::InvalidTimestamp,
            Self::TooLarge { .. } => ErrorCode::BatchTooLarge,
            Self::Unsupported { .. } => ErrorCode::Unsupported,
        }
    }
}
