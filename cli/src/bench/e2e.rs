//! `bench e2e`: how long a record takes from the moment at which it was due to be sent until a
//! reader has it.
//!
//! Producer and reader share one process and one clock, and one thread: on its way a record meets no
//! hand-over between threads but those of the broker.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_client::{Client, Producer, Reader, RecordSlices, Start};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::bench::args::WorkloadArgs;
use crate::bench::latency::Latencies;
use crate::bench::limit::Limit;
use crate::bench::load::{LoadOutcome, LoadPlan};
use crate::bench::meter::Meter;
use crate::bench::pace::{Pace, Schedule};
use crate::bench::payload::Payload;
use crate::bench::produce::plan_of;
use crate::bench::result::{Run, WorkloadReport};
use crate::bench::scratch::Scratch;
use crate::bench::target::Target;
use crate::bench::warm::warm_memory;
use crate::cleanup::Cleanup;

const RATE: u64 = 1000;
const DURATION: Duration = Duration::from_secs(10);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The first part of a second is not counted: caches and connections are cold.
const UNCOUNTED: Duration = Duration::from_millis(300);
/// Bytes of the send time at the start of each value.
const STAMP_BYTES: usize = size_of::<u64>();

/// Measures echo and workload in turn and reports the medians.
pub(crate) fn measure_e2e(args: &WorkloadArgs, cleanup: &Cleanup) -> Result<WorkloadReport> {
    ensure!(
        args.size >= STAMP_BYTES as u64,
        "--size must be at least {STAMP_BYTES} bytes: each record carries its send time"
    );
    ensure!(
        args.producers == 1 && args.in_flight.is_none(),
        "e2e has one producer with a --rate"
    );
    let args = &WorkloadArgs {
        rate: Some(args.rate.unwrap_or(RATE)),
        duration: args.duration.or(if args.records.is_some() {
            None
        } else {
            Some(DURATION)
        }),
        ..args.clone()
    };
    let scratch = Scratch::create(args.data_dir.as_deref(), cleanup)?;
    let target = Target::open(args, &scratch, cleanup)?;
    let mut runs = Vec::new();
    for _ in 0..args.repeat {
        let measured = Limit::Echo.measure(&scratch, args, cleanup)?;
        let topic = target.open_topic(args)?;
        if args.warm {
            warm_memory();
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(send_and_receive(&plan_of(args, &target)))?;
        topic.check_records(outcome.records + outcome.uncounted)?;
        drop(runtime);
        topic.close()?;
        runs.push(Run::new(measured, &outcome, args.size));
    }
    target.close()?;
    WorkloadReport::of("e2e", Limit::Echo, args, &runs)
}

async fn send_and_receive(plan: &LoadPlan) -> Result<LoadOutcome> {
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
    let reader = client
        .reader(plan.topic.as_str())
        .start(Start::End)
        .build()
        .await?;
    let per_second = plan.rate.context("e2e has a rate")?;
    let uncounted = per_second * UNCOUNTED.as_millis() as u64 / 1000;
    let counted = match plan.duration_max {
        Some(duration) => per_second.saturating_mul(duration.as_millis() as u64) / 1000,
        None => u64::MAX,
    };
    let total = plan.records_max.min(counted).saturating_add(uncounted);
    let meter = Meter::start(&plan.brokers)?;
    let start = Instant::now();
    let schedule = Schedule::new(start, per_second);
    let receiving = tokio::spawn(receive(reader, schedule, uncounted, total));
    send(producer, plan, schedule, total).await?;
    let latencies = receiving.await.context("the reader panicked")??;
    let elapsed = schedule
        .due(total)
        .saturating_duration_since(schedule.due(uncounted));
    let usage = meter.stop()?;
    Ok(LoadOutcome {
        records: latencies.count(),
        uncounted,
        elapsed,
        latencies,
        usage,
    })
}

/// Sends each record when it is due, with the number of its due time at the start.
async fn send(producer: Producer, plan: &LoadPlan, schedule: Schedule, total: u64) -> Result<()> {
    let pace = Pace::new()?;
    let mut payload = Payload::new(plan.record_bytes);
    let mut value = vec![0; plan.record_bytes];
    for record in 0..total {
        pace.wait_until(schedule.due(record)).await?;
        value.copy_from_slice(&payload.next());
        value[..STAMP_BYTES].copy_from_slice(&record.to_be_bytes());
        let sent = std::iter::once(RecordSlices::from(&value[..]));
        // The reader notices whatever does not arrive.
        drop(
            producer
                .enqueue_many(plan.topic.as_str(), None, sent)
                .await?,
        );
    }
    producer.flush().await;
    Ok(())
}

async fn receive(
    mut reader: Reader,
    schedule: Schedule,
    uncounted: u64,
    total: u64,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut received = 0;
    while received < total {
        let batch = timeout(STALL_TIMEOUT, reader.next_batch())
            .await
            .with_context(|| format!("nothing came after {received} of {total} records"))??
            .context("the reader ended before all records were read")?;
        let now = Instant::now();
        for record in &batch {
            let value = record?.value.unwrap_or_default();
            let stamp = value
                .first_chunk()
                .context("a record came back without its stamp")?;
            let number = u64::from_be_bytes(*stamp);
            if number >= uncounted {
                latencies.record(now.saturating_duration_since(schedule.due(number)));
            }
            received += 1;
        }
    }
    Ok(latencies)
}
