//! Probes ask again and again where partitions end: ListOffsets, and a fetch of a reader that has just
//! begun, whose answer was certainly asked for after that. Several may be under way, so that some of
//! them reach a broker that stands still, and are answered when it wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_client::{Client, Offset, OffsetSpec, PartitionId, ReadError, Start};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::readers::{Place, poll_of};
use crate::event::{Bound, Kind, Op, Purpose};

/// Tasks that probe; with more partitions each asks several in turn.
const PROBERS_MAX: u32 = 32;

/// Probes of one task that may be unanswered. The more there are, the later comes the next: so they are
/// spread over the time in which a broker stands still, and some are asked when others have moved on.
const UNANSWERED_MAX: usize = 16;

/// Longest wait for an answer: long enough for a broker that stands still to wake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a reader that has just begun is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Each so many times the start of the partition is asked for as well.
const EARLIEST_EVERY: u64 = 5;

/// Starts the tasks.
pub(super) fn start(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, client: &Client) {
    let probers = shared.plan.partitions.min(PROBERS_MAX);
    for first in 0..probers {
        let partitions: Vec<u32> = (first..shared.plan.partitions)
            .step_by(probers as usize)
            .collect();
        tasks.spawn(run(Arc::clone(shared), client.clone(), partitions));
    }
}

async fn run(shared: Arc<Shared>, client: Client, partitions: Vec<u32>) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    let ends: Vec<_> = partitions
        .iter()
        .map(|_| Arc::new(AtomicU64::new(0)))
        .collect();
    // Dropped with this task: then nobody waits for their answers.
    let mut probes = JoinSet::new();
    for round in 0u64.. {
        for (partition, end) in partitions.iter().zip(&ends) {
            while probes.try_join_next().is_some() {}
            let late = u32::try_from(probes.len()).unwrap_or(u32::MAX);
            sleep(shared.plan.probe_every * late.saturating_add(1)).await;
            let Ok(permit) = Arc::clone(&unanswered).acquire_owned().await else {
                return;
            };
            let probe = Probe {
                shared: Arc::clone(&shared),
                client: client.clone(),
                partition: *partition,
                end: Arc::clone(end),
            };
            probes.spawn(async move {
                probe.list(Bound::Latest).await;
                if round % EARLIEST_EVERY == 0 {
                    probe.list(Bound::Earliest).await;
                }
                probe.tail().await;
                drop(permit);
            });
        }
    }
}

struct Probe {
    shared: Arc<Shared>,
    client: Client,
    partition: u32,
    /// The highest end that was told.
    end: Arc<AtomicU64>,
}

impl Probe {
    async fn list(&self, bound: Bound) {
        let spec = match bound {
            Bound::Earliest => OffsetSpec::Earliest,
            Bound::Latest => OffsetSpec::Latest,
        };
        let recorder = &self.shared.recorder;
        let invoke = recorder.now();
        let wanted = [(PartitionId::new(self.partition), spec)];
        let admin = self.client.admin();
        let asked = admin.list_partition_offsets(&self.shared.plan.topic, &wanted);
        let answer = match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(answers)) => answers.first().copied(),
            Ok(Err(error)) => {
                tracing::debug!(%error, partition = self.partition, "no answer to a probe");
                None
            }
            Err(_) => None,
        };
        let offset = answer.and_then(|answer| answer.offset).map(Offset::get);
        if let (Some(offset), Bound::Latest) = (offset, bound) {
            self.end.fetch_max(offset, Ordering::Relaxed);
        }
        let op = Op::ListOffsets {
            partition: self.partition,
            bound,
            offset,
            leader_epoch: answer.map(|answer| answer.leader_epoch.get()),
        };
        let kind = answer.map_or(Kind::Info, |_| Kind::Ok);
        recorder.record("probe", invoke, kind, op);
    }

    async fn tail(&self) {
        let recorder = &self.shared.recorder;
        let invoke = recorder.now();
        let from = self.end.load(Ordering::Relaxed);
        let polled = timeout(ANSWER_TIMEOUT, self.poll_tail(from)).await;
        let (kind, op) = match polled {
            Ok(Ok(op)) => (Kind::Ok, op),
            Ok(Err(ReadError::OffsetOutOfRange { end, .. })) => {
                // A new leader that does not know yet how far the partition is committed.
                (Kind::Ok, self.empty(end.get(), end.get()))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, partition = self.partition, "no answer to a probe");
                (Kind::Info, self.empty(from, from))
            }
            Err(_) => (Kind::Info, self.empty(from, from)),
        };
        recorder.record("probe", invoke, kind, op);
    }

    async fn poll_tail(&self, from: u64) -> Result<Op, ReadError> {
        let partition = PartitionId::new(self.partition);
        let mut reader = self
            .client
            .reader(&self.shared.plan.topic)
            .partitions([partition])
            .start(Start::Offset(Offset::new(from)))
            .fetch_wait(Duration::ZERO)
            .build()
            .await?;
        loop {
            if let Ok(batch) = timeout(LOOK_EVERY, reader.next_batch()).await {
                let Some(batch) = batch? else {
                    return Ok(self.empty(from, from));
                };
                return poll_of(&batch, &mut Place::chosen(from), Purpose::Tail);
            }
            if let Some(end) = reader.high_watermarks().get(&partition) {
                return Ok(self.empty(from, end.get()));
            }
        }
    }

    /// A poll that brought no records.
    fn empty(&self, from: u64, high_watermark: u64) -> Op {
        Op::Poll {
            partition: self.partition,
            purpose: Purpose::Tail,
            position: from,
            next: from,
            seek: true,
            high_watermark: Some(high_watermark),
            leader_epoch: None,
            records: Vec::new(),
        }
    }
}
