//! The checkpoint of a log: from where a start has to scan, where the log starts, and how far it
//! was committed.
//!
//! The file has two slots, 4096 bytes apart so that one torn write never hits both. A newer value
//! goes to the slot of the older one; the valid slot with the higher number counts. Every value
//! that was ever written stays true for the recovery point as long as the log only grows, so an old
//! value costs time and nothing else. Where that does not hold (a truncation) *both* slots are
//! written and synced first: `write_both`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use highwater_protocol::ids::Offset;

use crate::disk::{Disk, DiskFile};
use crate::error::IoError;
use crate::small_file::{self, Fields, Kind, SmallFileError};

const KIND: Kind = *b"HWcp";
const VERSION: u16 = 1;
/// Distance of the two slots: a page, the unit in which a write may be torn.
const SLOT_BYTES: u64 = 4096;
/// Payload: seven 8-byte numbers and four 4-byte numbers.
const PAYLOAD_BYTES: usize = 8 * 7 + 4 * 4;
const _: () = assert!(12 + PAYLOAD_BYTES + 4 <= 512, "a slot fits a sector");

/// What had been synced, and where a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// Everything before this offset had been synced.
    pub offset: Offset,
    /// Base offset of the segment in which the offset lies, or in which it will.
    pub segment: Offset,
    /// Position of the offset in that segment.
    pub position: u64,
    /// Newest timestamp of the bytes before the position.
    pub max_timestamp_ms: Option<i64>,
    /// Entries of its offset index that belong to the bytes before the position.
    pub index_entries: u32,
    /// Entries of its time index that do.
    pub time_entries: u32,
}

impl RecoveryPoint {
    /// Nothing is known to be synced from `offset` on.
    #[must_use]
    pub const fn at_start(offset: Offset) -> Self {
        Self {
            offset,
            segment: offset,
            position: 0,
            max_timestamp_ms: None,
            index_entries: 0,
            time_entries: 0,
        }
    }
}

/// Content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the writes.
    pub sequence: u64,
    /// First offset of the log.
    pub log_start: Offset,
    /// High watermark; the true one was at least this.
    pub high_watermark: Offset,
    /// Where recovery begins.
    pub recovery_point: RecoveryPoint,
    /// CRC-32 of the entries of the offset index that the recovery point counts.
    pub index_crc: u32,
    /// CRC-32 of the entries of the time index that it counts.
    pub time_index_crc: u32,
}

impl Default for Checkpoint {
    /// Of a new log.
    fn default() -> Self {
        Self {
            sequence: 0,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            recovery_point: RecoveryPoint::at_start(Offset::ZERO),
            index_crc: 0,
            time_index_crc: 0,
        }
    }
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        let point = &self.recovery_point;
        for number in [
            self.sequence,
            self.log_start.get(),
            self.high_watermark.get(),
            point.offset.get(),
            point.segment.get(),
            point.position,
        ] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload.extend_from_slice(&point.max_timestamp_ms.unwrap_or(i64::MIN).to_le_bytes());
        for number in [
            point.index_entries,
            point.time_entries,
            self.index_crc,
            self.time_index_crc,
        ] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        small_file::wrap(KIND, VERSION, &payload)
    }

    fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(KIND, VERSION, bytes)?);
        let sequence = fields.u64()?;
        let mut offset = || match fields.u64() {
            Ok(value) if value <= Offset::MAX.get() => Ok(Offset::new(value)),
            _ => Err(SmallFileError::Content),
        };
        let (log_start, high_watermark, point, segment) =
            (offset()?, offset()?, offset()?, offset()?);
        let position = fields.u64()?;
        let max_timestamp_ms = Some(fields.i64()?).filter(|newest| *newest != i64::MIN);
        let recovery_point = RecoveryPoint {
            offset: point,
            segment,
            position,
            max_timestamp_ms,
            index_entries: fields.u32()?,
            time_entries: fields.u32()?,
        };
        let (index_crc, time_index_crc) = (fields.u32()?, fields.u32()?);
        fields.finish()?;
        if segment > point || log_start > point {
            return Err(SmallFileError::Content);
        }
        Ok(Self {
            sequence,
            log_start,
            high_watermark,
            recovery_point,
            index_crc,
            time_index_crc,
        })
    }
}

