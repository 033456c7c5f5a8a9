//! Makes record batches.
//!
//! Records are encoded straight behind a reserved header in one buffer, so that finishing an
//! uncompressed batch copies nothing. The buffer goes on to the next batch: its memory is used again
//! as soon as the batches that were cut from it are dropped.

use bytes::{BufMut, Bytes, BytesMut};

use crate::compression::{self, Compression};
use crate::ids::Timestamp;
use crate::limits::FRAME_BYTES_MAX_LIMIT;
use crate::record_batch::{self, BATCH_HEADER_BYTES, NewHeader, ProducerStamp};
use crate::varint::{VARINT_BYTES_MAX, VARLONG_BYTES_MAX, varint_bytes, write_varint};

/// A header of a record on its way out: its key and its value.
pub type HeaderPair<'a> = (&'a str, Option<&'a [u8]>);

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its offset minus the base offset of the batch.
    pub relative_offset: u32,
}

/// Collects records into a batch.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    level: Option<i32>,
    producer: Option<ProducerStamp>,
    /// Empty, or the room of the header and the records so far.
    buffer: BytesMut,
    /// How much to reserve at a time.
    chunk_bytes: usize,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// Reserved at a time when nobody says better.
const CHUNK_BYTES_DEFAULT: usize = 16 << 10;

/// Room of everything in front of a record's value, the key itself not counted, if there is no key.
const FRONT_BYTES: usize = 32;
const _: () =
    assert!(VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + 3 * VARINT_BYTES_MAX <= FRONT_BYTES);

impl BatchBuilder {
    /// An empty batch. `level` as in [`compression::compress_into`].
    #[must_use]
    pub fn new(compression: Compression, level: Option<i32>) -> Self {
        Self::with_chunk_bytes(compression, level, CHUNK_BYTES_DEFAULT)
    }

    /// As [`Self::new`], for batches that will mostly be about `chunk_bytes` large: that much is
    /// reserved at a time, from the first record on.
    #[must_use]
    pub fn with_chunk_bytes(
        compression: Compression,
        level: Option<i32>,
        chunk_bytes: usize,
    ) -> Self {
        Self {
            compression,
            level,
            producer: None,
            buffer: BytesMut::new(),
            chunk_bytes,
            count: 0,
            base_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
        }
    }

    /// Says which producer the following batches are from.
    pub const fn set_producer(&mut self, producer: Option<ProducerStamp>) {
        self.producer = producer;
    }

