//! One partition's log: the state that its operations share, and appending to it.
//!
//! Two locks, taken in this order: `sync` (syncs, checkpoints, trimming: may wait for the disk) and
//! `writer` (appending: never waits for the disk as long as the background keeps ahead). Readers
//! take neither.
//!
//! Relations that hold at every moment (`check` asserts them in debug builds):
//! `start <= end`, `durable <= end`, segments follow each other without gap, the last one ends at
//! `end`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, Batches, stamp};
use parking_lot::{Mutex, RwLock};

use crate::background::{DurableCallback, FlushReason, Maintenance, Shared};
use crate::checkpoint::{Checkpoint, RecoveryPoint};
use crate::epoch_checkpoint::{EpochCache, EpochEnd};
use crate::error::{AppendError, IoError, OfflineReason, ReadError, StorageError, is_disk_full};
use crate::layout::{self, SegmentFileKind};
use crate::map::MapWriter;
use crate::options::LogOptions;
use crate::partition_meta::PartitionMeta;
use crate::segment::{BatchPlace, Segment, SegmentIndex, SegmentState};
use crate::stats::count;
use crate::tail::{Prepared, Tail, to_usize};
use crate::time_index::IndexBuilder;

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

/// Whether a log can be used.
#[derive(Debug, Clone)]
pub enum LogHealth {
    /// It can.
    Online,
    /// The last append found no space. Reads go on; appends do when there is space.
    DiskFull,
    /// It cannot, until it is opened again.
    Offline(Arc<OfflineReason>),
}

/// The segment that grows.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) writer: MapWriter,
    pub(crate) position: u64,
}

/// What appending needs; one appender at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) options: LogOptions,
    pub(crate) active: Option<Active>,
    pub(crate) prepared: Option<Prepared>,
    /// Names in the directory were changed and not synced.
    pub(crate) names_dirty: bool,
    pub(crate) epochs_dirty: bool,
    pub(crate) latest_epoch: Option<LeaderEpoch>,
    unrequested_bytes: u64,
    /// Reused, so that an append allocates nothing.
    places: Vec<BatchPlace>,
}

/// What syncing needs.
#[derive(Debug)]
pub(crate) struct SyncState {
    pub(crate) checkpoint: Checkpoint,
    /// The checkpoint differs from its file.
    pub(crate) checkpoint_dirty: bool,
    pub(crate) last_checkpoint: Option<std::time::Instant>,
    pub(crate) index_written: IndexWritten,
}

/// How far the index files of the last segment were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexWritten {
    /// Base offset of the segment.
    pub(crate) segment: Offset,
    /// Bytes in the file of the offset index, and their checksum.
    pub(crate) offsets: (usize, crc32fast::Hasher),
    /// The same of the time index.
    pub(crate) times: (usize, crc32fast::Hasher),
}

impl IndexWritten {
    /// The files hold exactly these entries.
    pub(crate) fn of(segment: Offset, index: &IndexBuilder) -> Self {
        let summed = |bytes: &[u8]| {
            let mut crc = crc32fast::Hasher::new();
            crc.update(bytes);
            (bytes.len(), crc)
        };
        Self {
            segment,
            offsets: summed(&index.offsets),
            times: summed(&index.times),
        }
    }
}

/// The log of one partition.
pub struct Log {
    pub(crate) me: Weak<Self>,
    pub(crate) shared: Arc<Shared>,
    meta: PartitionMeta,
    pub(crate) dir: Arc<Path>,
    pub(crate) start: AtomicU64,
    pub(crate) end: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) high_watermark: AtomicU64,
    pub(crate) segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    pub(crate) epochs: RwLock<EpochCache>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: Mutex<SyncState>,
    pub(crate) offline: OnceLock<Arc<OfflineReason>>,
    disk_full: AtomicBool,
    flush_queued: AtomicBool,
    timer_armed: AtomicBool,
    prepare_queued: AtomicBool,
    seal_queued: AtomicBool,
    on_durable: OnceLock<DurableCallback>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("start", &self.log_start())
            .field("durable_end", &self.durable_end())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// What a log begins with.
#[derive(Debug)]
pub(crate) struct LogParts {
    pub(crate) meta: PartitionMeta,
    pub(crate) dir: Arc<Path>,
    pub(crate) options: LogOptions,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) epochs: EpochCache,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) end: Offset,
    pub(crate) index_written: IndexWritten,
    /// The files of epochs or checkpoint do not say what is in memory.
    pub(crate) dirty: bool,
}

