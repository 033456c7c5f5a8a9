//! The record batch: Kafka's format, magic 2, on the wire and on the disk alike.
//!
//! ```text
//!   0  i64  base offset             stamped by the leader
//!   8  i32  batch length            bytes behind this field
//!  12  i32  partition leader epoch  stamped by the leader; -1 unknown
//!  16  i8   magic                   2
//!  17  u32  CRC-32C                 of byte 21 to the end
//!  21  i16  attributes              bits 0-2 codec, 3 log-append time, 4 transactional, 5 control
//!  23  i32  last offset delta
//!  27  i64  base timestamp
//!  35  i64  max timestamp
//!  43  i64  producer id             -1 none
//!  51  i16  producer epoch          -1 none
//!  53  i32  base sequence           -1 none
//!  57  i32  record count
//!  61       records                 one compressed block unless the codec is 0
//! ```
//!
//! What the leader stamps lies outside of the checksum, so that a batch is never encoded again on
//! its way from the producer to the consumer.

use crate::compression::Compression;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::BATCH_BYTES_MAX_LIMIT;

mod error;

pub use error::BatchError;

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = BASE_OFFSET_AT + 8;
const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
const CRC_AT: usize = MAGIC_AT + 1;
const ATTRIBUTES_AT: usize = CRC_AT + 4;
const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
const RECORD_COUNT_AT: usize = BASE_SEQUENCE_AT + 4;
const RECORDS_AT: usize = RECORD_COUNT_AT + 4;

/// Bytes of the header: the records start behind it.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts: base offset and length.
pub const LOG_OVERHEAD: usize = 12;

const _: () = assert!(RECORDS_AT == BATCH_HEADER_BYTES);
const _: () = assert!(LEADER_EPOCH_AT == LOG_OVERHEAD);

const MAGIC: u8 = 2;
const CODEC_MASK: u16 = 0b111;
const LOG_APPEND_BIT: u16 = 1 << 3;
const TRANSACTIONAL_BIT: u16 = 1 << 4;
const CONTROL_BIT: u16 = 1 << 5;

/// Where the timestamps of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer.
    Create,
    /// The broker: all records of the batch have its max timestamp.
    LogAppend,
}

/// Which producer wrote a batch, and where it stands in that producer's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// Sequence number of the first record; control batches have none.
    pub base_sequence: Option<Sequence>,
}

/// The fields of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Size of the whole batch in bytes, [`LOG_OVERHEAD`] included.
    pub batch_bytes: u32,
    /// Epoch of the leader that appended it; `None` before that.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The stored checksum, not yet compared with the bytes.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// Where the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// Written by the broker about the log itself: not for consumers.
    pub is_control: bool,
    /// Offset of the last record minus base offset.
    pub last_offset_delta: u32,
    /// What the records' timestamps are relative to.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// Who wrote it, if that was an idempotent producer.
    pub producer: Option<ProducerStamp>,
    /// Number of records; compaction can leave fewer than there are offsets.
    pub record_count: u32,
}

/// The header's bytes, known to be all there.
type RawHeader = [u8; BATCH_HEADER_BYTES];

fn field<const N: usize>(raw: &RawHeader, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&raw[at..at + N]);
    bytes
}

fn unsigned(value: i32, field: &'static str) -> Result<u32, BatchError> {
    u32::try_from(value).map_err(|_| BatchError::Negative {
        field,
        value: value.into(),
    })
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; neither the checksum nor the presence of the rest
    /// of the batch is checked, see [`verify_batch`].
    ///
    /// # Errors
    /// [`BatchError`] when fewer than [`BATCH_HEADER_BYTES`] are there, or a field has a value that
    /// no batch has.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(raw) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::TooShort {
                needed: BATCH_HEADER_BYTES,
                have: bytes.len(),
            });
        };
        let batch_bytes = batch_bytes(raw)?;
        let magic = raw[MAGIC_AT];
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let attributes = u16::from_be_bytes(field(raw, ATTRIBUTES_AT));
        let code = (attributes & CODEC_MASK) as u8;
        let compression =
            Compression::from_code(code).ok_or(BatchError::UnknownCompression { code })?;

        let base_offset = i64::from_be_bytes(field(raw, BASE_OFFSET_AT));
        let base_offset =
            u64::try_from(base_offset)
                .map(Offset::new)
                .map_err(|_| BatchError::Negative {
                    field: "base offset",
                    value: base_offset,
                })?;
        let last_offset_delta = unsigned(
            i32::from_be_bytes(field(raw, LAST_OFFSET_DELTA_AT)),
            "last offset delta",
        )?;
        if base_offset
            .checked_add(u64::from(last_offset_delta) + 1)
            .is_none()
        {
            return Err(BatchError::OffsetOverflow {
                base_offset,
                last_offset_delta,
            });
        }
        let record_count = unsigned(
            i32::from_be_bytes(field(raw, RECORD_COUNT_AT)),
            "record count",
        )?;
        let leader_epoch = match i32::from_be_bytes(field(raw, LEADER_EPOCH_AT)) {
            -1 => None,
            epoch => Some(LeaderEpoch::new(unsigned(epoch, "leader epoch")?)),
        };
        Ok(Self {
            base_offset,
            batch_bytes,
            leader_epoch,
            crc: u32::from_be_bytes(field(raw, CRC_AT)),
            compression,
            timestamp_type: if attributes & LOG_APPEND_BIT == 0 {
                TimestampType::Create
            } else {
                TimestampType::LogAppend
            },
            is_transactional: attributes & TRANSACTIONAL_BIT != 0,
            is_control: attributes & CONTROL_BIT != 0,
            last_offset_delta,
            base_timestamp: Timestamp::from_millis(i64::from_be_bytes(field(
                raw,
                BASE_TIMESTAMP_AT,
            ))),
            max_timestamp: Timestamp::from_millis(i64::from_be_bytes(field(raw, MAX_TIMESTAMP_AT))),
            producer: producer_stamp(raw)?,
            record_count,
        })
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        // Cannot overflow: `parse` refuses such a header.
        Offset::new(self.base_offset.get() + self.last_offset_delta as u64)
    }

    /// The offset behind the batch, where the next one starts unless compaction left a gap.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        Offset::new(self.base_offset.get() + self.last_offset_delta as u64 + 1)
    }

    /// Whether each offset of the batch has a record: so in every batch that a producer wrote, not
    /// in those that compaction thinned out.
    #[must_use]
    pub const fn has_every_offset(&self) -> bool {
        self.record_count as u64 == self.last_offset_delta as u64 + 1
    }
}

