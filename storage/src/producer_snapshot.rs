//! The state of the producers at an offset, in a file, so that a start need not read the log for it.
//!
//! A snapshot at an offset says what the batches before that offset add up to. It is written only when
//! they are durable, so it never knows more than the log that a crash leaves; only a truncation takes
//! batches away from under it, and removes it first. Any snapshot may be missing or damaged: an older
//! one, or the log itself, costs a start more reading and nothing else.

use std::path::Path;

use highwater_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::disk::Disk;
use crate::error::IoError;
use crate::layout;
use crate::mutant::{Mutant, is_on};
use crate::producer_state::{BATCHES_KEPT, KnownBatch, Producer, Producers};
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::trim::remove_if_there;

const KIND: Kind = *b"HWps";
const VERSION: u16 = 1;
/// Snapshots kept: the newest, and what stands in for it when it is damaged or the log is truncated
/// below it.
const KEPT: usize = 3;

/// The producers at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerSnapshot {
    /// All batches before this offset count.
    pub(crate) offset: Offset,
    /// Base offset of the segment in which the offset lies, or in which it will.
    pub(crate) segment: Offset,
    /// Position of the offset in that segment.
    pub(crate) position: u64,
    pub(crate) producers: Producers,
}

impl ProducerSnapshot {
    /// The bytes of the file. The same state has the same bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let sorted = self.producers.sorted();
        let mut payload = Vec::with_capacity(28 + sorted.len() * 200);
        for number in [self.offset.get(), self.segment.get(), self.position] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        let count = u32::try_from(sorted.len()).expect("producers are bounded");
        payload.extend_from_slice(&count.to_le_bytes());
        for (id, producer) in &sorted {
            let mut batches = producer.batches();
            if is_on(Mutant::SnapshotKeepsOneBatch) {
                batches = &batches[batches.len().saturating_sub(1)..];
            }
            payload.extend_from_slice(&id.get().to_le_bytes());
            payload.extend_from_slice(&u32::from(producer.epoch.get()).to_le_bytes());
            payload.extend_from_slice(&producer.accepted.to_le_bytes());
            payload.extend_from_slice(&producer.last_offset.get().to_le_bytes());
            payload.extend_from_slice(&(batches.len() as u32).to_le_bytes());
            for batch in batches {
                payload.extend_from_slice(&batch.first_sequence.get().to_le_bytes());
                payload.extend_from_slice(&batch.last_sequence.get().to_le_bytes());
                payload.extend_from_slice(&batch.first_offset.get().to_le_bytes());
                payload.extend_from_slice(&batch.last_offset.get().to_le_bytes());
                payload.extend_from_slice(&batch.timestamp.millis().to_le_bytes());
            }
        }
        small_file::wrap(KIND, VERSION, &payload)
    }

    /// Reads the bytes of the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(small_file::unwrap(KIND, VERSION, bytes)?);
        let offset = offset(&mut fields)?;
        let mut snapshot = Self {
            offset,
            segment: self::offset(&mut fields)?,
            position: fields.u64()?,
            producers: Producers::default(),
        };
        if snapshot.segment > offset {
            return Err(SmallFileError::Content);
        }
        let count = fields.u32()?;
        let mut previous = None;
        // Each one takes bytes that are there: nothing is reserved for a count that lies.
        for _ in 0..count {
            let (id, producer) = decode_producer(&mut fields)?;
            if previous.is_some_and(|previous| previous >= id) || producer.last_offset >= offset {
                return Err(SmallFileError::Content);
            }
            previous = Some(id);
            snapshot.producers.insert(id, producer);
        }
        fields.finish()?;
        Ok(snapshot)
    }

    /// Writes the file, durably, and removes older ones that nobody will want.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IoError> {
        let path = layout::producer_snapshot_path(dir, self.offset);
        small_file::replace(disk, &path, &self.encode())?;
        let mut offsets = list(disk, dir)?;
        offsets.retain(|offset| *offset <= self.offset);
        let surplus = offsets.len().saturating_sub(KEPT);
        for offset in &offsets[..surplus] {
            remove_if_there(disk, &layout::producer_snapshot_path(dir, *offset))?;
        }
        Ok(())
    }
}

fn offset(fields: &mut Fields<'_>) -> Result<Offset, SmallFileError> {
    let offset = Offset::new(fields.u64()?);
    if offset > Offset::MAX {
        return Err(SmallFileError::Content);
    }
    Ok(offset)
}

fn sequence(fields: &mut Fields<'_>) -> Result<Sequence, SmallFileError> {
    let number = fields.u32()?;
    i32::try_from(number).map_err(|_| SmallFileError::Content)?;
    Ok(Sequence::new(number))
}

