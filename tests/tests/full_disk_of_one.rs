//! The disk of one broker of a cluster is full: the others go on, producers see nothing worse than
//! errors that they may retry, nothing is lost, and the broker comes back by itself when there is room.
//!
//! Where this user may not mount a small file system, a limit on the size of files (RLIMIT_FSIZE) stands
//! in for the full disk, and the test says so. `HIGHWATER_CHAOS_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_client::TopicDescription;
use highwater_tests::broker_process::file_limit;
use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::{Health, index, node};
use highwater_tests::scene::{DEADLINE, Plan, Scene, TOPIC, rounds};
use highwater_tests::small_disk::SmallDisk;

const DISK_MIB: u32 = 192;

/// Files of a broker whose disk is not small end here when it is to be full.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Brokers on small disks, as far as that is possible.
fn cluster(disks: &mut Vec<Option<SmallDisk>>) -> ClusterProcess {
    let mut settings = QUICK.to_vec();
    settings.extend(["storage.min.free.bytes=0", "heal.disk.max.percent=100"]);
    ClusterProcess::start_prepared(3, &settings, |_, data_dir: &Path| {
        let disk = SmallDisk::mount(data_dir, DISK_MIB);
        let prefix = if disk.is_some() {
            Vec::new()
        } else {
            file_limit(None)
        };
        disks.push(disk);
        prefix
    })
}

/// Takes the space that is left on a broker's disk, also what was given back since: a segment that is
/// finished gives some back.
fn fill(cluster: &ClusterProcess, broker: usize, disks: &[Option<SmallDisk>]) {
    if disks[broker].is_none() {
        cluster.broker(broker).set_file_limit(Some(FILE_BYTES_MAX));
        return;
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(filler(cluster, broker));
    let mut file = file.unwrap();
    for bytes in [1 << 20, 4 << 10] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

fn make_room(cluster: &ClusterProcess, broker: usize, disks: &[Option<SmallDisk>]) {
    if disks[broker].is_none() {
        cluster.broker(broker).set_file_limit(None);
    } else {
        std::fs::remove_file(filler(cluster, broker)).unwrap();
    }
}

fn filler(cluster: &ClusterProcess, broker: usize) -> PathBuf {
    cluster.data_dir(broker).join("filler")
}

/// Settings of the topic that are changed to fill the metadata log.
const SETTINGS: [&str; 5] = [
    "retention.ms",
    "segment.ms",
    "flush.bytes",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
];

/// Changes settings again and again, until there is no room for that on the full disk either.
async fn until_metadata_waits(scene: &Scene, full: usize, disks: &[Option<SmallDisk>]) {
    let waits = || {
        let log = scene.cluster.log(full);
        log.matches("the metadata log waits for space").count()
    };
    let (before, began) = (waits(), Instant::now());
    for change in 0u64.. {
        fill(&scene.cluster, full, disks);
        if waits() > before {
            println!("the metadata log is full after {change} changes");
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{change} changes fit in");
        // None of this is ever reached; together it takes room.
        let value = (1_000_000_000 + change).to_string();
        let values = SETTINGS.map(|setting| (setting, Some(value.as_str())));
        let admin = scene.health.client().admin();
        // The one that does not fit may get no answer from a controller that waits.
        let changed = admin.alter_configs(TOPIC, values);
        let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
    }
}

/// Somebody who has room is the controller, and those who have room know it.
async fn decide_something(scene: &Scene, full: usize) {
    let began = Instant::now();
    let elsewhere = Health::of(&scene.cluster.seeds_without(full), DEADLINE).await;
    let admin = elsewhere.client().admin();
    let unset = SETTINGS.map(|setting| (setting, None::<&str>));
    while let Err(error) = admin.alter_configs(TOPIC, unset).await {
        assert!(began.elapsed() < DEADLINE, "nobody decides: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("decided after {:?}", began.elapsed());
}

/// Whether it counts nowhere: it neither leads nor is in sync, or nothing was written meanwhile.
fn goes_on_without(topic: &TopicDescription, broker: usize) -> bool {
    topic.partitions.iter().all(|partition| {
        partition.leader.map(index) == Some(broker) || !partition.isr.contains(&node(broker))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_one_broker_stops_nobody_else() {
    let mut disks = Vec::new();
    let plan = Plan {
        partitions: 3,
        configs: &[
            ("durability", "synced"),
            ("segment.bytes", "1MiB"),
            ("max.message.bytes", "64KiB"),
            ("retention.bytes", "4MiB"),
        ],
        value_bytes: 2_000,
    };
    let scene = Scene::set_up(cluster(&mut disks), plan).await;
    for _ in 0..rounds() {
        for is_controller in [false, true] {
            let controller = scene.health.controller().await;
            let mut brokers = (0..3).filter(|b| (*b == controller) == is_controller);
            let full = brokers.next().unwrap();
            for partition in 0..3 {
                scene.give_lead(partition, partition as usize).await;
            }
            scene.fault("full disk", full);
            let began = Instant::now();
            let others: Vec<u32> = (0..3).filter(|p| *p as usize != full).collect();
            loop {
                fill(&scene.cluster, full, &disks);
                let topic = scene.health.client().admin().describe_topic(TOPIC).await;
                if topic.is_ok_and(|topic| goes_on_without(&topic, full)) {
                    break;
                }
                assert!(began.elapsed() < DEADLINE, "it stays in sync");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            println!(
                "controller {is_controller}: out after {:?}",
                began.elapsed()
            );
            scene.load.progress_in(&others, 300, DEADLINE).await;
            fill(&scene.cluster, full, &disks);
            scene.load.progress_in(&others, 300, DEADLINE).await;
            if is_controller {
                until_metadata_waits(&scene, full, &disks).await;
                decide_something(&scene, full).await;
            }
            scene.load.progress_in(&others, 30, DEADLINE).await;
            scene.lifted("full disk", full);
            make_room(&scene.cluster, full, &disks);
            let room = Instant::now();
            scene.health.whole(TOPIC).await;
            println!("in sync {:?} after there was room", room.elapsed());
            scene.progress(30).await;
        }
    }
    let cluster = scene.wind_up().await;
    // In this order: nothing is left behind.
    drop(disks);
    drop(cluster);
}
