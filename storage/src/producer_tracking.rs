//! Keeping the state of the producers with a log: appends carry it along, snapshots save it, opening
//! and truncation rebuild it.
//!
//! A copy of the state is taken under the writer's lock, at a roll, before a close and every 64 MiB; it is written by the sync that makes the batches before it durable, before the
//! checkpoint. So a start reads the headers behind the newest snapshot and no others.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::append::Appended;
use crate::background::FlushReason;
use crate::checkpoint::RecoveryPoint;
use crate::disk::{Disk, DiskFile};
use crate::error::{AppendError, DamageKind, IoError, ReadError, StorageError};
use crate::layout::SegmentFileKind;
use crate::log::{Log, SyncState};
use crate::producer_snapshot::{self, ProducerSnapshot};
use crate::producer_state::{Producers, UnitVerdict};
use crate::segment::{BatchPlace, Segment};

/// Snapshots that are due for the bytes behind the last one are not made more often than this.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// Without producers, less than this is read again rather than saved: ten thousand small logs are
/// closed without ten thousand files.
const NOT_WORTH_A_FILE_BYTES: u64 = 64 << 10;
/// Copies that wait for a sync; of more, the oldest go. It bounds memory, and costs a start reading.
pub(crate) const PENDING_MAX: usize = 4;
/// Read at once when headers are looked at one after the other.
const STEP_BYTES: usize = 16 << 10;

/// The producers as of the end of the log, and what is still to be saved of them.
#[derive(Debug, Default)]
pub(crate) struct ProducerTracking {
    pub(crate) state: Producers,
    /// To be written once the batches before them are durable; oldest first.
    pub(crate) pending: Vec<ProducerSnapshot>,
    /// Bytes of batches since the last copy was taken.
    pub(crate) unsaved_bytes: u64,
}

/// What an append of batches that may carry sequence numbers came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotentAppend {
    /// They are in the log now.
    Appended(Appended),
    /// They were in the log before; nothing was appended.
    Duplicate {
        /// Offset of the first record, `None` when it is not known any more.
        base_offset: Option<Offset>,
        /// The records lie before this offset.
        end_offset: Offset,
    },
}

impl IdempotentAppend {
    /// Offset of the first record, `None` when it is not known any more.
    #[must_use]
    pub const fn base_offset(&self) -> Option<Offset> {
        match self {
            Self::Appended(appended) => Some(appended.base_offset),
            Self::Duplicate { base_offset, .. } => *base_offset,
        }
    }

    /// The records lie before this offset.
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        match self {
            Self::Appended(appended) => appended.end_offset,
            Self::Duplicate { end_offset, .. } => *end_offset,
        }
    }

    /// Whether they were in the log before.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }
}

impl ProducerTracking {
    fn is_worth_saving(&self) -> bool {
        self.unsaved_bytes >= NOT_WORTH_A_FILE_BYTES
            || (self.unsaved_bytes > 0 && !self.state.is_empty())
    }

    /// Takes a copy of the state, which is that at `point`.
    fn copy(&mut self, point: &RecoveryPoint) {
        self.unsaved_bytes = 0;
        self.pending.push(ProducerSnapshot {
            offset: point.offset,
            segment: point.segment,
            position: point.position,
            producers: self.state.clone(),
        });
        self.bound();
    }

    fn bound(&mut self) {
        let surplus = self.pending.len().saturating_sub(PENDING_MAX);
        self.pending.drain(..surplus);
    }

    /// Batches were appended.
    pub(crate) fn on_appended(&mut self, batches: &[BatchPlace], bytes: u64, now: Timestamp) {
        self.unsaved_bytes += bytes;
        for place in batches {
            if place.header.producer.is_some() {
                self.state.record(&place.header, Some(now));
            }
        }
    }

    /// A segment is finished and the next one begins at `base`, the end of the log.
    pub(crate) fn on_roll(&mut self, base: Offset) {
        if self.is_worth_saving() {
            self.copy(&RecoveryPoint::at_start(base));
        }
    }

    /// What a sync up to `point`, the end of the log, is to save.
    pub(crate) fn take_pending(
        &mut self,
        point: &RecoveryPoint,
        is_due: impl FnOnce(u64) -> bool,
    ) -> Vec<ProducerSnapshot> {
        if is_due(self.unsaved_bytes) {
            self.copy(point);
        }
        std::mem::take(&mut self.pending)
    }

    /// What could not be saved is tried again with the next sync.
    pub(crate) fn give_back(&mut self, mut unsaved: Vec<ProducerSnapshot>) {
        unsaved.append(&mut self.pending);
        self.pending = unsaved;
        self.bound();
    }

    /// The log was truncated.
    pub(crate) fn on_truncated(&mut self, end: Offset, rebuilt: Option<Rebuilt>) {
        self.pending.retain(|snapshot| snapshot.offset <= end);
        if let Some(rebuilt) = rebuilt {
            self.state = rebuilt.producers;
            self.unsaved_bytes = rebuilt.scanned_bytes;
        }
    }
}

