//! What a reader knows about its partitions: a state machine without I/O of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::ids::{NodeId, Offset, PartitionId};
use highwater_protocol::record_batch::{BatchError, BatchHeader, Batches};
use tokio::time::Instant;

use super::batch::Frame;
use crate::error::ReadError;
use crate::retry::Backoff;

/// A partition to read, with its offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assigned {
    pub(super) partition: PartitionId,
    pub(super) start: Offset,
    pub(super) until: Option<Offset>,
}

/// What a call for the next batch finds.
#[derive(Debug)]
pub(super) enum Next {
    /// A batch.
    Frame(Frame),
    /// Every partition is read to its end.
    Done,
    /// Nothing yet; look again at this time at the latest.
    Wait(Option<Instant>),
}

/// Why a partition is not fetched at the moment.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: ReadError,
    pub(super) retry_at: Instant,
    /// Metadata of a later generation than this is needed first.
    pub(super) needs_newer: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    /// What the next fetch asks for.
    pub(super) fetch_from: Offset,
    /// What is handed out next.
    position: Offset,
    until: Option<Offset>,
    /// Rises with every seek: answers to earlier fetches are dropped.
    pub(super) era: u64,
    pub(super) fetching: bool,
    paused: bool,
    high_watermark: Option<Offset>,
    pub(super) trouble: Option<Trouble>,
    /// Failed attempts in a row, and since when.
    failures: u32,
    failing_since: Option<Instant>,
    /// Since when the leader's end lies before what an earlier leader has shown.
    behind_since: Option<Instant>,
}

impl Partition {
    fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.position >= until)
    }

    /// Whether everything wanted is fetched.
    pub(super) fn is_fetched(&self) -> bool {
        self.until.is_some_and(|until| self.fetch_from >= until)
    }

    pub(super) fn may_fetch(&self) -> bool {
        !self.fetching && !self.paused && self.trouble.is_none() && !self.is_fetched()
    }

    /// Starts over at an offset.
    pub(super) fn restart(&mut self, at: Offset) {
        self.era += 1;
        self.fetching = false;
        self.fetch_from = at;
        self.position = at;
        self.trouble = None;
        self.behind_since = None;
    }

    /// For how long leaders have said that there is nothing yet at an offset that was committed
    /// already; `None` where it never was, as far as known here. A leader that has just been elected
    /// learns only bit by bit what is committed: that is no truncation.
    pub(super) fn behind_for(&mut self, offset: Offset, now: Instant) -> Option<Duration> {
        if self.high_watermark.is_none_or(|seen| offset > seen) {
            return None;
        }
        Some(now - *self.behind_since.get_or_insert(now))
    }

    /// What is said of the end from now on counts, also where that goes back.
    pub(super) fn forget_end(&mut self) {
        self.high_watermark = None;
    }

    pub(super) fn on_success(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(Some(high_watermark));
        self.failures = 0;
        self.failing_since = None;
        self.behind_since = None;
    }

    /// Plans the next attempt after a failure that may pass.
    pub(super) fn on_failure(
        &mut self,
        error: ReadError,
        needs_newer: Option<u64>,
        backoff: &Backoff,
        now: Instant,
    ) {
        self.failures += 1;
        self.failing_since.get_or_insert(now);
        let retry_at = now + backoff.wait(self.failures);
        self.trouble = Some(Trouble {
            error,
            retry_at,
            needs_newer,
        });
    }

    /// Notes a failure that does not pass by itself.
    pub(super) fn on_fatal(&mut self, error: ReadError, now: Instant) {
        self.trouble = Some(Trouble {
            error,
            retry_at: now,
            needs_newer: None,
        });
    }
}

/// Batches of one answer that are not handed out yet.
#[derive(Debug)]
struct Chunk {
    index: usize,
    era: u64,
    records: Bytes,
    high_watermark: Offset,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) partitions: Vec<Partition>,
    chunks: VecDeque<Chunk>,
    pub(super) buffered_bytes: usize,
    /// Fetches in flight per broker.
    pub(super) fetches: HashMap<NodeId, usize>,
    /// Which partition the next fetch names first, so that each gets its turn.
    pub(super) turn: usize,
    pub(super) connecting: HashSet<NodeId>,
    pub(super) asking: bool,
    pub(super) closed: bool,
}

impl State {
    pub(super) fn new(assigned: &[Assigned]) -> Self {
        let partitions = assigned.iter().map(|assigned| Partition {
            id: assigned.partition,
            fetch_from: assigned.start,
            position: assigned.start,
            until: assigned.until,
            era: 0,
            fetching: false,
            paused: false,
            high_watermark: None,
            trouble: None,
            failures: 0,
            failing_since: None,
            behind_since: None,
        });
        Self {
            partitions: partitions.collect(),
            chunks: VecDeque::new(),
            buffered_bytes: 0,
            fetches: HashMap::new(),
            turn: 0,
            connecting: HashSet::new(),
            asking: false,
            closed: false,
        }
    }

    pub(super) fn index_of(&self, id: PartitionId) -> Option<usize> {
        self.partitions
            .binary_search_by_key(&id, |partition| partition.id)
            .ok()
    }

