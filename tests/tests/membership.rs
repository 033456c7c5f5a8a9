//! Who belongs to a cluster: joining, refusals, growing, draining, removing.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_broker::{EmbeddedBroker, EmbeddedCluster};
use highwater_client::{Client, NewTopic};
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
}

async fn client(cluster: &EmbeddedCluster) -> Client {
    let seeds = cluster.addresses().to_vec();
    Client::builder().seeds(seeds).connect().await.unwrap()
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node that comes with the id of another, or with the id of a node whose disk is gone, is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_id_and_an_empty_disk_are_refused_with_the_remedy() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    cluster.kill(2).await.unwrap();
    let seeds = cluster.addresses().to_vec();
    let refused = EmbeddedBroker::start_with(|config| {
        quick(0, config);
        config.seeds = seeds;
        config.node_id = Some(NodeId::new(3));
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(refused.contains("node id 3"), "{refused}");
    assert!(refused.contains("node remove 3"), "{refused}");
    cluster.restart(2).await.unwrap();
    cluster.shutdown().await.unwrap();
}

/// A data directory of one cluster does not become a member of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_of_two_clusters_are_refused() {
    let one = EmbeddedCluster::start_with(1, quick).await.unwrap();
    let other = EmbeddedCluster::start_with(1, quick).await.unwrap();
    let seeds = [one.addresses(), other.addresses()].concat();
    let refused = EmbeddedBroker::start_with(|config| {
        quick(0, config);
        config.seeds = seeds;
    })
    .await
    .unwrap_err()
    .to_string();
    assert!(refused.contains("two clusters"), "{refused}");
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

/// A broker whose data is of one cluster is not started with the seeds of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_another_cluster_is_refused() {
    let cluster = EmbeddedCluster::start_with(1, quick).await.unwrap();
    let seeds = cluster.addresses().to_vec();
    let stranger = EmbeddedBroker::start_with(|config| quick(0, config))
        .await
        .unwrap();
    let own = stranger.running().cluster_id();
    let kept = stranger.shutdown_and_keep().await.unwrap();
    let mut config = BrokerConfig {
        data_dir: kept.clone(),
        listen: "127.0.0.1:0".to_owned(),
        seeds,
        ..BrokerConfig::default()
    };
    config.admin.listen = None;
    let refused = highwater_broker::Broker::start(config)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("belongs to cluster"), "{refused}");
    assert!(refused.contains(&own.to_string()), "{refused}");
    std::fs::remove_dir_all(kept).unwrap();
    cluster.shutdown().await.unwrap();
}

/// A fourth broker joins by its seeds alone, gets an id and its share, and can be drained and removed
/// again, while producers go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_added_gets_its_share_is_drained_and_removed() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    let topic = NewTopic::new("t").partitions(8).replicas(3);
    client(&cluster)
        .await
        .admin()
        .create_topic(topic)
        .await
        .unwrap();
    let load = Workload::start(cluster.addresses(), "t", 8, 2).await;
    load.progress(200, DEADLINE).await;

    let added = cluster
        .add(|config| {
            quick(3, config);
            config.node_id = None;
        })
        .await
        .unwrap();
    let id = cluster.broker(added).running().node_id();
    assert_eq!(id, NodeId::new(4), "the cluster chose the next id");
    let admin = client(&cluster).await.admin();
    let holds = |wanted: Box<dyn Fn(usize) -> bool + Send>| {
        let admin = admin.clone();
        async move {
            let Ok(topic) = admin.describe_topic("t").await else {
                return false;
            };
            let held = topic
                .partitions
                .iter()
                .filter(|partition| partition.replicas.contains(&id) && partition.isr.contains(&id))
                .count();
            let settled = topic
                .partitions
                .iter()
                .all(|partition| partition.isr.len() == 3 && partition.replicas.len() == 3);
            settled && wanted(held)
        }
    };
    eventually("the new broker has its share", || {
        holds(Box::new(|held| held >= 5))
    })
    .await;
    load.progress(200, DEADLINE).await;

    admin.drain_node(id, true).await.unwrap();
    eventually("the drained broker holds nothing", || {
        holds(Box::new(|held| held == 0))
    })
    .await;
    load.progress(200, DEADLINE).await;
    cluster.stop(added).await.unwrap();
    eventually("the stopped node can be removed", || async {
        admin.remove_node(id, false).await.is_ok()
    })
    .await;
    let described = admin.describe_cluster().await.unwrap();
    assert!(described.brokers.iter().all(|broker| broker.node_id != id));

    let outcome = load.stop().await;
    outcome.check(cluster.addresses()).await;
    cluster.shutdown().await.unwrap();
}

/// Three nodes vote as soon as there are three; a fourth learns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quorum_grows_to_three_voters_and_can_be_changed() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    cluster.add(|config| quick(3, config)).await.unwrap();
    let admin = client(&cluster).await.admin();
    let voters = || async {
        admin.describe_quorum().await.ok().map(|quorum| {
            quorum
                .members
                .iter()
                .filter(|member| member.voter)
                .map(|member| member.node_id.get())
                .collect::<Vec<_>>()
        })
    };
    eventually("three voters and a learner", || async {
        voters().await.is_some_and(|voters| voters.len() == 3)
            && admin
                .describe_quorum()
                .await
                .is_ok_and(|quorum| quorum.members.len() == 4)
    })
    .await;
    let now = voters().await.unwrap();
    let learner = (1..=4).find(|node| !now.contains(node)).unwrap();
    let leader = admin.describe_quorum().await.unwrap().leader.get();
    let leaves = *now.iter().find(|node| **node != leader).unwrap();
    admin
        .alter_voters(&[NodeId::new(learner)], &[NodeId::new(leaves)])
        .await
        .unwrap();
    eventually("the vote has moved", || async {
        voters()
            .await
            .is_some_and(|voters| voters.contains(&learner) && !voters.contains(&leaves))
    })
    .await;
    cluster.shutdown().await.unwrap();
}
