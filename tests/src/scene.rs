//! A cluster of processes with a load on one topic: what a test of faults begins with, and how it ends.

use std::time::{Duration, Instant};

use highwater_client::{Election, PartitionId, PartitionName, TopicDescription, TopicId};
use highwater_verify::event::Phase;

use crate::cluster_process::ClusterProcess;
use crate::health::{Health, index, node};
use crate::workload::Workload;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The topic of the load.
pub const TOPIC: &str = "t";

/// How often the faults of a test are gone through, if `HIGHWATER_CHAOS_ROUNDS` does not say.
const ROUNDS: u32 = 1;

/// How often a test goes through its faults: `HIGHWATER_CHAOS_ROUNDS`.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn rounds() -> u32 {
    let rounds = std::env::var("HIGHWATER_CHAOS_ROUNDS").ok();
    rounds.map_or(ROUNDS, |rounds| {
        rounds.parse().expect("HIGHWATER_CHAOS_ROUNDS is a number")
    })
}

/// How long a leader that hands over in order ([`Scene::give_lead`]) may go on answering readers: until
/// it has applied that, which takes a moment on a busy machine. A third of the quick session.
const HANDOVER_MS_MAX: u64 = 500;

/// Shorter times without an acknowledgement are everyday.
const PAUSE_SHOWN_MS: f64 = 100.0;

/// A topic and what is written to it.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Partitions of the topic, three replicas each.
    pub partitions: u32,
    /// Settings of the topic.
    pub configs: &'a [(&'a str, &'a str)],
    /// Bytes of a value, at least.
    pub value_bytes: usize,
}

/// A cluster under load. Faults are noted in the logs of those to whom they happen.
#[derive(Debug)]
pub struct Scene {
    /// The brokers.
    pub cluster: ClusterProcess,
    /// How it is.
    pub health: Health,
    /// Producers of their own for each partition.
    pub load: Workload,
    /// Of the topic.
    pub topic_id: TopicId,
    partitions: u32,
}

impl Scene {
    /// Creates the topic and starts the load.
    ///
    /// # Panics
    /// When it does not get going.
    pub async fn set_up(cluster: ClusterProcess, plan: Plan<'_>) -> Self {
        let health = Health::of(cluster.seeds(), DEADLINE).await;
        health.create(TOPIC, plan.partitions, plan.configs).await;
        let mut writes = highwater_verify::Plan::new(TOPIC, plan.partitions);
        writes.value_bytes = plan.value_bytes;
        // Of one broker that leads everything, one partition may be all that goes on.
        writes.in_flight = 8 * plan.partitions as usize;
        writes.rules.stale_ms_max = HANDOVER_MS_MAX;
        let load = Workload::start_plan(cluster.seeds(), writes).await;
        load.progress(300, DEADLINE).await;
        let topic = health.client().admin().describe_topic(TOPIC).await;
        Self {
            topic_id: topic.expect("it was created").topic_id,
            cluster,
            health,
            load,
            partitions: plan.partitions,
        }
    }

    /// Notes that a fault is there, in the history of the load and in the log of the broker to whom it
    /// happens.
    pub fn fault(&self, fault: &str, broker: usize) {
        self.note(fault, broker, Phase::Installed);
    }

    /// Notes that it is lifted.
    pub fn lifted(&self, fault: &str, broker: usize) {
        self.note(fault, broker, Phase::Healed);
    }

    fn note(&self, fault: &str, broker: usize, phase: Phase) {
        self.cluster.note(broker, &format!("{fault}: {phase:?}"));
        self.load_fault(fault, broker, phase);
    }

    fn load_fault(&self, fault: &str, broker: usize, phase: Phase) {
        let target = format!("broker {}", broker + 1);
        self.load.note_fault(fault, &target, phase);
    }

    /// SIGKILL.
    pub fn kill(&mut self, broker: usize) {
        self.load_fault("killed", broker, Phase::Installed);
        self.cluster.kill(broker);
    }

    /// Starts a broker again that was killed.
    pub fn restart(&mut self, broker: usize) {
        tokio::task::block_in_place(|| self.cluster.restart(broker));
        self.load_fault("killed", broker, Phase::Healed);
    }

    /// SIGSTOP.
    pub fn pause(&self, broker: usize) {
        self.load_fault("paused", broker, Phase::Installed);
        self.cluster.pause(broker);
    }

    /// SIGCONT.
    pub fn resume(&self, broker: usize) {
        self.cluster.resume(broker);
        self.load_fault("paused", broker, Phase::Healed);
    }

    /// All partitions of the topic.
    #[must_use]
    pub fn partitions(&self) -> Vec<u32> {
        (0..self.partitions).collect()
    }

    /// Waits until every partition has acknowledged so much more.
    ///
    /// # Panics
    /// When one does not in time.
    pub async fn progress(&self, more: u64) {
        let all = self.partitions();
        self.load.progress_in(&all, more, DEADLINE).await;
    }

    /// Leadership of a partition goes to this broker.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn give_lead(&self, partition: u32, to: usize) {
        let began = Instant::now();
        let name = PartitionName::new(TOPIC, PartitionId::new(partition));
        loop {
            let admin = self.health.client().admin();
            let election = Election::Node(node(to));
            // It may lead already, or not be in sync yet: what counts is what comes of it.
            let asked = admin
                .elect_leaders(election, Some(std::slice::from_ref(&name)))
                .await;
            let led = self.health.led(TOPIC, partition).await;
            if led.leader == Some(node(to)) {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "{to} does not lead: {asked:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits, asking another broker, until one neither leads nor is in sync anywhere.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn others_lead(&self, without: usize) -> TopicDescription {
        self.until_seen_without(without, "the others lead", |topic| {
            topic.partitions.iter().all(|partition| {
                let leader = partition.leader.map(index);
                leader.is_some_and(|leader| leader != without)
                    && !partition.isr.contains(&node(without))
            })
        })
        .await
    }

    /// Waits until the topic, seen through the others, is as it should be.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn until_seen_without(
        &self,
        without: usize,
        what: &str,
        is_so: impl Fn(&TopicDescription) -> bool,
    ) -> TopicDescription {
        let seeds = self.cluster.seeds_without(without);
        let elsewhere = Health::of(&seeds, DEADLINE).await;
        elsewhere.until(TOPIC, what, is_so).await
    }

    /// Ends the load, when all is whole again and goes on, and judges the history. What each
    /// fault cost is printed and not judged. Returns the cluster.
    ///
    /// # Panics
    /// When it does not become whole, or something is wrong.
    pub async fn wind_up(self) -> ClusterProcess {
        let began = Instant::now();
        self.health.whole(TOPIC).await;
        println!(
            "whole {} ms after the last fault",
            began.elapsed().as_millis()
        );
        self.load.settle().await;
        self.progress(20).await;
        let outcome = self.load.stop().await;
        let verdict = outcome.check(self.cluster.seeds()).await;
        let windows = verdict.fault_windows.iter();
        for window in windows.filter(|window| window.max_ms >= PAUSE_SHOWN_MS) {
            println!(
                "{} ({}): longest time without an acknowledgement {:.0} ms, median of the \
                 partitions {:.0} ms",
                window.fault, window.target, window.max_ms, window.p50_ms
            );
        }
        self.cluster
    }
}
