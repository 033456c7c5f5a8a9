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
use crate::varint::{
    VARINT_BYTES_MAX, VARLONG_BYTES_MAX, varint_bytes, varint_in_register, write_varint, zigzag,
};

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

/// Most bytes of a record besides its key, value and headers, and of what [`put_fixed`] writes too
/// much for a moment.
const FIELDS_BYTES_MAX: usize = 4 * VARINT_BYTES_MAX + VARLONG_BYTES_MAX + 1 + 16;

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
        let room = FIELDS_BYTES_MAX + key_bytes + value_bytes + headers_bytes;
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

        let fields = Fields {
            timestamp_delta,
            relative_offset,
            key,
            value_length: nullable_length(value),
            behind_bytes: value_bytes + headers_bytes,
        };
        if room < SHORT_MAX as usize
            && relative_offset < SHORT_MAX
            && zigzag(timestamp_delta) < 1 << 28
        {
            fields.put_short(&mut self.buffer);
        } else {
            fields.put(&mut self.buffer);
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
        // The whole chunk again, if every batch that was cut from it is gone. If not, what is left
        // of it is used up first, so that small batches share one.
        if self.count == 0 && self.buffer.capacity() < self.chunk_bytes {
            let _ = self.buffer.try_reclaim(self.chunk_bytes);
        }
        let length = self.buffer.len();
        if self.buffer.capacity() - length < header + room {
            let chunk_left = self.chunk_bytes.saturating_sub(length);
            self.buffer
                .reserve((header + room).max(chunk_left).max(length));
        }
        self.buffer.put_bytes(0, header);
    }
}

/// Lengths and offsets below this take at most three bytes.
const SHORT_MAX: u32 = 1 << 20;

/// What stands in front of a record's value.
struct Fields<'a> {
    timestamp_delta: i64,
    relative_offset: u32,
    key: Option<&'a [u8]>,
    value_length: i64,
    /// Bytes of the value itself and of the headers.
    behind_bytes: usize,
}

impl Fields<'_> {
    /// For a record of less than [`SHORT_MAX`] bytes whose timestamp delta takes at most four: puts
    /// the fields together in registers. Written byte by byte to memory and copied from there, they
    /// would cost more than all else in a small record.
    #[inline]
    fn put_short(&self, out: &mut BytesMut) {
        let key = self.key.unwrap_or_default();
        let timestamp = varint_in_register(self.timestamp_delta);
        let value_length = varint_in_register(self.value_length);
        // At most 3 + 3 bytes with a key, 3 + 1 + 3 without.
        let mut back = varint_in_register(i64::from(self.relative_offset))
            .then(varint_in_register(nullable_length(self.key)));
        let mut separate = 0;
        if key.is_empty() {
            back = back.then(value_length);
        } else {
            separate = key.len() + value_length.length as usize;
        }
        let length = 1 + (timestamp.length + back.length) as usize + separate + self.behind_bytes;
        // At most 3 + 1 + 4 bytes; the attributes are one byte of zero.
        let mut front = varint_in_register(length as i64);
        front.length += 1;
        let front = front.then(timestamp);

        // `front` is 3 to 8 bytes long, so that none of the shifts is by a whole register.
        let shift = 8 * front.length;
        let low = front.bytes | (back.bytes << (shift - 8)) << 8;
        let high = back.bytes >> (64 - shift);
        let both = u128::from(high) << 64 | u128::from(low);
        put_fixed(out, both.to_le_bytes(), front.length + back.length);
        if !key.is_empty() {
            out.extend_from_slice(key);
            put_fixed(out, value_length.bytes.to_le_bytes(), value_length.length);
        }
    }

    #[cold]
    fn put(&self, out: &mut BytesMut) {
        let key_length = nullable_length(self.key);
        let key = self.key.unwrap_or_default();
        let length = 1
            + varint_bytes(self.timestamp_delta)
            + varint_bytes(i64::from(self.relative_offset))
            + varint_bytes(key_length)
            + key.len()
            + varint_bytes(self.value_length)
            + self.behind_bytes;
        put_varint(out, length as i64);
        out.put_u8(0);
        put_varint(out, self.timestamp_delta);
        put_varint(out, i64::from(self.relative_offset));
        put_varint(out, key_length);
        out.extend_from_slice(key);
        put_varint(out, self.value_length);
    }
}

/// Appends the first `length` bytes. A copy of a fixed size is an instruction or two, one of a
/// variable size a call: so all of them are appended and what is too much is taken off again.
#[inline]
fn put_fixed<const N: usize>(out: &mut BytesMut, bytes: [u8; N], length: u32) {
    let end = out.len() + length as usize;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

#[cold]
fn put_varint(out: &mut BytesMut, value: i64) {
    let mut field = [0_u8; VARLONG_BYTES_MAX];
    let written = write_varint(&mut field, value);
    out.extend_from_slice(&field[..written]);
}

#[inline]
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
    put_varint(out, headers.len() as i64);
    for (key, value) in headers {
        put_varint(out, key.len() as i64);
        out.extend_from_slice(key.as_bytes());
        put_varint(out, nullable_length(*value));
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[cfg(test)]
#[path = "batch_builder_tests.rs"]
mod tests;
