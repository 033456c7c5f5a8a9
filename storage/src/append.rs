//! Appending: the one place where batches enter a log.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, Batches, stamp};

use crate::background::{FlushReason, Maintenance};
use crate::error::{AppendError, IoError, OfflineReason};
use crate::layout::SegmentFileKind;
use crate::log::{Log, Writer};
use crate::segment::BatchPlace;
use crate::tail::to_usize;

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// End of the log after it, exclusive.
    pub end_offset: Offset,
    /// Bytes appended.
    pub bytes: u64,
}

impl Log {
    /// Appends as the leader: gives the batches their offsets and the epoch.
    ///
    /// The caller has verified them (`verify_batch`); this looks at headers only, and not at sequence
    /// numbers: [`Log::append_idempotent`] does. The input is not changed. All batches of a call are appended, in one segment, or none.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append(
        &self,
        batches: &[u8],
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let end_offset = self.place(writer, batches, epoch)?;
        self.append_placed(writer, batches, end_offset, true, now)
    }

    /// Gives batches their places behind the end of the log, and returns the end after them.
    pub(crate) fn place(
        &self,
        writer: &mut Writer,
        batches: &[u8],
        epoch: LeaderEpoch,
    ) -> Result<Offset, AppendError> {
        if let Some(latest) = writer.latest_epoch.filter(|latest| epoch < *latest) {
            return Err(AppendError::EpochWentBack {
                latest,
                found: epoch,
            });
        }
        let mut next = self.end();
        let mut position = 0;
        writer.places.clear();
        for batch in Batches::new(batches) {
            let (mut header, _) = batch?;
            header.base_offset = next;
            header.leader_epoch = Some(epoch);
            next = next
                .checked_add(u64::from(header.last_offset_delta) + 1)
                .ok_or(AppendError::OffsetsExhausted)?;
            writer.places.push(BatchPlace { position, header });
            position += u64::from(header.batch_bytes);
        }
        Ok(next)
    }

    /// Appends as a follower: the batches keep the offsets and epochs that their leader gave them.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append_replicated(
        &self,
        batches: &[u8],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let mut next = self.end();
        let mut latest = writer.latest_epoch;
        let mut position = 0;
        writer.places.clear();
        for batch in Batches::new(batches) {
            let (header, _) = batch?;
            if header.base_offset != next {
                let found = header.base_offset;
                return Err(AppendError::NotContiguous {
                    expected: next,
                    found,
                });
            }
            let found = header.leader_epoch.ok_or(AppendError::EpochMissing)?;
            if let Some(latest) = latest.filter(|latest| found < *latest) {
                return Err(AppendError::EpochWentBack { latest, found });
            }
            latest = Some(found);
            next = header.next_offset();
            writer.places.push(BatchPlace { position, header });
            position += u64::from(header.batch_bytes);
        }
        self.append_placed(writer, batches, next, false, now)
    }

    /// The one place where batches enter the log.
    pub(crate) fn append_placed(
        &self,
        writer: &mut Writer,
        batches: &[u8],
        end_offset: Offset,
        stamped: bool,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.check_online()
            .map_err(|reason| AppendError::Offline { reason })?;
        if writer.places.is_empty() {
            return Err(AppendError::Empty);
        }
        let bytes = batches.len() as u64;
        let base_offset = self.end();
        self.make_room(writer, bytes, end_offset, now)?;
        let active = writer
            .active
            .as_mut()
            .expect("make_room leaves an active segment");

        let start = active.position;
        active.tail.note_append(bytes);
        if let Err(source) = active.tail.file.store(&mut active.writer, batches) {
            let path = active.segment.path(SegmentFileKind::Log);
            let error = IoError {
                action: "append to",
                path,
                source,
            };
            return Err(self.store_failed(error, bytes));
        }
        let copy = active.writer.tail(batches.len());
        for place in &mut writer.places {
            let at = to_usize(place.position);
            if stamped {
                let epoch = place.header.leader_epoch.unwrap_or_default();
                stamp(
                    &mut copy[at..at + BATCH_HEADER_BYTES],
                    place.header.base_offset,
                    epoch,
                );
            }
            place.position += start;
        }
        let position = start + bytes;
        if start == 0 {
            active
                .segment
                .first_append
                .store(now.millis(), Ordering::Relaxed);
        }
        active.writer.publish(to_usize(position));
        active.position = position;
        active.segment.publish(
            &writer.places,
            writer.options.index_interval_bytes,
            position,
            end_offset,
        );
        for place in &writer.places {
            // Only after the bytes are in: a failed append leaves no phantom entry.
            let epoch = place.header.leader_epoch;
            if epoch != writer.latest_epoch
                && let Some(epoch) = epoch
            {
                let changed = self.epochs.write().assign(epoch, place.header.base_offset);
                writer.epochs_dirty |= changed;
                writer.latest_epoch = Some(epoch);
            }
        }
        writer.producers.on_appended(&writer.places, bytes, now);
        self.end.store(end_offset.get(), Ordering::Release);
        if active.tail.wants_preparation(position) {
            self.queue_preparation();
        }
        self.after_append(writer, bytes);
        Ok(Appended {
            base_offset,
            end_offset,
            bytes,
        })
    }

    /// Nothing was published. A full disk may have space later; after anything else the file is not
    /// to be trusted. Who waits is told by a flush thread: the caller may hold locks of its own.
    fn store_failed(&self, error: IoError, bytes: u64) -> AppendError {
        if error.is_disk_full() {
            return self.refused(error, bytes);
        }
        let reason = self.set_offline(OfflineReason::Io(error)).0;
        self.request_flush();
        AppendError::Offline { reason }
    }

    /// Sees to it that what was appended becomes durable some time, whoever else asks for it.
    fn after_append(&self, writer: &mut Writer, bytes: u64) {
        if self.disk_full.load(Ordering::Relaxed) {
            self.disk_full.store(false, Ordering::Relaxed);
        }
        writer.unrequested_bytes += bytes;
        if writer.unrequested_bytes >= writer.options.flush_bytes {
            writer.unrequested_bytes = 0;
            self.request_flush();
        }
        if !self.timer_armed.load(Ordering::Relaxed) {
            self.arm_timer(writer.options.flush_interval_ms);
        }
        self.check();
    }

    pub(crate) fn arm_timer(&self, after_ms: u64) {
        if self.shared.has_threads() && !self.timer_armed.swap(true, Ordering::AcqRel) {
            self.shared
                .flush
                .arm(Weak::clone(&self.me), Duration::from_millis(after_ms));
        }
    }

    /// Asks for a sync and does not wait for it. [`Log::durable_end`] moves later and the callbacks
    /// are called.
    pub fn request_flush(&self) {
        if !self.flush_queued.swap(true, Ordering::AcqRel)
            && let Some(me) = self.me.upgrade()
        {
            self.shared.flush.request(me);
        }
    }

    pub(crate) fn run_flush(&self, reason: FlushReason) {
        // Before the end is looked at: a request that comes during the sync is another one.
        match reason {
            FlushReason::Requested => self.flush_queued.store(false, Ordering::Release),
            FlushReason::Timer => self.timer_armed.store(false, Ordering::Release),
        }
        // A failure that takes the log offline is logged where it happens.
        if self.sync_now(reason).is_err() && self.offline.get().is_some() {
            self.note_io_failure();
            self.notify_durable();
        }
    }

    fn queue_preparation(&self) {
        if self.shared.has_threads()
            && !self.prepare_queued.swap(true, Ordering::AcqRel)
            && let Some(me) = self.me.upgrade()
        {
            self.shared.prepare.push(me);
        }
    }

    pub(crate) fn queue_seal(&self) {
        if !self.seal_queued.swap(true, Ordering::AcqRel)
            && let Some(me) = self.me.upgrade()
        {
            self.shared.maintain.push(Maintenance::Seal(me));
        }
    }

    pub(crate) fn seal_started(&self) {
        self.seal_queued.store(false, Ordering::Release);
    }
}
