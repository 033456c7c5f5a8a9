//! `bench failover`: how long a partition takes no records when its leader dies or stops.
//!
//! A producer as applications have it (idempotent, acks=all) sends one record after the other to one
//! partition; what is measured is the longest time between two acknowledgements around the fault, so
//! everything is in it: noticing, electing, the client finding the new leader.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use highwater_client::{Election, NodeId, PartitionId, PartitionName, Producer, ProducerRecord};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::bench::cluster::{Cluster, ClusterArgs};
use crate::bench::median::median;
use crate::cleanup::Cleanup;

const TOPIC: &str = "highwater-bench";
const PARTITION: PartitionId = PartitionId::new(0);
/// Between an acknowledgement and the next record.
const PAUSE: Duration = Duration::from_millis(1);
/// The producer runs undisturbed for this long before a fault, and after a recovery.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// How long a partition may take no records before the bench gives up.
const OUTAGE_MAX: Duration = Duration::from_secs(60);

/// Options of `bench failover`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FailoverArgs {
    /// How often each fault is made
    #[arg(long, default_value_t = 5, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Partitions of the topic; records go to the first
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// What happens to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it hands over before it ends.
    Stop,
}

/// One kind of fault, made several times.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultReport {
    pub(crate) fault: Fault,
    /// Whether the leader was the active controller as well.
    pub(crate) is_controller: bool,
    pub(crate) unavailable_ms_p50: f64,
    pub(crate) unavailable_ms_max: f64,
    pub(crate) unavailable_ms: Vec<f64>,
    /// Records of which the caller was told that they failed.
    pub(crate) errors: u64,
}

/// One JSON object of `bench failover`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FailoverReport {
    pub(crate) partitions: u32,
    pub(crate) settings: Vec<String>,
    pub(crate) faults: Vec<FaultReport>,
    /// Records that were acknowledged; all of them were there in the end.
    pub(crate) acknowledged: u64,
}

/// Makes every kind of fault and measures what a producer sees of it.
pub(crate) fn measure_failover(args: &FailoverArgs, cleanup: &Cleanup) -> Result<FailoverReport> {
    let mut cluster = Cluster::start(&args.cluster, cleanup)?;
    cluster.create(TOPIC, args.partitions, &[])?;
    let probe = Probe::start(&cluster);
    let mut faults = Vec::new();
    for fault in [Fault::Kill, Fault::Stop] {
        for is_controller in [false, true] {
            let mut gaps = Vec::new();
            let errors_before = probe.state.lock().errors;
            for _ in 0..args.repeat {
                gaps.push(probe.outage(&mut cluster, fault, is_controller)?);
            }
            let millis = gaps.iter().map(|gap| gap.as_secs_f64() * 1e3);
            faults.push(FaultReport {
                fault,
                is_controller,
                unavailable_ms_p50: median(millis.clone()).context("no fault was made")?,
                unavailable_ms_max: millis.clone().fold(0.0, f64::max),
                unavailable_ms: millis.collect(),
                errors: probe.state.lock().errors - errors_before,
            });
        }
    }
    let acknowledged = probe.stop(&cluster)?;
    cluster.close()?;
    Ok(FailoverReport {
        partitions: args.partitions,
        settings: args.cluster.settings.clone(),
        faults,
        acknowledged,
    })
}

/// A producer that sends one record after the other.
struct Probe {
    state: Arc<Mutex<ProbeState>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct ProbeState {
    acknowledged: u64,
    errors: u64,
    /// Errors of which it is not known whether the record is in the log.
    in_doubt: u64,
    last: Instant,
    /// The longest time between two acknowledgements since it was asked last.
    gap: Duration,
    is_over: bool,
}

impl Probe {
    fn start(cluster: &Cluster) -> Self {
        let state = Arc::new(Mutex::new(ProbeState {
            acknowledged: 0,
            errors: 0,
            in_doubt: 0,
            last: Instant::now(),
            gap: Duration::ZERO,
            is_over: false,
        }));
        let sending = send_on_and_on(cluster.producer(), Arc::clone(&state));
        let task = cluster.runtime().spawn(sending);
        Self { state, task }
    }

