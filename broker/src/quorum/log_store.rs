//! The Raft log, in a log of our own storage crate: one batch of one record for each entry, whose
//! offset is the entry's index and whose leader epoch is its term.
//!
//! All writes, of entries and of the vote, go through one thread in the order in which they were asked
//! for (`log_writer`): that an entry of a term is durable implies that the vote of the term is.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::codec::DecodeError;
use highwater_protocol::ids::{NodeId, Offset, PartitionId, TopicId, TopicName};
use highwater_protocol::record::{RecordError, RecordIter, RecordLimits};
use highwater_protocol::record_batch::{BatchError, Batches, verify_batch};
use highwater_storage::durable_file::DurableFileError;
use highwater_storage::{
    Durability, Engine, Log, LogOptions, PartitionMeta, ReadError, StorageError as DiskError,
};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use thiserror::Error;

use super::log_writer::{Job, LogWriter, WriteError};
use super::state_files::StateFiles;
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote, raft_id};
use super::wire::{decoded, entry_in};

/// Name in the meta of the log's directory; clients cannot create it, because it is no topic.
const RAFT_LOG_NAME: &str = "__metadata";

/// Bytes of entries that one read for replication takes from the log at most, if they are several.
const READ_BYTES: usize = 1 << 20;

/// Identity of the Raft log's partition, in a fixed id that is no valid v4 UUID.
pub(crate) fn raft_partition() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes(*b"highwater-raft\0\0"),
        topic: TopicName::new(RAFT_LOG_NAME).expect("the name follows the rule"),
        partition: PartitionId::ZERO,
    }
}

/// How the Raft log is kept.
pub(crate) fn raft_log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 << 20,
        durability: Durability::Synced,
        retention_ms: None,
        retention_bytes: None,
        ..LogOptions::default()
    }
}

/// The Raft log cannot be used; without it a broker must not serve metadata.
#[derive(Debug, Error)]
pub(crate) enum LogStoreError {
    /// The log could not be created or changed.
    #[error("metadata log: {0}")]
    Storage(#[from] DiskError),
    /// A small file beside it failed.
    #[error("metadata log: {0}")]
    File(#[from] DurableFileError),
    /// A file operation beside it failed.
    #[error("metadata log: {0}")]
    Io(#[from] std::io::Error),
    /// It could not be read.
    #[error("metadata log: {0}")]
    Read(#[from] ReadError),
    /// A batch in it is damaged.
    #[error(
        "metadata log is damaged at index {index}: {source}. A node that does not know any more what it \
         answered for cannot go on: remove it with `node remove`, and let it join anew with an empty \
         directory and without its old node.id"
    )]
    Batch {
        /// Where.
        index: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// A record in it is damaged.
    #[error("metadata log is damaged at index {index}: {source}")]
    Record {
        /// Where.
        index: u64,
        /// What is wrong.
        source: RecordError,
    },
    /// An entry in it is damaged, or from a newer version.
    #[error("entry {index} of the metadata log cannot be decoded: {source}")]
    Decode {
        /// Where.
        index: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// There is another entry than the one that should be there.
    #[error("entry {index} of the metadata log says that it is another one")]
    Misplaced {
        /// Where.
        index: u64,
    },
    /// The vote, the log and the notes about it do not fit together.
    #[error("the metadata log lost something: {0}")]
    Lost(String),
}

impl LogStoreError {
    fn reading(&self) -> StorageError {
        StorageIOError::read_logs(AnyError::new(self)).into()
    }
}

/// The log store; clones share it, and are its readers as well.
#[derive(Clone)]
pub(crate) struct LogStore {
    inner: Arc<Inner>,
    writer: LogWriter,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("log", &self.inner.log)
            .finish_non_exhaustive()
    }
}

/// What reader and writer share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) log: Arc<Log>,
    pub(super) files: StateFiles,
    pub(super) state: Mutex<State>,
}

/// What is known without reading; changed by the writer.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    /// Last entry of the log, if there is one.
    pub(super) last: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

impl LogStore {
    /// Opens the store of node `me`: the log among those that the engine has opened, the small files
    /// in `dir`. Whether something is missing shows in what the files say of each other.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        dir: &Path,
        me: NodeId,
    ) -> Result<Self, LogStoreError> {
        let (files, committed) = StateFiles::open(Arc::clone(engine), dir)?;
        let mut vote = files.vote()?;
        if let Some(vote) = vote
            .as_mut()
            .filter(|vote| vote.leader_id.node_id == raft_id(me))
        {
            // openraft would go on as the leader of the term. What was decided in that term before,
            // and is in the log without being applied, would then pass for decided on the image that
            // is there now. In a new term it does not.
            vote.committed = false;
        }
        let purged = files.purged()?;
        let log = match engine.log(&raft_partition()) {
            Some(log) => log,
            None if vote.is_none() && purged.is_none() => {
                engine.create_log(raft_partition(), raft_log_options())?
            }
            None => {
                let what = "there is a vote and no log; a node without its log must not vote again";
                return Err(LogStoreError::Lost(what.to_owned()));
            }
        };
        if let Some(purged) = purged {
            finish_purge(&log, purged)?;
        }
        let inner = Inner {
            log,
            files,
            state: Mutex::new(State {
                vote,
                purged,
                last: None,
                committed,
            }),
        };
        inner.find_last()?;
        inner.check_found()?;
        let inner = Arc::new(inner);
        let writer = LogWriter::start(Arc::clone(&inner))?;
        Ok(Self { inner, writer })
    }

    /// Bytes of all entries.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.inner.log.size_bytes()
    }

