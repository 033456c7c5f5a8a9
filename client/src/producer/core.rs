//! What the handles of a producer, its upkeep task and the completions of its requests share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_protocol::ids::{NodeId, Timestamp, TopicName};
use highwater_protocol::messages::Acks;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::ack::PendingAck;
use super::batch::Builders;
use super::builder::ProducerBuilder;
use super::dispatch::Lane;
use super::identity::{self, IdentityCell};
use super::partitioner::Partitioner;
use super::queue::{Finished, QueueOptions, Readiness};
use super::record::RecordSlices;
use super::topic::{Partition, ProducerTopic};
use super::upkeep::Upkeep;
use crate::client::ClientCore;
use crate::error::SendError;
use crate::metadata::LookupError;

/// Makes open batches go without lingering as long as it exists.
#[derive(Debug)]
pub(super) struct Hurry<'a>(&'a ProducerCore);

impl<'a> Hurry<'a> {
    pub(super) fn begin(core: &'a ProducerCore) -> Self {
        core.hurry.fetch_add(1, Ordering::AcqRel);
        core.upkeep.wake();
        Self(core)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurry.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Batches that a bulk caller may be ahead of those in flight.
const BULK_BATCHES_AHEAD: usize = 2;

#[derive(Debug)]
pub(super) struct ProducerCore {
    pub(super) client: Arc<ClientCore>,
    pub(super) acks: Acks,
    pub(super) max_in_flight: usize,
    pub(super) request_timeout: Duration,
    pub(super) options: QueueOptions,
    pub(super) partitioner: Arc<dyn Partitioner>,
    pub(super) builders: Builders,
    pub(super) topics: RwLock<HashMap<TopicName, Arc<ProducerTopic>>>,
    pub(super) lanes: Mutex<HashMap<NodeId, Arc<Lane>>>,
    pub(super) upkeep: Upkeep,
    pub(super) identity: IdentityCell,
    /// Counts flushes under way: while there are any, nothing lingers.
    pub(super) hurry: AtomicUsize,
    pub(super) closed: AtomicBool,
    /// Free bytes of the buffer.
    buffer: Semaphore,
    pub(super) buffer_bytes: usize,
    /// Handles that still exist.
    pub(super) handles: AtomicUsize,
}

impl ProducerCore {
    pub(super) fn new(builder: ProducerBuilder) -> Self {
        // A batch that cannot fit into one partition's part of the buffer would never fill up.
        let batch_bytes = builder.batch_bytes.min(builder.buffer_bytes / 2);
        let options = QueueOptions {
            limits: super::batch::BatchLimits {
                bytes: batch_bytes,
                records: builder.batch_records,
            },
            linger: builder.linger,
            delivery_timeout: builder.delivery_timeout,
            // Without answers there is nothing to try again.
            idempotent: builder.idempotent && builder.acks != Acks::None,
            retry_in_doubt: builder.retry_in_doubt,
            backoff: builder.backoff,
        };
        let level = builder.compression_level;
        let kept = builder
            .max_in_flight
            .saturating_add(BULK_BATCHES_AHEAD + 1)
            .min(64);
        Self {
            request_timeout: builder.client.request_timeout,
            client: builder.client,
            acks: builder.acks,
            max_in_flight: builder.max_in_flight,
            options,
            partitioner: builder.partitioner,
            builders: Builders::new(builder.compression, level, batch_bytes, kept),
            topics: RwLock::default(),
            lanes: Mutex::default(),
            upkeep: Upkeep::default(),
            identity: IdentityCell::default(),
            hurry: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            buffer: Semaphore::new(builder.buffer_bytes),
            buffer_bytes: builder.buffer_bytes,
            handles: AtomicUsize::new(1),
        }
    }

    pub(super) fn check_open(&self) -> Result<(), SendError> {
        if self.closed.load(Ordering::Acquire) {
            Err(SendError::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn hurries(&self) -> bool {
        self.hurry.load(Ordering::Acquire) > 0
    }

    pub(super) fn known_topic(&self, name: &str) -> Option<Arc<ProducerTopic>> {
        self.topics.read().get(name).cloned()
    }

    /// The topic, from metadata if it is new to this producer.
    pub(super) async fn topic(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<Arc<ProducerTopic>, SendError> {
        if let Some(topic) = self.known_topic(name) {
            return Ok(topic);
        }
        let name = TopicName::new(name)?;
        if self.options.idempotent {
            // While the topic is looked up: the first batch needs it.
            identity::ask(self);
        }
        let found = self
            .client
            .topic(&name)
            .await
            .map_err(|error| lookup_failed(&name, error))?;
        Ok(self.adopt(&name, found.partition_count()))
    }

    pub(super) fn adopt(&self, name: &TopicName, partitions: u32) -> Arc<ProducerTopic> {
        let mut topics = self.topics.write();
        let topic = topics
            .entry(name.clone())
            .or_insert_with(|| Arc::new(ProducerTopic::new(name.clone(), self.options.idempotent)));
        topic.set_count(partitions);
        Arc::clone(topic)
    }

    /// The topic with such a partition, if it has been added since.
    pub(super) async fn look_again(&self, topic: &ProducerTopic) -> Result<(), SendError> {
        let seen = self
            .client
            .metadata
            .topic(topic.name.as_str())
            .map(|topic| topic.generation);
        let found = self
            .client
            .refresh(&topic.name, seen)
            .await
            .map_err(|error| lookup_failed(&topic.name, error))?;
        topic.set_count(found.partition_count());
        Ok(())
    }

    /// The most that one partition may hold of the buffer.
    pub(super) fn share_bytes(&self) -> usize {
        self.buffer_bytes / 2
    }

    /// The most that one partition holds of the buffer for callers that bring many records: what is
    /// in flight and a little more. A longer backlog would send no faster, only out of colder memory.
    pub(super) fn bulk_share_bytes(&self) -> usize {
        let batches = self.max_in_flight.saturating_add(BULK_BATCHES_AHEAD);
        self.share_bytes()
            .min(self.options.limits.bytes.saturating_mul(batches))
    }

    /// A record that would never fit is refused instead of waiting for ever.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), SendError> {
        let bytes_max = self.share_bytes();
        if bytes > bytes_max {
            Err(SendError::RecordTooLarge { bytes, bytes_max })
        } else {
            Ok(())
        }
    }

    /// Takes room out of the buffer if it is there and the partition holds less than its share.
    pub(super) fn try_reserve(&self, partition: &Partition, bytes: usize, share: usize) -> bool {
        if partition.queue.lock().charged() >= share {
            return false;
        }
        self.try_take_buffer(bytes)
    }

    fn try_take_buffer(&self, bytes: usize) -> bool {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.buffer.try_acquire_many(permits) {
            Ok(room) => {
                room.forget();
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for room in the buffer. The caller owns it until a record is pushed with it.
    ///
    /// Cancel safe: room that was granted is given back.
    pub(super) async fn reserve(
        &self,
        partition: &Partition,
        bytes: usize,
        share: usize,
    ) -> Result<(), SendError> {
        // Whoever waits for room needs the batches that hold it to go.
        let _hurry = Hurry::begin(self);
        loop {
            let given_back = partition.room.notified();
            tokio::pin!(given_back);
            given_back.as_mut().enable();
            if partition.queue.lock().charged() < share {
                break;
            }
            given_back.await;
            self.check_open()?;
        }
        if self.try_take_buffer(bytes) {
            return Ok(());
        }
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self
            .buffer
            .acquire_many(permits)
            .await
            .map_err(|_| SendError::Closed)?;
        self.check_open()?;
        room.forget();
        Ok(())
    }

    /// Gives back room that nothing was pushed with.
    pub(super) fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.buffer.add_permits(bytes);
        }
    }

    /// Wakes everyone who waits for room, with an error.
    pub(super) fn close_buffer(&self) {
        self.buffer.close();
        for topic in self.topics.read().values() {
            for partition in topic.partitions() {
                partition.room.notify_waiters();
            }
        }
    }

    /// Puts one record into the partition's batch and sends what is to be sent. The room for it was
    /// reserved before.
    pub(super) fn push(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        topic: &ProducerTopic,
        record: &RecordSlices<'_>,
        charge: usize,
    ) -> PendingAck {
        let timestamp = record.timestamp.unwrap_or_else(now);
        let (ack, closed_one, readiness) = {
            let mut queue = partition.queue.lock();
            let placed = queue.push(record, timestamp, charge, &self.options, &self.builders);
            let state = queue.open_state().expect("a push leaves a batch open");
            let ack = PendingAck::new(Arc::clone(state), placed.index, timestamp);
            (
                ack,
                placed.closed_one,
                queue.readiness(&self.options, self.hurries()),
            )
        };
        if closed_one {
            topic.move_on(partition.id);
        }
        self.act_on(partition, readiness);
        ack
    }

    /// A batch of this partition is closed: records without a key go on to the next one.
    pub(super) fn move_on(&self, partition: &Partition) {
        if let Some(topic) = self.known_topic(partition.topic.as_str()) {
            topic.move_on(partition.id);
        }
    }

    /// Does what a partition's state asks for.
    pub(super) fn act_on(self: &Arc<Self>, partition: &Arc<Partition>, readiness: Readiness) {
        match readiness {
            Readiness::Now => self.schedule(partition),
            Readiness::At(due) => self.upkeep.linger(partition, due),
            Readiness::Blocked => self.upkeep.trouble(partition),
            Readiness::Later => {}
        }
    }

    /// Resolves batches and gives back what they occupied. Not under a partition's lock.
    pub(super) fn finish(&self, partition: &Partition, finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        // Whoever sees the acknowledgement finds the room free again.
        self.give_back(finished.iter().map(|(batch, _)| batch.charged).sum());
        for (batch, outcome) in finished {
            batch.ticket.state.resolve(outcome);
            drop(batch.bytes);
            self.builders.give_back(batch.builder, batch.charged);
        }
        partition.room.notify_waiters();
        if self.handles.load(Ordering::Acquire) == 0 {
            self.upkeep.wake();
        }
    }

    /// Whether any record is not resolved yet.
    pub(super) fn has_unresolved(&self) -> bool {
        self.buffer.available_permits() < self.buffer_bytes
    }

    /// Bytes of records that are not acknowledged yet.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer_bytes
            .saturating_sub(self.buffer.available_permits())
    }

    pub(super) fn all_partitions(&self) -> Vec<Arc<Partition>> {
        let topics: Vec<_> = self.topics.read().values().cloned().collect();
        topics.iter().flat_map(|topic| topic.partitions()).collect()
    }
}

pub(super) fn lookup_failed(name: &TopicName, error: LookupError) -> SendError {
    let topic = name.clone();
    match error {
        LookupError::Unknown => SendError::UnknownTopic { topic },
        LookupError::Request(source) => SendError::Metadata { topic, source },
    }
}

/// The time of day, for records that come without one.
pub(super) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