impl Log {
    /// Appends as the leader like [`Log::append`], unless the sequence numbers of the batches say that
    /// they are in the log already or that others are missing before them. The check and the append
    /// are one step.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append_idempotent(
        &self,
        batches: &[u8],
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<IdempotentAppend, AppendError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let end_offset = self.place(writer, batches, epoch)?;
        if writer
            .places
            .iter()
            .any(|place| place.header.producer.is_some())
        {
            // A log that is offline may not be what its state says.
            self.check_online()
                .map_err(|reason| AppendError::Offline { reason })?;
            let headers = writer.places.iter().map(|place| &place.header);
            let verdict = writer.producers.state.check_all(headers)?;
            if let UnitVerdict::Duplicate {
                first_offset,
                last_offset,
            } = verdict
            {
                let known = first_offset.zip(last_offset);
                return Ok(IdempotentAppend::Duplicate {
                    base_offset: known.map(|(first, _)| first),
                    end_offset: known
                        .and_then(|(_, last)| last.checked_add(1))
                        .unwrap_or(self.end()),
                });
            }
        }
        self.append_placed(writer, batches, end_offset, true, now)
            .map(IdempotentAppend::Appended)
    }

    /// Whether a snapshot is due when this many bytes lie behind the last one.
    pub(crate) fn producer_snapshot_is_due(&self, sync: &SyncState, unsaved_bytes: u64) -> bool {
        unsaved_bytes >= self.shared.options.producer_snapshot_bytes.max(1)
            && (!self.shared.has_threads()
                || sync
                    .last_producer_snapshot
                    .is_none_or(|at| at.elapsed() >= SNAPSHOT_INTERVAL))
    }

    /// How many idempotent producers it remembers.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.writer.lock().producers.state.len()
    }

    /// Before the log is closed: a copy for the sync that follows.
    pub(crate) fn copy_producers_to_close(&self) {
        let mut writer = self.writer.lock();
        if writer.producers.is_worth_saving() {
            let point = self.present_point(&writer);
            writer.producers.copy(&point);
        }
    }

    /// Writes copies whose batches are durable. Without space they wait for the next sync: nothing
    /// but the speed of a start depends on them.
    pub(crate) fn write_producer_snapshots(
        &self,
        sync: &mut SyncState,
        mut snapshots: Vec<ProducerSnapshot>,
    ) -> Result<(), StorageError> {
        while let Some(snapshot) = snapshots.first() {
            match snapshot.write(self.shared.disk(), &self.dir) {
                Ok(()) => {}
                Err(error) if error.is_disk_full() || error.is_shortage() => {
                    tracing::warn!(log = %self.dir.display(), %error, "cannot save the producers; the next sync tries again");
                    self.writer.lock().producers.give_back(snapshots);
                    return Ok(());
                }
                Err(error) => return Err(self.failed(error)),
            }
            sync.producer_snapshot = sync.producer_snapshot.max(Some(snapshot.offset));
            sync.last_producer_snapshot = Some(Instant::now());
            snapshots.remove(0);
        }
        Ok(())
    }

    /// Before the segments in front of `to` go: a producer all of whose batches are in them is known
    /// from snapshots only from then on, and there must be one that is not older than what stays.
    pub(crate) fn save_producers_before_trim(
        &self,
        sync: &mut SyncState,
        to: Offset,
    ) -> Result<(), StorageError> {
        let stays = self.first_base_past(to);
        let first = self.segments.read().first().map(|first| first.base);
        if first.is_none_or(|first| first >= stays) {
            return Ok(());
        }
        {
            let mut writer = self.writer.lock();
            let saved = sync.producer_snapshot.is_some_and(|saved| saved >= stays);
            if writer.producers.state.is_empty() || saved {
                return Ok(());
            }
            let point = self.present_point(&writer);
            writer.producers.copy(&point);
        }
        match self.sync_locked(sync, FlushReason::Timer) {
            // Trimming makes space; it must not need any.
            Err(StorageError::Io(error)) if error.is_disk_full() => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Base of the first segment with records at or behind an offset; the end if there is none.
    fn first_base_past(&self, to: Offset) -> Offset {
        let list = self.segment_list();
        list.iter()
            .find(|segment| segment.end() > to)
            .map_or(self.end(), |segment| segment.base)
    }

    /// After segments went: snapshots from before what is left. What they do not know is gone.
    pub(crate) fn remove_trimmed_producers(&self) {
        let stays = self.first_base_past(self.log_start());
        let removed = producer_snapshot::remove(self.shared.disk(), &self.dir, |at| at < stays);
        if let Err(error) = removed {
            tracing::warn!(log = %self.dir.display(), %error, "cannot remove old producer snapshots; the next start tries again");
        }
    }

    /// The producers as they will be when the log ends at `end`. `None`: there are none before and
    /// after.
    pub(crate) fn producers_before(&self, end: Offset) -> Result<Option<Rebuilt>, ReadError> {
        if self.writer.lock().producers.state.is_empty() {
            return Ok(None);
        }
        let disk = self.shared.disk();
        let saved = producer_snapshot::list(disk, &self.dir).map_err(ReadError::Io)?;
        rebuild(disk, &self.dir, &self.segment_list(), &saved, end).map(Some)
    }

    /// Snapshots that know more than a log that ends at `end`. The caller syncs the directory.
    pub(crate) fn remove_truncated_producers(
        &self,
        sync: &mut SyncState,
        end: Offset,
    ) -> Result<(), IoError> {
        let disk = self.shared.disk();
        producer_snapshot::remove(disk, &self.dir, |at| at > end)?;
        sync.producer_snapshot = producer_snapshot::list(disk, &self.dir)?.pop();
        Ok(())
    }
}

/// A state that was put together again.
#[derive(Debug, Default)]
pub(crate) struct Rebuilt {
    pub(crate) producers: Producers,
    /// Bytes of the batches whose headers were looked at.
    pub(crate) scanned_bytes: u64,
    /// Where the snapshot was from which it began.
    pub(crate) snapshot: Option<Offset>,
}

/// The snapshots at these offsets, which are in order, that fit a log with these segments and this
/// end: batches behind an older one are missing, a newer one knows batches that are not there.
pub(crate) fn fitting<'a>(
    saved: &'a [Offset],
    segments: &[Arc<Segment>],
    end: Offset,
) -> &'a [Offset] {
    let oldest = segments.first().map_or(end, |first| first.base.min(end));
    let from = saved.partition_point(|at| *at < oldest);
    let to = saved.partition_point(|at| *at <= end);
    &saved[from..to.max(from)]
}

