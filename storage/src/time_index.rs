//! Sparse index of a segment: time to offset.
//!
//! Entries of 12 bytes, little endian: a timestamp (`i64`), an offset relative to the segment's
//! base (`u32`). An entry says: no record before this offset is newer than this timestamp. Both
//! grow strictly. There can be one for every [`STRIDE`]th entry of the offset index, and there is
//! when the newest timestamp has grown since the last.

use crate::offset_index::{self, IndexEntry};

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Entries of the offset index between two of this one.
pub(crate) const STRIDE: usize = 8;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The newest timestamp of all records before the offset, in milliseconds.
    pub(crate) timestamp_ms: i64,
    /// The offset, relative to the base of the segment.
    pub(crate) relative_offset: u32,
}

impl TimeEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_le_bytes());
        bytes
    }
}

/// The entries in the bytes of an index.
pub(crate) fn entries(bytes: &[u8]) -> &[[u8; ENTRY_BYTES]] {
    bytes.as_chunks::<ENTRY_BYTES>().0
}

/// Reads an entry.
pub(crate) fn decode(entry: &[u8; ENTRY_BYTES]) -> TimeEntry {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    TimeEntry {
        timestamp_ms: i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        relative_offset: u32::from_le_bytes([i, j, k, l]),
    }
}

/// From which relative offset on to look for the first record at or after a time.
pub(crate) fn scan_start(bytes: &[u8], timestamp_ms: i64) -> u32 {
    let entries = entries(bytes);
    let after = entries.partition_point(|entry| decode(entry).timestamp_ms < timestamp_ms);
    after
        .checked_sub(1)
        .map_or(0, |index| decode(&entries[index]).relative_offset)
}

/// How many entries from the front are in order.
pub(crate) fn sane_entries(bytes: &[u8]) -> usize {
    let mut previous: Option<TimeEntry> = None;
    entries(bytes)
        .iter()
        .take_while(|entry| {
            let entry = decode(entry);
            let sane = previous.is_none_or(|previous| {
                entry.timestamp_ms > previous.timestamp_ms
                    && entry.relative_offset > previous.relative_offset
            }) && entry.relative_offset > 0;
            previous = Some(entry);
            sane
        })
        .count()
}

/// Both indexes of a segment that is being written or rebuilt, as the bytes of their files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct IndexBuilder {
    pub(crate) offsets: Vec<u8>,
    pub(crate) times: Vec<u8>,
}

impl IndexBuilder {
    /// Goes on with indexes that are known to be right.
    pub(crate) const fn resume(offsets: Vec<u8>, times: Vec<u8>) -> Self {
        Self { offsets, times }
    }

    /// Position of the last entry.
    pub(crate) fn last_position(&self) -> u32 {
        offset_index::entries(&self.offsets)
            .last()
            .map_or(0, |entry| offset_index::decode(entry).position)
    }

    /// Entries of both.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let count = |entries: usize| u32::try_from(entries).expect("an index is small");
        (
            count(self.offsets.len() / offset_index::ENTRY_BYTES),
            count(self.times.len() / ENTRY_BYTES),
        )
    }

    /// A batch starts at `entry`; `newest_before` is the newest timestamp of all before it.
    pub(crate) fn on_batch(
        &mut self,
        interval: u32,
        entry: IndexEntry,
        newest_before: Option<i64>,
    ) {
        if entry.position - self.last_position() < interval.max(1) || entry.relative_offset == 0 {
            return;
        }
        self.offsets.extend_from_slice(&entry.encode());
        let count = self.offsets.len() / offset_index::ENTRY_BYTES;
        let Some(timestamp_ms) = newest_before else {
            return;
        };
        let grown = entries(&self.times)
            .last()
            .is_none_or(|last| decode(last).timestamp_ms < timestamp_ms);
        if count % STRIDE == 1 && grown {
            let time = TimeEntry {
                timestamp_ms,
                relative_offset: entry.relative_offset,
            };
            self.times.extend_from_slice(&time.encode());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_starts_before_every_record_of_the_time() {
        let mut builder = IndexBuilder::default();
        // One batch per 100 bytes and offset, timestamps going up and down.
        let timestamps: Vec<i64> = (0..1000).map(|n| i64::from(n * 7 % 50 + n)).collect();
        let mut newest = None;
        for (n, timestamp) in timestamps.iter().enumerate() {
            let n = u32::try_from(n).unwrap();
            let entry = IndexEntry {
                relative_offset: n,
                position: n * 100,
            };
            builder.on_batch(250, entry, newest);
            newest = newest.max(Some(*timestamp));
        }
        assert_eq!(builder.counts().0, 333);
        assert_eq!(sane_entries(&builder.times), builder.counts().1 as usize);
        assert!(builder.counts().1 > 20);
        for wanted in 0..1100 {
            let first = timestamps.iter().position(|timestamp| *timestamp >= wanted);
            let start = scan_start(&builder.times, wanted) as usize;
            assert!(first.is_none_or(|first| start <= first), "time {wanted}");
        }
        assert!(scan_start(&builder.times, 900) > 800, "it does skip");
    }

    #[test]
    fn disorder_ends_what_is_believed() {
        let entry = |timestamp_ms, relative_offset| TimeEntry {
            timestamp_ms,
            relative_offset,
        };
        let bytes: Vec<u8> = [entry(-5, 1), entry(4, 2), entry(4, 3)]
            .into_iter()
            .flat_map(TimeEntry::encode)
            .collect();
        assert_eq!(sane_entries(&bytes), 2);
        assert_eq!(sane_entries(&bytes[..11]), 0);
    }
}