fn decode_producer(fields: &mut Fields<'_>) -> Result<(ProducerId, Producer), SmallFileError> {
    let id = fields.u64()?;
    let epoch = fields.u32()?;
    let in_range = i64::try_from(id).is_ok() && i16::try_from(epoch).is_ok();
    let accepted = fields.u64()?;
    let last_offset = offset(fields)?;
    let kept = fields.u32()?;
    if !in_range || kept as usize > BATCHES_KEPT {
        return Err(SmallFileError::Content);
    }
    let mut batches = [KnownBatch::default(); BATCHES_KEPT];
    for n in 0..kept as usize {
        let batch = KnownBatch {
            first_sequence: sequence(fields)?,
            last_sequence: sequence(fields)?,
            first_offset: offset(fields)?,
            last_offset: offset(fields)?,
            timestamp: Timestamp::from_millis(fields.i64()?),
        };
        let follows = n == 0 || batches[n - 1].last_offset < batch.first_offset;
        if !follows || batch.first_offset > batch.last_offset || batch.last_offset > last_offset {
            return Err(SmallFileError::Content);
        }
        batches[n] = batch;
    }
    let producer = Producer {
        epoch: ProducerEpoch::new(epoch as u16),
        batches,
        kept: kept as u8,
        accepted,
        last_offset,
    };
    Ok((ProducerId::new(id), producer))
}

/// The offsets of the snapshots in a log's directory, in order.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Offset>, IoError> {
    let entries = disk.list(dir).map_err(IoError::on("list", dir))?;
    let mut offsets: Vec<_> = entries
        .iter()
        .filter_map(|entry| layout::parse_producer_snapshot_name(&entry.name))
        .collect();
    offsets.sort_unstable();
    Ok(offsets)
}

/// Removes the snapshots at certain offsets. Says whether there was one. The caller syncs the
/// directory where they must not come back.
pub(crate) fn remove(
    disk: &dyn Disk,
    dir: &Path,
    unwanted: impl Fn(Offset) -> bool,
) -> Result<bool, IoError> {
    let mut removed = false;
    for offset in list(disk, dir)? {
        if unwanted(offset) {
            remove_if_there(disk, &layout::producer_snapshot_path(dir, offset))?;
            removed = true;
        }
    }
    Ok(removed)
}

/// The newest snapshot that can be read among those at the given offsets, which are in order.
pub(crate) fn newest(
    disk: &dyn Disk,
    dir: &Path,
    offsets: &[Offset],
) -> Result<Option<ProducerSnapshot>, IoError> {
    for offset in offsets.iter().rev() {
        let path = layout::producer_snapshot_path(dir, *offset);
        let Some(bytes) = small_file::read_all(disk, &path)? else {
            continue;
        };
        match ProducerSnapshot::decode(&bytes) {
            Ok(snapshot) if snapshot.offset == *offset => return Ok(Some(snapshot)),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "producer snapshot has another's name; ignored");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "producer snapshot is unreadable; reading more of the log");
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> ProducerSnapshot {
        let mut producers = Producers::default();
        for id in 0..7u64 {
            let mut batches = [KnownBatch::default(); BATCHES_KEPT];
            let kept = (id as usize).min(BATCHES_KEPT);
            for (n, batch) in batches.iter_mut().enumerate().take(kept) {
                let at = id * 100 + n as u64 * 10;
                *batch = KnownBatch {
                    first_sequence: Sequence::new(n as u32 * 10),
                    last_sequence: Sequence::new(n as u32 * 10 + 9),
                    first_offset: Offset::new(at),
                    last_offset: Offset::new(at + 9),
                    timestamp: Timestamp::from_millis(n as i64 - 2),
                };
            }
            let producer = Producer {
                epoch: ProducerEpoch::new(id as u16),
                batches,
                kept: kept as u8,
                accepted: id * 10,
                last_offset: Offset::new(id * 100 + 60),
            };
            producers.insert(ProducerId::new(id), producer);
        }
        ProducerSnapshot {
            offset: Offset::new(1000),
            segment: Offset::new(800),
            position: 12_345,
            producers,
        }
    }

    #[test]
    fn a_producer_snapshot_is_read_back() {
        let snapshot = snapshot();
        let bytes = snapshot.encode();
        assert_eq!(ProducerSnapshot::decode(&bytes), Ok(snapshot.clone()));
        assert_eq!(snapshot.clone().encode(), bytes, "the same bytes each time");
    }

    #[test]
    fn a_producer_snapshot_that_makes_no_sense_is_refused() {
        let good = snapshot();
        let refused = |change: &dyn Fn(&mut ProducerSnapshot)| {
            let mut bad = good.clone();
            change(&mut bad);
            let decoded = ProducerSnapshot::decode(&bad.encode());
            assert_eq!(decoded, Err(SmallFileError::Content));
        };
        refused(&|bad| bad.segment = Offset::new(1001));
        refused(&|bad| bad.offset = Offset::new(600));
        refused(&|bad| {
            let mut one = *bad.producers.get(ProducerId::new(5)).unwrap();
            one.batches.swap(0, 1);
            bad.producers.insert(ProducerId::new(5), one);
        });
        refused(&|bad| {
            let mut one = *bad.producers.get(ProducerId::new(5)).unwrap();
            one.batches[0].last_sequence = Sequence::new(1 << 31);
            bad.producers.insert(ProducerId::new(5), one);
        });
    }
}
