//! Reading finished segments again, now and then, to find damage before somebody needs the bytes.
//!
//! Sealed segments are not read at a start, and old ones may not be read for months, while their medium
//! decays. A round goes through all of them in a fixed order, spread over an interval
//! ([`ScrubRound`], pure); each is read through its file, past the page cache, and compared with the
//! checksum in its seal ([`SegmentScrub`]). Damage takes the log offline: it is told, never cut.

use std::sync::Arc;

use highwater_protocol::ids::{Offset, PartitionId, Timestamp, TopicId};

use crate::disk::DiskFile;
use crate::durable_file::{self, FileKind};
use crate::engine::Engine;
use crate::error::{DamageKind, IoError, OfflineReason, StorageError};
use crate::layout::{self, SegmentFileKind};
use crate::log::Log;
use crate::scan::{ScanStart, scan};
use crate::seal::Seal;
use crate::segment::Segment;
use crate::small_file::{Fields, SmallFileError};

const KIND: FileKind = *b"HWsc";
const VERSION: u16 = 1;

/// A segment of a log of a data directory. Scrubbing goes through them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    /// Topic of the log.
    pub topic_id: TopicId,
    /// Partition of the log.
    pub partition: PartitionId,
    /// First offset of the segment.
    pub base: Offset,
}

/// A segment that can be scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// Which one.
    pub key: SegmentKey,
    /// Bytes of its batches.
    pub bytes: u64,
}

/// How far a round through all sealed segments got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubRound {
    began: Timestamp,
    after: Option<SegmentKey>,
}

/// What scrubbing does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubNext {
    /// This segment is due.
    Scrub(SealedSegment),
    /// Nothing is due before this.
    WaitUntil(Timestamp),
}

impl ScrubRound {
    /// A round that begins now.
    #[must_use]
    pub const fn begin(now: Timestamp) -> Self {
        Self {
            began: now,
            after: None,
        }
    }

    /// What to do next. A round takes `interval_ms`, and each segment is due when as large a part of
    /// that has passed as there are bytes before it; a new round begins when the interval is over and
    /// everything was scrubbed. `segments` are all sealed segments, in order.
    pub fn next(
        &mut self,
        segments: &[SealedSegment],
        now: Timestamp,
        interval_ms: i64,
    ) -> ScrubNext {
        if now < self.began {
            // The clock was set back: rather too early than in years.
            self.began = now;
        }
        let interval_ms = interval_ms.max(1);
        let end = Timestamp::from_millis(self.began.millis().saturating_add(interval_ms));
        let mut at = segments.partition_point(|segment| Some(segment.key) <= self.after);
        if at == segments.len() {
            if now < end {
                return ScrubNext::WaitUntil(end);
            }
            *self = Self::begin(now);
            at = 0;
        }
        let Some(next) = segments.get(at) else {
            let millis = now.millis().saturating_add(interval_ms);
            return ScrubNext::WaitUntil(Timestamp::from_millis(millis));
        };
        let bytes = |of: &[SealedSegment]| -> u128 {
            of.iter().map(|segment| u128::from(segment.bytes)).sum()
        };
        let (before, total) = (bytes(&segments[..at]), bytes(segments).max(1));
        let share = u128::from(interval_ms.unsigned_abs()) * before / total;
        let share = i64::try_from(share).unwrap_or(interval_ms);
        let due = Timestamp::from_millis(self.began.millis().saturating_add(share));
        if now < due {
            ScrubNext::WaitUntil(due)
        } else {
            ScrubNext::Scrub(*next)
        }
    }

    /// A segment is done, whatever came of it.
    pub fn on_done(&mut self, key: SegmentKey) {
        self.after = self.after.max(Some(key));
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = self.began.millis().to_le_bytes().to_vec();
        if let Some(key) = &self.after {
            payload.extend_from_slice(&key.topic_id.into_bytes());
            payload.extend_from_slice(&key.partition.get().to_le_bytes());
            payload.extend_from_slice(&key.base.get().to_le_bytes());
        }
        payload
    }

