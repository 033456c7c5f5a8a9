//! The records inside of a batch, as owned slices or borrowed.
//!
//! ```text
//! varint   length            bytes behind this field
//! i8       attributes        unused
//! varlong  timestamp delta   from the batch's base timestamp
//! varint   offset delta      from the batch's base offset
//! varint   key length        -1: no key
//!          key
//! varint   value length      -1: no value
//!          value
//! varint   header count
//!          each: varint key length, UTF-8 key, varint value length (-1: none), value
//! ```
//!
//! [`RecordRef`] borrows from the batch and costs nothing but the decoding; [`Record`] owns slices
//! that share the batch's memory, one reference count for each of key, value and headers.

use bytes::Bytes;
use thiserror::Error;

use crate::compression::{self, Compression, CompressionError};
use crate::ids::{Offset, Timestamp};
use crate::limits::DECOMPRESSED_BYTES_MAX_DEFAULT;
use crate::record_batch::{BATCH_HEADER_BYTES, BatchError, BatchHeader, TimestampType};
use crate::varint::{read_varint, read_varlong};

mod headers;

use headers::take_headers;
pub use headers::{HeaderIter, Headers, HeadersRef};

/// The fewest bytes of a record: seven fields, the length and the attributes among them.
const RECORD_BYTES_MIN: usize = 7;

/// Why the inside of a batch cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The header is invalid or the batch is cut off.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records cannot be unfolded.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The batch is compressed and was to be read in place.
    #[error("the records are compressed with {codec}")]
    Compressed {
        /// The codec.
        codec: Compression,
    },
    /// A record's bytes contradict themselves.
    #[error("record {index} of the batch is damaged: its {field} is invalid")]
    Malformed {
        /// Which one, from 0.
        index: u32,
        /// Which field.
        field: &'static str,
    },
    /// Fewer or more bytes than the counted records need.
    #[error("{left} bytes are left behind the {record_count} records of the batch")]
    TrailingBytes {
        /// How many.
        left: usize,
        /// How many records the header counts.
        record_count: u32,
    },
    /// The header counts more records than the bytes can hold.
    #[error("the header counts {record_count} records, but there are only {bytes} bytes of them")]
    Count {
        /// What the header says.
        record_count: u32,
        /// Bytes of records.
        bytes: usize,
    },
}

/// What reading a batch may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Most bytes that compressed records may unfold to.
    pub decompressed_bytes_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self {
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX_DEFAULT,
        }
    }
}

/// A record that borrows from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: HeadersRef<'a>,
}

impl RecordRef<'_> {
    /// The same record as slices that keep `data` alive instead of borrowing it.
    ///
    /// # Panics
    /// When the record does not lie in `data`.
    #[inline]
    #[must_use]
    pub fn to_owned_in(&self, data: &Bytes) -> Record {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(|key| data.slice_ref(key)),
            value: self.value.map(|value| data.slice_ref(value)),
            headers: self.headers.to_owned_in(data),
        }
    }
}

/// A record whose key, value and headers are slices of the batch's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

/// Reads the records of an uncompressed batch in place. Its checksum is not compared: see
/// [`crate::record_batch::verify_batch`].
///
/// # Errors
/// [`RecordError`] when the header is invalid, the batch is cut off or compressed.
pub fn records_ref(batch: &[u8]) -> Result<RecordRefs<'_>, RecordError> {
    let (header, records) = split_batch(batch)?;
    match header.compression {
        Compression::None => RecordRefs::new(&header, records),
        codec => Err(RecordError::Compressed { codec }),
    }
}

fn split_batch(batch: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let needed = header.batch_bytes as usize;
    match batch.get(BATCH_HEADER_BYTES..needed) {
        Some(records) => Ok((header, records)),
        None => Err(BatchError::TooShort {
            needed,
            have: batch.len(),
        }),
    }
}

/// Where decoding stands; apart from the bytes, so that it works on borrowed and on owned ones.
#[derive(Debug, Clone)]
struct Cursor {
    base_offset: Offset,
    /// What record timestamps are relative to.
    base_timestamp: Timestamp,
    /// Set when the broker gave all records one timestamp.
    log_append_time: Option<Timestamp>,
    last_offset_delta: u32,
    record_count: u32,
    index: u32,
    /// The smallest delta that the next record may have: offsets rise.
    offset_delta_min: u32,
}

