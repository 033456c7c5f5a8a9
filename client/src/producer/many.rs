//! Many records with one call: the lock is taken once per chunk and records are encoded straight
//! into the batch.

use std::sync::Arc;

use highwater_protocol::ids::{PartitionId, Timestamp};

use super::ack::{PendingBatch, Segment};
use super::core::{ProducerCore, now};
use super::record::RecordSlices;
use super::topic::{Partition, ProducerTopic};
use super::{Producer, SendError};
use crate::error::PartlyEnqueued;

/// Room that is reserved at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Records to enqueue, with the next one in hand.
struct Source<'r, I> {
    next: Option<RecordSlices<'r>>,
    rest: I,
}

/// Where the records of a call go.
struct Target<'a> {
    core: &'a Arc<ProducerCore>,
    topic: &'a Arc<ProducerTopic>,
    asked: Option<PartitionId>,
}

/// Reserved room that goes back when the call ends.
struct Room<'a> {
    core: &'a ProducerCore,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.core.give_back(self.bytes);
    }
}

impl Target<'_> {
    fn choose(&self, record: &RecordSlices<'_>) -> Result<Arc<Partition>, SendError> {
        self.topic
            .choose(self.asked, record.key, &*self.core.partitioner)
    }

    /// Pushes records as long as they go to this partition, there is room, and its batch is not full.
    /// Returns whether a batch was closed.
    fn fill<'r, I>(
        &self,
        partition: &Partition,
        source: &mut Source<'r, I>,
        room: &mut usize,
        segments: &mut Vec<Segment>,
        time: Timestamp,
    ) -> bool
    where
        I: Iterator<Item = RecordSlices<'r>>,
    {
        let core = self.core;
        let count = self.topic.count();
        // With one possible target the partitioner need not be asked for every record.
        let fixed = self.asked.is_some() || count == 1;
        let stays = |record: &RecordSlices<'_>| {
            let pick = || {
                self.topic
                    .pick(self.asked, record.key, count, &*core.partitioner)
            };
            fixed || pick() == partition.id
        };
        let with = (&core.options, &core.builders);
        let Source { next, rest } = source;
        let run = partition
            .queue
            .lock()
            .push_run(next, rest, room, time, with, stays);
        segments.extend(run.segment);
        run.full
    }
}

impl Producer {
    /// Puts many records of one topic into the buffer, waiting for room as it goes. This is the
    /// fast way in: a few ns per record on top of copying its bytes.
    ///
    /// Each record is anything that becomes [`RecordSlices`]: a value, or a pair of key and value.
    /// Without a partition the partitioner decides for each.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = highwater_broker::EmbeddedBroker::start().await?;
    /// # let client = highwater_client::Client::connect(broker.address().to_string()).await?;
    /// # client.admin().create_topic(highwater_client::NewTopic::new("lines").partitions(1)).await?;
    /// # let producer = client.producer().build();
    /// let text = "one\ntwo\nthree";
    /// let pending = producer.enqueue_many("lines", None, text.lines()).await?;
    /// let ack = pending.await?;
    /// assert_eq!(ack.records(), 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PartlyEnqueued`] when a record cannot be taken: the acknowledgements of those before it
    /// come along.
    ///
    /// # Cancel safety
    /// Not cancel safe: records that were taken before the future was dropped are delivered, the
    /// others are not, and nobody learns which. Buffer space is never lost.
    pub async fn enqueue_many<'r, I>(
        &self,
        topic: &str,
        partition: Option<PartitionId>,
        records: I,
    ) -> Result<PendingBatch, PartlyEnqueued>
    where
        I: IntoIterator,
        I::Item: Into<RecordSlices<'r>>,
    {
        let core = &self.core;
        let mut segments = Vec::new();
        let found = match core.check_open() {
            Ok(()) => core.topic(topic).await,
            Err(error) => Err(error),
        };
        let topic = match found {
            Ok(topic) => topic,
            Err(error) => {
                return Err(PartlyEnqueued {
                    enqueued: None,
                    error,
                });
            }
        };
        let target = Target {
            core,
            topic: &topic,
            asked: partition,
        };
        let mut rest = records.into_iter().map(Into::into);
        let source = Source {
            next: rest.next(),
            rest,
        };
        match fill_all(&target, source, &mut segments).await {
            Ok(()) => Ok(PendingBatch::new(topic.name.clone(), segments)),
            Err(error) => {
                let some = !segments.is_empty();
                let enqueued = some.then(|| PendingBatch::new(topic.name.clone(), segments));
                Err(PartlyEnqueued { enqueued, error })
            }
        }
    }
}

async fn fill_all<'r, I>(
    target: &Target<'_>,
    mut source: Source<'r, I>,
    segments: &mut Vec<Segment>,
) -> Result<(), SendError>
where
    I: Iterator<Item = RecordSlices<'r>>,
{
    let core = target.core;
    let time = now();
    let mut room = Room { core, bytes: 0 };
    // At least two chunks fit into one partition's part of the buffer.
    let chunk_bytes = CHUNK_BYTES.min(core.share_bytes() / 2);
    let share = core.bulk_share_bytes();
    let mut looked_again = false;
    while let Some(record) = &source.next {
        let charge = record.charge();
        core.check_size(charge)?;
        let partition = match target.choose(record) {
            Ok(partition) => partition,
            Err(SendError::UnknownPartition { .. }) if !looked_again => {
                // It may have been added since the metadata was read.
                looked_again = true;
                core.look_again(target.topic).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if room.bytes < charge {
            let wanted = charge.max(chunk_bytes) - room.bytes;
            if !core.try_reserve(&partition, wanted, share) {
                core.reserve(&partition, wanted, share).await?;
            }
            room.bytes += wanted;
            core.check_open()?;
            // A buffer that never fills up would otherwise keep the task from ever yielding.
            tokio::task::consume_budget().await;
        }
        let closed_one = target.fill(&partition, &mut source, &mut room.bytes, segments, time);
        if closed_one {
            target.topic.move_on(partition.id);
        }
        let readiness = partition
            .queue
            .lock()
            .readiness(&core.options, core.hurries());
        core.act_on(&partition, readiness);
    }
    Ok(())
}
