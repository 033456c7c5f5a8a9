//! All logs of one data directory: opening, creating, deleting, closing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use highwater_protocol::ids::{PartitionId, TopicId};
use parking_lot::Mutex;

use crate::background::{DurableCallback, FlushReason, Shared, Threads, run_maintenance};
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::epoch_checkpoint::EpochCache;
use crate::error::{IoError, OfflineReason, OpenError, StorageError};
use crate::identity::{self, ClosedLog, ClosedLogs, DirId, Identity};
use crate::layout;
use crate::log::{IndexWritten, Log, LogParts};
use crate::options::{Durability, EngineOptions, LogOptions};
use crate::parallel;
use crate::partition_meta::{self, PartitionMeta};
use crate::producer_tracking::Rebuilt;
use crate::recovery::{Recovery, RecoveryReport};
use crate::session::LastLife;
use crate::small_file;
use crate::stats::EngineStats;

/// How far opening the logs of a directory got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryProgress {
    /// Logs that are open or were refused.
    pub logs_done: usize,
    /// Logs that were found.
    pub logs_total: usize,
    /// Bytes that were read and verified so far.
    pub scanned_bytes: u64,
}

/// One partition directory that was found, and what came of it.
#[derive(Debug)]
pub struct OpenedLog {
    /// The directory.
    pub path: PathBuf,
    /// Which partition it is, when it says so.
    pub meta: Option<PartitionMeta>,
    /// The open log, or why it is not. Refused files are left as they are.
    pub result: OpenResult,
}

/// An open log and what its recovery found, or why it is not open.
pub type OpenResult = Result<(Arc<Log>, RecoveryReport), OpenError>;

type LogKey = (TopicId, PartitionId);

