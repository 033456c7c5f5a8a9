//! Producers at work: what `produce` measures and `consume` fills its topic with.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use highwater_client::{Acks, Client, Producer, ProducerRecord};
use highwater_protocol::compression::Compression;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::bench::latency::Latencies;
use crate::bench::meter::{Meter, Usage};
use crate::bench::payload::Payload;
use crate::bench::producer::{drive, send_one};

/// How often the broker's memory is looked at. Producers time themselves, so a late look at their
/// end does no harm.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// What to send, how, and when to stop.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    pub(crate) seeds: Vec<String>,
    pub(crate) topic: String,
    pub(crate) producers: u32,
    pub(crate) threads: u32,
    pub(crate) record_bytes: usize,
    pub(crate) acks: Acks,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) compression: Compression,
    pub(crate) rate: Option<u64>,
    pub(crate) in_flight: Option<u32>,
    pub(crate) records_max: u64,
    pub(crate) duration_max: Option<Duration>,
    /// Processes whose CPU time is counted.
    pub(crate) brokers: Vec<u32>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct LoadOutcome {
    /// Records that were acknowledged, within `elapsed`.
    pub(crate) records: u64,
    /// Records that were sent before the clock started, one per producer.
    pub(crate) uncounted: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Latencies,
    pub(crate) usage: Usage,
}

/// What one producer did.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) records: u64,
    pub(crate) end: Instant,
    pub(crate) latencies: Latencies,
}

/// Runs all producers to the end.
pub(crate) fn run_load(plan: &LoadPlan) -> Result<LoadOutcome> {
    let threads = plan.threads.clamp(1, plan.producers);
    // All are connected and have sent a record before the clock starts.
    let (ready, go) = (
        Barrier::new(threads as usize + 1),
        Barrier::new(threads as usize + 1),
    );
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (ready, go, failed) = (&ready, &go, &failed);
                scope.spawn(move || run_thread(plan, number, threads, ready, go, failed))
            })
            .collect();
        ready.wait();
        let mut meter = Meter::start(&plan.brokers);
        let start = Instant::now();
        go.wait();
        while let (Ok(meter), false) = (
            &mut meter,
            workers.iter().all(ScopedJoinHandle::is_finished),
        ) {
            meter.sample();
            thread::sleep(SAMPLE_INTERVAL);
        }
        let mut sent = Vec::new();
        for worker in workers {
            sent.extend(
                worker
                    .join()
                    .map_err(|_| anyhow!("a producer thread panicked"))??,
            );
        }
        let usage = meter?.stop()?;
        Ok(summed(&sent, start, u64::from(plan.producers), usage))
    })
}

fn summed(sent: &[Sent], start: Instant, uncounted: u64, usage: Usage) -> LoadOutcome {
    let mut latencies = Latencies::new();
    sent.iter()
        .for_each(|sent| latencies.merge(&sent.latencies));
    let end = sent.iter().map(|sent| sent.end).max().unwrap_or(start);
    LoadOutcome {
        records: sent.iter().map(|sent| sent.records).sum(),
        uncounted,
        elapsed: end.saturating_duration_since(start),
        latencies,
        usage,
    }
}

/// One thread with its share of the producers.
fn run_thread(
    plan: &LoadPlan,
    number: u32,
    threads: u32,
    ready: &Barrier,
    go: &Barrier,
    failed: &AtomicBool,
) -> Result<Vec<Sent>> {
    let prepared = prepare_thread(plan, number, threads);
    if prepared.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    ready.wait();
    go.wait();
    let (runtime, producers) = prepared?;
    if failed.load(Ordering::Relaxed) {
        // Another thread says why.
        return Ok(Vec::new());
    }
    runtime.block_on(async {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, producer) in producers {
            tasks.spawn(drive(producer, plan.clone(), index, start));
        }
        let mut sent = Vec::new();
        while let Some(done) = tasks.join_next().await {
            sent.push(done.context("a producer panicked")??);
        }
        Ok(sent)
    })
}

/// The runtime of one thread and its producers, each with its number and connection.
fn prepare_thread(
    plan: &LoadPlan,
    number: u32,
    threads: u32,
) -> Result<(Runtime, Vec<(u32, Producer)>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut producers = Vec::new();
    for index in (number..plan.producers).step_by(threads as usize) {
        producers.push((index, runtime.block_on(prepare_producer(plan))?));
    }
    Ok((runtime, producers))
}

async fn prepare_producer(plan: &LoadPlan) -> Result<Producer> {
    let client = Client::builder()
        .seeds(plan.seeds.iter().cloned())
        .client_name("highwater-bench")
        .connect()
        .await?;
    let producer = client
        .producer()
        .acks(plan.acks)
        .linger(plan.linger)
        .batch_bytes(plan.batch_bytes)
        .compression(plan.compression)
        .build();
    let mut payload = Payload::new(plan.record_bytes);
    send_one(
        &producer,
        ProducerRecord::to(plan.topic.as_str()).value(payload.next()),
    )
    .await?;
    Ok(producer)
}