impl Cursor {
    fn new(header: &BatchHeader, records_bytes: usize) -> Result<Self, RecordError> {
        // Bounds what callers reserve for the records of a batch with a hostile count.
        if header.record_count as usize > records_bytes / RECORD_BYTES_MIN {
            return Err(RecordError::Count {
                record_count: header.record_count,
                bytes: records_bytes,
            });
        }
        Ok(Self {
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: match header.timestamp_type {
                TimestampType::Create => None,
                TimestampType::LogAppend => Some(header.max_timestamp),
            },
            last_offset_delta: header.last_offset_delta,
            record_count: header.record_count,
            index: 0,
            offset_delta_min: 0,
        })
    }

    const fn left(&self) -> usize {
        (self.record_count - self.index) as usize
    }

    /// Makes the next call of [`Self::next`] the end.
    const fn stop(&mut self) {
        self.index = self.record_count;
    }

    /// The next record off the front of `rest`. After the last one, or an error, `None`.
    #[inline]
    fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.index == self.record_count {
            if rest.is_empty() {
                return None;
            }
            let left = std::mem::take(rest).len();
            return Some(Err(RecordError::TrailingBytes {
                left,
                record_count: self.record_count,
            }));
        }
        let Ok((record, behind)) = self.decode(rest, |_| ()) else {
            return Some(Err(self.fail(rest)));
        };
        *rest = behind;
        self.index += 1;
        // The delta again: `decode` checked that it fits.
        self.offset_delta_min = (record.offset.get() - self.base_offset.get()) as u32 + 1;
        Some(Ok(record))
    }

    /// Decodes the invalid record once more, now with the names of its fields, and ends there.
    #[cold]
    fn fail(&mut self, rest: &mut &[u8]) -> RecordError {
        let index = self.index;
        let field = self.decode(rest, |field| field).err().unwrap_or("bytes");
        self.stop();
        *rest = &[];
        RecordError::Malformed { index, field }
    }

    /// The record at the start of `rest`, and what is behind it. `fault` says what becomes of the
    /// name of an invalid field: on the fast path nothing, which saves a third of the time.
    #[inline(always)]
    fn decode<'a, E>(
        &self,
        rest: &'a [u8],
        fault: fn(&'static str) -> E,
    ) -> Result<(RecordRef<'a>, &'a [u8]), E> {
        let fault = |field| move || fault(field);
        let (length, rest) = read_varint(rest).ok_or_else(fault("length"))?;
        let length = usize::try_from(length).ok().ok_or_else(fault("length"))?;
        let (record, behind) = rest.split_at_checked(length).ok_or_else(fault("length"))?;
        let (_attributes, record) = record.split_first().ok_or_else(fault("attributes"))?;
        let (timestamp_delta, record) =
            read_varlong(record).ok_or_else(fault("timestamp delta"))?;
        let (offset_delta, record) = read_varint(record).ok_or_else(fault("offset delta"))?;
        let offset_delta = u32::try_from(offset_delta)
            .ok()
            .filter(|delta| (self.offset_delta_min..=self.last_offset_delta).contains(delta))
            .ok_or_else(fault("offset delta"))?;
        let (key, record) = take_nullable(record).ok_or_else(fault("key"))?;
        let (value, record) = take_nullable(record).ok_or_else(fault("value"))?;
        // Nearly no record has headers: then one zero byte is left.
        let headers = if record == [0] {
            HeadersRef::default()
        } else {
            take_headers(record).ok_or_else(fault("headers"))?
        };
        let timestamp = match self.log_append_time {
            // Wraps on both sides, so that even absurd timestamps come back as they were.
            None => self.base_timestamp.millis().wrapping_add(timestamp_delta),
            Some(time) => time.millis(),
        };
        let record = RecordRef {
            // Cannot overflow: the last offset of the batch does not.
            offset: Offset::new(self.base_offset.get() + u64::from(offset_delta)),
            timestamp: Timestamp::from_millis(timestamp),
            key,
            value,
            headers,
        };
        Ok((record, behind))
    }
}