    /// Makes one fault and puts it right again. Returns the longest time between two
    /// acknowledgements meanwhile.
    fn outage(&self, cluster: &mut Cluster, fault: Fault, is_controller: bool) -> Result<Duration> {
        cluster.until_whole(TOPIC)?;
        let victim = lead_from(cluster, is_controller)?;
        thread::sleep(UNDISTURBED);
        self.wait_for_more()?;
        self.state.lock().gap = Duration::ZERO;
        match fault {
            Fault::Kill => cluster.kill(victim)?,
            Fault::Stop => cluster.stop_one(victim)?,
        }
        self.wait_for_more()?;
        thread::sleep(UNDISTURBED);
        let gap = std::mem::take(&mut self.state.lock().gap);
        cluster.restart(victim)?;
        Ok(gap)
    }

    /// Waits until records that are sent from now on are acknowledged.
    fn wait_for_more(&self) -> Result<()> {
        let before = self.state.lock().acknowledged;
        let deadline = Instant::now() + OUTAGE_MAX;
        // The first may have been on its way already.
        while self.state.lock().acknowledged < before + 2 {
            if Instant::now() > deadline {
                bail!("no record was acknowledged for {OUTAGE_MAX:?}");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Stops sending and counts what is there. Returns how many records were acknowledged.
    fn stop(self, cluster: &Cluster) -> Result<u64> {
        self.state.lock().is_over = true;
        cluster.runtime().block_on(self.task)?;
        let state = self.state.lock();
        let latest = highwater_client::OffsetSpec::Latest;
        let ends = cluster
            .runtime()
            .block_on(cluster.admin().list_offsets(TOPIC, latest))?;
        let found: u64 = ends
            .iter()
            .filter_map(|end| end.offset)
            .map(highwater_client::Offset::get)
            .sum();
        let (least, most) = (state.acknowledged, state.acknowledged + state.in_doubt);
        ensure!(
            (least..=most).contains(&found),
            "{least} records were acknowledged, of {} more it is not known, and the topic has {found}",
            state.in_doubt
        );
        Ok(state.acknowledged)
    }
}

async fn send_on_and_on(producer: Producer, state: Arc<Mutex<ProbeState>>) {
    while !state.lock().is_over {
        let record = ProducerRecord::to(TOPIC).partition(PARTITION).value("x");
        let sent = producer.send(record).await;
        {
            let mut state = state.lock();
            match sent {
                Ok(_) => {
                    let now = Instant::now();
                    state.gap = state.gap.max(now.duration_since(state.last));
                    state.last = now;
                    state.acknowledged += 1;
                }
                Err(error) => {
                    state.errors += 1;
                    state.in_doubt += u64::from(error.may_have_committed());
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has the partition led by the active controller, or by another broker. Returns its leader.
fn lead_from(cluster: &Cluster, is_controller: bool) -> Result<NodeId> {
    let controller = cluster.controller()?;
    let fits = |leader: NodeId| (leader == controller) == is_controller;
    let leads = |topic: &highwater_client::TopicDescription| topic.partitions[0].leader;
    let now = cluster.until(TOPIC, "somebody leads", |topic| leads(topic).is_some())?;
    if let Some(leader) = leads(&now).filter(|leader| fits(*leader)) {
        return Ok(leader);
    }
    let wanted = cluster.nodes().find(|node| fits(*node));
    let wanted = wanted.context("there are brokers besides the controller")?;
    let partition = [PartitionName::new(TOPIC, PARTITION)];
    let election = cluster
        .admin()
        .elect_leaders(Election::Node(wanted), Some(&partition));
    cluster.runtime().block_on(election)?;
    cluster.until(TOPIC, "the wanted broker leads", |topic| {
        leads(topic) == Some(wanted)
    })?;
    Ok(wanted)
}