    fn decode(payload: &[u8]) -> Result<Self, SmallFileError> {
        let mut fields = Fields::new(payload);
        let began = Timestamp::from_millis(fields.i64()?);
        if fields.finish().is_ok() {
            return Ok(Self::begin(began));
        }
        let key = SegmentKey {
            topic_id: TopicId::from_bytes(fields.bytes16()?),
            partition: PartitionId::new(fields.u32()?),
            base: Offset::new(fields.u64()?),
        };
        fields.finish()?;
        Ok(Self {
            began,
            after: Some(key),
        })
    }
}

/// What one step of scrubbing a segment found.
#[derive(Debug)]
pub enum ScrubStep {
    /// So many bytes were read; there are more.
    Read {
        /// Bytes of this step.
        bytes: u64,
    },
    /// The last bytes were read, and the segment is as it was sealed.
    Healthy {
        /// Bytes of this step.
        bytes: u64,
    },
    /// It is not, and the log went offline.
    Damaged(Arc<OfflineReason>),
    /// The segment is not part of the log any more, or the log is offline: nothing is known.
    Gone,
}

/// A segment that is being scrubbed.
#[derive(Debug)]
pub struct SegmentScrub {
    log: Arc<Log>,
    segment: Arc<Segment>,
    seal: Seal,
    file: Arc<dyn DiskFile>,
    position: u64,
    crc: crc32fast::Hasher,
    buffer: Vec<u8>,
}

impl SegmentScrub {
    /// Reads the next bytes, at most about `bytes_max` of them. Blocks while the disk works. How fast
    /// it goes is the caller's business.
    ///
    /// # Errors
    /// The machine is short of something; nothing is known of the segment.
    pub fn step(&mut self, bytes_max: usize) -> Result<ScrubStep, StorageError> {
        let left = self.seal.log_bytes - self.position;
        let wanted = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(bytes_max.max(1));
        self.buffer.resize(wanted, 0);
        let filled = match self.file.read_at(&mut self.buffer, self.position) {
            Ok(filled) => filled,
            Err(source) => {
                let error = IoError::on("read", &self.segment.path(SegmentFileKind::Log))(source);
                if error.is_shortage() {
                    return Err(StorageError::Io(error));
                }
                let IoError { source, .. } = error;
                return Ok(self.damaged(DamageKind::Unreadable(source)));
            }
        };
        self.crc.update(&self.buffer[..filled]);
        self.position += filled as u64;
        if filled < wanted {
            return Ok(self.damaged(DamageKind::FileTooShort {
                expected: self.seal.log_bytes,
                found: self.position,
            }));
        }
        let bytes = filled as u64;
        if self.position < self.seal.log_bytes {
            return Ok(ScrubStep::Read { bytes });
        }
        // What was read for this alone is not to push out what others use.
        let _ = self.file.drop_cache();
        let found = self.crc.clone().finalize();
        if found == self.seal.log_crc {
            return Ok(ScrubStep::Healthy { bytes });
        }
        Ok(self.damaged(DamageKind::SealChecksum {
            expected: self.seal.log_crc,
            found,
        }))
    }

    /// The segment is damaged, unless it is another one by now.
    fn damaged(&self, kind: DamageKind) -> ScrubStep {
        let (mut position, mut offset, mut kind) = (0, self.segment.base, kind);
        if matches!(kind, DamageKind::SealChecksum { .. }) {
            // Where it is, if a batch tells.
            let start = ScanStart {
                position: 0,
                offset: self.segment.base,
                epoch: None,
                end_offset: Some(self.seal.end_offset),
                end_position: self.seal.log_bytes,
            };
            let end = scan(&*self.file, start, |_, _| {});
            if let Some(found) = end.stopped_by {
                (position, offset, kind) = (end.position, end.offset, found);
            }
        } else {
            position = self.position;
        }
        // Under the lock of trimming and truncation: neither happens between the look and the verdict.
        let sync = self.log.sync.lock();
        let is_the_same = self.segment.seal() == Some(self.seal)
            && self
                .log
                .segment_list()
                .iter()
                .any(|segment| Arc::ptr_eq(segment, &self.segment));
        if self.log.check_online().is_err() || !is_the_same {
            return ScrubStep::Gone;
        }
        let damage = self.segment.damage(position, offset, kind);
        let (reason, is_first) = self.log.set_offline(OfflineReason::Damaged(damage));
        drop(sync);
        if is_first {
            self.log.note_io_failure();
            self.log.notify_durable();
        }
        ScrubStep::Damaged(reason)
    }
}

