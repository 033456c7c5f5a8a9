//! Making a log shorter: at its front (trimming, retention) and at its end (truncation).
//!
//! Nothing that somebody may be reading is ever rewritten or cut away under a map. Whole segments
//! are unlinked, which leaves maps as they are. A segment in which a truncation ends is sealed as
//! it is, with a shorter length in its seal, and appending goes on in a fresh segment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater_protocol::ids::{Offset, Timestamp};

use crate::background::FlushReason;
use crate::checkpoint::{self, RecoveryPoint};
use crate::disk::Disk;
use crate::error::{IoError, OfflineReason, ReadError, StorageError};
use crate::layout::{self, SegmentFileKind};
use crate::log::{Log, SyncState, Writer};
use crate::retention::{self, SegmentInfo};
use crate::segment::{Segment, SegmentIndex, SegmentState, Walk};
use crate::stats::count;
use crate::time_index::IndexBuilder;

/// What retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionOutcome {
    /// Segments deleted.
    pub segments: usize,
    /// Bytes of batches in them.
    pub bytes: u64,
    /// Start of the log afterwards.
    pub log_start: Offset,
}

impl Log {
    /// Deletes records before `to`, which is at most the end: they cannot be read any more, and
    /// segments that hold nothing else are removed. Returns the start of the log, which never goes
    /// back. Durable when this returns.
    ///
    /// The caller sees to it that `to` is not past the high watermark.
    ///
    /// # Errors
    /// `to` is past the end; the log is offline; the disk is full or failing.
    pub fn trim_prefix(&self, to: Offset) -> Result<Offset, StorageError> {
        let mut sync = self.sync.lock();
        self.check_online().map_err(StorageError::Offline)?;
        let (start, end) = (self.log_start(), self.end());
        if to > end {
            return Err(StorageError::OutOfRange {
                requested: to,
                start,
                end,
            });
        }
        if to > start {
            self.trim_locked(&mut sync, to)?;
        }
        Ok(self.log_start())
    }

    fn trim_locked(&self, sync: &mut SyncState, to: Offset) -> Result<(), StorageError> {
        if to > self.durable_end() {
            // The start of the log must not be ahead of what a start after a crash finds.
            self.sync_locked(sync, FlushReason::Timer)?;
        }
        self.save_producers_before_trim(sync, to)?;
        let old_start = self.start.fetch_max(to.get(), Ordering::AcqRel);
        let point = sync.checkpoint.recovery_point;
        // Twice, for both slots: with one of them damaged the start must not go back either.
        let written = self.write_checkpoint(sync, point);
        if let Err(error) = written.and_then(|()| self.write_checkpoint(sync, point)) {
            // Not known to be durable, so it did not happen.
            self.start.store(old_start, Ordering::Release);
            return Err(error);
        }
        if self.epochs.write().truncate_prefix(to) {
            self.writer.lock().epochs_dirty = true;
        }
        let removed = {
            let mut writer = self.writer.lock();
            if to == self.end() {
                // Nothing is left in the last segment either; its space is given back.
                drop(writer.active.take());
            }
            self.remove_from_list(&mut writer, |segment| segment.end() <= to)
        };
        for segment in &removed {
            self.remove_files(segment);
        }
        if !removed.is_empty() {
            self.remove_trimmed_producers();
        }
        if removed.iter().any(|segment| segment.base == point.segment) {
            // The recovery point was in a segment that is gone.
            let writer = self.writer.lock();
            let point = self.present_point(&writer);
            drop(writer);
            if point.offset <= self.durable_end() {
                self.write_checkpoint(sync, point)?;
            }
        }
        self.check_between_appends();
        Ok(())
    }

    /// Takes segments out of the list; readers that hold the old list go on with it.
    fn remove_from_list(
        &self,
        writer: &mut Writer,
        gone: impl Fn(&Segment) -> bool,
    ) -> Vec<Arc<Segment>> {
        let active = writer.active.as_ref().map(|active| active.segment.base);
        let mut list = self.segments.write();
        let (removed, kept): (Vec<_>, Vec<_>) = list
            .iter()
            .map(Arc::clone)
            .partition(|segment| Some(segment.base) != active && gone(segment));
        if !removed.is_empty() {
            *list = Arc::new(kept);
            writer.names_dirty = true;
        }
        removed
    }

