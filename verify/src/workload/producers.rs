//! Producers: one client each, and in it one task for each partition, so that one that is stuck holds
//! up no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_client::{
    Acks, Client, Offset, PartitionId, PendingAck, Producer, ProducerRecord, SendError,
};
use tokio::task::JoinSet;

use super::Shared;
use crate::event::{AckLevel, Kind, Moment, Op};
use crate::value::ValueId;

/// After an error, so that a cluster that refuses everything does not fill the history.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// Starts the tasks of one producer.
pub(super) fn start(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, client: &Client, number: u32) {
    let plan = &shared.plan;
    let producer = client
        .producer()
        .acks(match plan.rules.acks {
            AckLevel::None => Acks::None,
            AckLevel::Leader => Acks::Leader,
            AckLevel::All => Acks::All,
        })
        .idempotent(plan.rules.idempotent)
        .delivery_timeout(plan.delivery_timeout)
        .linger(Duration::from_millis(1))
        .build();
    let next = Arc::new(AtomicU64::new(0));
    for partition in 0..plan.partitions {
        let lane = Lane {
            shared: Arc::clone(shared),
            producer: producer.clone(),
            number,
            partition,
            next: Arc::clone(&next),
            last_ack: Instant::now(),
        };
        tasks.spawn(lane.run());
    }
}

/// One producer's records of one partition.
struct Lane {
    shared: Arc<Shared>,
    producer: Producer,
    number: u32,
    partition: u32,
    /// The producer's next value, in whichever partition.
    next: Arc<AtomicU64>,
    last_ack: Instant,
}

impl Lane {
    async fn run(mut self) {
        let plan = &self.shared.plan;
        let lanes = u64::from(plan.partitions) * u64::from(plan.producers);
        let in_flight = (plan.in_flight / plan.partitions.max(1) as usize).max(2);
        let pace = plan
            .rate
            .map(|rate| Duration::from_secs_f64(lanes as f64 / rate.max(1) as f64));
        let mut due = tokio::time::Instant::now();
        let mut waiting = VecDeque::new();
        loop {
            while !self.shared.is_over() && waiting.len() < in_flight {
                if let Some(pace) = pace {
                    let now = tokio::time::Instant::now();
                    if now < due && !waiting.is_empty() {
                        break;
                    }
                    tokio::time::sleep_until(due).await;
                    // Time in which nothing could be sent is not made up for.
                    due = due.max(now) + pace;
                }
                let Some(value) = self.value() else { break };
                let invoke = self.shared.recorder.now();
                match self.send(value).await {
                    Ok(pending) => waiting.push_back((value, invoke, pending)),
                    Err(error) => self.failed(value, invoke, &error).await,
                }
            }
            let Some((value, invoke, pending)) = waiting.pop_front() else {
                if self.shared.is_over() {
                    return;
                }
                continue;
            };
            match pending.await {
                Ok(ack) => self.acked(value, invoke, ack.offset.map(Offset::get)),
                Err(error) => self.failed(value, invoke, &error).await,
            }
        }
    }

    fn value(&self) -> Option<ValueId> {
        ValueId::new(self.number, self.next.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, value: ValueId) -> Result<PendingAck, SendError> {
        let plan = &self.shared.plan;
        let record = ProducerRecord::to(plan.topic.as_str())
            .partition(PartitionId::new(self.partition))
            .value(value.encode(plan.value_bytes));
        self.producer.enqueue(record).await
    }

    fn acked(&mut self, value: ValueId, invoke: Moment, offset: Option<u64>) {
        let shared = &self.shared;
        self.note(value, invoke, Kind::Ok, offset, None);
        let gap = u64::try_from(self.last_ack.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.gap_ms_max.fetch_max(gap, Ordering::Relaxed);
        shared.last_ack[self.partition as usize]
            .fetch_max(shared.recorder.now().ns(), Ordering::Relaxed);
        shared.acked_in[self.partition as usize].fetch_add(1, Ordering::Relaxed);
        shared.acked.fetch_add(1, Ordering::Relaxed);
        self.last_ack = Instant::now();
    }

    async fn failed(&self, value: ValueId, invoke: Moment, error: &SendError) {
        tracing::debug!(%value, %error, "not acknowledged");
        let (kind, count) = if error.may_have_committed() {
            (Kind::Info, &self.shared.in_doubt)
        } else {
            (Kind::Fail, &self.shared.refused)
        };
        self.note(value, invoke, kind, None, Some(error.to_string()));
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }

    fn note(
        &self,
        value: ValueId,
        invoke: Moment,
        kind: Kind,
        offset: Option<u64>,
        error: Option<String>,
    ) {
        let op = Op::Send {
            partition: self.partition,
            value,
            offset,
            error,
        };
        let process = format!("producer-{}", self.number);
        self.shared.recorder.record(process, invoke, kind, op);
    }
}
