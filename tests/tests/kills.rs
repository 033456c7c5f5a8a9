//! `kill -9` of brokers of a cluster, as processes: others take over within a session and a little more,
//! and nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::Health;
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};
use highwater_tests::workload::Workload;

/// What a session (6 s by default) and an election may take together, with room for a busy machine.
const TAKE_OVER_MS_MAX: u64 = 15_000;

/// With the timeouts that users get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_within_a_session_and_a_little_more() {
    let mut cluster = ClusterProcess::start(3, &["leader.balance.interval=7d"]);
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    health.create(TOPIC, 3, &[]).await;
    let load = Workload::start(cluster.seeds(), TOPIC, 3, 2).await;
    for is_controller in [false, true] {
        load.progress(300, DEADLINE).await;
        let controller = health.controller().await;
        let mut brokers = (0..3).filter(|broker| (*broker == controller) == is_controller);
        let victim = brokers.next().unwrap();
        let _ = load.take_gap_ms_max();
        cluster.kill(victim);
        health
            .until(TOPIC, "the others lead", |topic| {
                topic.partitions.iter().all(|partition| {
                    let leader = partition.leader.map(highwater_tests::health::index);
                    leader.is_some_and(|leader| leader != victim)
                })
            })
            .await;
        load.progress(300, DEADLINE).await;
        let pause = load.take_gap_ms_max();
        println!("killed, controller {is_controller}: longest pause {pause} ms");
        assert!(pause < TAKE_OVER_MS_MAX, "{pause} ms");
        tokio::task::block_in_place(|| cluster.restart(victim));
        health.whole(TOPIC).await;
    }
    let outcome = load.stop().await;
    outcome.check(cluster.seeds()).await;
}

/// In both durabilities: what a process has written outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_killed_at_once_come_back_by_themselves() {
    let mut cluster = ClusterProcess::start(3, QUICK);
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    let mut loads = Vec::new();
    for durability in ["synced", "replicated"] {
        let configs = [("durability", durability), ("segment.bytes", "2MiB")];
        health.create(durability, 2, &configs).await;
        loads.push((
            durability,
            Workload::start(cluster.seeds(), durability, 2, 2).await,
        ));
    }
    for _ in 0..2 {
        for (_, load) in &loads {
            load.progress(300, DEADLINE).await;
        }
        for broker in 0..3 {
            cluster.kill(broker);
        }
        tokio::task::block_in_place(|| cluster.restart_all());
    }
    for (topic, load) in loads {
        load.progress(300, DEADLINE).await;
        let outcome = load.stop().await;
        health.whole(topic).await;
        println!(
            "{topic}: {} records, longest pause {} ms",
            outcome.acked(),
            outcome.gap_ms_max
        );
        outcome.check(cluster.seeds()).await;
    }
}

/// Whoever leads one partition is killed, and then whoever leads it after that, as soon as the one before
/// is up again and without waiting until it is in sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_one_partition_is_chased() {
    let plan = Plan {
        partitions: 3,
        configs: &[("durability", "synced"), ("segment.bytes", "2MiB")],
        value_bytes: 100,
    };
    let mut scene = Scene::set_up(ClusterProcess::start(3, QUICK), plan).await;
    for _ in 0..5 * rounds() {
        let victim = scene.health.leader(TOPIC, 0).await;
        scene.kill(victim);
        let what = "another leads";
        scene
            .until_seen_without(victim, what, |topic| {
                let leader = topic.partitions[0]
                    .leader
                    .map(highwater_tests::health::index);
                leader.is_some_and(|leader| leader != victim)
            })
            .await;
        scene.load.progress_in(&[0], 20, DEADLINE).await;
        scene.restart(victim);
    }
    scene.wind_up().await;
}
