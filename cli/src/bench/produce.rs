//! `bench produce`: how fast records go in, and how long each takes.

use std::time::{Duration, Instant};

use anyhow::Result;
use highwater_client::Acks;

use crate::bench::args::{AcksArg, WorkloadArgs};
use crate::bench::limit::Limit;
use crate::bench::limits::PIPELINE_BYTES;
use crate::bench::load::{LoadOutcome, LoadPlan, run_load};
use crate::bench::pipelines::rate;
use crate::bench::result::{Run, WorkloadReport};
use crate::bench::scratch::Scratch;
use crate::bench::target::{Target, Topic};
use crate::bench::warm::warm_memory;
use crate::cleanup::Cleanup;

const DURATION: Duration = Duration::from_secs(10);

/// Measures limit and workload in turn and reports the medians.
pub(crate) fn measure_produce(args: &WorkloadArgs, cleanup: &Cleanup) -> Result<WorkloadReport> {
    let scratch = Scratch::create(args.data_dir.as_deref(), cleanup)?;
    let target = Target::open(args, &scratch, cleanup)?;
    let limit = Limit::of_produce(args);
    let mut runs = Vec::new();
    for _ in 0..args.repeat {
        let measured = limit.measure(&scratch, args, cleanup)?;
        let outcome = run_once(args, &target)?;
        runs.push(Run::new(measured, &outcome, args.size));
    }
    target.close()?;
    WorkloadReport::of("produce", limit, args, &runs)
}

/// Bytes per second that one broker without followers takes of the same load, with acks=1.
pub(crate) fn alone(scratch: &Scratch, args: &WorkloadArgs, cleanup: &Cleanup) -> Result<f64> {
    let args = &WorkloadArgs {
        // As many bytes as the replicated run, whose default depends on the replicas.
        records: Some(args.records.unwrap_or(records_default(args))),
        replicas: 1,
        acks: AcksArg::Leader,
        ..args.clone()
    };
    let target = Target::open(args, scratch, cleanup)?;
    let outcome = run_once(args, &target)?;
    target.close()?;
    Ok(rate(outcome.records * args.size, outcome.elapsed))
}

fn run_once(args: &WorkloadArgs, target: &Target) -> Result<LoadOutcome> {
    let topic = target.open_topic(args)?;
    if args.warm {
        warm_memory();
    }
    let outcome = load_and_check(&plan_of(args, target), &topic)?;
    topic.close()?;
    Ok(outcome)
}

/// Unless told otherwise, a run ends before the kernel makes writers wait for the disk: that would
/// measure the disk, which `--durability synced` does on purpose.
fn records_default(args: &WorkloadArgs) -> u64 {
    (PIPELINE_BYTES / args.size / u64::from(args.replicas)).max(1)
}

/// What the producers shall do.
pub(crate) fn plan_of(args: &WorkloadArgs, target: &Target) -> LoadPlan {
    let bounded = args.records.is_some() || args.duration.is_some();
    let records_default = if bounded {
        u64::MAX
    } else {
        records_default(args)
    };
    let duration_default = if bounded { None } else { Some(DURATION) };
    let latency_matters = args.rate.is_some() || args.in_flight.is_some();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads_default = if latency_matters {
        1
    } else {
        u32::try_from(cores).unwrap_or(1)
    };
    LoadPlan {
        seeds: target.seeds().to_vec(),
        topic: args.topic.clone(),
        producers: args.producers,
        threads: args.threads.unwrap_or(threads_default),
        record_bytes: usize::try_from(args.size).unwrap_or(usize::MAX),
        acks: match args.acks {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        },
        batch_bytes: usize::try_from(args.batch).unwrap_or(usize::MAX),
        linger: args.linger,
        compression: args.compression,
        rate: args.rate,
        in_flight: args.in_flight,
        records_max: args.records.unwrap_or(records_default),
        duration_max: args.duration.or(duration_default),
        brokers: target.processes(),
    }
}

/// Runs the producers; whatever they were told was acknowledged must be there.
pub(crate) fn load_and_check(plan: &LoadPlan, topic: &Topic<'_>) -> Result<LoadOutcome> {
    let start = Instant::now();
    let mut outcome = run_load(plan)?;
    let total = outcome.records + outcome.uncounted;
    if plan.acks == Acks::None {
        // Without answers, sending is over long before the records are in.
        let sending = start.elapsed();
        topic.wait_for_records(total)?;
        outcome.elapsed += start.elapsed().saturating_sub(sending);
    } else if plan.acks == Acks::Leader {
        // The followers may not have them yet.
        topic.wait_for_records(total)?;
    }
    topic.check_records(total)?;
    Ok(outcome)
}