impl Log {
    /// Bases and sizes of the segments that are sealed, oldest first. None of a log that is offline.
    #[must_use]
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        if self.check_online().is_err() {
            return Vec::new();
        }
        let list = self.segment_list();
        let seals = list.iter().filter_map(|segment| segment.seal());
        seals
            .map(|seal| SealedSegment {
                key: SegmentKey {
                    topic_id: self.meta().topic_id,
                    partition: self.meta().partition,
                    base: seal.base_offset,
                },
                bytes: seal.log_bytes,
            })
            .collect()
    }

    /// Begins to scrub the sealed segment that starts at `base`; `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be opened although the segment is there.
    pub fn begin_scrub(&self, base: Offset) -> Result<Option<SegmentScrub>, StorageError> {
        let list = self.segment_list();
        let segment = list.iter().find(|segment| segment.base == base);
        let (Some(segment), Some(log), Ok(())) = (segment, self.me.upgrade(), self.check_online())
        else {
            return Ok(None);
        };
        let Some(seal) = segment.seal() else {
            return Ok(None);
        };
        let path = segment.path(SegmentFileKind::Log);
        let file = match self.shared.disk().open_read_only(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let sync = self.sync.lock();
                let is_there = self
                    .segment_list()
                    .iter()
                    .any(|listed| Arc::ptr_eq(listed, segment));
                drop(sync);
                if is_there && self.check_online().is_ok() {
                    let expected = segment.base;
                    let kind = DamageKind::SegmentMissing { expected };
                    let damage = segment.damage(0, segment.base, kind);
                    self.go_offline(OfflineReason::Damaged(damage));
                }
                return Ok(None);
            }
            Err(error) => return Err(IoError::on("open", &path)(error).into()),
        };
        // Or the cache is compared with what was in the cache.
        let _ = file.drop_cache();
        Ok(Some(SegmentScrub {
            log,
            segment: Arc::clone(segment),
            seal,
            file,
            position: 0,
            crc: crc32fast::Hasher::new(),
            buffer: Vec::new(),
        }))
    }
}

impl Engine {
    /// All sealed segments of open logs, in the order of a round.
    #[must_use]
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let logs = self.logs();
        let mut segments: Vec<_> = logs.iter().flat_map(|log| log.sealed_segments()).collect();
        segments.sort_unstable_by_key(|segment| segment.key);
        segments
    }

    /// The log that a segment belongs to.
    #[must_use]
    pub fn log_of(&self, key: &SegmentKey) -> Option<Arc<Log>> {
        let logs = self.logs.lock();
        logs.get(&(key.topic_id, key.partition)).map(Arc::clone)
    }

    /// The round that was kept last; a new one when there is none that can be read.
    #[must_use]
    pub fn scrub_round(&self, now: Timestamp) -> ScrubRound {
        let path = self.dir().join(layout::SCRUB);
        match durable_file::read(self.disk(), &path, KIND, VERSION) {
            Ok(Some(payload)) => {
                ScrubRound::decode(&payload).unwrap_or_else(|_| ScrubRound::begin(now))
            }
            Ok(None) => ScrubRound::begin(now),
            Err(error) => {
                tracing::warn!(%error, "scrubbing begins from the start");
                ScrubRound::begin(now)
            }
        }
    }

    /// Keeps how far a round got, for the next start.
    ///
    /// # Errors
    /// The disk is full or failing.
    pub fn keep_scrub_round(
        &self,
        round: &ScrubRound,
    ) -> Result<(), durable_file::DurableFileError> {
        let path = self.dir().join(layout::SCRUB);
        durable_file::replace(self.disk(), &path, KIND, VERSION, &round.encode())
    }
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