/// Puts the state together for a log that ends at `end`, a boundary between batches: from the newest
/// snapshot that fits, and the headers behind it.
pub(crate) fn rebuild(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Arc<Segment>],
    saved: &[Offset],
    end: Offset,
) -> Result<Rebuilt, ReadError> {
    let mut rebuilt = Rebuilt::default();
    let saved = fitting(saved, segments, end);
    let mut from = segments.first().map_or(end, |first| first.base.min(end));
    let mut hint = RecoveryPoint::at_start(from);
    if let Some(snapshot) = producer_snapshot::newest(disk, dir, saved).map_err(ReadError::Io)? {
        from = snapshot.offset;
        hint = RecoveryPoint {
            segment: snapshot.segment,
            position: snapshot.position,
            ..RecoveryPoint::at_start(from)
        };
        rebuilt.producers = snapshot.producers;
        rebuilt.snapshot = Some(from);
    }
    for segment in segments {
        if segment.end() > from && segment.base < end {
            scan_segment(disk, segment, &hint, end, &mut rebuilt)?;
        }
    }
    Ok(rebuilt)
}

/// Records the batches of one segment that lie at or behind the offset of `hint` and before `end`.
fn scan_segment(
    disk: &dyn Disk,
    segment: &Segment,
    hint: &RecoveryPoint,
    end: Offset,
    rebuilt: &mut Rebuilt,
) -> Result<(), ReadError> {
    let path = segment.path(SegmentFileKind::Log);
    let file = disk
        .open_read_only(&path)
        .map_err(IoError::on("open", &path))
        .map_err(ReadError::Io)?;
    let mut headers = Headers {
        segment,
        file: &*file,
        buffer: Vec::new(),
        buffer_at: 0,
    };
    let (mut position, mut expected) = (0, segment.base);
    // Where a crash left the batches in an earlier segment than they were going to, the hint leads
    // nowhere.
    if hint.segment == segment.base
        && hint.position < segment.log_bytes()
        && headers
            .at(hint.position)
            .is_ok_and(|header| header.base_offset == hint.offset)
    {
        (position, expected) = (hint.position, hint.offset);
    }
    while position < segment.log_bytes() && expected < end {
        let header = headers.at(position)?;
        if header.base_offset != expected {
            let kind = DamageKind::OffsetGap {
                expected,
                found: header.base_offset,
            };
            return Err(segment.damage(position, expected, kind).into());
        }
        if expected >= hint.offset {
            rebuilt.producers.record(&header, None);
        }
        position += u64::from(header.batch_bytes);
        expected = header.next_offset();
        rebuilt.scanned_bytes += u64::from(header.batch_bytes);
    }
    Ok(())
}

/// Reads headers of a segment file.
struct Headers<'a> {
    segment: &'a Segment,
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Headers<'_> {
    fn at(&mut self, position: u64) -> Result<BatchHeader, ReadError> {
        let damaged =
            |kind| ReadError::from(self.segment.damage(position, self.segment.base, kind));
        let skip = usize::try_from(position.wrapping_sub(self.buffer_at)).unwrap_or(usize::MAX);
        if skip.saturating_add(BATCH_HEADER_BYTES) > self.buffer.len() {
            self.buffer.resize(STEP_BYTES, 0);
            let filled = self
                .file
                .read_at(&mut self.buffer, position)
                .map_err(|error| damaged(DamageKind::Unreadable(error)))?;
            self.buffer.truncate(filled);
            self.buffer_at = position;
        }
        let skip = usize::try_from(position - self.buffer_at).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(skip..).unwrap_or(&[]);
        BatchHeader::parse(bytes).map_err(|error| damaged(DamageKind::Batch(error)))
    }
}
