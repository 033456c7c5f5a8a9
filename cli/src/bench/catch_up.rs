//! `bench catch-up`: how fast a broker that was away gets what it missed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use highwater_client::{NodeId, Producer, ProducerRecord};
use serde::Serialize;

use crate::bench::args::parse_bytes;
use crate::bench::cluster::{Cluster, ClusterArgs};
use crate::bench::median::median;
use crate::bench::payload::Payload;
use crate::bench::pipelines::{self, rate};
use crate::bench::warm::warm_memory;
use crate::cleanup::Cleanup;

const TOPIC: &str = "highwater-bench";
const RECORD_BYTES: usize = 1024;
/// Records that are on their way at a time.
const RECORDS_AT_ONCE: usize = 8192;

/// Options of `bench catch-up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CatchUpArgs {
    /// What is written while the broker is away
    #[arg(long, default_value = "1GB", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) size: u64,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Let the broker take no more bytes a second than this (`replication.catchup.rate`)
    /// [default: no bound]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) throttle: Option<u64>,
    /// Measure this often, limit and catching up in turn, and report the median
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// One JSON object of `bench catch-up`. Every figure is the median of the runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CatchUpReport {
    pub(crate) bytes: u64,
    pub(crate) partitions: u32,
    pub(crate) throttle: Option<u64>,
    pub(crate) settings: Vec<String>,
    pub(crate) runs: u32,
    /// From the start of the process until it served.
    pub(crate) served_s: f64,
    /// From the start of the process until all its replicas were in sync.
    pub(crate) whole_s: f64,
    /// Over the whole of that time.
    pub(crate) bytes_per_s: f64,
    /// A bare loopback stream received into a file.
    pub(crate) limit_bytes_per_s: f64,
    pub(crate) ratio: f64,
    pub(crate) bytes_per_s_of_runs: Vec<f64>,
    pub(crate) limit_bytes_per_s_of_runs: Vec<f64>,
}

#[derive(Debug)]
struct Run {
    served: Duration,
    whole: Duration,
    bytes_per_s: f64,
    limit: f64,
}

/// Measures the limit and a catching-up broker in turn.
pub(crate) fn measure_catch_up(args: &CatchUpArgs, cleanup: &Cleanup) -> Result<CatchUpReport> {
    let mut settings = args.cluster.clone();
    let throttle = args
        .throttle
        .map_or("unlimited".to_owned(), |rate| rate.to_string());
    settings
        .settings
        .push(format!("replication.catchup.rate={throttle}"));
    let mut cluster = Cluster::start(&settings, cleanup)?;
    let mut runs = Vec::new();
    for _ in 0..args.repeat {
        warm_memory();
        let limit = pipelines::sink(cluster.scratch(), args.size)?;
        runs.push(run(&mut cluster, args, limit)?);
    }
    cluster.close()?;
    let middle =
        |figure: fn(&Run) -> f64| median(runs.iter().map(figure)).context("no run gave a figure");
    let (bytes_per_s, limit_bytes_per_s) =
        (middle(|run| run.bytes_per_s)?, middle(|run| run.limit)?);
    Ok(CatchUpReport {
        bytes: args.size,
        partitions: args.partitions,
        throttle: args.throttle,
        settings: args.cluster.settings.clone(),
        runs: args.repeat,
        served_s: middle(|run| run.served.as_secs_f64())?,
        whole_s: middle(|run| run.whole.as_secs_f64())?,
        bytes_per_s,
        limit_bytes_per_s,
        ratio: bytes_per_s / limit_bytes_per_s,
        bytes_per_s_of_runs: runs.iter().map(|run| run.bytes_per_s).collect(),
        limit_bytes_per_s_of_runs: runs.iter().map(|run| run.limit).collect(),
    })
}

fn run(cluster: &mut Cluster, args: &CatchUpArgs, limit: f64) -> Result<Run> {
    cluster.create(TOPIC, args.partitions, &[])?;
    let controller = cluster.controller()?;
    let away = cluster
        .nodes()
        .find(|node| *node != controller)
        .context("there are brokers besides the controller")?;
    cluster.stop_one(away)?;
    let written = write(cluster, &cluster.producer(), args)?;
    warm_memory();
    let began = Instant::now();
    cluster.restart(away)?;
    let served = began.elapsed();
    cluster.until_whole(TOPIC)?;
    let whole = began.elapsed();
    check(cluster, away)?;
    let deletion = cluster.admin().delete_topic(TOPIC);
    cluster.runtime().block_on(deletion)?;
    Ok(Run {
        served,
        whole,
        bytes_per_s: rate(written, whole),
        limit,
    })
}

/// Writes records to all partitions; returns their bytes.
fn write(cluster: &Cluster, producer: &Producer, args: &CatchUpArgs) -> Result<u64> {
    let mut payload = Payload::new(RECORD_BYTES);
    let mut written = 0;
    let mut partitions = (0..args.partitions).cycle();
    while written < args.size {
        let partition = highwater_client::PartitionId::new(partitions.next().unwrap_or_default());
        let records = (0..RECORDS_AT_ONCE).map(|_| {
            ProducerRecord::to(TOPIC)
                .partition(partition)
                .value(payload.next())
        });
        let sent = cluster.runtime().block_on(producer.send_all(records));
        let sent = sent.into_iter().collect::<Result<Vec<_>, _>>()?;
        written += (sent.len() * RECORD_BYTES) as u64;
    }
    Ok(written)
}

/// The broker has as much as the others.
fn check(cluster: &Cluster, node: NodeId) -> Result<()> {
    let described = cluster
        .runtime()
        .block_on(cluster.admin().describe_topic(TOPIC))?;
    let mut partitions = described.partitions.iter();
    ensure!(
        partitions.all(|partition| partition.isr.contains(&node)),
        "the broker fell out of sync again"
    );
    Ok(())
}
