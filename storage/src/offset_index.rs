//! Sparse index of a segment: offset to file position.
//!
//! Entries of 8 bytes, little endian: offset relative to the segment's base (`u32`), position of
//! the batch that starts with it (`u32`). Both grow strictly. There is an entry for a batch when it
//! starts at least the index interval behind the last entry (or the file's start), so that the
//! index is a function of the batches and a rebuilt one is the same.
//!
//! An index is a cache. It is checked before it is used and rebuilt when it is wrong.

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 8;

/// Where a batch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct IndexEntry {
    /// Its base offset, relative to that of the segment.
    pub(crate) relative_offset: u32,
    /// Its position in the file.
    pub(crate) position: u32,
}

impl IndexEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.relative_offset.to_le_bytes());
        bytes[4..].copy_from_slice(&self.position.to_le_bytes());
        bytes
    }
}

/// The entries in the bytes of an index; a broken piece of an entry at the end is not one.
pub(crate) fn entries(bytes: &[u8]) -> &[[u8; ENTRY_BYTES]] {
    bytes.as_chunks::<ENTRY_BYTES>().0
}

/// Reads an entry.
pub(crate) fn decode(entry: &[u8; ENTRY_BYTES]) -> IndexEntry {
    let [a, b, c, d, e, f, g, h] = *entry;
    IndexEntry {
        relative_offset: u32::from_le_bytes([a, b, c, d]),
        position: u32::from_le_bytes([e, f, g, h]),
    }
}

/// The last entry at or before an offset; the start of the segment when there is none.
pub(crate) fn floor_of_offset(bytes: &[u8], relative_offset: u32) -> IndexEntry {
    let entries = entries(bytes);
    let after = entries.partition_point(|entry| decode(entry).relative_offset <= relative_offset);
    after
        .checked_sub(1)
        .map_or(IndexEntry::default(), |index| decode(&entries[index]))
}

/// The last entry at or before a position; the start of the segment when there is none.
pub(crate) fn floor_of_position(bytes: &[u8], position: u32) -> IndexEntry {
    let entries = entries(bytes);
    let after = entries.partition_point(|entry| decode(entry).position <= position);
    after
        .checked_sub(1)
        .map_or(IndexEntry::default(), |index| decode(&entries[index]))
}

/// How many entries from the front are in order and lie inside of a file of `log_bytes` bytes.
pub(crate) fn sane_entries(bytes: &[u8], log_bytes: u64) -> usize {
    let mut previous = IndexEntry::default();
    entries(bytes)
        .iter()
        .take_while(|entry| {
            let entry = decode(entry);
            let sane = entry.relative_offset > previous.relative_offset
                && entry.position > previous.position
                && u64::from(entry.position) < log_bytes;
            previous = entry;
            sane
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(u32, u32)]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|(relative_offset, position)| {
                IndexEntry {
                    relative_offset: *relative_offset,
                    position: *position,
                }
                .encode()
            })
            .collect()
    }

    #[test]
    fn floors() {
        let bytes = index(&[(10, 4096), (20, 9000), (30, 14_000)]);
        let offset = |wanted| floor_of_offset(&bytes, wanted).position;
        assert_eq!(
            [0, 9, 10, 19, 20, 1000].map(offset),
            [0, 0, 4096, 4096, 9000, 14_000]
        );
        let position = |wanted| floor_of_position(&bytes, wanted).relative_offset;
        assert_eq!(
            [0, 4095, 4096, 13_999, 14_000].map(position),
            [0, 0, 10, 20, 30]
        );
    }

    #[test]
    fn disorder_ends_what_is_believed() {
        assert_eq!(
            sane_entries(&index(&[(1, 1), (2, 2), (0, 0), (4, 4)]), 100),
            2
        );
        assert_eq!(sane_entries(&index(&[(1, 1), (2, 100)]), 100), 1);
        assert_eq!(
            sane_entries(&index(&[(0, 5)]), 100),
            0,
            "the start has no entry"
        );
        let mut torn = index(&[(1, 1), (2, 2)]);
        torn.truncate(13);
        assert_eq!(sane_entries(&torn, 100), 1);
        assert_eq!(sane_entries(&[], 0), 0);
    }
}
