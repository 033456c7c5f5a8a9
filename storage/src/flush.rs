//! Making a log durable: group commit, checkpoints, seals.
//!
//! One sync serves everyone who asked before it looked at the end of the log; appends go on
//! meanwhile. The order in which things become durable:
//!
//! 1. names in the directory, 2. the bytes, oldest segment first, 3. `durable end` moves and waiters
//!    are told, 4. leader epochs, 5. snapshots of the producers, 6. index entries (written, not synced:
//!    they are checked when read), 7. the checkpoint with the new recovery point.
//!
//! **A sync that failed is never repeated.** The kernel has marked the pages clean, so a second one
//! would succeed and prove nothing. The log goes offline, and a note is left for the next start not
//! to believe the page cache.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use highwater_protocol::ids::{LeaderEpoch, Offset};

use crate::background::FlushReason;
use crate::checkpoint::{self, RecoveryPoint};
use crate::error::{IoError, OfflineReason, StorageError};
use crate::layout::{self, SegmentFileKind};
use crate::log::{IndexWritten, Log, SyncState};
use crate::mutant::{Mutant, is_on};
use crate::producer_snapshot::ProducerSnapshot;
use crate::seal::Seal;
use crate::segment::{Segment, SegmentIndex};
use crate::small_file;
use crate::stats::count;
use crate::tail::to_usize;
use crate::time_index::IndexBuilder;
use crate::{offset_index, time_index};

/// A requested sync writes the checkpoint when the last one is older than this.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Or when this many bytes would have to be scanned.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// When a sync is tried again that could not be tried for want of file descriptors or memory.
const SHORTAGE_RETRY_MS: u64 = 100;
/// How much is summed at once for a seal.
const SEAL_STEP: u64 = 1 << 20;

/// What a sync has to cover.
struct Dirty {
    point: RecoveryPoint,
    names: bool,
    epochs: bool,
    segments: Vec<(Arc<Segment>, u64)>,
    producers: Vec<ProducerSnapshot>,
}

impl Log {
    /// Makes everything that was appended durable and returns the end of it.
    ///
    /// # Errors
    /// The log is offline, or goes offline because the sync failed.
    pub fn flush(&self) -> Result<Offset, StorageError> {
        self.sync_now(FlushReason::Timer)
    }

