//! The cluster repairs itself: replicas of a broker that is gone are rebuilt on others, and a damaged
//! replica is rebuilt from its peers.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_broker::EmbeddedCluster;
use highwater_client::{Admin, Client, NewTopic};
use highwater_config::BrokerConfig;
use highwater_protocol::ids::NodeId;
use highwater_tests::workload::Workload;

const DEADLINE: Duration = Duration::from_secs(60);

fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_millis(1500);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
    config.healing.disk_percent_max = 100;
}

async fn client(cluster: &EmbeddedCluster) -> Client {
    let seeds = cluster.addresses().to_vec();
    Client::builder().seeds(seeds).connect().await.unwrap()
}

/// Waits until every partition has three replicas in sync, none of them on `gone`.
async fn whole_without(admin: &Admin, topic: &str, gone: Option<NodeId>) {
    let began = Instant::now();
    loop {
        let described = admin.describe_topic(topic).await;
        if let Ok(described) = &described
            && described.partitions.iter().all(|partition| {
                partition.isr.len() == 3
                    && partition.replicas.len() == 3
                    && partition.leader.is_some()
                    && gone.is_none_or(|gone| !partition.replicas.contains(&gone))
            })
        {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "not whole: {described:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_broker_that_is_gone_are_rebuilt_on_others() {
    let mut cluster = EmbeddedCluster::start_with(4, |index, config| {
        quick(index, config);
        config.healing.after = Some(Duration::from_secs(2));
    })
    .await
    .unwrap();
    let admin = client(&cluster).await.admin();
    let topic = NewTopic::new("t").partitions(6).replicas(3);
    admin.create_topic(topic).await.unwrap();
    whole_without(&admin, "t", None).await;
    let load = Workload::start(cluster.addresses(), "t", 6, 2).await;
    load.progress(300, DEADLINE).await;
    cluster.kill(1).await.unwrap();
    whole_without(&admin, "t", Some(NodeId::new(2))).await;
    load.progress(300, DEADLINE).await;
    let outcome = load.stop().await;
    outcome.check(cluster.addresses()).await;
    // It comes back, finds that others hold what it had, and lets it go.
    cluster.restart(1).await.unwrap();
    outcome.check(cluster.addresses()).await;
    cluster.shutdown().await.unwrap();
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|ext| ext == extension) {
            found.push(path);
        }
    }
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

/// Bit rot in a finished segment: scrubbing finds it, the replica goes offline, and is rebuilt from its
/// peers without anybody's help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_found_and_rebuilt_from_its_peers() {
    let cluster = EmbeddedCluster::start_with(3, |index, config| {
        quick(index, config);
        config.storage.scrub_interval = Some(Duration::from_secs(1));
        config.storage.scrub_rate = 64 << 20;
    })
    .await
    .unwrap();
    let admin = client(&cluster).await.admin();
    let topic = NewTopic::new("t")
        .partitions(1)
        .replicas(3)
        .config("segment.bytes", "64KiB")
        .config("max.message.bytes", "16KiB");
    admin.create_topic(topic).await.unwrap();
    whole_without(&admin, "t", None).await;
    let load = Workload::start(cluster.addresses(), "t", 1, 2).await;
    let data_dir = cluster.broker(1).data_dir().to_owned();
    let sealed = || {
        let mut seals = Vec::new();
        files(&data_dir, "seal", &mut seals);
        seals
    };
    let began = Instant::now();
    while sealed().len() < 2 {
        assert!(began.elapsed() < DEADLINE, "no segment is finished");
        load.progress(200, DEADLINE).await;
    }
    let segment = sealed().remove(0).with_extension("log");
    damage(&segment);
    // The damaged directory is set aside, and the replica is filled anew.
    let began = Instant::now();
    loop {
        let aside = std::fs::read_dir(&data_dir)
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("damaged"));
        if aside {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the damage is not found");
        load.progress(20, DEADLINE).await;
    }
    whole_without(&admin, "t", None).await;
    let outcome = load.stop().await;
    outcome.check(cluster.addresses()).await;
    cluster.shutdown().await.unwrap();
}
