//! Reads a segment file batch by batch, and goes on behind a batch that is damaged as far as its
//! header still says how long it is.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, BatchError, BatchHeader, verify_batch};

const BUFFER_BYTES: usize = 1 << 20;

/// A batch and where it lies.
#[derive(Debug)]
pub(crate) struct FoundBatch {
    /// Position of its first byte in the file.
    pub(crate) position: u64,
    /// Its header.
    pub(crate) header: BatchHeader,
    /// All of its bytes.
    pub(crate) bytes: Bytes,
    /// What is wrong with it.
    pub(crate) damage: Option<BatchError>,
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Found {
    /// A batch, perhaps a damaged one.
    Batch(FoundBatch),
    /// Bytes that begin no batch, up to the end of the file: a torn tail, or damage.
    Garbage {
        /// Where they begin.
        position: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a segment file.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    input: BufReader<File>,
    position: u64,
    file_bytes: u64,
    done: bool,
}

impl SegmentReader {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self {
            input,
            position: 0,
            file_bytes,
            done: false,
        })
    }

    /// Where the next batch would begin: behind the last one, the end of the log in this file.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; `None` at the end of the file, or where the space begins that is reserved
    /// but was never written.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        if self.done || self.position >= self.file_bytes {
            return Ok(None);
        }
        let position = self.position;
        let mut head = Vec::with_capacity(BATCH_HEADER_BYTES);
        self.input
            .by_ref()
            .take(BATCH_HEADER_BYTES as u64)
            .read_to_end(&mut head)?;
        if head.iter().all(|byte| *byte == 0) {
            self.done = true;
            return Ok(None);
        }
        let header = match BatchHeader::parse(&head) {
            Ok(header) => header,
            Err(error) => return Ok(Some(self.garbage(position, error.to_string()))),
        };
        let whole = u64::from(header.batch_bytes);
        if position + whole > self.file_bytes {
            let left = self.file_bytes - position;
            let problem = format!("the batch has {whole} bytes, the file only {left} more");
            return Ok(Some(self.garbage(position, problem)));
        }
        let mut bytes = head;
        let rest = whole - BATCH_HEADER_BYTES as u64;
        self.input.by_ref().take(rest).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < whole {
            return Ok(Some(
                self.garbage(position, "the file became shorter".to_owned()),
            ));
        }
        self.position += whole;
        let damage = verify_batch(&bytes).err();
        Ok(Some(Found::Batch(FoundBatch {
            position,
            header,
            bytes: bytes.into(),
            damage,
        })))
    }

    fn garbage(&mut self, position: u64, problem: String) -> Found {
        self.done = true;
        Found::Garbage { position, problem }
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::batch_builder::BatchBuilder;
    use highwater_protocol::compression::Compression;
    use highwater_protocol::ids::Timestamp;

    use super::*;

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.push(Timestamp::from_millis(5), Some(b"k"), Some(value), &[]);
        builder.build().to_vec()
    }

    fn read(bytes: &[u8]) -> (Vec<Found>, u64) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut reader = SegmentReader::open(file.path()).unwrap();
        let mut all = Vec::new();
        while let Some(found) = reader.next().unwrap() {
            all.push(found);
        }
        (all, reader.position())
    }

    #[test]
    fn batches_and_then_reserved_space() {
        let (one, two) = (batch(b"one"), batch(b"two"));
        for zeros in [0, 5, 61, 5000] {
            let bytes = [&one[..], &two, &vec![0; zeros]].concat();
            let (found, position) = read(&bytes);
            assert_eq!(position as usize, one.len() + two.len());
            let positions: Vec<u64> = found
                .iter()
                .map(|found| match found {
                    Found::Batch(batch) if batch.damage.is_none() => batch.position,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(positions, [0, one.len() as u64]);
        }
        assert!(read(b"").0.is_empty());
    }

    #[test]
    fn damage_is_shown_and_what_follows_is_still_read() {
        let (mut one, two) = (batch(b"one"), batch(b"two"));
        let last = one.len() - 2;
        one[last] ^= 1;
        let (found, _) = read(&[&one[..], &two].concat());
        assert!(matches!(&found[0], Found::Batch(batch) if batch.damage.is_some()));
        assert!(matches!(&found[1], Found::Batch(batch) if batch.damage.is_none()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn whatever_is_no_batch_ends_the_reading() {
        let one = batch(b"one");
        for tail in [
            &b"garbage"[..],
            &[0xff; 100],
            &one[..one.len() - 1],
            &one[..30],
        ] {
            let (found, position) = read(&[&one[..], tail].concat());
            assert_eq!((found.len(), position as usize), (2, one.len()), "{tail:?}");
            assert!(
                matches!(found[1], Found::Garbage { position, .. } if position as usize == one.len())
            );
        }
    }
}
