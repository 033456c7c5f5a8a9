//! Records on their way to one partition: keys and values behind each other in one buffer.

use std::ops::Range;
use std::time::Instant;

const FULL_BYTES: usize = 128 << 10;
/// What a record takes in a batch besides key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 36;

/// Records that are sent together.
#[derive(Debug)]
pub(crate) struct Chunk {
    buffer: Vec<u8>,
    records: Vec<Ranges>,
    due: Instant,
}

/// Where key and value lie in the buffer.
type Ranges = (Range<usize>, Range<usize>);

/// The records of a chunk, borrowed. A type with a name and no closure in it, because a task that
/// holds a closure over borrowed records while it waits cannot be shown to be `Send`.
#[derive(Debug, Clone)]
pub(crate) struct Records<'a> {
    buffer: &'a [u8],
    ranges: std::slice::Iter<'a, Ranges>,
}

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.ranges.next()?;
        Some((&self.buffer[key.clone()], &self.buffer[value.clone()]))
    }
}

impl Chunk {
    /// No records, to be sent at `due`.
    pub(crate) fn new(due: Instant) -> Chunk {
        Chunk {
            buffer: Vec::new(),
            records: Vec::new(),
            due,
        }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let key_start = self.buffer.len();
        self.buffer.extend_from_slice(key);
        let value_start = self.buffer.len();
        self.buffer.extend_from_slice(value);
        self.records
            .push((key_start..value_start, value_start..self.buffer.len()));
    }

    /// Key and value of each record.
    pub(crate) fn records(&self) -> Records<'_> {
        Records {
            buffer: &self.buffer,
            ranges: self.records.iter(),
        }
    }

    /// Takes away the first records: they are in the log.
    pub(crate) fn drop_first(&mut self, count: usize) {
        self.records.drain(..count.min(self.records.len()));
    }

    /// Records.
    pub(crate) fn count(&self) -> usize {
        self.records.len()
    }

    /// Whether so much is in it that it should go. Small enough that the producer makes one batch of
    /// it, which is appended as a whole or not at all.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() + self.records.len() * RECORD_OVERHEAD_BYTES >= FULL_BYTES
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// When it should have left.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Chunk;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut chunk = Chunk::new(Instant::now());
        chunk.push(b"a", b"1");
        chunk.push(b"", b"");
        chunk.push(b"bb", b"22");
        chunk.drop_first(1);
        let records: Vec<_> = chunk.records().collect();
        assert_eq!(records, [(&b""[..], &b""[..]), (&b"bb"[..], &b"22"[..])]);
        assert_eq!((chunk.count(), chunk.bytes()), (2, 6));
    }
}