impl Log {
    pub(crate) fn new(shared: &Arc<Shared>, parts: LogParts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared: Arc::clone(shared),
            meta: parts.meta,
            dir: parts.dir,
            start: AtomicU64::new(parts.checkpoint.log_start.get()),
            end: AtomicU64::new(parts.end.get()),
            durable: AtomicU64::new(parts.checkpoint.recovery_point.offset.get()),
            high_watermark: AtomicU64::new(parts.checkpoint.high_watermark.get()),
            segments: RwLock::new(Arc::new(parts.segments)),
            writer: Mutex::new(Writer {
                options: parts.options,
                active: None,
                prepared: None,
                names_dirty: parts.dirty,
                epochs_dirty: parts.dirty,
                latest_epoch: parts.epochs.latest(),
                unrequested_bytes: 0,
                places: Vec::new(),
            }),
            epochs: RwLock::new(parts.epochs),
            sync: Mutex::new(SyncState {
                checkpoint: parts.checkpoint,
                checkpoint_dirty: parts.dirty,
                last_checkpoint: None,
                index_written: parts.index_written,
            }),
            offline: OnceLock::new(),
            disk_full: AtomicBool::new(false),
            flush_queued: AtomicBool::new(false),
            timer_armed: AtomicBool::new(false),
            prepare_queued: AtomicBool::new(false),
            seal_queued: AtomicBool::new(false),
            on_durable: OnceLock::new(),
        })
    }

    // ---- what it is ----

    /// Which partition it is.
    #[must_use]
    pub const fn meta(&self) -> &PartitionMeta {
        &self.meta
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        Offset::new(self.start.load(Ordering::Acquire))
    }

    /// Offset that the next record gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        Offset::new(self.end.load(Ordering::Acquire))
    }

    /// Everything before this survives a power loss.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        Offset::new(self.durable.load(Ordering::Acquire))
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segment_list()
            .iter()
            .map(|segment| segment.log_bytes())
            .sum()
    }

    /// How many segments it has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.read().len()
    }

    /// Whether it can be used.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        match self.offline.get() {
            Some(reason) => LogHealth::Offline(Arc::clone(reason)),
            None if self.disk_full.load(Ordering::Relaxed) => LogHealth::DiskFull,
            None => LogHealth::Online,
        }
    }

    /// Changes the options; they count from the next append on.
    pub fn set_options(&self, options: LogOptions) {
        self.writer.lock().options = options;
    }

    /// The options as they are now.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        self.writer.lock().options.clone()
    }

    /// Keeps a high watermark to be found again by the next start. It is written with the next
    /// checkpoint; an older one is a lower bound.
    pub fn checkpoint_high_watermark(&self, high_watermark: Offset) {
        self.high_watermark
            .store(high_watermark.get(), Ordering::Release);
    }

    /// The high watermark that was kept, never past the end.
    #[must_use]
    pub fn high_watermark_checkpoint(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire)).min(self.end())
    }

    /// Called after the durable end moved and after the log went offline, on the thread that did
    /// it. It must not block. Only the first callback counts.
    pub fn on_durable(&self, callback: DurableCallback) {
        let _ = self.on_durable.set(callback);
    }

    pub(crate) fn notify_durable(&self) {
        if let Some(callback) = self.on_durable.get() {
            callback(self);
        }
        if let Some(callback) = self.shared.on_durable.get() {
            callback(self);
        }
    }

    pub(crate) fn segment_list(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.segments.read())
    }

    /// Takes the log offline; the first reason stays.
    pub(crate) fn go_offline(&self, reason: OfflineReason) -> Arc<OfflineReason> {
        let first = self.offline.get().is_none();
        let reason = Arc::clone(self.offline.get_or_init(|| Arc::new(reason)));
        if first {
            match &*reason {
                OfflineReason::Deleted | OfflineReason::Closed => {}
                reason => {
                    tracing::error!(log = %self.dir.display(), %reason, "log goes offline");
                }
            }
            self.notify_durable();
        }
        reason
    }

    pub(crate) fn check_online(&self) -> Result<(), Arc<OfflineReason>> {
        self.offline
            .get()
            .map_or(Ok(()), |reason| Err(Arc::clone(reason)))
    }

    /// As [`Log::check`], for callers that do not hold the writer: an append that is half published
    /// breaks the relations for a moment.
    pub(crate) fn check_between_appends(&self) {
        if cfg!(debug_assertions) {
            let _writer = self.writer.lock();
            self.check();
        }
    }

    /// The relations of the module's head. The caller holds the writer.
    pub(crate) fn check(&self) {
        if cfg!(debug_assertions) {
            let segments = self.segment_list();
            let (start, end, durable) = (self.log_start(), self.end(), self.durable_end());
            assert!(start <= end, "start {start} <= end {end}");
            assert!(durable <= end, "durable {durable} <= end {end}");
            for pair in segments.windows(2) {
                assert_eq!(pair[0].end(), pair[1].base, "segments without gap");
            }
            if let Some(last) = segments.last() {
                assert_eq!(last.end(), end, "the last segment ends at the end");
            }
        }
    }

    // ---- epochs ----

    /// The latest leader epoch.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest()
    }

    /// Where an epoch ends in this log; see [`EpochCache::end_offset_for`].
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let epochs = self.epochs.read();
        epochs.end_offset_for(epoch, self.end())
    }

    /// A new leader begins its epoch at the end of the log. Durable when this returns, except in a
    /// log without any record, where it becomes durable with the first one: there is nothing yet
    /// that two replicas could disagree about.
    ///
    /// # Errors
    /// An older epoch than the latest; a log that is offline; a failing or full disk.
    pub fn assign_epoch(&self, epoch: LeaderEpoch) -> Result<(), StorageError> {
        let mut sync = self.sync.lock();
        self.check_online().map_err(StorageError::Offline)?;
        {
            let mut writer = self.writer.lock();
            let latest = writer.latest_epoch;
            if let Some(latest) = latest.filter(|latest| epoch < *latest) {
                return Err(StorageError::EpochWentBack {
                    latest,
                    found: epoch,
                });
            }
            if self.epochs.write().assign(epoch, self.end()) {
                writer.epochs_dirty = true;
            }
            writer.latest_epoch = Some(epoch);
            // Nothing new, nothing to write: an orderly restart keeps its epochs, and ten thousand
            // partitions must not cost ten thousand syncs.
            if !writer.epochs_dirty || self.segments.read().is_empty() {
                return Ok(());
            }
        }
        self.write_epochs(&mut sync)?;
        Ok(())
    }

    // ---- appending ----

    /// Appends as the leader: gives the batches their offsets and the epoch.
    ///
    /// The caller has verified them (`verify_batch`); this looks at headers only. The input is not
    /// changed. All batches of a call are appended, in one segment, or none.
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
        if let Some(latest) = writer.latest_epoch.filter(|latest| epoch < *latest) {
            return Err(AppendError::EpochWentBack {
                latest,
                found: epoch,
            });
        }
        let base_offset = self.end();
        let mut next = base_offset;
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
        self.append_placed(writer, batches, next, true, now)
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
    fn append_placed(
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
        active
            .tail
            .file
            .store(&mut active.writer, batches)
            .map_err(|source| IoError {
                action: "append to",
                path: active.segment.path(SegmentFileKind::Log),
                source,
            })
            .map_err(|error| self.refused(error, bytes))?;
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
        // The log is offline after a failure and has told everyone.
        let _ = self.sync_now(reason);
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

    // ---- room ----

    /// Leaves an active segment with space for `bytes` that end at `end_offset`.
    fn make_room(
        &self,
        writer: &mut Writer,
        bytes: u64,
        end_offset: Offset,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let bytes_max = LogOptions::SEGMENT_BYTES_MAX;
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        if writer.active.is_none() {
            self.resume_last(writer)?;
        }
        let fits = writer.active.as_ref().is_some_and(|active| {
            let limit = writer
                .options
                .segment_bytes_bounded()
                .min(active.tail.capacity());
            let aged = active.segment.first_append().is_some_and(|first| {
                now.millis().saturating_sub(first.millis()) >= writer.options.segment_ms
            });
            active.position + bytes <= limit
                && end_offset.records_since(active.segment.base) <= u64::from(u32::MAX)
                && !(aged && active.position > 0)
        });
        if !fits {
            self.begin_segment(writer, bytes)?;
        }
        let active = writer.active.as_ref().expect("just made");
        let end = active.position + bytes;
        if !active.tail.has_room(end) {
            count(&self.shared.counters.inline_growths);
            let path = active.segment.path(SegmentFileKind::Log);
            active
                .tail
                .make_room(&path, end)
                .map_err(|error| self.refused(error, bytes))?;
        }
        Ok(())
    }

    /// Turns a failure to get space into the error of the append.
    fn refused(&self, error: IoError, bytes: u64) -> AppendError {
        if is_disk_full(&error.source) {
            self.disk_full.store(true, Ordering::Relaxed);
            count(&self.shared.counters.disk_full_refusals);
            AppendError::DiskFull {
                path: error.path,
                bytes,
            }
        } else {
            AppendError::Io(error)
        }
    }

    /// Opens the last segment for writing again, if it was not finished.
    fn resume_last(&self, writer: &mut Writer) -> Result<(), AppendError> {
        let Some(segment) = self.segments.read().last().map(Arc::clone) else {
            return Ok(());
        };
        if segment.is_sealed() || segment.tail().is_some() {
            return Ok(());
        }
        let position = segment.log_bytes();
        let capacity = writer.options.segment_bytes_bounded().max(position);
        let path = segment.path(SegmentFileKind::Log);
        let tail = Tail::resume(
            self.shared.disk(),
            &path,
            capacity,
            position,
            self.shared.sizes(),
        )
        .map_err(|error| self.refused(error, 0))?;
        self.activate(writer, segment, tail, position);
        Ok(())
    }

    fn activate(&self, writer: &mut Writer, segment: Arc<Segment>, tail: Tail, position: u64) {
        let tail = Arc::new(tail);
        let map_writer = MapWriter::claim(&tail.map).expect("a new map has no writer");
        segment.attach_tail(Arc::clone(&tail));
        writer.active = Some(Active {
            segment,
            tail,
            writer: map_writer,
            position,
        });
    }

    /// Finishes the active segment and begins the next one.
    pub(crate) fn begin_segment(&self, writer: &mut Writer, bytes: u64) -> Result<(), AppendError> {
        let base = self.end();
        let capacity = writer.options.segment_bytes_bounded().max(bytes);
        let segment = Segment::empty(Arc::clone(&self.dir), base);
        let path = segment.path(SegmentFileKind::Log);
        let disk = self.shared.disk();
        let prepared = writer.prepared.take().filter(|prepared| {
            if prepared.tail.capacity() >= bytes {
                return true;
            }
            // Left to be removed with other leftovers if this fails.
            let _ = disk.remove_file(&prepared.path);
            false
        });
        let tail = match prepared {
            Some(prepared) => {
                disk.rename(&prepared.path, &path)
                    .map_err(IoError::on("rename", &path))
                    .map_err(|error| self.refused(error, bytes))?;
                count(&self.shared.counters.segments_prepared);
                prepared.tail
            }
            None => {
                count(&self.shared.counters.segments_created_inline);
                // One that was filled, not one that was closed because it was old.
                let busy = writer
                    .active
                    .as_ref()
                    .is_some_and(|active| active.position >= capacity / 2);
                Tail::create(disk, &path, capacity, bytes, self.shared.sizes(), busy)
                    .map_err(|error| self.refused(error, bytes))?
            }
        };
        writer.names_dirty = true;
        self.finish_active(writer);
        let mut list = self.segments.write();
        let mut segments = Vec::with_capacity(list.len() + 1);
        segments.extend(list.iter().map(Arc::clone));
        segments.push(Arc::clone(&segment));
        *list = Arc::new(segments);
        drop(list);
        self.activate(writer, segment, tail, 0);
        Ok(())
    }

    /// Nothing is appended to the active segment any more.
    pub(crate) fn finish_active(&self, writer: &mut Writer) {
        if writer.active.take().is_some() {
            self.queue_seal();
        }
    }

    /// Finishes the active segment, so that the next append begins a new one. Nothing happens when
    /// there is none or it is empty.
    ///
    /// # Errors
    /// The log is offline, or the disk is full or failing.
    pub fn roll(&self) -> Result<(), StorageError> {
        self.check_online().map_err(StorageError::Offline)?;
        let mut writer = self.writer.lock();
        if writer.active.is_none() {
            self.resume_last(&mut writer).map_err(storage_error)?;
        }
        if writer
            .active
            .as_ref()
            .is_some_and(|active| active.position > 0)
        {
            self.begin_segment(&mut writer, 0).map_err(storage_error)?;
        }
        self.check();
        Ok(())
    }

    /// Background: space, pages and the next segment ahead of need.
    pub(crate) fn prepare(&self) {
        self.prepare_queued.store(false, Ordering::Release);
        let (tail, path, next_at, capacity) = {
            let writer = self.writer.lock();
            let Some(active) = &writer.active else { return };
            let capacity = writer.options.segment_bytes_bounded();
            let next_at = active.tail.capacity() / 4 * 3;
            (
                Arc::clone(&active.tail),
                active.segment.path(SegmentFileKind::Log),
                writer.prepared.is_none().then_some(next_at),
                capacity,
            )
        };
        if self.offline.get().is_some() {
            return;
        }
        let mut prepared = None;
        let mut next_at = next_at;
        if next_at.is_some_and(|at| tail.map.published() as u64 >= at) {
            next_at = None;
            prepared = self.prepare_segment(capacity, tail.has_large_appends());
        }
        if let Some(prepared) = prepared {
            let mut writer = self.writer.lock();
            if writer.prepared.is_none() && self.offline.get().is_none() {
                writer.prepared = Some(prepared);
            } else {
                let _ = self.shared.disk().remove_file(&prepared.path);
            }
        }
        if let Err(error) = tail.prepare(&path, next_at) {
            self.go_offline(OfflineReason::Io(error));
        }
    }

    /// A file for the next segment, if there is space for it.
    fn prepare_segment(&self, capacity: u64, large_appends: bool) -> Option<Prepared> {
        let path = self
            .dir
            .join(layout::prepared_name(self.shared.next_prepared_number()));
        let sizes = self.shared.sizes();
        let first = sizes.prefault_ahead.min(capacity);
        match Tail::create(self.shared.disk(), &path, capacity, first, sizes, true) {
            Ok(tail) => {
                if large_appends {
                    tail.note_append(u64::MAX);
                }
                if let Err(error) = tail.prepare(&path, None) {
                    tracing::warn!(%error, "cannot prepare the next segment");
                }
                Some(Prepared { path, tail })
            }
            Err(error) => {
                tracing::debug!(%error, "cannot prepare the next segment");
                None
            }
        }
    }

    /// The recovery point that a sync of everything up to now establishes.
    pub(crate) fn present_point(&self, writer: &Writer) -> RecoveryPoint {
        if let Some(active) = &writer.active {
            let (index_entries, time_entries) = active.segment.index_counts();
            return RecoveryPoint {
                offset: self.end(),
                segment: active.segment.base,
                position: active.position,
                max_timestamp_ms: active.segment.max_timestamp_ms(),
                index_entries,
                time_entries,
            };
        }
        match self.segments.read().last() {
            Some(last) if !last.is_sealed() => {
                let (index_entries, time_entries) = last.index_counts();
                RecoveryPoint {
                    offset: last.end(),
                    segment: last.base,
                    position: last.log_bytes(),
                    max_timestamp_ms: last.max_timestamp_ms(),
                    index_entries,
                    time_entries,
                }
            }
            _ => RecoveryPoint::at_start(self.end()),
        }
    }

    /// State of a segment that is cut at a batch boundary.
    pub(crate) fn cut_state(
        segment: &Segment,
        end_offset: Offset,
        log_bytes: u64,
        max_timestamp_ms: Option<i64>,
        last_epoch: Option<LeaderEpoch>,
        index: IndexBuilder,
    ) -> SegmentState {
        SegmentState {
            end_offset,
            log_bytes,
            max_timestamp_ms,
            first_append: segment.first_append(),
            last_epoch,
            synced_bytes: log_bytes,
            index: SegmentIndex::Memory(index),
        }
    }
}

/// An append error that has no meaning of its own outside of appending.
pub(crate) fn storage_error(error: AppendError) -> StorageError {
    match error {
        AppendError::Io(error) => StorageError::Io(error),
        AppendError::Offline { reason } => StorageError::Offline(reason),
        AppendError::DiskFull { path, .. } => StorageError::Io(IoError {
            action: "allocate",
            path,
            source: std::io::ErrorKind::StorageFull.into(),
        }),
        other => StorageError::Io(IoError {
            action: "append to",
            path: Default::default(),
            source: std::io::Error::other(other.to_string()),
        }),
    }
}

impl From<Arc<OfflineReason>> for ReadError {
    fn from(reason: Arc<OfflineReason>) -> Self {
        Self::Offline(reason)
    }
}
