//! The records of one partition from the call that gave them to their acknowledgement: a state
//! machine without I/O, clock or lock of its own.
//!
//! ```text
//! open -> ready -> in flight -> done
//!           ^          |
//!           +- returned (after a failure that a retry may mend)
//! ```
//!
//! **Order.** Batches are sent in the order in which they were filled, several at a time, all on one
//! connection; the broker appends what comes on one connection in order. When one comes back, no
//! later one is sent until everything in flight is resolved; then those that came back go again, in
//! their order.
//!
//! An idempotent producer numbers its batches ([`super::sequences`]). The broker appends a batch only
//! behind the one before it, and once, whatever comes on which connection, however often: so a batch
//! whose outcome is unknown is sent again, and those that were refused because it was missing are
//! too. Until the broker has acknowledged something on the connection in use, one batch is in flight: a
//! broker that does not know the producer takes any number, also one behind a batch that it refused.
//! The next leader may be such a broker, when the one before acknowledged alone (`acks=leader`).
//!
//! Without numbers, one that was refused although a later one was appended, or may have been, is not
//! tried again, because it would land behind it: it fails with `Overtaken`. With one request in
//! flight that cannot happen. What remains then: a refusal whose answer is lost together with the
//! connection looks like an append, and its retry may land behind a later batch.

mod outcomes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::ids::{Offset, PartitionId, ProducerId, Timestamp, TopicId, TopicName};
use tokio::time::Instant;

use super::ack::{BatchState, Outcome, Segment};
use super::batch::{Batch, BatchLimits, Builders, OpenBatch, SMALL_BATCH_BYTES};
use super::record::RecordSlices;
use super::sequences::{Identity, Sequences};
use crate::error::SendError;
use crate::retry::Backoff;

/// What decides about batches, the same for all partitions of a producer.
#[derive(Debug)]
pub(super) struct QueueOptions {
    pub(super) limits: BatchLimits,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Duration,
    /// Whether batches are numbered, so that the broker appends each once.
    pub(super) idempotent: bool,
    /// Whether to try again what may be appended already.
    pub(super) retry_in_doubt: bool,
    pub(super) backoff: Backoff,
}

/// Whether a partition has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Now.
    Now,
    /// The open batch, at this time.
    At(Instant),
    /// Not before something else happens: an answer, or another record.
    Later,
    /// Not before a failure is mended.
    Blocked,
}

/// What an attempt to send a batch came to.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The broker has it.
    Appended(Option<Offset>),
    /// It failed in a way that another attempt may mend. Its metadata was of this generation, and
    /// newer is needed if it is given.
    Returned {
        error: SendError,
        needs_newer: Option<u64>,
    },
    /// It was refused because the one before it is missing.
    OutOfOrder(SendError),
    /// It was refused because its producer is replaced by a newer one.
    Fenced(SendError),
    /// It failed for good.
    Failed(SendError),
}

/// A batch that is done, with what it came to. Resolved outside of the partition's lock.
pub(super) type Finished = (Batch, Outcome);

/// A batch to send.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) bytes: Bytes,
    pub(super) deadline: Instant,
}

/// Where a record went.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) index: u32,
    /// The record began a new batch because the open one was full.
    pub(super) closed_one: bool,
}

/// Where several records went.
#[derive(Debug)]
pub(super) struct Run {
    /// Nothing, if none was appended.
    pub(super) segment: Option<Segment>,
    /// The next record does not fit into the batch, which is closed.
    pub(super) full: bool,
}

#[derive(Debug)]
pub(super) struct PartitionQueue {
    topic: TopicName,
    partition: PartitionId,
    open: Option<OpenBatch>,
    ready: VecDeque<Batch>,
    in_flight: VecDeque<Batch>,
    returned: Vec<Batch>,
    next_number: u64,
    /// The latest batch that was appended, or may have been and is not tried again.
    appended: Option<u64>,
    /// The numbers of an idempotent producer.
    sequences: Option<Sequences>,
    /// The connection that carries what is in flight.
    connection: u64,
    hold_until: Option<Instant>,
    needs_newer: Option<u64>,
    last_sent: Option<Instant>,
    /// The last batches were large, so the next is given a large buffer.
    large: bool,
    /// What is counted against the buffer.
    charged: usize,
    /// In a lane's list.
    pub(super) scheduled: bool,
    /// In the list of those that wait for their linger time.
    pub(super) lingering: bool,
    /// In the list of those that something must be mended for.
    pub(super) troubled: bool,
}

impl PartitionQueue {
    pub(super) fn new(topic: TopicName, partition: PartitionId, idempotent: bool) -> Self {
        Self {
            sequences: idempotent.then(Sequences::default),
            topic,
            partition,
            open: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            returned: Vec::new(),
            next_number: 0,
            appended: None,
            connection: 0,
            hold_until: None,
            needs_newer: None,
            last_sent: None,
            large: false,
            charged: 0,
            scheduled: false,
            lingering: false,
            troubled: false,
        }
    }

