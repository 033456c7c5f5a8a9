//! A broker behind a link of 512 kbit/s with a long queue in front of it: everybody goes on, slower, and
//! nobody is fenced, elected or put out of the in-sync replicas again and again.
//!
//! Needs root, for the namespaces, and fails without it. `HIGHWATER_CHAOS_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::namespaces::Link;
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};

/// A tenth of what the load would write if the link were fast, and less.
const KBIT_PER_SECOND: u32 = 512;

/// How long the link is slow: many times the session, and what a follower may lag.
const SLOW: Duration = Duration::from_secs(10);

/// Records that a broker misses before it catches up through its slow link.
const BEHIND: u64 = 3_000;

/// How often leaders and in-sync replicas are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// In-sync replicas of one partition may change so often while the link is slow: out, and in again when
/// what is to be caught up is small, a few times.
const ISR_CHANGES_MAX: usize = 8;

/// Leaders of one partition, and controllers: one that is too slow may be replaced, and that is that.
const ELECTIONS_MAX: u64 = 3;

#[derive(Debug, Default)]
struct Changes {
    isr: BTreeMap<u32, usize>,
    leader_epochs: BTreeMap<u32, u64>,
    terms: u64,
    unanswered: usize,
}

impl Changes {
    fn judge(&self) {
        for count in self.isr.values() {
            assert!(*count <= ISR_CHANGES_MAX, "{self:?}");
        }
        for count in self.leader_epochs.values() {
            assert!(*count <= ELECTIONS_MAX, "{self:?}");
        }
        assert!(self.terms <= ELECTIONS_MAX, "{self:?}");
    }
}

/// Cuts a broker off until it has more to catch up than its slow link carries in a while.
async fn fall_behind(scene: &Scene, broker: usize) {
    scene.fault("cut off", broker);
    scene.cluster.network().set_brokers_link(broker, Link::Cut);
    scene.others_lead(broker).await;
    scene.load.progress(BEHIND, DEADLINE).await;
}

/// Looks at the cluster for a while.
async fn watch(scene: &Scene) -> Changes {
    let admin = scene.health.client().admin();
    let mut changes = Changes::default();
    let mut last = scene.health.until(TOPIC, "it is described", |_| true).await;
    let first_term = admin.describe_quorum().await.unwrap().term;
    let began = Instant::now();
    while began.elapsed() < SLOW {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(topic) = admin.describe_topic(TOPIC).await else {
            changes.unanswered += 1;
            continue;
        };
        for (now, before) in topic.partitions.iter().zip(&last.partitions) {
            let partition = now.partition.get();
            if now.isr != before.isr {
                *changes.isr.entry(partition).or_default() += 1;
            }
            let elected = now
                .leader_epoch
                .get()
                .saturating_sub(before.leader_epoch.get());
            *changes.leader_epochs.entry(partition).or_default() += u64::from(elected);
        }
        last = topic;
    }
    // The controller may not be found through the slow link at once.
    let term = loop {
        match admin.describe_quorum().await {
            Ok(quorum) => break quorum.term,
            Err(error) => assert!(began.elapsed() < SLOW * 3, "no controller: {error}"),
        }
    };
    changes.terms = term - first_term;
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_of_one_broker_slows_down_and_shakes_nobody_off() {
    let cluster = ClusterProcess::start_in_namespaces(3, QUICK);
    let plan = Plan {
        partitions: 3,
        configs: &[("durability", "synced"), ("segment.bytes", "8MiB")],
        value_bytes: 1_000,
    };
    let scene = Scene::set_up(cluster, plan).await;
    for _ in 0..rounds() {
        for (is_controller, is_behind) in [(false, false), (true, false), (false, true)] {
            let controller = scene.health.controller().await;
            let mut brokers = (0..3).filter(|b| (*b == controller) == is_controller);
            let slow = brokers.next().unwrap();
            for partition in 0..3 {
                scene.give_lead(partition, partition as usize).await;
            }
            let network = scene.cluster.network();
            if is_behind {
                fall_behind(&scene, slow).await;
            } else {
                scene.health.whole(TOPIC).await;
            }
            scene.fault("slow link", slow);
            let acked = scene.load.acked();
            network.set_brokers_rate(slow, Some(KBIT_PER_SECOND));
            if is_behind {
                network.set_brokers_link(slow, Link::Up);
                scene.lifted("cut off", slow);
            }
            let changes = watch(&scene).await;
            println!(
                "controller {is_controller}, behind {is_behind}: {} records, {changes:?}",
                scene.load.acked() - acked
            );
            scene.lifted("slow link", slow);
            network.set_brokers_rate(slow, None);
            changes.judge();
            scene.health.whole(TOPIC).await;
            scene.progress(10).await;
        }
    }
    scene.wind_up().await;
}
