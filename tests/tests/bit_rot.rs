//! Bits that flip in the files of one broker, while it runs and while it is down: what is damaged is
//! found, never believed, and repaired from the other replicas, which are left alone.
//!
//! `HIGHWATER_CHAOS_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_client::{ErrorCode, NewTopic, Offset, PartitionId, TopicId};
use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{Health, index, node};
use highwater_tests::raw::RawClient;
use highwater_tests::rot::{files, flip_bit, partition_dir};
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};
use highwater_tests::workload::Workload;

/// Sealed segments that a partition has before anything is damaged.
const SEALED: usize = 2;

/// What is damaged while the broker is down, each in a partition of its own: which file, where in parts
/// of a thousand, and whether the replica has to be filled anew. All others are made again from the
/// records, or there is a second copy.
const DAMAGE: [(&str, u64, bool); 7] = [
    (".log", 500, true),
    (".index", 500, false),
    (".timeindex", 500, false),
    ("leader-epochs", 600, false),
    (".producers", 500, false),
    (".seal", 500, false),
    // The first of its two copies.
    ("checkpoint", 4, false),
];

const PLAN: Plan<'_> = Plan {
    partitions: DAMAGE.len() as u32,
    configs: &[
        ("durability", "synced"),
        ("segment.bytes", "128KiB"),
        ("max.message.bytes", "32KiB"),
    ],
    value_bytes: 1_000,
};

fn cluster() -> ClusterProcess {
    let mut settings = QUICK.to_vec();
    settings.extend(["storage.scrub.interval=1s", "storage.scrub.rate=64MiB"]);
    ClusterProcess::start(3, &settings)
}

fn dir(cluster: &ClusterProcess, broker: usize, topic: TopicId, partition: u32) -> PathBuf {
    partition_dir(cluster.data_dir(broker), topic, PartitionId::new(partition))
}

/// Waits until there are finished segments of these partitions on a broker.
async fn sealed(scene: &Scene, broker: usize, partitions: &[u32]) {
    let began = Instant::now();
    for partition in partitions {
        let dir = dir(&scene.cluster, broker, scene.topic_id, *partition);
        while files(&dir, ".seal").len() < SEALED {
            assert!(began.elapsed() < DEADLINE, "no segment is finished");
            scene.load.progress(50, DEADLINE).await;
        }
    }
}

/// Logs that a broker has set aside as damaged.
fn set_aside(data_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_dir).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".damaged-")).collect()
}

