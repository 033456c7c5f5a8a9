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

use highwater_protocol::ids::{LeaderEpoch, Offset};
use parking_lot::{Mutex, RwLock};

use crate::background::{DurableCallback, Shared};
use crate::checkpoint::{Checkpoint, RecoveryPoint};
use crate::epoch_checkpoint::{EpochCache, EpochEnd};
use crate::error::{DamageKind, OfflineReason, ReadError, StorageError};
use crate::map::MapWriter;
use crate::options::LogOptions;
use crate::partition_meta::PartitionMeta;
use crate::producer_tracking::{ProducerTracking, Rebuilt};
use crate::segment::{BatchPlace, Segment};
use crate::session;
use crate::small_file;
use crate::tail::{Prepared, Tail};
use crate::time_index::IndexBuilder;

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
    pub(crate) unrequested_bytes: u64,
    /// Reused, so that an append allocates nothing.
    pub(crate) places: Vec<BatchPlace>,
    pub(crate) producers: ProducerTracking,
}

/// What syncing needs.
#[derive(Debug)]
pub(crate) struct SyncState {
    pub(crate) checkpoint: Checkpoint,
    /// The checkpoint differs from its file.
    pub(crate) checkpoint_dirty: bool,
    pub(crate) last_checkpoint: Option<std::time::Instant>,
    pub(crate) index_written: IndexWritten,
    /// Where the newest snapshot of the producers is.
    pub(crate) producer_snapshot: Option<Offset>,
    pub(crate) last_producer_snapshot: Option<std::time::Instant>,
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
    pub(crate) disk_full: AtomicBool,
    pub(crate) flush_queued: AtomicBool,
    pub(crate) timer_armed: AtomicBool,
    pub(crate) prepare_queued: AtomicBool,
    pub(crate) seal_queued: AtomicBool,
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
    pub(crate) producers: Rebuilt,
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
                producers: ProducerTracking {
                    state: parts.producers.producers,
                    pending: Vec::new(),
                    unsaved_bytes: parts.producers.scanned_bytes,
                },
            }),
            epochs: RwLock::new(parts.epochs),
            sync: Mutex::new(SyncState {
                checkpoint: parts.checkpoint,
                checkpoint_dirty: parts.dirty,
                last_checkpoint: None,
                index_written: parts.index_written,
                producer_snapshot: parts.producers.snapshot,
                last_producer_snapshot: None,
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
    /// it. It must not wait for anything, and must not
    /// flush, trim or truncate the log. Only the first callback counts.
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

    /// Takes the log offline and tells who waits for it; the first reason stays.
    pub(crate) fn go_offline(&self, reason: OfflineReason) -> Arc<OfflineReason> {
        let (reason, is_first) = self.set_offline(reason);
        self.note_io_failure();
        if is_first {
            self.notify_durable();
        }
        reason
    }

    /// Remembers for the next start that the disk failed, if that is why the log is offline.
    pub(crate) fn note_io_failure(&self) {
        let Some(reason) = self.offline.get() else {
            return;
        };
        let failed = match &**reason {
            OfflineReason::SyncFailed(_) | OfflineReason::Io(_) => true,
            OfflineReason::Damaged(damage) => matches!(damage.kind, DamageKind::Unreadable(_)),
            OfflineReason::Deleted | OfflineReason::SetAside | OfflineReason::Closed => false,
        };
        if failed {
            let data_dir = small_file::parent(&self.dir);
            let noted = &self.shared.io_failed;
            session::note_io_failure(self.shared.disk(), data_dir, noted, reason);
        }
    }

    /// Takes the log offline. Says whether it was not before.
    pub(crate) fn set_offline(&self, reason: OfflineReason) -> (Arc<OfflineReason>, bool) {
        let mut is_first = false;
        let reason = Arc::clone(self.offline.get_or_init(|| {
            is_first = true;
            Arc::new(reason)
        }));
        if is_first {
            match &*reason {
                OfflineReason::Deleted | OfflineReason::SetAside | OfflineReason::Closed => {}
                reason => {
                    tracing::error!(log = %self.dir.display(), %reason, "log goes offline");
                }
            }
        }
        (reason, is_first)
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
}

impl From<Arc<OfflineReason>> for ReadError {
    fn from(reason: Arc<OfflineReason>) -> Self {
        Self::Offline(reason)
    }
}
