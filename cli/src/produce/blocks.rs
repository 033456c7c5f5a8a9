//! Cuts a byte stream into blocks of whole records, so that records are never copied one by one.
//!
//! A block is what one read brought, up to its last delimiter; what is behind that stays for the
//! next block. From a terminal or a pipe a record is therefore passed on as soon as it is complete.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// Bytes asked for in one read.
const READ_BYTES: usize = 1 << 20;

/// Why the input cannot be cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// The input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A record without an end in sight.
    #[error("a record is longer than {limit} bytes: is the delimiter right?")]
    RecordTooLong {
        /// The limit.
        limit: usize,
    },
}

/// Reads blocks of whole records.
#[derive(Debug)]
pub(crate) struct BlockReader<R> {
    input: R,
    delimiter: Vec<u8>,
    record_bytes_max: usize,
    /// Read, but not yet passed on: the beginning of a record.
    rest: BytesMut,
}

impl<R: Read> BlockReader<R> {
    /// Reads `input`, whose records end with `delimiter` (which must not be empty).
    pub(crate) fn new(input: R, delimiter: Vec<u8>, record_bytes_max: usize) -> Self {
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        Self {
            input,
            delimiter,
            record_bytes_max,
            rest: BytesMut::new(),
        }
    }

    /// The next block: records, each followed by the delimiter, except that the very last record of
    /// the input may lack it. `None` at the end of the input.
    pub(crate) fn next_block(&mut self) -> Result<Option<Bytes>, BlockError> {
        loop {
            let known = self.rest.len();
            let read = self.read_more()?;
            if read == 0 {
                let last = self.rest.split().freeze();
                return Ok((!last.is_empty()).then_some(last));
            }
            if let Some(end) = self.end_of_last_record(known) {
                return Ok(Some(self.rest.split_to(end).freeze()));
            }
            if self.rest.len() > self.record_bytes_max {
                return Err(BlockError::RecordTooLong {
                    limit: self.record_bytes_max,
                });
            }
        }
    }

    /// The first `known` bytes hold no whole delimiter.
    fn end_of_last_record(&self, known: usize) -> Option<usize> {
        if let [byte] = self.delimiter[..] {
            return memchr::memrchr(byte, &self.rest[known..]).map(|at| known + at + 1);
        }
        // A longer one may overlap with itself, as `--` in `a---b`: the first match counts, whatever
        // pieces the input comes in, so it is looked for from the start of the record.
        let last = memmem::find_iter(&self.rest, &self.delimiter).last();
        last.map(|at| at + self.delimiter.len())
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let known = self.rest.len();
        self.rest.resize(known + READ_BYTES, 0);
        let result = loop {
            match self.input.read(&mut self.rest[known..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.rest
            .truncate(known + result.as_ref().map_or(0, |read| *read));
        result
    }
}

/// The records of a block, without their delimiters.
pub(crate) fn records<'a>(
    block: &'a [u8],
    delimiter: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + Clone + 'a {
    // An empty record behind the last delimiter is the block's end, not a record.
    let body = block.strip_suffix(delimiter).unwrap_or(block);
    let single = match delimiter {
        [byte] => Some(*byte),
        _ => None,
    };
    let mut rest = Some(body).filter(|_| !block.is_empty());
    std::iter::from_fn(move || {
        let body = rest?;
        let found = match single {
            Some(byte) => memchr::memchr(byte, body),
            None => memmem::find(body, delimiter),
        };
        match found {
            Some(at) => {
                rest = Some(&body[at + delimiter.len()..]);
                Some(&body[..at])
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out the input in pieces of the given size.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (head, tail) = self.0.split_at(self.1.min(self.0.len()));
            buffer[..head.len()].copy_from_slice(head);
            self.0 = tail;
            Ok(head.len())
        }
    }

    fn cut(input: &[u8], delimiter: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut reader = BlockReader::new(Trickle(input, piece), delimiter.to_vec(), 1000);
        let mut all = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            all.extend(records(&block, delimiter).map(<[u8]>::to_vec));
        }
        all
    }

    #[test]
    fn however_the_input_arrives_the_records_are_the_same() {
        for piece in 1..12 {
            assert_eq!(
                cut(b"one\ntwo\n\nfour\n", b"\n", piece),
                [&b"one"[..], b"two", b"", b"four"]
            );
            assert_eq!(cut(b"one\ntwo", b"\n", piece), [&b"one"[..], b"two"]);
            assert_eq!(
                cut(b"a--b---c", b"--", piece),
                [&b"a"[..], b"b", b"-c"],
                "{piece}"
            );
            assert_eq!(cut(b"\n", b"\n", piece), [&b""[..]]);
            assert_eq!(cut(b"\n\n", b"\n", piece), [&b""[..], b""]);
            assert_eq!(cut(b"", b"\n", piece), Vec::<Vec<u8>>::new());
            assert_eq!(cut(b"a\0b\0", b"\0", piece), [&b"a"[..], b"b"]);
        }
    }

    #[test]
    fn a_complete_record_does_not_wait_for_the_next() {
        let mut reader = BlockReader::new(Trickle(b"one\ntw", 6), b"\n".to_vec(), 1000);
        assert_eq!(&reader.next_block().unwrap().unwrap()[..], b"one\n");
        assert_eq!(&reader.next_block().unwrap().unwrap()[..], b"tw");
        assert!(reader.next_block().unwrap().is_none());
    }

    #[test]
    fn a_record_without_end_is_refused_before_it_fills_the_memory() {
        let input = vec![b'x'; 3000];
        let mut reader = BlockReader::new(Trickle(&input, 500), b"\n".to_vec(), 1000);
        assert!(matches!(
            reader.next_block(),
            Err(BlockError::RecordTooLong { limit: 1000 })
        ));
    }
}