/// The newest valid content of the bytes of a checkpoint file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Checkpoint, SmallFileError> {
    let second = bytes
        .get(usize::try_from(SLOT_BYTES).unwrap_or(usize::MAX)..)
        .unwrap_or(&[]);
    match (Checkpoint::decode(bytes), Checkpoint::decode(second)) {
        (Ok(a), Ok(b)) => Ok(if b.sequence > a.sequence { b } else { a }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(error), Err(_)) => Err(error),
    }
}

/// What is found at a path; an unreadable file counts as none, which is always safe: it makes a
/// start scan more.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Checkpoint>, IoError> {
    let Some(bytes) = small_file::read_all(disk, path)? else {
        return Ok(None);
    };
    match parse(&bytes) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "checkpoint is unreadable; scanning all");
            Ok(None)
        }
    }
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, IoError> {
    match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path),
        answer => answer,
    }
    .map_err(IoError::on("open", path))
}

/// Writes the slot of the older value, and syncs it. The name is made durable by the caller.
pub(crate) fn write(disk: &dyn Disk, path: &Path, checkpoint: &Checkpoint) -> Result<(), IoError> {
    let file = open(disk, path)?;
    let slot = (checkpoint.sequence % 2) * SLOT_BYTES;
    file.write_all_at(&checkpoint.encode(), slot)
        .map_err(IoError::on("write", path))?;
    file.sync_data().map_err(IoError::on("sync", path))
}

/// Writes both slots one after the other, each synced, so that no older value is left to be found.
pub(crate) fn write_both(
    disk: &dyn Disk,
    path: &Path,
    checkpoint: &mut Checkpoint,
) -> Result<(), IoError> {
    write(disk, path, checkpoint)?;
    checkpoint.sequence += 1;
    write(disk, path, checkpoint)?;
    let dir = small_file::parent(path);
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FsDisk;

    fn checkpoint(sequence: u64) -> Checkpoint {
        Checkpoint {
            sequence,
            log_start: Offset::new(1),
            high_watermark: Offset::new(8),
            recovery_point: RecoveryPoint {
                offset: Offset::new(10 + sequence),
                segment: Offset::new(5),
                position: 4711,
                max_timestamp_ms: Some(-1),
                index_entries: 3,
                time_entries: 1,
            },
            index_crc: 77,
            time_index_crc: 88,
        }
    }

    #[test]
    fn the_newer_slot_counts_and_a_torn_one_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert_eq!(read(&FsDisk, &path).unwrap(), None);
        for sequence in 1..=5 {
            write(&FsDisk, &path, &checkpoint(sequence)).unwrap();
            assert_eq!(read(&FsDisk, &path).unwrap(), Some(checkpoint(sequence)));
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 20] ^= 1; // 5 is odd: the second slot
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&FsDisk, &path).unwrap(), Some(checkpoint(4)));
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&FsDisk, &path).unwrap(), None);
    }

    #[test]
    fn writing_both_leaves_no_older_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        write(&FsDisk, &path, &checkpoint(7)).unwrap();
        let mut lower = checkpoint(8);
        lower.recovery_point = RecoveryPoint::at_start(Offset::new(2));
        write_both(&FsDisk, &path, &mut lower).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for slot in [&bytes[..4096], &bytes[4096..]] {
            assert_eq!(
                Checkpoint::decode(slot).unwrap().recovery_point,
                lower.recovery_point
            );
        }
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        let mut bad = checkpoint(1);
        bad.recovery_point.segment = Offset::new(1000);
        assert_eq!(
            Checkpoint::decode(&bad.encode()),
            Err(SmallFileError::Content)
        );
        let mut bad = checkpoint(1);
        bad.log_start = Offset::new(1000);
        assert_eq!(
            Checkpoint::decode(&bad.encode()),
            Err(SmallFileError::Content)
        );
    }
}