/// The storage of one broker.
pub struct Engine {
    dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Identity,
    pub(crate) last_life: LastLife,
    closed_before: Option<ClosedLogs>,
    /// In the order of their names, so that a run on a simulated disk can be repeated.
    pub(crate) logs: Mutex<BTreeMap<LogKey, Arc<Log>>>,
    threads: Mutex<Threads>,
    is_closed: AtomicBool,
    /// Held until the engine goes away.
    _lock: Box<dyn std::fmt::Debug + Send + Sync>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

pub(crate) fn key(meta: &PartitionMeta) -> LogKey {
    (meta.topic_id, meta.partition)
}

impl Engine {
    /// Takes possession of a data directory, which is created when missing. Logs are opened by
    /// [`Engine::open_logs`].
    ///
    /// # Errors
    /// Another process works there; the directory is damaged or of a newer version; the disk fails.
    pub fn open(dir: &Path, options: EngineOptions) -> Result<Arc<Self>, OpenError> {
        let shared = Shared::new(options);
        let disk = shared.disk();
        disk.create_dir_all(dir)
            .map_err(IoError::on("create", dir))?;
        let lock_path = dir.join(layout::LOCK);
        let lock = disk.lock(&lock_path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                OpenError::Locked {
                    path: lock_path.clone(),
                }
            } else {
                OpenError::Io(IoError::on("lock", &lock_path)(error))
            }
        })?;
        let mut last_life = LastLife::find(disk, dir)?;
        let begun = identity::begin_session(disk, dir)?;
        last_life.set_session(begun.before.as_ref());
        let parent = small_file::parent(dir);
        if !parent.as_os_str().is_empty() {
            // Some file systems refuse it for directories of others; the name of the data
            // directory itself is the operator's business then.
            let _ = disk.sync_dir(parent);
        }
        let threads = Threads::start(&shared).map_err(IoError::on("start threads for", dir))?;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            shared,
            identity: begun.identity,
            last_life,
            closed_before: begun.closed,
            logs: Mutex::new(BTreeMap::new()),
            threads: Mutex::new(threads),
            is_closed: AtomicBool::new(false),
            _lock: lock,
        }))
    }

    /// Whether the directory was closed in order the last time.
    #[must_use]
    pub const fn was_clean(&self) -> bool {
        self.closed_before.is_some()
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its files live, for `durable_file`.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        self.shared.disk()
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.shared.counters.snapshot(self.shared.maps.mapped())
    }

    /// Called after the durable end of a log moved and after a log went offline, on the thread that
    /// did it. It must not wait for anything, and must not
    /// flush, trim or truncate the log. Only the first callback counts.
    pub fn on_durable(&self, callback: DurableCallback) {
        let _ = self.shared.on_durable.set(callback);
    }

    /// An open log.
    #[must_use]
    pub fn log(&self, meta: &PartitionMeta) -> Option<Arc<Log>> {
        self.logs.lock().get(&key(meta)).map(Arc::clone)
    }

    /// All open logs, in the order of topic ids and partitions.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.lock().values().map(Arc::clone).collect()
    }

    /// Creates an empty log. Its directory is durable when this returns.
    ///
    /// # Errors
    /// There is one already; the disk is full or failing.
    pub fn create_log(
        &self,
        meta: PartitionMeta,
        options: LogOptions,
    ) -> Result<Arc<Log>, StorageError> {
        let mut logs = self.create_logs(vec![(meta, options)])?;
        Ok(logs.pop().expect("one log for one partition"))
    }

    /// Creates many empty logs, for the price of little more than one. When one cannot be created,
    /// none of them is.
    ///
    /// # Errors
    /// As [`Engine::create_log`].
    pub fn create_logs(
        &self,
        partitions: Vec<(PartitionMeta, LogOptions)>,
    ) -> Result<Vec<Arc<Log>>, StorageError> {
        let disk = self.shared.disk();
        let made = Mutex::new(Vec::with_capacity(partitions.len()));
        let first_error = Mutex::new(None);
        parallel::for_each(self.shared.log_threads(), &partitions, |(meta, _)| {
            if first_error.lock().is_none()
                && let Err(error) = self.make_dir(meta, &made)
            {
                first_error.lock().get_or_insert(error);
            }
        });
        let mut error = first_error.into_inner();
        if error.is_none() {
            let synced = disk.sync_dir(&self.dir);
            error = synced
                .err()
                .map(|error| IoError::on("sync", &self.dir)(error).into());
        }
        if let Some(error) = error {
            for path in made.into_inner() {
                // A leftover has no records and is found again as an unknown log.
                let _ = remove_dir(disk, &path);
            }
            return Err(error);
        }
        let mut logs = self.logs.lock();
        Ok(partitions
            .into_iter()
            .map(|(meta, options)| {
                let parts = LogParts {
                    dir: Arc::from(self.dir.join(meta.dir_name())),
                    meta,
                    options,
                    segments: Vec::new(),
                    epochs: EpochCache::default(),
                    checkpoint: Checkpoint::default(),
                    end: highwater_protocol::ids::Offset::ZERO,
                    index_written: IndexWritten::default(),
                    dirty: false,
                    producers: Rebuilt::default(),
                };
                let log = Log::new(&self.shared, parts);
                logs.insert(key(log.meta()), Arc::clone(&log));
                log
            })
            .collect())
    }

    /// Makes the directory of a log that is not there yet, and notes that it did.
    fn make_dir(
        &self,
        meta: &PartitionMeta,
        made: &Mutex<Vec<PathBuf>>,
    ) -> Result<(), StorageError> {
        let disk = self.shared.disk();
        let path = self.dir.join(meta.dir_name());
        let exists = disk.list(&path).is_ok_and(|entries| {
            // An empty directory is what a crash before the first sync leaves.
            entries
                .iter()
                .any(|entry| !layout::is_leftover(&entry.name))
        });
        if exists || self.logs.lock().contains_key(&key(meta)) {
            return Err(StorageError::AlreadyExists { path });
        }
        disk.create_dir_all(&path)
            .map_err(IoError::on("create", &path))?;
        made.lock().push(path.clone());
        partition_meta::write(disk, &path, meta)?;
        Ok(())
    }

    /// Opens all logs of the directory, several at a time. One that cannot be opened does not stop
    /// the others: each has its own result. `options_for` says what is wanted of a partition; when
    /// it knows none, the directory is reported and left as it is.
    ///
    /// `progress` is called now and then, from several threads.
    pub fn open_logs(
        &self,
        options_for: &(dyn Fn(&PartitionMeta) -> Option<LogOptions> + Sync),
        progress: &(dyn Fn(RecoveryProgress) + Sync),
    ) -> Vec<OpenedLog> {
        let entries = match self.shared.disk().list(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                let result = Err(IoError::on("list", &self.dir)(error).into());
                return vec![OpenedLog {
                    path: self.dir.clone(),
                    meta: None,
                    result,
                }];
            }
        };
        let (mut dirs, mut set_aside) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.is_dir) {
            let path = self.dir.join(&entry.name);
            if entry.name.ends_with(layout::DELETED_SUFFIX) {
                self.shared
                    .maintain
                    .push(crate::background::Maintenance::RemoveDir(path));
            } else if layout::parse_partition_dir_name(&entry.name).is_some() {
                dirs.push(path);
            } else if layout::parse_set_aside_name(&entry.name).is_some() {
                set_aside.push(entry.name);
            }
        }
        self.review_set_aside(&set_aside);
        dirs.sort();
        let opened = self.open_dirs(&dirs, options_for, progress);
        self.last_life
            .on_opened(self.shared.disk(), &opened, self.closed_before.as_ref());
        let mut logs = self.logs.lock();
        for log in opened
            .iter()
            .filter_map(|opened| opened.result.as_ref().ok())
        {
            logs.insert(key(log.0.meta()), Arc::clone(&log.0));
        }
        opened
    }

    fn open_dirs(
        &self,
        dirs: &[PathBuf],
        options_for: &(dyn Fn(&PartitionMeta) -> Option<LogOptions> + Sync),
        progress: &(dyn Fn(RecoveryProgress) + Sync),
    ) -> Vec<OpenedLog> {
        let done = AtomicUsize::new(0);
        let scanned = AtomicU64::new(0);
        let report = || {
            progress(RecoveryProgress {
                logs_done: done.load(Ordering::Relaxed),
                logs_total: dirs.len(),
                scanned_bytes: scanned.load(Ordering::Relaxed),
            });
        };
        let on_scanned = |bytes: u64| {
            if bytes > 0 {
                scanned.fetch_add(bytes, Ordering::Relaxed);
                report();
            }
        };
        parallel::for_each(self.shared.log_threads(), dirs, |dir| {
            let (meta, result) = self.open_dir(dir, options_for, &on_scanned);
            done.fetch_add(1, Ordering::Relaxed);
            report();
            OpenedLog {
                path: dir.clone(),
                meta,
                result,
            }
        })
    }

    fn open_dir(
        &self,
        dir: &Path,
        options_for: &(dyn Fn(&PartitionMeta) -> Option<LogOptions> + Sync),
        on_scanned: &(dyn Fn(u64) + Sync),
    ) -> (Option<PartitionMeta>, OpenResult) {
        let meta = match partition_meta::read(self.shared.disk(), dir) {
            Ok(meta) => meta,
            Err(error) => return (None, Err(error)),
        };
        if let Some(log) = self.log(&meta) {
            let report = RecoveryReport {
                clean: true,
                end: log.end(),
                ..RecoveryReport::default()
            };
            return (Some(meta), Ok((log, report)));
        }
        let Some(options) = options_for(&meta) else {
            return (
                Some(meta),
                Err(OpenError::Unknown {
                    path: dir.to_owned(),
                }),
            );
        };
        let synced = options.durability == Durability::Synced;
        let closed = self
            .closed_before
            .as_ref()
            .and_then(|logs| logs.logs.get(&key(&meta)));
        let recovery = Recovery {
            shared: &self.shared,
            dir,
            meta: meta.clone(),
            options,
            closed: closed.copied(),
            on_scanned,
        };
        let result = recovery.run().and_then(|(log, report)| {
            after_recovery(&log, &report, synced)?;
            Ok((log, report))
        });
        (Some(meta), result)
    }

    /// Deletes a log for good: it goes offline at once, its files go in the background. Readers
    /// keep what they have.
    ///
    /// # Errors
    /// There is none, or its directory cannot be renamed.
    pub fn delete_log(&self, meta: &PartitionMeta) -> Result<(), StorageError> {
        let path = self.dir.join(meta.dir_name());
        let disk = self.shared.disk();
        let log = self.logs.lock().remove(&key(meta));
        if let Some(log) = &log {
            // Waits for a sync that is under way.
            let _sync = log.sync.lock();
            log.go_offline(OfflineReason::Deleted);
            log.writer.lock().active = None;
        }
        let unique = DirId::random();
        let deleted = self.dir.join(format!(
            "{}.{unique}{}",
            meta.dir_name(),
            layout::DELETED_SUFFIX
        ));
        disk.rename(&path, &deleted).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                StorageError::NotFound { path: path.clone() }
            } else {
                IoError::on("rename", &path)(error).into()
            }
        })?;
        disk.sync_dir(&self.dir)
            .map_err(IoError::on("sync", &self.dir))?;
        self.shared
            .maintain
            .push(crate::background::Maintenance::RemoveDir(deleted));
        Ok(())
    }

    /// Does everything that is queued for the background threads, on this thread. For
    /// [`crate::options::Background::Manual`].
    pub fn run_pending(&self) {
        loop {
            if let Some((log, reason)) = self.shared.flush.try_pop() {
                log.run_flush(reason);
            } else if let Some(log) = self.shared.prepare.try_pop() {
                log.prepare();
            } else if let Some(job) = self.shared.maintain.try_pop() {
                run_maintenance(&self.shared, job);
            } else {
                return;
            }
        }
    }

    /// Closes in order: everything is synced and checkpointed, space that was taken ahead is given
    /// back, and a marker tells the next start that nothing has to be scanned. Logs that are
    /// offline are left as they are. All logs are offline afterwards.
    ///
    /// # Errors
    /// The first thing that went wrong; the others were closed nevertheless, and the marker was not
    /// written.
    pub fn close(&self) -> Result<(), StorageError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.threads.lock().stop(&self.shared, false);
        let mut closed = ClosedLogs::default();
        let mut first_error = None;
        let logs = self.logs();
        let states = parallel::for_each(self.shared.log_threads(), &logs, |log| log.close());
        for (log, state) in logs.iter().zip(states) {
            match state {
                Ok(Some(state)) => {
                    closed.logs.insert(key(log.meta()), state);
                }
                Ok(None) => {}
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => {
                let disk = self.shared.disk();
                Ok(identity::mark_clean(
                    disk,
                    &self.dir,
                    &self.identity,
                    &closed,
                )?)
            }
        }
    }
}

