//! `bench partitions`: a cluster with very many partitions forms, idles, and loses its leaders.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use highwater_client::{NodeId, Offset, OffsetSpec, PartitionId, Producer, ProducerRecord};
use serde::Serialize;

use crate::bench::cluster::{Cluster, ClusterArgs};
use crate::bench::cpu::{cpu_time, resident_anonymous};
use crate::cleanup::Cleanup;

const TOPIC: &str = "highwater-bench";
/// What is left to do after the last record is done by then.
const SETTLE: Duration = Duration::from_secs(5);

/// Options of `bench partitions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartitionsArgs {
    /// Partitions of the topic, with three replicas each
    #[arg(long, default_value_t = 3000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// How long the idle cluster is watched
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) idle: Duration,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// A broker of the idle cluster.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct IdleBroker {
    pub(crate) node_id: u32,
    pub(crate) is_controller: bool,
    pub(crate) cpu_s: f64,
    /// Resident memory besides mapped files.
    pub(crate) memory_bytes: u64,
}

/// A broker was killed. Seconds from the kill, and from the restart.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct LossReport {
    pub(crate) was_controller: bool,
    /// Every partition had another leader.
    pub(crate) led_s: f64,
    /// A record was acknowledged by all in-sync replicas of every partition.
    pub(crate) writable_s: f64,
    /// The broker served again.
    pub(crate) served_s: f64,
    /// All replicas were in sync again.
    pub(crate) whole_s: f64,
}

/// One JSON object of `bench partitions`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PartitionsReport {
    pub(crate) partitions: u32,
    pub(crate) settings: Vec<String>,
    /// Until the topic was created, and until all its replicas were in sync.
    pub(crate) created_s: f64,
    pub(crate) whole_s: f64,
    /// Until each partition had taken its first record, for which it makes its first segment.
    pub(crate) filled_s: f64,
    pub(crate) idle_s: f64,
    pub(crate) idle: Vec<IdleBroker>,
    pub(crate) losses: Vec<LossReport>,
}

/// Forms the cluster, watches it idle, kills a leader and then the controller.
pub(crate) fn measure_partitions(
    args: &PartitionsArgs,
    cleanup: &Cleanup,
) -> Result<PartitionsReport> {
    let mut cluster = Cluster::start(&args.cluster, cleanup)?;
    let (created, whole) = cluster.create(TOPIC, args.partitions, &[])?;
    let producer = cluster.producer();
    // An empty log has nothing to keep in step.
    let began = Instant::now();
    send_to_all(&cluster, &producer, args.partitions)?;
    let filled = began.elapsed();
    thread::sleep(SETTLE);
    let idle = watch_idle(&cluster, args.idle)?;
    let mut losses = Vec::new();
    for is_controller in [false, true] {
        losses.push(lose(
            &mut cluster,
            &producer,
            args.partitions,
            is_controller,
        )?);
    }
    let sent = u64::from(args.partitions) * (1 + losses.len() as u64);
    let ends = cluster.admin().list_offsets(TOPIC, OffsetSpec::Latest);
    let ends = cluster.runtime().block_on(ends)?;
    let found: u64 = ends
        .iter()
        .filter_map(|end| end.offset)
        .map(Offset::get)
        .sum();
    ensure!(
        found == sent,
        "{sent} records were acknowledged, and the topic has {found}"
    );
    drop(producer);
    cluster.close()?;
    Ok(PartitionsReport {
        partitions: args.partitions,
        settings: args.cluster.settings.clone(),
        created_s: created.as_secs_f64(),
        whole_s: whole.as_secs_f64(),
        filled_s: filled.as_secs_f64(),
        idle_s: args.idle.as_secs_f64(),
        idle,
        losses,
    })
}

/// Sends a record to every partition and waits until all are acknowledged.
fn send_to_all(cluster: &Cluster, producer: &Producer, partitions: u32) -> Result<()> {
    let records = (0..partitions).map(|partition| {
        ProducerRecord::to(TOPIC)
            .partition(PartitionId::new(partition))
            .value("x")
    });
    let sent = cluster.runtime().block_on(producer.send_all(records));
    sent.into_iter()
        .collect::<Result<Vec<_>, _>>()
        .context("sending to every partition")?;
    Ok(())
}

fn watch_idle(cluster: &Cluster, time: Duration) -> Result<Vec<IdleBroker>> {
    let controller = cluster.controller()?;
    let used = |node: NodeId| -> Result<Duration> {
        let process = cluster.process(node).context("the broker runs")?;
        cpu_time(process).context("reading the CPU time of a broker")
    };
    let before = cluster.nodes().map(used).collect::<Result<Vec<_>>>()?;
    thread::sleep(time);
    let after = cluster.nodes().map(used).collect::<Result<Vec<_>>>()?;
    let figures = cluster.nodes().zip(before.iter().zip(after));
    let brokers = figures.map(|(node, (before, after))| IdleBroker {
        node_id: node.get(),
        is_controller: node == controller,
        cpu_s: after.saturating_sub(*before).as_secs_f64(),
        memory_bytes: cluster
            .process(node)
            .and_then(resident_anonymous)
            .unwrap_or_default(),
    });
    Ok(brokers.collect())
}

fn lose(
    cluster: &mut Cluster,
    producer: &Producer,
    partitions: u32,
    is_controller: bool,
) -> Result<LossReport> {
    let controller = cluster.controller()?;
    let victim = cluster
        .nodes()
        .find(|node| (*node == controller) == is_controller)
        .context("there are brokers besides the controller")?;
    let began = Instant::now();
    cluster.kill(victim)?;
    cluster.until(TOPIC, "others lead", |topic| {
        let mut partitions = topic.partitions.iter();
        partitions.all(|partition| partition.leader.is_some_and(|leader| leader != victim))
    })?;
    let led = began.elapsed();
    send_to_all(cluster, producer, partitions)?;
    let writable = began.elapsed();
    let restarted = Instant::now();
    cluster.restart(victim)?;
    let served = restarted.elapsed();
    cluster.until_whole(TOPIC)?;
    Ok(LossReport {
        was_controller: is_controller,
        led_s: led.as_secs_f64(),
        writable_s: writable.as_secs_f64(),
        served_s: served.as_secs_f64(),
        whole_s: restarted.elapsed().as_secs_f64(),
    })
}