    /// Appends a record.
    ///
    /// # Panics
    /// When the batch would pass [`FRAME_BYTES_MAX_LIMIT`] (1 GiB). Callers that take records from
    /// others check [`Self::len_with`] against their own, far lower, limit first.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderPair<'_>],
    ) -> Pushed {
        let key_bytes = key.map_or(0, <[u8]>::len);
        let value_bytes = value.map_or(0, <[u8]>::len);
        let headers_bytes = if headers.is_empty() {
            1
        } else {
            headers_bytes(headers)
        };
        // Reserved at once: the appends below then never grow the buffer.
        let room = 2 * FRONT_BYTES + key_bytes + value_bytes + headers_bytes;
        if self.count == 0 || self.buffer.capacity() - self.buffer.len() < room {
            self.make_room(room);
        }
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        } else if timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
        }
        // Wraps, and the reader wraps back.
        let timestamp_delta = timestamp
            .millis()
            .wrapping_sub(self.base_timestamp.millis());
        let relative_offset = self.count;

        // The fields are written behind room for the length, which then goes right in front.
        let mut front = [0_u8; VARINT_BYTES_MAX + FRONT_BYTES];
        let mut end = VARINT_BYTES_MAX + 1;
        end += write_varint(&mut front[end..], timestamp_delta);
        end += write_varint(&mut front[end..], i64::from(relative_offset));
        end += write_varint(&mut front[end..], nullable_length(key));
        let value_length = nullable_length(value);
        if key_bytes == 0 {
            end += write_varint(&mut front[end..], value_length);
        }
        let value_length_bytes = if key_bytes == 0 {
            0
        } else {
            varint_bytes(value_length)
        };
        let length =
            (end - VARINT_BYTES_MAX) + key_bytes + value_length_bytes + value_bytes + headers_bytes;
        let start = VARINT_BYTES_MAX - varint_bytes(length as i64);
        write_varint(&mut front[start..], length as i64);
        self.put_short(&front, start, end - start);

        if key_bytes > 0 {
            self.buffer.extend_from_slice(key.unwrap_or_default());
            let mut field = [0_u8; FRONT_BYTES + VARINT_BYTES_MAX];
            let written = write_varint(&mut field, value_length);
            self.put_short(&field, 0, written);
        }
        self.buffer.extend_from_slice(value.unwrap_or_default());
        if headers.is_empty() {
            self.buffer.put_u8(0);
        } else {
            put_headers(&mut self.buffer, headers);
        }
        self.count += 1;
        Pushed { relative_offset }
    }

    /// Appends `front[start..start + length]`: always copies [`FRONT_BYTES`] and then forgets the
    /// rest, because a copy of a fixed size is a few instructions and one of a variable size a call.
    #[inline]
    fn put_short(
        &mut self,
        front: &[u8; VARINT_BYTES_MAX + FRONT_BYTES],
        start: usize,
        length: usize,
    ) {
        let end = self.buffer.len() + length;
        let fixed: &[u8; FRONT_BYTES] = front[start..]
            .first_chunk()
            .expect("there is room behind the length field");
        self.buffer.extend_from_slice(fixed);
        self.buffer.truncate(end);
    }

    /// Bytes of the batch as it stands: exact without compression, otherwise the most that it can
    /// become.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.buffer.len().max(BATCH_HEADER_BYTES)
    }

    /// What [`Self::len_bytes`] would be with this record too.
    #[must_use]
    pub fn len_with(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderPair<'_>],
    ) -> usize {
        let timestamp_delta = if self.count == 0 {
            0
        } else {
            timestamp
                .millis()
                .wrapping_sub(self.base_timestamp.millis())
        };
        let length = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(i64::from(self.count))
            + varint_bytes(nullable_length(key))
            + key.map_or(0, <[u8]>::len)
            + varint_bytes(nullable_length(value))
            + value.map_or(0, <[u8]>::len)
            + headers_bytes(headers);
        self.len_bytes() + varint_bytes(length as i64) + length
    }

    /// Number of records.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether there are no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Drops the records.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.count = 0;
    }

    /// The finished batch, with base offset 0 and no leader epoch; the builder is empty again. No
    /// records give no bytes.
    ///
    /// A batch that compression would not make smaller stays uncompressed.
    #[must_use]
    pub fn build(&mut self) -> Bytes {
        if self.count == 0 {
            return Bytes::new();
        }
        let mut header = NewHeader {
            compression: Compression::None,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            record_count: self.count,
        };
        self.count = 0;
        if self.compression != Compression::None {
            let mut packed = Vec::with_capacity(BATCH_HEADER_BYTES + self.buffer.len() / 2);
            packed.resize(BATCH_HEADER_BYTES, 0);
            let plain = &self.buffer[BATCH_HEADER_BYTES..];
            compression::compress_into(self.compression, self.level, plain, &mut packed);
            if packed.len() < self.buffer.len() {
                header.compression = self.compression;
                record_batch::write_header(&mut packed, &header);
                self.buffer.clear();
                return packed.into();
            }
        }
        let mut batch = self.buffer.split();
        record_batch::write_header(&mut batch, &header);
        batch.freeze()
    }

    #[cold]
    fn make_room(&mut self, room: usize) {
        let header = if self.count == 0 {
            BATCH_HEADER_BYTES
        } else {
            0
        };
        assert!(
            self.buffer.len() + header + room <= FRAME_BYTES_MAX_LIMIT as usize,
            "a record batch stays below the largest frame"
        );
        // What is left of the last chunk is used up first, so that small batches share one.
        if self.buffer.capacity() - self.buffer.len() < header + room {
            self.buffer.reserve(self.chunk_bytes.max(header + room));
        }
        self.buffer.put_bytes(0, header);
    }
}

fn nullable_length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

fn headers_bytes(headers: &[HeaderPair<'_>]) -> usize {
    let each = |(key, value): &HeaderPair<'_>| {
        varint_bytes(key.len() as i64)
            + key.len()
            + varint_bytes(nullable_length(*value))
            + value.map_or(0, <[u8]>::len)
    };
    varint_bytes(headers.len() as i64) + headers.iter().map(each).sum::<usize>()
}

#[cold]
fn put_headers(out: &mut BytesMut, headers: &[HeaderPair<'_>]) {
    let put_length = |out: &mut BytesMut, length: i64| {
        let mut field = [0_u8; VARLONG_BYTES_MAX];
        let written = write_varint(&mut field, length);
        out.extend_from_slice(&field[..written]);
    };
    put_length(out, headers.len() as i64);
    for (key, value) in headers {
        put_length(out, key.len() as i64);
        out.extend_from_slice(key.as_bytes());
        put_length(out, nullable_length(*value));
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
#[path = "batch_builder_tests.rs"]
mod tests;