async fn until_set_aside(cluster: &ClusterProcess, broker: usize, topic: TopicId, partition: u32) {
    let began = Instant::now();
    let prefix = format!("{topic}-{partition}.");
    let is_there = || {
        let names = set_aside(cluster.data_dir(broker));
        names.iter().any(|name| name.starts_with(&prefix))
    };
    while !is_there() {
        assert!(began.elapsed() < DEADLINE, "the damage is not repaired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("set aside after {:?}", began.elapsed());
}

/// A sealed segment of a leader, and one of a follower, while they serve; then a file of each kind of a
/// broker that is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_rots_on_one_broker_is_found_and_repaired_from_the_others() {
    let mut scene = Scene::set_up(cluster(), PLAN).await;
    for _ in 0..rounds() {
        let (hurt, other) = (1, 2);
        for (partition, leader) in [(0, hurt), (1, other)] {
            scene.give_lead(partition, leader).await;
            sealed(&scene, hurt, &[partition]).await;
            let dir = dir(&scene.cluster, hurt, scene.topic_id, partition);
            let segment = files(&dir, ".seal").remove(0).with_extension("log");
            scene.fault("flipped bit", hurt);
            flip_bit(&segment, 500);
            until_set_aside(&scene.cluster, hurt, scene.topic_id, partition).await;
        }
        scene.health.whole(TOPIC).await;
        sealed(&scene, hurt, &scene.partitions()).await;

        scene.kill(hurt);
        for (partition, (ending, at, _)) in (0..).zip(DAMAGE) {
            let dir = dir(&scene.cluster, hurt, scene.topic_id, partition);
            let mut found = files(&dir, ending);
            assert!(!found.is_empty(), "{ending} in {}", dir.display());
            // Of segments the first, which is finished; of snapshots the newest, which would be read.
            let place = if ending == ".producers" {
                found.len() - 1
            } else {
                0
            };
            flip_bit(&found.remove(place), at);
        }
        // What is set aside from here on is of this start.
        for name in set_aside(scene.cluster.data_dir(hurt)) {
            std::fs::remove_dir_all(scene.cluster.data_dir(hurt).join(name)).unwrap();
        }
        scene.restart(hurt);
        for (partition, (_, _, is_lost)) in (0..).zip(DAMAGE) {
            if is_lost {
                until_set_aside(&scene.cluster, hurt, scene.topic_id, partition).await;
            }
        }
        scene.health.whole(TOPIC).await;
        // Another round of scrubbing, so that nothing else is found later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let lost = DAMAGE.iter().filter(|(_, _, is_lost)| *is_lost).count();
        assert_eq!(set_aside(scene.cluster.data_dir(hurt)).len(), lost);
        for broker in (0..3).filter(|broker| *broker != hurt) {
            let untouched = set_aside(scene.cluster.data_dir(broker));
            assert!(untouched.is_empty(), "{untouched:?}");
        }
        // It leads everything, so that what is read at the end is what it has.
        for partition in scene.partitions() {
            scene.give_lead(partition, hurt).await;
        }
        scene.progress(30).await;
    }
    scene.wind_up().await;
}

/// Two replicas of which both are needed. The one that was there to the end comes back first, with a
/// finished segment that is too short: it is not elected, and the other is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_not_elected_although_it_was_the_last() {
    let mut cluster = cluster();
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    let mut new = NewTopic::new(TOPIC).partitions(1).replicas(2);
    for (key, value) in PLAN.configs {
        new = new.config(*key, *value);
    }
    let new = new.config("min.insync.replicas", "2");
    let admin = health.client().admin();
    admin.create_topic(new).await.unwrap();
    health.voters(3).await;
    let both = |topic: &highwater_client::TopicDescription| topic.partitions[0].isr.len() == 2;
    let topic = health.until(TOPIC, "both are in sync", both).await;
    let [last, first] = topic.partitions[0].replicas[..] else {
        panic!("two replicas: {topic:?}");
    };
    let (last, first) = (index(last), index(first));
    let mut writes = highwater_verify::Plan::new(TOPIC, 1);
    writes.value_bytes = PLAN.value_bytes;
    let load = Workload::start_plan(cluster.seeds(), writes).await;
    let log = dir(&cluster, last, topic.topic_id, 0);
    let began = Instant::now();
    while files(&log, ".seal").len() < SEALED {
        assert!(began.elapsed() < DEADLINE, "no segment is finished");
        load.progress(50, DEADLINE).await;
    }
    cluster.kill(first);
    let alone = |topic: &highwater_client::TopicDescription| {
        topic.partitions[0].isr == [node(last)] && topic.partitions[0].elr == [node(first)]
    };
    health
        .until(TOPIC, "the other may lead as well", alone)
        .await;
    cluster.kill(last);
    let segment = files(&log, ".seal").remove(0).with_extension("log");
    let file = std::fs::OpenOptions::new().write(true).open(&segment);
    let file = file.unwrap();
    file.set_len(file.metadata().unwrap().len() - 100).unwrap();
    tokio::task::block_in_place(|| cluster.restart(last));
    let nobody = |topic: &highwater_client::TopicDescription| {
        topic.partitions[0].leader.is_none()
            && !topic.partitions[0].isr.contains(&node(last))
            && !topic.partitions[0].elr.contains(&node(last))
    };
    health.until(TOPIC, "it counts no more", nobody).await;
    let mut raw = RawClient::hello(cluster.address(last));
    let refused = raw.fetch(topic.topic_id, PartitionId::ZERO, Offset::ZERO);
    let code = refused.unwrap_err().code;
    assert!(
        matches!(code, ErrorCode::PartitionOffline | ErrorCode::NotLeader),
        "{code}"
    );
    tokio::task::block_in_place(|| cluster.restart(first));
    let led = health.leader(TOPIC, 0).await;
    assert_eq!(led, first);
    until_set_aside(&cluster, last, topic.topic_id, 0).await;
    health.until(TOPIC, "both are in sync", both).await;
    load.progress(50, DEADLINE).await;
    let outcome = load.stop().await;
    outcome.check(cluster.seeds()).await;
}