fn batch_bytes(raw: &RawHeader) -> Result<u32, BatchError> {
    let length = i32::from_be_bytes(field(raw, LENGTH_AT));
    u32::try_from(length)
        .ok()
        .and_then(|behind| behind.checked_add(LOG_OVERHEAD as u32))
        .filter(|total| (BATCH_HEADER_BYTES as u32..=BATCH_BYTES_MAX_LIMIT).contains(total))
        .ok_or(BatchError::Length { length })
}

fn producer_stamp(raw: &RawHeader) -> Result<Option<ProducerStamp>, BatchError> {
    let id = i64::from_be_bytes(field(raw, PRODUCER_ID_AT));
    let epoch = i16::from_be_bytes(field(raw, PRODUCER_EPOCH_AT));
    let sequence = i32::from_be_bytes(field(raw, BASE_SEQUENCE_AT));
    if id == -1 {
        return Ok(None);
    }
    let negative = |field, value| BatchError::Negative { field, value };
    Ok(Some(ProducerStamp {
        id: u64::try_from(id)
            .map(ProducerId::new)
            .map_err(|_| negative("producer id", id))?,
        epoch: u16::try_from(epoch)
            .map(ProducerEpoch::new)
            .map_err(|_| negative("producer epoch", epoch.into()))?,
        base_sequence: match sequence {
            -1 => None,
            other => Some(Sequence::new(unsigned(other, "base sequence")?)),
        },
    }))
}

/// Checks the batch at the start of `bytes`: header, that all of it is there, checksum, and that it
/// has no more records than offsets. Bytes behind the batch are not looked at.
///
/// # Errors
/// [`BatchError`] names the first thing that is wrong.
pub fn verify_batch(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let needed = header.batch_bytes as usize;
    let Some(batch) = bytes.get(..needed) else {
        return Err(BatchError::TooShort {
            needed,
            have: bytes.len(),
        });
    };
    let actual = batch_crc(batch);
    if actual != header.crc {
        return Err(BatchError::Crc {
            expected: header.crc,
            actual,
        });
    }
    // Compaction leaves fewer records than offsets; nothing leaves more.
    if u64::from(header.record_count) > u64::from(header.last_offset_delta) + 1 {
        return Err(counts(&header));
    }
    Ok(header)
}

/// [`verify_batch`], and that it is a batch that a producer may append: within the size limit, one
/// record for each offset and at least one, timestamps in order, producer id, epoch and base sequence
/// all there or all missing, and nothing that only brokers write. Its base offset and leader epoch may be anything valid: the leader stamps its own.
///
/// # Errors
/// [`BatchError`] names the first thing that is wrong.
pub fn verify_producer_batch(bytes: &[u8], bytes_max: u32) -> Result<BatchHeader, BatchError> {
    // Everything that the header alone can tell comes before the checksum reads the whole batch.
    let header = BatchHeader::parse(bytes)?;
    if header.batch_bytes > bytes_max {
        return Err(BatchError::TooLarge {
            batch_bytes: header.batch_bytes,
            bytes_max,
        });
    }
    let header = verify_batch(bytes)?;
    if header.record_count == 0 {
        return Err(BatchError::Empty);
    }
    if !header.has_every_offset() {
        return Err(counts(&header));
    }
    if header.is_control {
        return Err(BatchError::NotForProducers {
            what: "control batches",
        });
    }
    if header.timestamp_type == TimestampType::LogAppend {
        return Err(BatchError::NotForProducers {
            what: "log-append timestamps",
        });
    }
    if header.is_transactional {
        return Err(BatchError::Unsupported {
            what: "transactional batches",
        });
    }
    if !has_whole_stamp_or_none(bytes) {
        return Err(BatchError::PartialProducer);
    }
    if header.max_timestamp < header.base_timestamp {
        return Err(BatchError::Timestamps {
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
        });
    }
    Ok(header)
}