    /// Takes in the records of an answer; moves the fetch position behind them.
    pub(super) fn on_records(
        &mut self,
        index: usize,
        records: &Bytes,
        high_watermark: Offset,
    ) -> Result<(), (Offset, BatchError)> {
        let partition = &mut self.partitions[index];
        partition.on_success(high_watermark);
        let high_watermark = partition.high_watermark.unwrap_or(high_watermark);
        let mut damage = None;
        let mut sound = 0;
        for batch in Batches::new(records) {
            match batch {
                Ok((header, bytes)) => {
                    sound += bytes.len();
                    partition.fetch_from = partition.fetch_from.max(header.next_offset());
                }
                Err(error) => {
                    damage = Some((partition.fetch_from, error));
                    break;
                }
            }
        }
        if sound > 0 {
            let records = records.slice(..sound);
            self.buffered_bytes += sound;
            let era = partition.era;
            self.chunks.push_back(Chunk {
                index,
                era,
                records,
                high_watermark,
            });
        }
        damage.map_or(Ok(()), Err)
    }

    /// The next batch to hand out, or what to wait for. Errors are reported once per call.
    pub(super) fn next(
        &mut self,
        now: Instant,
        retry_timeout: Duration,
        stalled: impl Fn(ReadError) -> ReadError,
    ) -> Result<Next, ReadError> {
        if let Some(frame) = self.take_frame() {
            return Ok(Next::Frame(frame));
        }
        if self.partitions.iter().all(Partition::is_done) {
            return Ok(Next::Done);
        }
        let mut wake: Option<Instant> = None;
        for partition in &mut self.partitions {
            let Some(trouble) = &partition.trouble else {
                continue;
            };
            if !trouble.error.is_retriable() {
                let error = trouble.error.clone();
                // Asked again at the next call: it may have been mended meanwhile.
                partition.trouble = None;
                return Err(error);
            }
            let since = *partition.failing_since.get_or_insert(now);
            if since + retry_timeout <= now {
                partition.failing_since = Some(now);
                return Err(stalled(trouble.error.clone()));
            }
            let due = trouble.retry_at.max(now).min(since + retry_timeout);
            // One that is due is being mended, which wakes the reader; the timeout still counts.
            let due = if trouble.retry_at <= now {
                since + retry_timeout
            } else {
                due
            };
            wake = Some(wake.map_or(due, |wake| wake.min(due)));
        }
        Ok(Next::Wait(wake))
    }

    fn take_frame(&mut self) -> Option<Frame> {
        while let Some(chunk) = self.chunks.front_mut() {
            let partition = &mut self.partitions[chunk.index];
            let stale = chunk.era != partition.era;
            if stale || chunk.records.is_empty() || partition.is_done() {
                self.buffered_bytes -= chunk.records.len();
                self.chunks.pop_front();
                continue;
            }
            // Cannot fail: the batches were walked over when they came.
            let Ok(header) = BatchHeader::parse(&chunk.records) else {
                self.buffered_bytes -= chunk.records.len();
                chunk.records = Bytes::new();
                continue;
            };
            let length = (header.batch_bytes as usize).min(chunk.records.len());
            let bytes = chunk.records.split_to(length);
            self.buffered_bytes -= length;
            let next = header.next_offset();
            if next <= partition.position {
                continue;
            }
            let from = partition.position;
            partition.position = partition.until.map_or(next, |until| next.min(until));
            if partition
                .until
                .is_some_and(|until| header.base_offset >= until)
            {
                continue;
            }
            let (until, high_watermark) = (partition.until, chunk.high_watermark);
            let id = partition.id;
            return Some(Frame {
                partition: id,
                header,
                bytes,
                from,
                until,
                high_watermark,
            });
        }
        None
    }

    /// Forgets what was fetched of a partition and starts over at an offset.
    pub(super) fn restart(&mut self, index: usize, at: Offset) {
        self.partitions[index].restart(at);
        let mut freed = 0;
        self.chunks.retain(|chunk| {
            let keep = chunk.index != index;
            if !keep {
                freed += chunk.records.len();
            }
            keep
        });
        self.buffered_bytes -= freed;
    }

    pub(super) fn set_paused(&mut self, index: usize, paused: bool) {
        let partition = &mut self.partitions[index];
        if std::mem::replace(&mut partition.paused, paused) == paused {
            return;
        }
        if paused {
            // Its part of the prefetched bytes would keep the others from being fetched.
            let at = partition.position;
            self.restart(index, at);
        }
    }

    pub(super) fn positions(&self) -> BTreeMap<PartitionId, Offset> {
        self.partitions
            .iter()
            .map(|partition| (partition.id, partition.position))
            .collect()
    }

    pub(super) fn high_watermarks(&self) -> BTreeMap<PartitionId, Offset> {
        let known = self.partitions.iter();
        known
            .filter_map(|partition| Some((partition.id, partition.high_watermark?)))
            .collect()
    }

    /// Drops everything.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.chunks.clear();
        self.buffered_bytes = 0;
    }
}
