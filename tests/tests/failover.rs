//! Three brokers, faults, and a workload that must not notice more than a pause: nothing that was
//! acknowledged is lost, nothing is there twice, everything is in order.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_broker::EmbeddedCluster;
use highwater_client::{Client, NewTopic};
use highwater_config::BrokerConfig;
use highwater_tests::workload::Workload;

/// How long the cluster may take to be whole again.
const HEAL_MAX: Duration = Duration::from_secs(60);

/// Timeouts short enough for a test, and long enough for a busy machine.
fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_millis(1500);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
}

async fn client(cluster: &EmbeddedCluster) -> Client {
    let seeds = cluster.addresses().to_vec();
    Client::builder().seeds(seeds).connect().await.unwrap()
}

async fn create(cluster: &EmbeddedCluster, topic: &str, partitions: u32, durability: &str) {
    let topic = NewTopic::new(topic)
        .partitions(partitions)
        .replicas(3)
        .config("durability", durability)
        .config("segment.bytes", "2MiB");
    client(cluster)
        .await
        .admin()
        .create_topic(topic)
        .await
        .unwrap();
}

/// Waits until every replica of a topic is in sync.
async fn whole(cluster: &EmbeddedCluster, topic: &str) {
    let client = client(cluster).await;
    let began = Instant::now();
    loop {
        let described = client.admin().describe_topic(topic).await;
        if let Ok(described) = &described
            && described
                .partitions
                .iter()
                .all(|partition| partition.isr.len() == 3 && partition.leader.is_some())
        {
            return;
        }
        assert!(began.elapsed() < HEAL_MAX, "not in sync: {described:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The broker that leads a partition, by its number in the cluster.
async fn leader(cluster: &EmbeddedCluster, topic: &str, partition: usize) -> usize {
    let client = client(cluster).await;
    let began = Instant::now();
    loop {
        let described = client.admin().describe_topic(topic).await.unwrap();
        if let Some(leader) = described.partitions[partition].leader {
            return leader.get() as usize - 1;
        }
        assert!(began.elapsed() < HEAL_MAX, "no leader");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_form_one_cluster_and_replicate() {
    let cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    let ids: std::collections::BTreeSet<_> = (0..3)
        .map(|index| cluster.broker(index).running().cluster_id())
        .collect();
    assert_eq!(ids.len(), 1, "one cluster");
    create(&cluster, "t", 3, "synced").await;
    let load = Workload::start(cluster.addresses(), "t", 3, 2).await;
    load.progress(500, HEAL_MAX).await;
    let outcome = load.stop().await;
    whole(&cluster, "t").await;
    outcome.check(cluster.addresses()).await;
    cluster.shutdown().await.unwrap();
}

async fn kill_the_leader_again_and_again(durability: &str, orderly: bool) {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    create(&cluster, "t", 2, durability).await;
    whole(&cluster, "t").await;
    let load = Workload::start(cluster.addresses(), "t", 2, 3).await;
    for _ in 0..3 {
        load.progress(300, HEAL_MAX).await;
        let victim = leader(&cluster, "t", 0).await;
        if orderly {
            cluster.stop(victim).await.unwrap();
        } else {
            cluster.kill(victim).await.unwrap();
        }
        load.progress(300, HEAL_MAX).await;
        cluster.restart(victim).await.unwrap();
        whole(&cluster, "t").await;
    }
    let outcome = load.stop().await;
    println!(
        "{durability}, orderly {orderly}: {} records, longest pause {} ms",
        outcome.acked(),
        outcome.gap_ms_max
    );
    outcome.check(cluster.addresses()).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_lose_nothing_when_synced() {
    kill_the_leader_again_and_again("synced", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_lose_nothing_when_replicated() {
    kill_the_leader_again_and_again("replicated", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_stop_in_order_lose_nothing() {
    kill_the_leader_again_and_again("synced", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_killed_at_once_come_back_by_themselves() {
    for durability in ["synced", "replicated"] {
        let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
        create(&cluster, "t", 2, durability).await;
        whole(&cluster, "t").await;
        let load = Workload::start(cluster.addresses(), "t", 2, 2).await;
        load.progress(300, HEAL_MAX).await;
        for index in 0..3 {
            cluster.kill(index).await.unwrap();
        }
        cluster.restart_all().await.unwrap();
        load.progress(100, HEAL_MAX).await;
        let outcome = load.stop().await;
        whole(&cluster, "t").await;
        outcome.check(cluster.addresses()).await;
        cluster.shutdown().await.unwrap();
    }
}