/// Whether producer id, epoch and base sequence are all there or all missing. Bytes without a header
/// have none of them.
fn has_whole_stamp_or_none(bytes: &[u8]) -> bool {
    let Some(raw) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
        return true;
    };
    let missing = [
        i64::from_be_bytes(field(raw, PRODUCER_ID_AT)) < 0,
        i16::from_be_bytes(field(raw, PRODUCER_EPOCH_AT)) < 0,
        i32::from_be_bytes(field(raw, BASE_SEQUENCE_AT)) < 0,
    ];
    missing[0] == missing[1] && missing[1] == missing[2]
}

const fn counts(header: &BatchHeader) -> BatchError {
    BatchError::Counts {
        record_count: header.record_count,
        last_offset_delta: header.last_offset_delta,
    }
}

/// The CRC-32C of exactly one batch: of its attributes to its end.
///
/// # Panics
/// When `batch` is shorter than a header.
#[must_use]
pub fn batch_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[ATTRIBUTES_AT..])
}

/// Gives a batch its place in the log. Outside of the checksum, which stays right.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn stamp(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    debug_assert!(base_offset <= Offset::MAX && i32::try_from(epoch.get()).is_ok());
    batch[BASE_OFFSET_AT..LENGTH_AT].copy_from_slice(&base_offset.get().to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&epoch.get().to_be_bytes());
}

/// Says anew which producer a batch is from, and computes its checksum again: for batches that were
/// finished before that was known, and never sent.
///
/// # Panics
/// When `batch` is not exactly one whole batch.
pub fn set_producer(batch: &mut [u8], producer: Option<ProducerStamp>) {
    let (id, epoch, sequence) = producer_fields(producer);
    batch[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&id.to_be_bytes());
    batch[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&epoch.to_be_bytes());
    batch[BASE_SEQUENCE_AT..RECORD_COUNT_AT].copy_from_slice(&sequence.to_be_bytes());
    seal(batch);
}

/// Id, epoch and base sequence as the header has them.
fn producer_fields(producer: Option<ProducerStamp>) -> (i64, i16, i32) {
    match producer {
        None => (-1, -1, -1),
        Some(stamp) => (
            stamp.id.get() as i64,
            stamp.epoch.get() as i16,
            stamp
                .base_sequence
                .map_or(-1, |sequence| sequence.get() as i32),
        ),
    }
}

/// What a producer puts into a header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewHeader {
    pub(crate) compression: Compression,
    pub(crate) base_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) producer: Option<ProducerStamp>,
    pub(crate) record_count: u32,
}

/// Writes the header of a producer's batch over the first bytes of `batch`, whose records are
/// already in place behind: base offset 0, no leader epoch, one record for each offset.
pub(crate) fn write_header(batch: &mut [u8], new: &NewHeader) {
    let length = (batch.len() - LOG_OVERHEAD) as u32;
    let mut raw: RawHeader = [0; BATCH_HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
    put(LENGTH_AT, &length.to_be_bytes());
    put(LEADER_EPOCH_AT, &(-1_i32).to_be_bytes());
    put(MAGIC_AT, &[MAGIC]);
    put(
        ATTRIBUTES_AT,
        &u16::from(new.compression.code()).to_be_bytes(),
    );
    put(LAST_OFFSET_DELTA_AT, &(new.record_count - 1).to_be_bytes());
    put(
        BASE_TIMESTAMP_AT,
        &new.base_timestamp.millis().to_be_bytes(),
    );
    put(MAX_TIMESTAMP_AT, &new.max_timestamp.millis().to_be_bytes());
    let (id, epoch, sequence) = producer_fields(new.producer);
    put(PRODUCER_ID_AT, &id.to_be_bytes());
    put(PRODUCER_EPOCH_AT, &epoch.to_be_bytes());
    put(BASE_SEQUENCE_AT, &sequence.to_be_bytes());
    put(RECORD_COUNT_AT, &new.record_count.to_be_bytes());
    batch[..BATCH_HEADER_BYTES].copy_from_slice(&raw);
    seal(batch);
}

/// Computes the checksum of exactly one batch and stores it.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = batch_crc(batch);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Walks over batches that lie back to back. Only headers are read: checksums are not compared.
///
/// A batch that is cut off, or whose header is invalid, is one error item, and the last.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Walks over `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            failed: false,
        }
    }

    /// Where the next batch starts; after an error, where the invalid one does.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let item = BatchHeader::parse(rest).and_then(|header| {
            let needed = header.batch_bytes as usize;
            match rest.get(..needed) {
                Some(batch) => Ok((header, batch)),
                None => Err(BatchError::TooShort {
                    needed,
                    have: rest.len(),
                }),
            }
        });
        match &item {
            Ok((_, batch)) => self.position += batch.len(),
            Err(_) => self.failed = true,
        }
        Some(item)
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

#[cfg(test)]
#[path = "record_batch_tests.rs"]
mod tests;