/// A length and that many bytes, `None` for the length -1, and what is behind.
#[inline]
fn take_nullable(input: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, input) = read_varint(input)?;
    if length == -1 {
        return Some((None, input));
    }
    let (bytes, behind) = input.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(bytes), behind))
}

/// Walks over the records of a batch, borrowing them.
///
/// Yields as many records as the header counts, or an error and nothing after it.
#[derive(Debug, Clone)]
pub struct RecordRefs<'a> {
    cursor: Cursor,
    rest: &'a [u8],
}

impl<'a> RecordRefs<'a> {
    fn new(header: &BatchHeader, records: &'a [u8]) -> Result<Self, RecordError> {
        Ok(Self {
            cursor: Cursor::new(header, records.len())?,
            rest: records,
        })
    }
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.cursor.left() + 1))
    }
}

impl std::iter::FusedIterator for RecordRefs<'_> {}

/// The plain records of one batch: unfolded if they were compressed, otherwise a slice of it.
#[derive(Debug, Clone)]
pub struct BatchRecords {
    header: BatchHeader,
    records: Bytes,
}

impl BatchRecords {
    /// Opens the batch at the start of `batch`. Its checksum is not compared.
    ///
    /// # Errors
    /// [`RecordError`] when the header is invalid, the batch is cut off, or the records unfold to
    /// more than the limit or not at all.
    pub fn open(mut batch: Bytes, limits: RecordLimits) -> Result<Self, RecordError> {
        let (header, packed) = split_batch(&batch)?;
        let records = match header.compression {
            Compression::None => {
                batch.truncate(header.batch_bytes as usize);
                batch.split_off(BATCH_HEADER_BYTES)
            }
            codec => compression::decompress(codec, packed, limits.decompressed_bytes_max)?,
        };
        Cursor::new(&header, records.len())?;
        Ok(Self { header, records })
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The plain record bytes, which every [`RecordRef`] borrows from.
    #[must_use]
    pub const fn data(&self) -> &Bytes {
        &self.records
    }

    /// The records, borrowed.
    #[must_use]
    pub fn iter(&self) -> RecordRefs<'_> {
        RecordRefs::new(&self.header, &self.records).expect("the count was checked when opened")
    }
}

impl<'a> IntoIterator for &'a BatchRecords {
    type Item = Result<RecordRef<'a>, RecordError>;
    type IntoIter = RecordRefs<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for BatchRecords {
    type Item = Result<Record, RecordError>;
    type IntoIter = RecordIter;
    fn into_iter(self) -> RecordIter {
        let cursor = Cursor::new(&self.header, self.records.len())
            .expect("the count was checked when opened");
        RecordIter {
            header: self.header,
            cursor,
            data: self.records,
            position: 0,
        }
    }
}

/// Walks over the records of a batch, as slices that share its memory.
///
/// Yields as many records as the header counts, or an error and nothing after it.
#[derive(Debug, Clone)]
pub struct RecordIter {
    header: BatchHeader,
    cursor: Cursor,
    data: Bytes,
    position: usize,
}

impl RecordIter {
    /// Opens the batch at the start of `batch`. Its checksum is not compared.
    ///
    /// # Errors
    /// As [`BatchRecords::open`].
    pub fn new(batch: Bytes, limits: RecordLimits) -> Result<Self, RecordError> {
        BatchRecords::open(batch, limits).map(BatchRecords::into_iter)
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The next record, borrowed: saves the reference counts of [`Iterator::next`].
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecordError>> {
        let mut rest = &self.data[self.position..];
        let item = self.cursor.next(&mut rest);
        self.position = self.data.len() - rest.len();
        item
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = &self.data[self.position..];
        let item = self.cursor.next(&mut rest);
        self.position = self.data.len() - rest.len();
        item.map(|item| item.map(|record| record.to_owned_in(&self.data)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.cursor.left() + 1))
    }
}

impl std::iter::FusedIterator for RecordIter {}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
