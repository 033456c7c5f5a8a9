//! One producer under load, in one of three ways: as fast as it goes, at a fixed rate, or with a
//! fixed number of records unacknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use highwater_client::{PendingBatch, Producer, ProducerRecord};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bench::latency::Latencies;
use crate::bench::load::{LoadPlan, Sent};
use crate::bench::pace::{Pace, Schedule};
use crate::bench::payload::Payload;

/// Bytes of records that are handed to the producer with one call.
const CHUNK_BYTES: usize = 256 << 10;
/// Calls whose acknowledgements are waited for; the producer's own buffer is the tighter bound.
const CHUNKS_PENDING: usize = 4096;

/// Sends one record and waits for its acknowledgement.
pub(crate) async fn send_one(producer: &Producer, record: ProducerRecord) -> Result<()> {
    producer.send(record).await?;
    Ok(())
}

/// Runs one producer to the end of its share.
pub(crate) async fn drive(
    producer: Producer,
    plan: LoadPlan,
    index: u32,
    start: Instant,
) -> Result<Sent> {
    let producers = u64::from(plan.producers);
    let share = Share {
        index: u64::from(index),
        producers,
        records: plan.records_max / producers
            + u64::from(u64::from(index) < plan.records_max % producers),
        end: plan.duration_max.map(|duration| start + duration),
    };
    match (plan.in_flight, plan.rate) {
        (Some(in_flight), _) => keep_in_flight(producer, &plan, &share, in_flight).await,
        (None, Some(rate)) => at_rate(producer, &plan, &share, Schedule::new(start, rate)).await,
        (None, None) => saturate(producer, &plan, &share).await,
    }
}

/// One producer's part of the whole.
#[derive(Debug, Clone, Copy)]
struct Share {
    index: u64,
    producers: u64,
    records: u64,
    end: Option<Instant>,
}

impl Share {
    fn is_over(&self, sent: u64) -> bool {
        sent >= self.records || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Number among all producers' records of the record with this number among ours.
    fn global(&self, record: u64) -> u64 {
        record * self.producers + self.index
    }

    /// How many of our records are among the first `global` ones of all.
    fn ours_of(&self, global: u64) -> u64 {
        global.saturating_sub(self.index).div_ceil(self.producers)
    }
}

/// When the records of one call were due.
#[derive(Debug)]
enum Due {
    /// All together.
    At(Instant),
    /// Each by the schedule, from this one on.
    Scheduled {
        schedule: Schedule,
        share: Share,
        first: u64,
    },
}

async fn saturate(producer: Producer, plan: &LoadPlan, share: &Share) -> Result<Sent> {
    let mut payload = Payload::new(plan.record_bytes);
    let chunk = (CHUNK_BYTES / plan.record_bytes).max(1) as u64;
    let (pending, collector) = collect_acks();
    let mut sent = 0;
    while !share.is_over(sent) {
        let count = chunk.min(share.records - sent);
        let due = Due::At(Instant::now());
        let records = payload.next_many(usize::try_from(count)?);
        let batch = producer
            .enqueue_many(plan.topic.as_str(), None, records)
            .await?;
        if pending.send((due, batch)).await.is_err() {
            break; // the collector met an error and returns it below
        }
        sent += count;
    }
    finish(producer, pending, collector).await
}

async fn at_rate(
    producer: Producer,
    plan: &LoadPlan,
    share: &Share,
    schedule: Schedule,
) -> Result<Sent> {
    let mut payload = Payload::new(plan.record_bytes);
    let chunk = (CHUNK_BYTES / plan.record_bytes).max(1) as u64;
    let pace = Pace::new()?;
    let (pending, collector) = collect_acks();
    let mut sent = 0;
    while !share.is_over(sent) {
        pace.wait_until(schedule.due(share.global(sent))).await?;
        let due_by_now = share
            .ours_of(schedule.due_by(Instant::now()))
            .min(share.records);
        let count = due_by_now.saturating_sub(sent).min(chunk);
        if count == 0 {
            continue;
        }
        let due = Due::Scheduled {
            schedule,
            share: *share,
            first: sent,
        };
        let records = payload.next_many(usize::try_from(count)?);
        let batch = producer
            .enqueue_many(plan.topic.as_str(), None, records)
            .await?;
        if pending.send((due, batch)).await.is_err() {
            break; // the collector met an error and returns it below
        }
        sent += count;
    }
    finish(producer, pending, collector).await
}

async fn keep_in_flight(
    producer: Producer,
    plan: &LoadPlan,
    share: &Share,
    in_flight: u32,
) -> Result<Sent> {
    let taken = Arc::new(AtomicU64::new(0));
    let topic: Arc<str> = plan.topic.as_str().into();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (producer, topic, taken) = (producer.clone(), Arc::clone(&topic), Arc::clone(&taken));
        let mut payload = Payload::new(plan.record_bytes);
        let share = *share;
        tasks.spawn(async move {
            let mut latencies = Latencies::new();
            while !share.is_over(taken.fetch_add(1, Ordering::Relaxed)) {
                let record = ProducerRecord::to(Arc::clone(&topic)).value(payload.next());
                let begin = Instant::now();
                send_one(&producer, record).await?;
                latencies.record(begin.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Latencies::new();
    while let Some(done) = tasks.join_next().await {
        latencies.merge(&done.context("a sender panicked")??);
    }
    Ok(Sent {
        records: latencies.count(),
        end: Instant::now(),
        latencies,
    })
}

type Collector = tokio::task::JoinHandle<Result<Sent>>;

/// Starts the task that waits for acknowledgements in the order in which records were sent.
fn collect_acks() -> (mpsc::Sender<(Due, PendingBatch)>, Collector) {
    let (sender, mut receiver) = mpsc::channel::<(Due, PendingBatch)>(CHUNKS_PENDING);
    let collector = tokio::spawn(async move {
        let mut sent = Sent {
            records: 0,
            end: Instant::now(),
            latencies: Latencies::new(),
        };
        while let Some((due, batch)) = receiver.recv().await {
            let count = batch.await?.records();
            sent.end = Instant::now();
            sent.records += count;
            match due {
                Due::At(due) => sent.latencies.record_many(sent.end - due, count),
                Due::Scheduled {
                    schedule,
                    share,
                    first,
                } => {
                    for record in first..first + count {
                        let due = schedule.due(share.global(record));
                        sent.latencies
                            .record(sent.end.saturating_duration_since(due));
                    }
                }
            }
        }
        Ok(sent)
    });
    (sender, collector)
}

async fn finish(
    producer: Producer,
    pending: mpsc::Sender<(Due, PendingBatch)>,
    collector: Collector,
) -> Result<Sent> {
    drop(pending);
    let sent = collector
        .await
        .context("the task that collects acknowledgements panicked")??;
    drop(producer);
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn records_are_dealt_out_in_turn() {
        for index in 0..3 {
            let share = Share {
                index,
                producers: 3,
                records: 10,
                end: None,
            };
            for record in 0..10 {
                let global = share.global(record);
                assert_eq!(share.ours_of(global), record);
                assert_eq!(share.ours_of(global + 1), record + 1);
            }
        }
    }
}
