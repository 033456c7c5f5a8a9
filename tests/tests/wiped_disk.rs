//! A broker whose disk was replaced by an empty one: it is refused under its old number, with the remedy;
//! following the remedy, an operator gets everything back.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::Duration;

use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::node;
use highwater_tests::rot::{files, flip_bit};
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC};

const PLAN: Plan<'_> = Plan {
    partitions: 3,
    configs: &[("durability", "replicated"), ("segment.bytes", "2MiB")],
    value_bytes: 500,
};

fn cluster() -> ClusterProcess {
    let mut settings = QUICK.to_vec();
    settings.push("heal.disk.max.percent=100");
    ClusterProcess::start(3, &settings)
}

/// The operator's remedy: the node is removed, and one with a new number takes its place.
async fn replace(scene: &mut Scene, gone: usize) {
    let admin = scene.health.client().admin();
    let began = std::time::Instant::now();
    // Not before its session is over.
    while let Err(error) = admin.remove_node(node(gone), true).await {
        assert!(began.elapsed() < DEADLINE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let new = tokio::task::block_in_place(|| scene.cluster.add());
    let without = |topic: &highwater_client::TopicDescription| {
        topic.partitions.iter().all(|partition| {
            partition.isr.contains(&node(new)) && !partition.replicas.contains(&node(gone))
        })
    };
    let what = "the new node has it all";
    scene.health.until(TOPIC, what, without).await;
    println!("rebuilt {:?} after the remedy began", began.elapsed());
    scene.health.voters(3).await;
    scene.progress(30).await;
    // What it has been given is what there was: it leads, so that it is read at the end.
    for partition in scene.partitions() {
        scene.give_lead(partition, new).await;
    }
}

/// The first of the seeds, which formed the cluster once: it must not form another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_is_refused_and_a_new_node_takes_its_place() {
    let mut scene = Scene::set_up(cluster(), PLAN).await;
    let wiped = 0;
    scene.kill(wiped);
    std::fs::remove_dir_all(scene.cluster.data_dir(wiped)).unwrap();
    let said = tokio::task::block_in_place(|| scene.cluster.refused(wiped));
    assert!(said.contains("node id 1"), "{said}");
    assert!(said.contains("node remove 1"), "{said}");
    // Nor a second time, on what the first attempt may have left.
    let said = tokio::task::block_in_place(|| scene.cluster.refused(wiped));
    assert!(said.contains("node remove 1"), "{said}");
    scene.progress(30).await;
    replace(&mut scene, wiped).await;
    scene.wind_up().await;
}

/// The metadata log of a node that is down is damaged where it had been answered for: the node does not
/// start, because it has voted and acknowledged what it does not know any more. It is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_metadata_log_is_damaged_does_not_start_and_is_replaced() {
    let mut scene = Scene::set_up(cluster(), PLAN).await;
    let hurt = 1;
    // In order, so that all of the log is below the recovery point.
    tokio::task::block_in_place(|| scene.cluster.terminate(hurt));
    let logs = files(scene.cluster.data_dir(hurt), "-0");
    let mut logs = logs.iter();
    let is_metadata = |dir: &&std::path::PathBuf| {
        let meta = std::fs::read_to_string(dir.join("partition.toml"));
        meta.unwrap_or_default().contains("__metadata")
    };
    let metadata = logs.find(is_metadata).unwrap();
    flip_bit(&files(metadata, ".log")[0], 20);
    let said = tokio::task::block_in_place(|| scene.cluster.refused(hurt));
    assert!(said.contains("damaged"), "{said}");
    assert!(said.contains("node remove"), "{said}");
    scene.progress(30).await;
    replace(&mut scene, hurt).await;
    scene.wind_up().await;
}
