//! Sending records.

mod ack;
mod batch;
mod builder;
mod core;
mod dispatch;
mod identity;
mod many;
mod partitioner;
mod queue;
mod record;
mod sequences;
mod topic;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use self::core::{Hurry, ProducerCore};
use crate::error::{CloseError, Rejected, SendError, Undelivered};

pub use ack::{Ack, AckRange, BatchAck, PendingAck, PendingBatch, Settled};
pub use builder::ProducerBuilder;
pub use partitioner::{KeyHashPartitioner, Partitioner};
pub use record::{ProducerRecord, RecordSlices};

/// Sends records. Clones share the buffer and the order.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = highwater_broker::EmbeddedBroker::start().await?;
/// use std::time::Duration;
/// use highwater_client::{Client, NewTopic, ProducerRecord};
///
/// let client = Client::connect(broker.address().to_string()).await?;
/// client.admin().create_topic(NewTopic::new("orders").partitions(1)).await?;
/// let producer = client.producer().build();
///
/// // One at a time, waiting for each acknowledgement:
/// let ack = producer.send(ProducerRecord::to("orders").key("k").value("first")).await?;
/// assert_eq!(ack.offset.map(|offset| offset.get()), Some(0));
///
/// // Many at a time: the acknowledgements are futures.
/// let mut pending = Vec::new();
/// for n in 0..100 {
///     pending.push(producer.enqueue(ProducerRecord::to("orders").value(n.to_string())).await?);
/// }
/// for ack in pending {
///     ack.await?;
/// }
/// producer.close(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
///
/// **Batching.** Records of a partition are batched by bytes, count and linger time. A record for an
/// idle partition is written to the socket by the very call that brings it; while a request is
/// unanswered, further records gather and go together with the answer.
///
/// **Order.** The records of one partition are appended in the order in which they were enqueued,
/// also when attempts fail, and each once, however often it had to be sent: see
/// [`ProducerBuilder::idempotent`]. A record that was given up and whose error says that it may be in
/// the log may still appear there for as long as a request of it is under way.
///
/// **Retries.** A failed attempt is repeated with exponential backoff until the delivery timeout;
/// then the records' acknowledgements resolve with an error that says whether they may be in the log.
///
/// **End.** Dropping the last clone does not drop records: the producer's task delivers what was
/// enqueued, as long as the runtime lives, and ends then. [`Producer::close`] waits for that.
pub struct Producer {
    core: Arc<ProducerCore>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("buffered_bytes", &self.buffered_bytes())
            .finish_non_exhaustive()
    }
}

impl Clone for Producer {
    fn clone(&self) -> Self {
        self.core.handles.fetch_add(1, Ordering::AcqRel);
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.upkeep.wake();
        }
    }
}

impl Producer {
    fn start(builder: ProducerBuilder) -> Self {
        let core = Arc::new(ProducerCore::new(builder));
        core.client.runtime.spawn(upkeep::run(Arc::clone(&core)));
        Self { core }
    }

    /// Sends a record and waits until it is acknowledged.
    ///
    /// # Errors
    /// [`SendError`]; its `may_have_committed` says whether the record may be in the log.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits for room in the buffer takes the record back; later, the
    /// record is delivered all the same, in its place, and nobody learns of it. Buffer space is
    /// never lost.
    pub async fn send(&self, record: ProducerRecord) -> Result<Ack, SendError> {
        self.enqueue(record).await?.await
    }

