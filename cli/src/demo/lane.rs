//! The way of records into one partition, strictly in order and strictly once.
//!
//! A lane has one chunk on its way at a time. In a cluster the producer does the rest: it finds the
//! new leader and sends again, and the brokers recognise what they have already.
//!
//! With one broker a lane shows what an application can find out by itself. It has its producer not
//! retry where the outcome is in doubt, and when it does not know what became of a chunk it asks the
//! broker: the lane is the only writer of its partition, so whatever lies behind the last
//! acknowledged record is the beginning of that chunk. What landed is compared with what was sent,
//! and only the rest is sent again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_client::{Client, OffsetSpec, Producer, SendError, Start};
use highwater_protocol::ids::{Offset, PartitionId};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::demo::chain::fingerprint;
use crate::demo::chunk::Chunk;
use crate::demo::track::Track;

/// How long a broker may be away.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The writer of one partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) client: Client,
    pub(crate) producer: Producer,
    /// Whether the lane finds out what became of records, rather than the producer.
    pub(crate) resolves_doubts: bool,
    pub(crate) track: Arc<Track>,
    pub(crate) partition: u32,
    pub(crate) chunks: mpsc::Receiver<Chunk>,
}

/// What became of chunks whose outcome was in doubt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubts {
    /// Chunks.
    pub(crate) chunks: u64,
    /// Records of them that had landed.
    pub(crate) landed: u64,
    /// Records of them that had to be sent again.
    pub(crate) sent_again: u64,
}

impl Doubts {
    /// Takes in those of another partition.
    pub(crate) fn add(&mut self, other: Doubts) {
        self.chunks += other.chunks;
        self.landed += other.landed;
        self.sent_again += other.sent_again;
    }
}

impl Lane {
    /// Sends all chunks until no more will come.
    pub(crate) async fn run(mut self) -> Result<Doubts> {
        let mut doubts = Doubts::default();
        let mut end = 0;
        while let Some(mut chunk) = self.chunks.recv().await {
            {
                // Before the records can possibly come back.
                let mut chain = self.track.chain(self.partition);
                for (key, value) in chunk.records() {
                    chain.expect(fingerprint(key, value), chunk.due());
                }
            }
            while !chunk.is_empty() {
                let records = chunk.count() as u64;
                match self.send(&chunk).await {
                    Ok(offset) => {
                        // A broker that has the records from an earlier attempt may not know where:
                        // the reader will see.
                        ensure!(
                            offset.is_none_or(|offset| offset.get() == end),
                            "{}/{}: acknowledged at {offset:?} instead of {end}",
                            self.track.name(),
                            self.partition
                        );
                        end += records;
                        self.track.acknowledged(self.partition, records);
                        break;
                    }
                    Err(error)
                        if self.resolves_doubts
                            && (error.may_have_committed() || error.is_retriable()) =>
                    {
                        let landed = self.find_landed(&chunk, end).await?;
                        chunk.drop_first(usize::try_from(landed)?);
                        end += landed;
                        self.track.acknowledged(self.partition, landed);
                        doubts.chunks += 1;
                        doubts.landed += landed;
                        doubts.sent_again += records - landed;
                    }
                    Err(error) => return Err(error).context("records cannot be delivered"),
                }
            }
        }
        Ok(doubts)
    }

    async fn send(&self, chunk: &Chunk) -> Result<Option<Offset>, SendError> {
        let partition = Some(PartitionId::new(self.partition));
        let records = chunk.records();
        let enqueued = self
            .producer
            .enqueue_many(self.track.name(), partition, records)
            .await;
        let ack = match enqueued {
            Ok(pending) => pending.await?,
            Err(broken_off) => {
                if let Some(pending) = broken_off.enqueued {
                    // Whatever becomes of it: nothing may be on its way when the broker is asked.
                    let _ = pending.await;
                }
                return Err(broken_off.error);
            }
        };
        Ok(ack.ranges.first().and_then(|range| range.first_offset))
    }

    /// How many records of the chunk are in the partition behind `end`, compared one by one.
    async fn find_landed(&self, chunk: &Chunk, end: u64) -> Result<u64> {
        let partition = PartitionId::new(self.partition);
        let wanted = [(partition, OffsetSpec::LogEnd)];
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        let log_end = loop {
            let asked = self.client.admin();
            match asked
                .list_partition_offsets(self.track.name(), &wanted)
                .await
            {
                Ok(found) => break found.first().and_then(|found| found.offset),
                Err(error) if Instant::now() < deadline => {
                    tracing::debug!(%error, "the broker does not answer yet");
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error).context("the broker did not come back"),
            }
        };
        let log_end = log_end.context("a partition has an end")?.get();
        let landed = log_end.checked_sub(end).with_context(|| {
            format!(
                "{}/{}: {end} records were acknowledged, but only {log_end} are left",
                self.track.name(),
                self.partition
            )
        })?;
        ensure!(
            landed <= chunk.count() as u64,
            "{}/{}: {landed} records lie behind the last acknowledged one, but only {} were sent",
            self.track.name(),
            self.partition,
            chunk.count()
        );
        if landed > 0 {
            timeout(RECOVERY_TIMEOUT, self.compare_landed(chunk, end, landed))
                .await
                .context("what landed unacknowledged could not be read back in time")??;
        }
        Ok(landed)
    }

    async fn compare_landed(&self, chunk: &Chunk, end: u64, landed: u64) -> Result<()> {
        let mut reader = self
            .client
            .reader(self.track.name())
            .partitions([PartitionId::new(self.partition)])
            .start(Start::Offset(Offset::new(end)))
            .build()
            .await?;
        let mut expected = chunk.records().take(usize::try_from(landed)?);
        let mut left = landed;
        while left > 0 {
            let batch = reader
                .next_batch()
                .await?
                .context("the partition ended early")?;
            for record in &batch {
                let record = record?;
                let found = (
                    record.key.unwrap_or_default(),
                    record.value.unwrap_or_default(),
                );
                ensure!(
                    expected.next() == Some(found),
                    "{}/{}: the record at {} is not the one that was sent",
                    self.track.name(),
                    self.partition,
                    record.offset
                );
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}