    /// Unlinks the files of a segment. One that stays is removed by the next start.
    fn remove_files(&self, segment: &Segment) {
        // The batches first: without its seal, a segment that was cut would show again what was cut.
        for kind in SegmentFileKind::ALL {
            let path = segment.path(kind);
            match self.shared.disk().remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove; the next start tries again");
                }
            }
        }
        segment.detach_tail();
        count(&self.shared.counters.segments_deleted);
    }

    /// Cuts the log at `to`, as a follower does that has other records than its leader there. The
    /// cut goes to the start of the batch that holds `to`; the new end is returned. Durable when
    /// this returns.
    ///
    /// # Errors
    /// `to`, or the batch that holds it, begins before the start: nothing was changed, and only
    /// [`Log::restart_at`] helps. The log is offline, or goes offline because the operation failed
    /// half-way; the disk is full or failing.
    pub fn truncate_suffix(&self, to: Offset) -> Result<Offset, StorageError> {
        let mut sync = self.sync.lock();
        self.check_online().map_err(StorageError::Offline)?;
        let (start, end) = (self.log_start(), self.end());
        if to < start {
            return Err(StorageError::OutOfRange {
                requested: to,
                start,
                end,
            });
        }
        if to >= end {
            // Forgets an epoch of its own that has no record.
            return self.truncate_epochs(&mut sync, to).map(|()| end);
        }
        // A seal says that everything up to it is durable, and the cut ends in a seal.
        self.sync_locked(&mut sync, FlushReason::Timer)?;
        let cut = self.find_cut(to).map_err(|error| self.cannot_cut(error))?;
        if cut.end < start {
            return Err(StorageError::OutOfRange {
                requested: to,
                start,
                end,
            });
        }
        let producers = self
            .producers_before(cut.end)
            .map_err(|error| self.cannot_cut(error))?;
        let mut writer = self.writer.lock();
        if self.end() != end {
            // Appended meanwhile: the caller does both, so this is its mistake, and harmless.
            tracing::warn!(log = %self.dir.display(), "appended while truncating");
        }
        // From here on the log is shorter in memory, whatever happens to the files.
        writer.active = None;
        let new_end = cut.end;
        self.end.store(new_end.get(), Ordering::Release);
        self.durable.fetch_min(new_end.get(), Ordering::AcqRel);
        self.high_watermark
            .fetch_min(new_end.get(), Ordering::AcqRel);
        writer.producers.on_truncated(new_end, producers);
        let removed = self.remove_from_list(&mut writer, |segment| segment.base >= new_end);
        if let Some(kept) = &cut.kept {
            kept.segment.cut(SegmentState {
                end_offset: new_end,
                log_bytes: kept.log_bytes,
                max_timestamp_ms: kept.max_timestamp_ms,
                first_append: kept.segment.first_append(),
                last_epoch: kept.last_epoch,
                synced_bytes: kept.log_bytes,
                index: SegmentIndex::Memory(kept.index.clone()),
            });
        }
        drop(writer);
        let answer = self.truncate_files(&mut sync, &cut, &removed);
        match answer {
            Ok(()) => {
                self.check_between_appends();
                Ok(new_end)
            }
            Err(StorageError::Io(error)) => Err(StorageError::Offline(
                self.go_offline(OfflineReason::Io(error)),
            )),
            Err(other) => Err(other),
        }
    }

    /// The durable part of a truncation. Each step leaves files that a start can make sense of:
    /// the recovery point goes down first, then the newest segments go, then the cut gets its seal.
    fn truncate_files(
        &self,
        sync: &mut SyncState,
        cut: &Cut,
        removed: &[Arc<Segment>],
    ) -> Result<(), StorageError> {
        let path = self.dir.join(layout::CHECKPOINT);
        let lowered = cut.recovery_point(self.log_start());
        if lowered.offset < sync.checkpoint.recovery_point.offset {
            sync.checkpoint.sequence += 1;
            sync.checkpoint.recovery_point = lowered;
            sync.checkpoint.high_watermark = self.high_watermark_checkpoint();
            checkpoint::write_both(self.shared.disk(), &path, &mut sync.checkpoint)?;
        }
        self.truncate_epochs(sync, cut.end)?;
        // Before anything can be appended that they do not know.
        self.remove_truncated_producers(sync, cut.end)?;
        for segment in removed.iter().rev() {
            self.remove_files(segment);
        }
        let disk = self.shared.disk();
        disk.sync_dir(&self.dir)
            .map_err(IoError::on("sync", &self.dir))?;
        if let Some(kept) = &cut.kept {
            self.seal_segment(&kept.segment)?;
            if kept.segment.release_map() {
                // Nobody reads what was cut, so its space can be given back now.
                let path = kept.segment.path(SegmentFileKind::Log);
                let file = disk.open(&path).map_err(IoError::on("open", &path))?;
                file.set_len(kept.log_bytes)
                    .map_err(IoError::on("cut", &path))?;
            }
        }
        Ok(())
    }

    fn truncate_epochs(&self, sync: &mut SyncState, end: Offset) -> Result<(), StorageError> {
        let changed = {
            let mut writer = self.writer.lock();
            let mut epochs = self.epochs.write();
            let changed = epochs.truncate_suffix(end);
            writer.latest_epoch = epochs.latest();
            changed
        };
        if changed && !(self.segments.read().is_empty() && self.log_start() == Offset::ZERO) {
            self.write_epochs(sync)?;
        }
        Ok(())
    }

    fn cannot_cut(&self, error: ReadError) -> StorageError {
        match error {
            ReadError::Io(error) => StorageError::Io(error),
            ReadError::Offline(reason) => StorageError::Offline(reason),
            ReadError::Damaged(damage) => {
                StorageError::Offline(self.go_offline(OfflineReason::Damaged(damage)))
            }
            ReadError::OutOfRange {
                requested,
                start,
                end,
            } => StorageError::OutOfRange {
                requested,
                start,
                end,
            },
        }
    }

    /// Where exactly the log is cut, and what is known about the segment that is cut there.
    fn find_cut(&self, to: Offset) -> Result<Cut, ReadError> {
        let list = self.segment_list();
        let Some(segment) = list.iter().rev().find(|segment| segment.base <= to) else {
            return Ok(Cut {
                end: to,
                kept: None,
            });
        };
        let interval = self.writer.lock().options.index_interval_bytes;
        let map = self.map_of(segment)?;
        let mut kept = Kept {
            segment: Arc::clone(segment),
            log_bytes: 0,
            max_timestamp_ms: None,
            last_epoch: None,
            index: IndexBuilder::default(),
        };
        let mut end = segment.base;
        let mut walk = Walk::new(segment, &map, 0, segment.log_bytes());
        while let Some(place) = walk.next()? {
            if place.header.next_offset() > to {
                break;
            }
            kept.index
                .on_batch(interval, segment.entry(&place), kept.max_timestamp_ms);
            kept.max_timestamp_ms = kept
                .max_timestamp_ms
                .max(Some(place.header.max_timestamp.millis()));
            kept.last_epoch = place.header.leader_epoch;
            kept.log_bytes = place.end_position();
            end = place.header.next_offset();
        }
        Ok(Cut {
            end,
            kept: (kept.log_bytes > 0).then_some(kept),
        })
    }

    /// Deletes what is too old or too much, never at or past `high_watermark` and never the
    /// segment that grows. A segment that grows and holds old records is finished first, so that
    /// it can be deleted the next time.
    ///
    /// # Errors
    /// The log is offline; the disk is full or failing.
    pub fn apply_retention(
        &self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<RetentionOutcome, StorageError> {
        self.check_online().map_err(StorageError::Offline)?;
        let (policy, aged) = {
            let mut writer = self.writer.lock();
            writer.producers.state.forget_idle(now);
            let policy = retention::Policy {
                retention_ms: writer.options.retention_ms,
                retention_bytes: writer.options.retention_bytes,
            };
            let last = self.segments.read().last().map(Arc::clone);
            let aged = last.is_some_and(|last| {
                last.log_bytes() > 0
                    && !last.is_sealed()
                    && last.first_append().is_some_and(|first| {
                        now.millis().saturating_sub(first.millis()) >= writer.options.segment_ms
                    })
            });
            (policy, aged)
        };
        if aged {
            self.roll()?;
        }
        let list = self.segment_list();
        let infos: Vec<_> = list
            .iter()
            .map(|segment| SegmentInfo::of(segment))
            .collect();
        let to = retention::plan(&infos, &policy, now, high_watermark);
        let before = self.size_bytes();
        let mut outcome = RetentionOutcome {
            log_start: self.log_start(),
            ..Default::default()
        };
        if let Some(to) = to.filter(|to| *to > outcome.log_start) {
            outcome.log_start = self.trim_prefix(to)?;
            outcome.segments = infos.iter().filter(|info| info.end <= to).count();
            outcome.bytes = before.saturating_sub(self.size_bytes());
        }
        Ok(outcome)
    }
}

/// Where a log is cut.
struct Cut {
    end: Offset,
    /// The segment that keeps a part of its batches.
    kept: Option<Kept>,
}

struct Kept {
    segment: Arc<Segment>,
    log_bytes: u64,
    max_timestamp_ms: Option<i64>,
    last_epoch: Option<highwater_protocol::ids::LeaderEpoch>,
    index: IndexBuilder,
}

impl Cut {
    /// From where a start has to scan while the cut is not complete: the start of the segment that
    /// is cut, so that no position inside of it has to be believed.
    fn recovery_point(&self, log_start: Offset) -> RecoveryPoint {
        match &self.kept {
            Some(kept) => {
                let base = kept.segment.base.max(log_start);
                RecoveryPoint {
                    segment: kept.segment.base,
                    ..RecoveryPoint::at_start(base)
                }
            }
            None => RecoveryPoint::at_start(self.end.max(log_start)),
        }
    }
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &std::path::Path) -> Result<(), IoError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(IoError::on("remove", path)(error))
        }
        _ => Ok(()),
    }
}