    /// As [`Log::flush`], but without a checkpoint for every call: for a caller that syncs after each
    /// append. The checkpoint follows in time, so that a start after a crash scans little.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub fn sync(&self) -> Result<Offset, StorageError> {
        self.sync_now(FlushReason::Requested)
    }

    pub(crate) fn sync_now(&self, reason: FlushReason) -> Result<Offset, StorageError> {
        let mut sync = self.sync.lock();
        self.sync_locked(&mut sync, reason)
    }

    /// Syncs with the lock held. Whoever waits is told as soon as the bytes are on disk: neither a
    /// slow nor a failing checkpoint keeps an acknowledgement back.
    pub(crate) fn sync_locked(
        &self,
        sync: &mut SyncState,
        reason: FlushReason,
    ) -> Result<Offset, StorageError> {
        self.check_online().map_err(StorageError::Offline)?;
        let dirty = self.take_dirty(sync);
        let bytes = match self.sync_data(&dirty).or_else(|error| {
            if is_on(Mutant::FailedSyncRepeated) {
                self.sync_data(&dirty)
            } else {
                Err(error)
            }
        }) {
            Ok(bytes) => bytes,
            Err(error) if error.is_shortage() => {
                // Not a failed sync: none was tried. The timer tries again.
                let mut writer = self.writer.lock();
                writer.names_dirty |= dirty.names;
                writer.producers.give_back(dirty.producers);
                drop(writer);
                self.arm_timer(SHORTAGE_RETRY_MS);
                return Err(StorageError::Io(error));
            }
            Err(error) => {
                count(&self.shared.counters.sync_failures);
                self.leave_note(&error);
                let reason = self.go_offline(OfflineReason::SyncFailed(error));
                return Err(StorageError::Offline(reason));
            }
        };
        for (segment, to) in &dirty.segments {
            segment.synced_bytes.fetch_max(*to, Ordering::AcqRel);
        }
        let point = dirty.point;
        let before = self.durable.fetch_max(point.offset.get(), Ordering::AcqRel);
        if before < point.offset.get() {
            self.notify_durable();
        }
        if bytes > 0 || point != sync.checkpoint.recovery_point {
            sync.checkpoint_dirty = true;
        }
        self.check_between_appends();
        if dirty.epochs {
            self.write_epochs(sync)?;
        }
        self.write_producer_snapshots(sync, dirty.producers)?;
        if sync.checkpoint_dirty && self.checkpoint_is_due(sync, &point, reason) {
            self.write_checkpoint(sync, point)?;
        } else if sync.checkpoint_dirty {
            // The last sync of a burst leaves the checkpoint behind; the timer brings it up.
            self.arm_timer(u64::try_from(CHECKPOINT_INTERVAL.as_millis()).unwrap_or(1000));
        }
        Ok(point.offset)
    }

    /// Looks at what there is to sync, in one moment.
    fn take_dirty(&self, sync: &SyncState) -> Dirty {
        let mut writer = self.writer.lock();
        let point = self.present_point(&writer);
        let names = std::mem::take(&mut writer.names_dirty);
        let producers = writer
            .producers
            .take_pending(&point, |bytes| self.producer_snapshot_is_due(sync, bytes));
        let list = self.segment_list();
        // Without a record there is nothing that epochs could tell apart: ten thousand idle logs are
        // closed without ten thousand syncs.
        let epochs = writer.epochs_dirty && !list.is_empty();
        drop(writer);
        let mut segments: Vec<_> = list
            .iter()
            .rev()
            .map(|segment| (Arc::clone(segment), segment.log_bytes()))
            .take_while(|(segment, to)| {
                segment.synced_bytes.load(Ordering::Acquire) < *to || segment.tail().is_some()
            })
            .filter(|(segment, to)| segment.synced_bytes.load(Ordering::Acquire) < *to)
            .collect();
        segments.reverse();
        Dirty {
            point,
            names,
            epochs,
            segments,
            producers,
        }
    }

    fn sync_data(&self, dirty: &Dirty) -> Result<u64, IoError> {
        let disk = self.shared.disk();
        if dirty.names && !is_on(Mutant::DirectoryNotSynced) {
            disk.sync_dir(&self.dir)
                .map_err(IoError::on("sync", &self.dir))?;
        }
        let mut bytes = 0;
        for (segment, to) in &dirty.segments {
            let from = segment.synced_bytes.load(Ordering::Acquire);
            let path = segment.path(SegmentFileKind::Log);
            let began = Instant::now();
            match segment.tail() {
                Some(tail) => {
                    let range = to_usize(from)..to_usize(*to);
                    tail.file
                        .sync_mapped(&tail.map, range)
                        .map_err(IoError::on("sync", &path))?;
                }
                None => {
                    // Recovered, and not written since.
                    let file = disk.open(&path).map_err(IoError::on("open", &path))?;
                    file.sync_data().map_err(IoError::on("sync", &path))?;
                }
            }
            self.shared.counters.on_sync(*to - from, began.elapsed());
            bytes += *to - from;
        }
        Ok(bytes)
    }

    /// Tells the next start that the page cache of this log lies.
    fn leave_note(&self, error: &IoError) {
        let path = self.dir.join(layout::POISONED);
        let text = format!("{error}\ndurable end: {}\n", self.durable_end());
        if let Err(error) = small_file::replace(self.shared.disk(), &path, text.as_bytes()) {
            tracing::error!(%error, "cannot leave a note about the failed sync");
        }
    }

    fn checkpoint_is_due(
        &self,
        sync: &SyncState,
        point: &RecoveryPoint,
        reason: FlushReason,
    ) -> bool {
        let last = &sync.checkpoint.recovery_point;
        reason == FlushReason::Timer
            || !self.shared.has_threads()
            || point.segment != last.segment
            || point.position.saturating_sub(last.position) >= CHECKPOINT_BYTES
            || sync
                .last_checkpoint
                .is_none_or(|at| at.elapsed() >= CHECKPOINT_INTERVAL)
    }

    /// Makes the epochs durable. Before the recovery point moves past the start of one.
    pub(crate) fn write_epochs(&self, _sync: &mut SyncState) -> Result<(), StorageError> {
        let epochs = {
            let mut writer = self.writer.lock();
            writer.epochs_dirty = false;
            self.epochs.read().clone()
        };
        let path = self.dir.join(layout::LEADER_EPOCHS);
        let answer = epochs.write(self.shared.disk(), &path);
        if answer.is_err() {
            self.writer.lock().epochs_dirty = true;
        }
        answer.map_err(|error| self.failed(error))
    }

    /// A full disk is an answer, and the operation may be tried again. After any other failure the
    /// state on the disk is not known, and the log goes offline.
    pub(crate) fn failed(&self, error: IoError) -> StorageError {
        if error.is_disk_full() || error.is_shortage() {
            return StorageError::Io(error);
        }
        StorageError::Offline(self.go_offline(OfflineReason::Io(error)))
    }

    /// Writes index entries up to the point, then the checkpoint.
    pub(crate) fn write_checkpoint(
        &self,
        sync: &mut SyncState,
        point: RecoveryPoint,
    ) -> Result<(), StorageError> {
        self.write_checkpoint_file(sync, point)
            .map_err(|error| self.failed(error))
    }

    fn write_checkpoint_file(
        &self,
        sync: &mut SyncState,
        mut point: RecoveryPoint,
    ) -> Result<(), IoError> {
        if point.offset < self.log_start() {
            point = RecoveryPoint::at_start(self.log_start());
        }
        if point != sync.checkpoint.recovery_point {
            let (index_crc, time_index_crc) = self.write_index_entries(sync, &point)?;
            sync.checkpoint.index_crc = index_crc;
            sync.checkpoint.time_index_crc = time_index_crc;
            sync.checkpoint.recovery_point = point;
        }
        let path = self.dir.join(layout::CHECKPOINT);
        sync.checkpoint.sequence += 1;
        sync.checkpoint.log_start = self.log_start();
        sync.checkpoint.high_watermark = self.high_watermark_checkpoint();
        let first = sync.last_checkpoint.is_none();
        checkpoint::write(self.shared.disk(), &path, &sync.checkpoint)?;
        if first {
            self.shared
                .disk()
                .sync_dir(&self.dir)
                .map_err(IoError::on("sync", &self.dir))?;
        }
        sync.checkpoint_dirty = false;
        sync.last_checkpoint = Some(Instant::now());
        Ok(())
    }

    /// Appends to the index files what the last segment got since they were written last, as far as
    /// the point counts. Returns the checksums of the entries that it counts.
    fn write_index_entries(
        &self,
        sync: &mut SyncState,
        point: &RecoveryPoint,
    ) -> Result<(u32, u32), IoError> {
        let list = self.segment_list();
        let last = list
            .last()
            .filter(|last| last.base == point.segment && point.position > 0);
        let Some(segment) = last else {
            return Ok((0, 0));
        };
        if sync.index_written.segment != segment.base {
            sync.index_written = IndexWritten {
                segment: segment.base,
                ..IndexWritten::default()
            };
        }
        let written = &mut sync.index_written;
        let Some((offsets, times)) = segment.index_since(written.offsets.0, written.times.0) else {
            return Ok((0, 0));
        };
        let disk = self.shared.disk();
        for (kind, written, bytes, counted) in [
            (
                SegmentFileKind::Index,
                &mut written.offsets,
                &offsets,
                point.index_entries as usize * offset_index::ENTRY_BYTES,
            ),
            (
                SegmentFileKind::TimeIndex,
                &mut written.times,
                &times,
                point.time_entries as usize * time_index::ENTRY_BYTES,
            ),
        ] {
            // Appends go on meanwhile; what they add belongs to a later point.
            let bytes = &bytes[..counted.saturating_sub(written.0).min(bytes.len())];
            if bytes.is_empty() {
                continue;
            }
            let path = segment.path(kind);
            // What an earlier segment of the same name left is not continued.
            let file = if written.0 == 0 {
                disk.create(&path)
            } else {
                disk.open(&path)
            };
            file.and_then(|file| file.write_all_at(bytes, written.0 as u64))
                .map_err(IoError::on("write", &path))?;
            written.0 += bytes.len();
            written.1.update(bytes);
        }
        let crc = |written: &(usize, crc32fast::Hasher)| written.1.clone().finalize();
        Ok((crc(&written.offsets), crc(&written.times)))
    }

    // ---- seals ----

    /// Background: seals the finished segments, oldest first. A full disk makes it stop; the next
    /// roll tries again.
    pub(crate) fn seal_finished(&self) {
        self.seal_started();
        let mut sync = self.sync.lock();
        if let Err(error) = self.seal_locked(&mut sync) {
            tracing::warn!(log = %self.dir.display(), %error, "cannot seal; the next roll tries again");
        }
    }

    pub(crate) fn seal_locked(&self, sync: &mut SyncState) -> Result<(), StorageError> {
        self.check_online().map_err(StorageError::Offline)?;
        let finished: Vec<_> = {
            let writer = self.writer.lock();
            let active = writer.active.as_ref().map(|active| active.segment.base);
            let list = self.segment_list();
            let last = list.last().map(|last| last.base);
            list.iter()
                .filter(|segment| !segment.is_sealed())
                // The last one may be resumed, unless something was cut from it.
                .filter(|segment| Some(segment.base) != active.or(last))
                .map(Arc::clone)
                .collect()
        };
        if finished.is_empty() {
            return Ok(());
        }
        self.sync_locked(sync, FlushReason::Timer)?;
        for segment in finished {
            self.seal_segment(&segment)?;
        }
        Ok(())
    }

    /// Writes indexes and seal of one segment whose bytes are durable.
    pub(crate) fn seal_segment(&self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        let log_bytes = segment.log_bytes();
        debug_assert!(segment.synced_bytes.load(Ordering::Acquire) >= log_bytes);
        let path = segment.path(SegmentFileKind::Log);
        if let Some(tail) = segment.tail() {
            tail.close(&path, log_bytes)?;
        }
        let log_crc = self.log_crc(segment, log_bytes)?;
        let Some((offsets, times)) = segment.index_since(0, 0) else {
            return Ok(());
        };
        let disk = self.shared.disk();
        // Replaced, not rewritten: an older index file of that name may be mapped by a reader.
        for (kind, bytes) in [
            (SegmentFileKind::Index, &offsets),
            (SegmentFileKind::TimeIndex, &times),
        ] {
            small_file::replace_unsynced_name(disk, &segment.path(kind), bytes)?;
        }
        let IndexBuilder { offsets, times } = IndexBuilder::resume(offsets, times);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("an index is small");
        let seal = Seal {
            base_offset: segment.base,
            end_offset: segment.end(),
            log_bytes,
            max_timestamp_ms: segment.max_timestamp_ms().unwrap_or(0),
            last_epoch: LeaderEpoch::new(segment.last_epoch.load(Ordering::Relaxed)),
            log_crc,
            index_interval_bytes: self.writer.lock().options.index_interval_bytes,
            index_bytes: length(&offsets),
            index_crc: crc32fast::hash(&offsets),
            time_index_bytes: length(&times),
            time_index_crc: crc32fast::hash(&times),
        };
        seal.write(disk, &segment.path(SegmentFileKind::Seal))?;
        segment.set_index(SegmentIndex::Sealed(seal, None));
        segment.detach_tail();
        self.shared.maps.on_mapped(segment);
        count(&self.shared.counters.segments_sealed);
        Ok(())
    }

    /// The checksum of the batches of a segment.
    pub(crate) fn log_crc(
        &self,
        segment: &Arc<Segment>,
        log_bytes: u64,
    ) -> Result<u32, StorageError> {
        let path = segment.path(SegmentFileKind::Log);
        let map = self.map_of(segment).map_err(|error| match error {
            crate::error::ReadError::Io(error) => StorageError::Io(error),
            other => StorageError::Io(IoError {
                action: "read",
                path: path.clone(),
                source: io::Error::other(other.to_string()),
            }),
        })?;
        let mut crc = crc32fast::Hasher::new();
        let mut at = 0;
        while at < log_bytes {
            let to = (at + SEAL_STEP).min(log_bytes);
            let range = to_usize(at)..to_usize(to);
            map.populate_read(range.clone())
                .map_err(IoError::on("read", &path))?;
            crc.update(map.bytes(range));
            at = to;
        }
        Ok(crc.finalize())
    }
}