    /// Sends records and waits until all of them are acknowledged; the results are in their order.
    ///
    /// # Cancel safety
    /// Not cancel safe: records that were taken before the future was dropped are delivered, the
    /// others are not. Buffer space is never lost.
    pub async fn send_all(
        &self,
        records: impl IntoIterator<Item = ProducerRecord>,
    ) -> Vec<Result<Ack, SendError>> {
        let mut pending = Vec::new();
        for record in records {
            pending.push(self.enqueue(record).await);
        }
        let mut results = Vec::with_capacity(pending.len());
        for ack in pending {
            results.push(match ack {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Puts a record into the buffer, waiting for room; the acknowledgement is awaited apart.
    ///
    /// # Errors
    /// [`SendError`] when the record cannot be taken; then it is not sent.
    ///
    /// # Cancel safety
    /// Dropping the future takes the record back; buffer space is never lost.
    pub async fn enqueue(&self, record: ProducerRecord) -> Result<PendingAck, SendError> {
        let core = &self.core;
        core.check_open()?;
        let topic = core.topic(&record.topic).await?;
        let key = record.key.as_deref();
        let partition = match topic.choose(record.partition, key, &*core.partitioner) {
            Ok(partition) => partition,
            Err(SendError::UnknownPartition { .. }) => {
                // It may have been added since the metadata was read.
                core.look_again(&topic).await?;
                topic.choose(record.partition, key, &*core.partitioner)?
            }
            Err(error) => return Err(error),
        };
        let headers = record.header_pairs();
        let slices = record.slices(&headers);
        let charge = slices.charge();
        core.check_size(charge)?;
        if !core.try_reserve(&partition, charge, core.share_bytes()) {
            core.reserve(&partition, charge, core.share_bytes()).await?;
        }
        Ok(core.push(&partition, &topic, &slices, charge))
    }

    /// As [`Self::enqueue`], without waiting.
    ///
    /// # Errors
    /// [`Rejected`] hands the record back: with `BufferFull`, with `MetadataPending` while a topic
    /// that is new to this producer is being asked for, or with what makes it impossible to send.
    pub fn try_enqueue(&self, record: ProducerRecord) -> Result<PendingAck, Rejected> {
        match self.try_enqueue_ref(&record) {
            Ok(pending) => Ok(pending),
            Err(error) => Err(Rejected {
                record: Box::new(record),
                error,
            }),
        }
    }

    fn try_enqueue_ref(&self, record: &ProducerRecord) -> Result<PendingAck, SendError> {
        let core = &self.core;
        core.check_open()?;
        let Some(topic) = core.known_topic(&record.topic) else {
            let name = highwater_protocol::ids::TopicName::new(&record.topic)?;
            let asking = Arc::clone(core);
            let asked = name.clone();
            core.client.runtime.spawn(async move {
                // Whoever tries again finds the topic, or the error by waiting for it.
                let _ = asking.topic(asked.as_str()).await;
            });
            return Err(SendError::MetadataPending { topic: name });
        };
        let key = record.key.as_deref();
        let partition = topic.choose(record.partition, key, &*core.partitioner)?;
        let headers = record.header_pairs();
        let slices = record.slices(&headers);
        let charge = slices.charge();
        core.check_size(charge)?;
        if !core.try_reserve(&partition, charge, core.share_bytes()) {
            return Err(SendError::BufferFull {
                buffer_bytes: core.buffer_bytes,
            });
        }
        Ok(core.push(&partition, &topic, &slices, charge))
    }

    /// Bytes of records that were enqueued and are not acknowledged yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.core.buffered_bytes()
    }

    /// Waits until every record that was enqueued before is resolved, one way or another: their
    /// acknowledgements say which. Batches go at once, without lingering.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn flush(&self) {
        let _hurry = Hurry::begin(&self.core);
        let mut unresolved = Vec::new();
        for partition in self.core.all_partitions() {
            let readiness = {
                let queue = partition.queue.lock();
                unresolved.extend(queue.unresolved());
                queue.readiness(&self.core.options, true)
            };
            self.core.act_on(&partition, readiness);
        }
        for state in unresolved {
            ack::resolved(state).await;
        }
    }

    /// Refuses further records, waits for those that were enqueued, and gives up those that are not
    /// acknowledged when the time is over. This is for all clones.
    ///
    /// # Errors
    /// [`CloseError`] holds what was not delivered, records included.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the producer closed; what was enqueued is still delivered.
    pub async fn close(&self, within: Duration) -> Result<(), CloseError> {
        self.core.closed.store(true, Ordering::Release);
        self.core.close_buffer();
        if timeout(within, self.flush()).await.is_ok() {
            return Ok(());
        }
        let mut undelivered = Vec::new();
        for partition in self.core.all_partitions() {
            let finished = partition.queue.lock().abandon();
            undelivered.extend(finished.iter().map(|(batch, _)| Undelivered {
                topic: batch.ticket.state.topic().clone(),
                partition: batch.ticket.state.partition(),
                records: batch.records,
                may_have_committed: batch.may_be_appended,
                batch: batch.bytes.clone(),
            }));
            self.core.finish(&partition, finished);
        }
        if undelivered.is_empty() {
            Ok(())
        } else {
            Err(CloseError { undelivered })
        }
    }
}