    /// The last entry that is not in the log any more, because a snapshot has it.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.inner.state.lock().purged
    }

    /// What waits for space on a full disk fails from now on.
    pub(crate) fn stop_waiting(&self) {
        self.writer.stop_waiting();
    }

    /// Writes what was asked for up to now and ends the thread. Later writes fail.
    pub(crate) async fn close(&self) {
        self.writer.close().await;
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let entries = self.read_entries(from, to, bytes_max).await;
        entries.map_err(|error| error.reading())
    }

    async fn read_entries(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogStoreError> {
        let log = &self.inner.log;
        let mut entries = Vec::new();
        let mut bytes_left = bytes_max;
        let mut next = from.max(log.log_start().get());
        loop {
            let end = to.min(log.end().get());
            if next >= end || (bytes_left == 0 && !entries.is_empty()) {
                return Ok(entries);
            }
            let bytes = bytes_left.min(READ_BYTES);
            let slice = match log.read(Offset::new(next), Offset::new(end), bytes) {
                Ok(slice) => slice,
                // Purged or cut since its bounds were looked at.
                Err(ReadError::OutOfRange { .. }) => return Ok(entries),
                Err(error) => return Err(error.into()),
            };
            if !slice.resident {
                let log = Arc::clone(log);
                let cold = slice.clone();
                tokio::task::spawn_blocking(move || log.bring_in(&cold))
                    .await
                    .map_err(std::io::Error::other)??;
            }
            decode_slice(&slice.records, next, &mut entries)?;
            bytes_left = bytes_left.saturating_sub(slice.records.len());
            next = slice.next.get();
        }
    }
}

/// Sees to it that nothing is left of what was purged, and that the log goes on behind it.
pub(super) fn finish_purge(log: &Log, purged: LogId) -> Result<(), DiskError> {
    let next = Offset::new(purged.index + 1);
    if next > log.end() {
        return log.restart_at(next);
    }
    log.trim_prefix(next).map(|_| ())
}

impl Inner {
    /// Looks up which entry is the last one.
    pub(super) fn find_last(&self) -> Result<(), LogStoreError> {
        let (start, end) = (self.log.log_start(), self.log.end());
        let last = if start < end {
            let index = end.get() - 1;
            let slice = self.log.read(Offset::new(index), end, 1)?;
            self.log.bring_in(&slice)?;
            let mut entries = Vec::new();
            decode_slice(&slice.records, index, &mut entries)?;
            entries.last().map(|entry| entry.log_id)
        } else {
            None
        };
        self.state.lock().last = last;
        Ok(())
    }

    /// That vote, log and notes can be of one node at one time.
    fn check_found(&self) -> Result<(), LogStoreError> {
        let mut state = self.state.lock();
        let last_term = state.last.map_or(0, |id| id.leader_id.term);
        let vote_term = state.vote.map_or(0, |vote| vote.leader_id.term);
        if vote_term < last_term {
            return Err(LogStoreError::Lost(format!(
                "the last entry is of term {last_term} and the vote of term {vote_term}"
            )));
        }
        let start = self.log.log_start().get();
        let purged_to = state.purged.map_or(0, |id| id.index + 1);
        if start > purged_to {
            return Err(LogStoreError::Lost(format!(
                "the log starts at {start}, but only what is before {purged_to} was purged"
            )));
        }
        // It was noted without a sync, and may be of a time before or after what was lost then.
        let known = state.last.max(state.purged);
        if state.committed > known {
            tracing::warn!(committed = ?state.committed, ?known, "more was committed than is there");
            state.committed = known;
        }
        Ok(())
    }
}

/// Takes the entries out of batches of one record each, the first of which is entry `index`.
pub(super) fn decode_slice(
    records: &Bytes,
    mut index: u64,
    entries: &mut Vec<Entry>,
) -> Result<(), LogStoreError> {
    for batch in Batches::new(records) {
        let rotten = |source| LogStoreError::Batch { index, source };
        let (_, batch) = batch.map_err(rotten)?;
        // What a start believes without reading it may have rotted since it was written.
        verify_batch(batch).map_err(rotten)?;
        let batch = records.slice_ref(batch);
        let damaged = |source| LogStoreError::Record { index, source };
        let mut values = RecordIter::new(batch, RecordLimits::default()).map_err(damaged)?;
        let record = values.next().ok_or(LogStoreError::Misplaced { index })?;
        let value = record.map_err(damaged)?.value.unwrap_or_default();
        let entry = decoded(value)
            .and_then(entry_in)
            .map_err(|source| LogStoreError::Decode { index, source })?;
        if entry.log_id.index != index || values.next().is_some() {
            return Err(LogStoreError::Misplaced { index });
        }
        entries.push(entry);
        index += 1;
    }
    Ok(())
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let entries = self.read(start, end, READ_BYTES).await?;
        // What begins later than asked for would be taken for what follows the entry before `start`.
        let fits = entries
            .first()
            .is_some_and(|first| first.log_id.index == start);
        Ok(if fits { entries } else { Vec::new() })
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.inner.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last.or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let done = self.writer.run(|done| Job::Vote { vote, done }).await;
        done.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.inner.state.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if let Some(id) = committed {
            self.inner.state.lock().committed = Some(id);
            self.inner.files.save_committed(id);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.inner.state.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let readable = self.writer.run(|readable| Job::Append {
            entries,
            readable,
            flushed: callback,
        });
        readable.await.map_err(|error| writing(&error))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let from = log_id.index;
        let done = self.writer.run(|done| Job::Truncate { from, done }).await;
        done.map_err(|error| writing(&error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let done = self
            .writer
            .run(|done| Job::Purge { upto: log_id, done })
            .await;
        done.map_err(|error| writing(&error))
    }
}

fn writing(error: &WriteError) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}
