//! Reads a segment file from front to back and finds where its valid batches end.
//!
//! The file is read, not mapped: a bad sector is an error value here.

use std::io;

use highwater_protocol::ids::{LeaderEpoch, Offset};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader, verify_batch};

use crate::disk::DiskFile;
use crate::error::DamageKind;
use crate::mutant::{Mutant, is_on};

/// Read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Where a scan begins and what has to follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanStart {
    /// A batch begins here.
    pub(crate) position: u64,
    /// Its offset.
    pub(crate) offset: Offset,
    /// Epoch of the batch before, if known.
    pub(crate) epoch: Option<LeaderEpoch>,
    /// The segment holds no batch at or behind this offset, whatever lies in the file.
    pub(crate) end_offset: Option<Offset>,
    /// Nothing behind this position is part of the segment.
    pub(crate) end_position: u64,
}

/// How a scan ended.
#[derive(Debug)]
pub(crate) struct ScanEnd {
    /// End of the last valid batch.
    pub(crate) position: u64,
    /// Offset that follows it.
    pub(crate) offset: Offset,
    /// Bytes that were read and verified.
    pub(crate) scanned_bytes: u64,
    /// Why there is no valid batch at the position; `None` when the segment ends there in order:
    /// at its end, or where zeros begin that were never written.
    pub(crate) stopped_by: Option<DamageKind>,
}

/// Reads a file through a buffer.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    start: u64,
    end: u64,
}

impl Window<'_> {
    /// The bytes from `position` on, at least `wanted` of them unless the file ends before.
    fn at(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let have_to = self.start + self.buffer.len() as u64;
        if position < self.start || position + wanted as u64 > have_to {
            let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
            self.buffer.resize(wanted.max(BUFFER_BYTES).min(left), 0);
            let filled = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(filled);
            self.start = position;
        }
        let skip = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or(&[]))
    }
}

/// Verifies batch after batch: length, magic, checksum, offsets without gap, epochs that do not go
/// back. `on_batch` gets the position and header of each valid one.
pub(crate) fn scan(
    file: &dyn DiskFile,
    start: ScanStart,
    mut on_batch: impl FnMut(u64, &BatchHeader),
) -> ScanEnd {
    let mut window = Window {
        file,
        buffer: Vec::new(),
        start: start.position,
        end: start.end_position,
    };
    let mut end = ScanEnd {
        position: start.position,
        offset: start.offset,
        scanned_bytes: 0,
        stopped_by: None,
    };
    let mut epoch = start.epoch;
    loop {
        if end.position >= start.end_position
            || start.end_offset.is_some_and(|limit| end.offset >= limit)
        {
            return end;
        }
        match next_batch(&mut window, end.position, end.offset, epoch) {
            Ok(None) => return end,
            Ok(Some(header)) => {
                on_batch(end.position, &header);
                end.position += u64::from(header.batch_bytes);
                end.scanned_bytes += u64::from(header.batch_bytes);
                end.offset = header.next_offset();
                epoch = header.leader_epoch;
            }
            Err(kind) => {
                end.stopped_by = Some(kind);
                return end;
            }
        }
    }
}

/// The valid batch at a position; `None` where only zeros were ever written.
fn next_batch(
    window: &mut Window<'_>,
    position: u64,
    expected: Offset,
    epoch: Option<LeaderEpoch>,
) -> Result<Option<BatchHeader>, DamageKind> {
    let bytes = window
        .at(position, BATCH_HEADER_BYTES)
        .map_err(DamageKind::Unreadable)?;
    let head = &bytes[..bytes.len().min(BATCH_HEADER_BYTES)];
    if head.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let header = BatchHeader::parse(head).map_err(DamageKind::Batch)?;
    let needed = header.batch_bytes as usize;
    if position + u64::from(header.batch_bytes) > window.end {
        let found = window.end;
        let expected = position + u64::from(header.batch_bytes);
        return Err(DamageKind::FileTooShort { expected, found });
    }
    let bytes = window
        .at(position, needed)
        .map_err(DamageKind::Unreadable)?;
    let header = verify_batch(&bytes[..bytes.len().min(needed)]).map_err(DamageKind::Batch)?;
    if header.base_offset != expected {
        return Err(DamageKind::OffsetGap {
            expected,
            found: header.base_offset,
        });
    }
    let found = header.leader_epoch.ok_or(DamageKind::EpochMissing)?;
    match epoch {
        Some(previous) if found < previous && !is_on(Mutant::EpochMayFall) => {
            Err(DamageKind::EpochWentBack { previous, found })
        }
        _ => Ok(Some(header)),
    }
}

/// What lies behind the end of the valid batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leftover {
    /// Bytes up to the last one that is not zero, as far as was looked.
    pub(crate) bytes: u64,
    /// Valid batches among them.
    pub(crate) valid_batches: u64,
    /// They are more than a part of one batch. A batch is stored from its start on, so its header says
    /// how far it may reach, and a header that is incomplete is the last thing there is.
    pub(crate) beyond_one_batch: bool,
}

/// How many bytes the unfinished batch at a position may have.
fn one_batch_at(file: &dyn DiskFile, position: u64) -> io::Result<u64> {
    let mut head = [0; BATCH_HEADER_BYTES];
    let filled = file.read_at(&mut head, position)?;
    let header = BatchHeader::parse(&head[..filled]);
    Ok(header.map_or(BATCH_HEADER_BYTES as u64, |header| {
        u64::from(header.batch_bytes)
    }))
}

/// Looks at what is about to be cut. It was never durable, so this changes nothing, but many valid
/// batches behind a bad one are a sign of a disk that loses writes, and worth a line in the log.
pub(crate) fn look_behind(file: &dyn DiskFile, position: u64, end: u64) -> io::Result<Leftover> {
    let mut leftover = Leftover::default();
    let mut at = position;
    let mut buffer = vec![0; BUFFER_BYTES];
    while at < end {
        let left = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(BUFFER_BYTES);
        let filled = file.read_at(&mut buffer[..left], at)?;
        let Some(last) = buffer[..filled].iter().rposition(|byte| *byte != 0) else {
            break;
        };
        leftover.bytes = at + last as u64 + 1 - position;
        at += filled as u64;
    }
    leftover.beyond_one_batch = leftover.bytes > one_batch_at(file, position)?;
    let mut window = Window {
        file,
        buffer: Vec::new(),
        start: position,
        end,
    };
    let mut at = position;
    while at < position + leftover.bytes {
        let head = window.at(at, BATCH_HEADER_BYTES)?;
        let Ok(header) = BatchHeader::parse(head) else {
            break;
        };
        let length = header.batch_bytes as usize;
        if at + length as u64 > end {
            break;
        }
        let batch = window.at(at, length)?;
        if batch.len() >= length && verify_batch(&batch[..length]).is_ok() {
            leftover.valid_batches += 1;
        }
        at += length as u64;
    }
    Ok(leftover)
}