impl Drop for Engine {
    /// Without [`Engine::close`] this is what a kill leaves, except that the threads have ended.
    fn drop(&mut self) {
        self.threads.lock().stop(&self.shared, true);
        for log in self.logs.lock().values() {
            log.go_offline(OfflineReason::Closed);
        }
    }
}

/// Makes durable what a recovery found, where that must not wait.
fn after_recovery(log: &Arc<Log>, report: &RecoveryReport, synced: bool) -> Result<(), OpenError> {
    if !report.clean && log.size_bytes() > report.scanned_bytes {
        let job = crate::background::Maintenance::Verify(Arc::clone(log));
        log.shared.maintain.push(job);
    }
    let is_dirty = log.sync.lock().checkpoint_dirty;
    if report.clean || (log.end() == log.durable_end() && !report.was_poisoned && !is_dirty) {
        return Ok(());
    }
    if synced || report.was_poisoned {
        log.sync_now(FlushReason::Timer)
            .map_err(|error| match error {
                StorageError::Io(error) => OpenError::Io(error),
                other => OpenError::Io(IoError {
                    action: "sync",
                    path: log.dir().to_owned(),
                    source: std::io::Error::other(other.to_string()),
                }),
            })?;
        let note = log.dir().join(layout::POISONED);
        crate::trim::remove_if_there(log.shared.disk(), &note)?;
    } else {
        log.request_flush();
    }
    log.queue_seal();
    Ok(())
}

