//! The one thread that writes the Raft log and the vote, in the order in which it was asked to.
//!
//! Appends that wait together share one sync. After a write that failed nothing is written any more:
//! what is on the disk then is not known. A full disk is waited for, because nothing is lost by it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::record_batch::stamp;
use highwater_storage::durable_file::DurableFileError;
use highwater_storage::{AppendError, LogHealth, StorageError as DiskError};
use openraft::storage::LogFlushed;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::log_store::{Inner, LogStoreError, finish_purge};
use super::types::{Entry, LogId, TypeConfig, Vote};
use super::wire::{encoded, entry_out};

/// Jobs that wait at most; openraft waits for each before it asks for the next.
const JOBS_MAX: usize = 64;

/// Pause between two attempts on a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

/// Why something was not written. Nothing more will be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("metadata log: {0}")]
pub(super) struct WriteError(String);

type Done = oneshot::Sender<Result<(), WriteError>>;

/// Something to write.
pub(super) enum Job {
    Append {
        entries: Vec<Entry>,
        /// They can be read.
        readable: Done,
        /// They are durable.
        flushed: LogFlushed<TypeConfig>,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    /// This entry and all behind it are not part of the log any more.
    Truncate {
        from: u64,
        done: Done,
    },
    /// This entry and all before it are not needed any more.
    Purge {
        upto: LogId,
        done: Done,
    },
    Close(Done),
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct LogWriter {
    jobs: mpsc::Sender<Job>,
    stopping: Arc<AtomicBool>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(super) fn start(inner: Arc<Inner>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            inner,
            stopping: Arc::clone(&stopping),
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("metadata-log".to_owned())
            .spawn(move || worker.run(waiting))?;
        Ok(Self {
            jobs,
            stopping,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Has a job done and waits for it.
    pub(super) async fn run(&self, job: impl FnOnce(Done) -> Job) -> Result<(), WriteError> {
        let closed = || WriteError("it is closed".to_owned());
        let (done, result) = oneshot::channel();
        self.jobs.send(job(done)).await.map_err(|_| closed())?;
        result.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) fn stop_waiting(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Does what was asked for before, and ends the thread.
    pub(super) async fn close(&self) {
        self.stop_waiting();
        // An error says that it is closed already.
        let _ = self.run(Job::Close).await;
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // It has answered its last job: the wait is short.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct Worker {
    inner: Arc<Inner>,
    stopping: Arc<AtomicBool>,
    failed: Option<WriteError>,
}

impl Worker {
    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let Some(job) = next.take().or_else(|| waiting.blocking_recv()) else {
                return;
            };
            match job {
                Job::Append {
                    entries,
                    readable,
                    flushed,
                } => {
                    let mut unsynced = Vec::new();
                    self.append(&entries, readable, flushed, &mut unsynced);
                    loop {
                        match waiting.try_recv() {
                            Ok(Job::Append {
                                entries,
                                readable,
                                flushed,
                            }) => self.append(&entries, readable, flushed, &mut unsynced),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.sync(unsynced);
                }
                Job::Vote { vote, done } => {
                    let result = self.unless_failed(|worker| worker.vote(&vote));
                    let _ = done.send(result);
                }
                Job::Truncate { from, done } => {
                    let result = self.unless_failed(|worker| worker.truncate(from));
                    let _ = done.send(result);
                }
                Job::Purge { upto, done } => {
                    let result = self.unless_failed(|worker| worker.purge(upto));
                    let _ = done.send(result);
                }
                Job::Close(done) => {
                    let _ = done.send(Ok(()));
                    return;
                }
            }
        }
    }

    fn unless_failed(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        write(self).inspect_err(|error| {
            error!(%error, "this broker stops serving metadata");
            self.failed = Some(error.clone());
        })
    }

    fn append(
        &mut self,
        entries: &[Entry],
        readable: Done,
        flushed: LogFlushed<TypeConfig>,
        unsynced: &mut Vec<LogFlushed<TypeConfig>>,
    ) {
        let result = self.unless_failed(|worker| worker.append_entries(entries));
        match &result {
            Ok(()) => unsynced.push(flushed),
            Err(error) => flushed.log_io_completed(Err(std::io::Error::other(error.clone()))),
        }
        let _ = readable.send(result);
    }

    fn append_entries(&mut self, entries: &[Entry]) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let batches = encode_batches(entries)?;
        let log = &self.inner.log;
        let start = Offset::new(first.log_id.index);
        if log.log_start() == log.end() && log.end() < start {
            // The first entries of a node that got what is before them in a snapshot.
            self.wait_for_space(|| log.restart_at(start), DiskError::is_disk_full)
                .map_err(failed)?;
        }
        // The time of an entry is nobody's business: what needs one has it in its records.
        let now = Timestamp::default();
        self.wait_for_space(
            || log.append_replicated(&batches, now),
            AppendError::is_retriable,
        )
        .map_err(failed)?;
        self.inner.state.lock().last = Some(last.log_id);
        Ok(())
    }

    fn sync(&mut self, unsynced: Vec<LogFlushed<TypeConfig>>) {
        if unsynced.is_empty() {
            return;
        }
        let result = self.unless_failed(Self::sync_log);
        for flushed in unsynced {
            flushed.log_io_completed(result.clone().map_err(std::io::Error::other));
        }
    }

    fn sync_log(&mut self) -> Result<(), WriteError> {
        let log = &self.inner.log;
        let end = log.end();
        loop {
            let error = match log.sync() {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if log.durable_end() >= end {
                // What failed came after the sync of the entries: a checkpoint, for example.
                warn!(%error, "metadata log: the entries are durable, what follows them failed");
                return Ok(());
            }
            // While it is online no sync was tried: handles or memory are short.
            if matches!(log.health(), LogHealth::Offline(_)) || self.is_stopping() {
                return Err(failed(error));
            }
            warn!(%error, "metadata log: the sync is tried again");
            std::thread::sleep(FULL_DISK_PAUSE);
        }
    }

    fn vote(&mut self, vote: &Vote) -> Result<(), WriteError> {
        let files = &self.inner.files;
        self.wait_for_space(|| files.save_vote(vote), DurableFileError::is_disk_full)
            .map_err(failed)?;
        self.inner.state.lock().vote = Some(*vote);
        Ok(())
    }

    fn truncate(&mut self, from: u64) -> Result<(), WriteError> {
        let log = &self.inner.log;
        self.wait_for_space(
            || log.truncate_suffix(Offset::new(from)),
            DiskError::is_disk_full,
        )
        .map_err(failed)?;
        self.inner.find_last().map_err(failed)
    }

    fn purge(&mut self, upto: LogId) -> Result<(), WriteError> {
        let files = &self.inner.files;
        // Noted first: a log that starts behind what was noted has lost entries.
        self.wait_for_space(|| files.save_purged(upto), DurableFileError::is_disk_full)
            .map_err(failed)?;
        self.inner.state.lock().purged = Some(upto);
        let log = &self.inner.log;
        self.wait_for_space(|| finish_purge(log, upto), DiskError::is_disk_full)
            .map_err(failed)?;
        self.inner.find_last().map_err(failed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Tries again while the disk is full: nobody was told anything yet.
    fn wait_for_space<T, E: fmt::Display>(
        &self,
        mut write: impl FnMut() -> Result<T, E>,
        is_full: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut warned = false;
        loop {
            match write() {
                Err(error) if is_full(&error) && !self.is_stopping() => {
                    if !warned {
                        warn!(%error, "the metadata log waits for space on the disk");
                        warned = true;
                    }
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                result => return result,
            }
        }
    }
}

fn failed(error: impl fmt::Display) -> WriteError {
    WriteError(error.to_string())
}

impl From<LogStoreError> for WriteError {
    fn from(error: LogStoreError) -> Self {
        Self(error.to_string())
    }
}

/// One batch for each entry: the log can then be cut before any of them.
fn encode_batches(entries: &[Entry]) -> Result<BytesMut, WriteError> {
    let mut batches = BytesMut::new();
    let mut builder = BatchBuilder::new(Compression::None, None);
    for entry in entries {
        let term = entry.log_id.leader_id.term;
        // Leader epochs are signed 32 bits wide in a batch.
        let epoch = i32::try_from(term)
            .ok()
            .and_then(|term| u32::try_from(term).ok())
            .ok_or_else(|| WriteError(format!("term {term} is out of range")))?;
        let value = encoded(&entry_out(entry));
        builder.push(Timestamp::default(), None, Some(&value), &[]);
        let start = batches.len();
        batches.put_slice(&builder.build());
        stamp(
            &mut batches[start..],
            Offset::new(entry.log_id.index),
            LeaderEpoch::new(epoch),
        );
    }
    Ok(batches)
}