    /// Bytes that the partition holds of the producer's buffer.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Appends a record to the open batch, or to a new one when that is full.
    #[inline]
    pub(super) fn push(
        &mut self,
        record: &RecordSlices<'_>,
        timestamp: Timestamp,
        charge: usize,
        options: &QueueOptions,
        builders: &Builders,
    ) -> Placed {
        let mut closed_one = false;
        if let Some(open) = &self.open
            && !open.has_room(charge, &options.limits)
        {
            self.close_open();
            closed_one = true;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open_batch(builders),
        };
        let index = open.push(record, timestamp, charge);
        self.charged += charge;
        Placed { index, closed_one }
    }

    /// Appends records to the open batch as long as they fit into it and into `room`, and `stays`
    /// says that they belong here. `next` is the first that does not, `rest` what follows.
    ///
    /// `room` must be enough for the first record: an open batch is never empty.
    #[inline]
    pub(super) fn push_run<'r, I>(
        &mut self,
        next: &mut Option<RecordSlices<'r>>,
        rest: &mut I,
        room: &mut usize,
        time: Timestamp,
        (options, builders): (&QueueOptions, &Builders),
        mut stays: impl FnMut(&RecordSlices<'r>) -> bool,
    ) -> Run
    where
        I: Iterator<Item = RecordSlices<'r>>,
    {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open_batch(builders),
        };
        let first_index = open.builder.count();
        let room_before = *room;
        let mut left = room_before;
        let mut full = false;
        let mut at_hand = next.take();
        while let Some(record) = &at_hand {
            let charge = record.charge();
            // The first one belongs here: the caller chose the partition for it.
            if charge > left || (left < room_before && !stays(record)) {
                break;
            }
            if !open.has_room(charge, &options.limits) {
                full = true;
                break;
            }
            let timestamp = record.timestamp.unwrap_or(time);
            open.builder
                .push(timestamp, record.key, record.value, record.headers);
            left -= charge;
            at_hand = rest.next();
        }
        *next = at_hand;
        *room = left;
        let charged = room_before - left;
        open.charged += charged;
        let records = open.builder.count() - first_index;
        let segment = (records > 0).then(|| Segment {
            state: Arc::clone(&open.ticket.state),
            first_index,
            records,
        });
        self.charged += charged;
        if full {
            self.close_open();
        }
        Run { segment, full }
    }

    #[cold]
    fn open_batch(&mut self, builders: &Builders) -> &mut OpenBatch {
        let builder = builders.take(self.large);
        let (topic, now) = (self.topic.clone(), Instant::now());
        self.open
            .insert(OpenBatch::new(builder, topic, self.partition, now))
    }

    /// The batch that the last record went to.
    pub(super) fn open_state(&self) -> Option<&Arc<BatchState>> {
        self.open.as_ref().map(|open| &open.ticket.state)
    }

    fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            let sequences = self.sequences.as_ref();
            let stamp = sequences.and_then(|sequences| sequences.plan(self.ready.back()));
            let batch = open.close(self.next_number, stamp);
            self.next_number += 1;
            self.large = batch.charged > SMALL_BATCH_BYTES;
            self.ready.push_back(batch);
        }
    }

    /// Whether there is something to send. `hurry`: somebody flushes, the linger time does not count.
    pub(super) fn readiness(&self, options: &QueueOptions, hurry: bool) -> Readiness {
        if self.scheduled || self.troubled || !self.returned.is_empty() {
            // Whoever has it in a list looks at it again; of what came back, the answer to what is
            // still in flight decides.
            return Readiness::Later;
        }
        if self.hold_until.is_some() {
            return Readiness::Blocked;
        }
        if !self.in_flight.is_empty() && self.must_wait_for_answers() {
            return Readiness::Later;
        }
        if !self.ready.is_empty() {
            return Readiness::Now;
        }
        let Some(open) = &self.open else {
            return Readiness::Later;
        };
        if open.builder.count() >= options.limits.records {
            return Readiness::Now;
        }
        let linger = options.linger;
        if linger.is_zero() || hurry {
            // While an answer is outstanding, records gather: it costs them nothing but the time
            // that the broker needs anyway.
            return if self.in_flight.is_empty() {
                Readiness::Now
            } else {
                Readiness::Later
            };
        }
        let due = match self.last_sent {
            // After a pause nothing is gained by waiting.
            None => return Readiness::Now,
            Some(sent) if self.in_flight.is_empty() => sent + linger,
            Some(_) => open.opened_at + linger,
        };
        if due <= Instant::now() {
            Readiness::Now
        } else {
            Readiness::At(due)
        }
    }

    /// Whether the sequence forbids to send more before what is in flight is resolved.
    fn must_wait_for_answers(&self) -> bool {
        let (Some(sequences), Some(oldest)) = (&self.sequences, self.in_flight.front()) else {
            return false;
        };
        let next = self.ready.front();
        let goes_again = next.is_some_and(|batch| batch.numbered);
        if sequences.are_broken() && !goes_again {
            return true;
        }
        // Also those in between that are resolved count: with more behind it, the broker would not
        // know any more where the oldest is, should that be sent again.
        let number = next.map_or(self.next_number, |batch| batch.number);
        number - oldest.number >= sequences.in_flight_max()
    }

    /// Whether nothing can be sent for want of a producer id.
    pub(super) fn lacks_identity(&self) -> bool {
        let sequences = self.sequences.as_ref();
        sequences.is_some_and(Sequences::lack_identity)
    }

    /// The producer id that this partition cannot use any more.
    pub(super) fn used_up_identity(&self) -> Option<ProducerId> {
        self.sequences.as_ref()?.used_up()
    }

    /// Sends under this identity from now on.
    pub(super) fn adopt(&mut self, identity: Identity) {
        if let Some(sequences) = &mut self.sequences {
            sequences.adopt(identity);
        }
    }

    /// Prepares to number the next batch for this log; `false` if that is not possible now.
    fn prepare_numbers(&mut self, topic_id: TopicId) -> bool {
        let Some(sequences) = &mut self.sequences else {
            return true;
        };
        if !self.in_flight.is_empty() {
            // Another log only after every answer about the old one.
            return sequences.are_about(topic_id);
        }
        if sequences.follow(topic_id) {
            for batch in &mut self.ready {
                batch.numbered = false;
            }
        }
        let goes_again = self.ready.front().is_some_and(|batch| batch.numbered);
        if sequences.are_broken() && !goes_again {
            // Whatever has numbers is resolved: what made the hole was given up.
            sequences.restart();
        }
        !sequences.lack_identity()
    }

    /// The next batch to send to this log on the connection, if it may go.
    pub(super) fn take(
        &mut self,
        connection: u64,
        topic_id: TopicId,
        options: &QueueOptions,
        hurry: bool,
    ) -> Option<Sent> {
        if self.readiness(options, hurry) != Readiness::Now {
            return None;
        }
        if !self.in_flight.is_empty() && self.connection != connection {
            // Only one connection keeps the order: its answers, or its end, come first.
            return None;
        }
        if !self.prepare_numbers(topic_id) {
            return None;
        }
        if self.ready.is_empty() {
            self.close_open();
        }
        let mut batch = self.ready.pop_front()?;
        if let Some(sequences) = &mut self.sequences {
            sequences.number(&mut batch);
        }
        batch.first = self.in_flight.is_empty();
        if self.connection != connection
            && let Some(sequences) = &mut self.sequences
        {
            sequences.doubt_proof();
        }
        self.connection = connection;
        self.last_sent = Some(Instant::now());
        batch.attempts += 1;
        batch.ticket.sent = true;
        let sent = Sent {
            number: batch.number,
            bytes: batch.bytes.clone(),
            deadline: batch.opened_at + options.delivery_timeout,
        };
        self.in_flight.push_back(batch);
        Some(sent)
    }

    /// The metadata generation that must be passed before the next attempt.
    pub(super) fn needs_newer(&self) -> Option<u64> {
        self.needs_newer
    }

    /// Up to when nothing is sent.
    pub(super) fn hold_until(&self) -> Option<Instant> {
        self.hold_until
    }

    /// Lets batches go again.
    pub(super) fn release(&mut self) {
        self.hold_until = None;
        self.needs_newer = None;
    }

    /// Whether records wait here that are not in flight.
    pub(super) fn has_waiting(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty() || !self.returned.is_empty()
    }

    /// When the oldest batch that is not in flight has had its time.
    pub(super) fn next_deadline(&self, options: &QueueOptions) -> Option<Instant> {
        let waiting = self
            .ready
            .iter()
            .chain(&self.returned)
            .map(|batch| batch.opened_at);
        let opened = waiting
            .chain(self.open.as_ref().map(|open| open.opened_at))
            .min()?;
        Some(opened + options.delivery_timeout)
    }

    /// Everything that is not resolved yet, for those who wait for it.
    pub(super) fn unresolved(&self) -> Vec<Arc<BatchState>> {
        let closed = self
            .in_flight
            .iter()
            .chain(&self.returned)
            .chain(&self.ready);
        let states = closed.map(|batch| Arc::clone(&batch.ticket.state));
        states.chain(self.open_state().cloned()).collect()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "idempotence_tests.rs"]
mod idempotence_tests;