impl Log {
    /// Closes in order. `None`: there is nothing to find again, or the log is offline.
    fn close(&self) -> Result<Option<ClosedLog>, StorageError> {
        if self.offline.get().is_some() {
            return Ok(None);
        }
        let mut sync = self.sync.lock();
        self.copy_producers_to_close();
        self.seal_locked(&mut sync)?;
        let end = self.sync_locked(&mut sync, FlushReason::Timer)?;
        if sync.checkpoint.high_watermark != self.high_watermark_checkpoint() {
            let point = sync.checkpoint.recovery_point;
            self.write_checkpoint(&mut sync, point)?;
        }
        let mut writer = self.writer.lock();
        let list = self.segment_list();
        if let Some(active) = writer.active.take() {
            let path = active.segment.path(layout::SegmentFileKind::Log);
            active.tail.close(&path, active.position)?;
        }
        if let Some(prepared) = writer.prepared.take() {
            let _ = self.shared.disk().remove_file(&prepared.path);
        }
        drop(writer);
        self.go_offline(OfflineReason::Closed);
        // One that was begun and not written is not found again.
        let last = list.iter().rev().find(|segment| segment.log_bytes() > 0);
        let (last_segment, last_segment_bytes) =
            last.map_or((end, 0), |last| (last.base, last.log_bytes()));
        Ok(Some(ClosedLog {
            log_start: self.log_start(),
            end,
            last_segment,
            last_segment_bytes,
        }))
    }
}

/// Removes a directory with its files.
pub(crate) fn remove_dir(disk: &dyn Disk, path: &Path) -> Result<(), IoError> {
    for entry in disk.list(path).map_err(IoError::on("list", path))? {
        let file = path.join(&entry.name);
        disk.remove_file(&file)
            .map_err(IoError::on("remove", &file))?;
    }
    disk.remove_dir(path).map_err(IoError::on("remove", path))
}
