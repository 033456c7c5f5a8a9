//! What an operator sees of a cluster through the admin endpoints while brokers come and go.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater_broker::EmbeddedCluster;
use highwater_client::{Client, NewTopic};
use highwater_config::BrokerConfig;
use highwater_tests::workload::Workload;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(60);

fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_millis(1500);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn json(cluster: &EmbeddedCluster, index: usize, path: &str) -> (u16, Value) {
    let (status, body) = get(cluster.broker(index).admin_address(), path).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// A number out of the metrics of a broker; `None` when it does not have it.
async fn metric(cluster: &EmbeddedCluster, index: usize, name: &str) -> Option<f64> {
    let (_, text) = get(cluster.broker(index).admin_address(), "/metrics").await;
    let start = format!("highwater_{name} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .map(|value| value.parse().unwrap())
}

async fn sum(cluster: &EmbeddedCluster, brokers: &[usize], name: &str) -> f64 {
    let mut sum = 0.0;
    for index in brokers {
        sum += metric(cluster, *index, name).await.unwrap_or_default();
    }
    sum
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_is_seen_by_the_others() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    let client = Client::builder().seeds(cluster.addresses().to_vec());
    let client = client.connect().await.unwrap();
    let topic = NewTopic::new("t").partitions(4).replicas(3);
    client.admin().create_topic(topic).await.unwrap();
    let load = Workload::start(cluster.addresses(), "t", 4, 1).await;
    load.progress(200, DEADLINE).await;

    let all = [0, 1, 2];
    eventually("one controller, three voters", async || {
        let (_, quorum) = json(&cluster, 1, "/v1/cluster/quorum").await;
        let members = quorum["members"].as_array().cloned().unwrap_or_default();
        let voters = members.iter().filter(|member| member["voter"] == true);
        sum(&cluster, &all, "controller_active").await == 1.0 && voters.count() == 3
    })
    .await;
    assert_eq!(sum(&cluster, &all, "partitions_led").await, 4.0);
    assert_eq!(sum(&cluster, &all, "replicas").await, 12.0);
    for index in all {
        let (status, view) = json(&cluster, index, "/v1/cluster").await;
        assert_eq!(status, 200, "{view}");
        assert_eq!(view["node_id"], index + 1);
        let brokers = view["brokers"].as_array().unwrap();
        assert_eq!(brokers.len(), 3);
        for broker in brokers {
            assert_eq!(
                (&broker["fenced"], &broker["voter"]),
                (&false.into(), &true.into())
            );
            assert_eq!(broker["replicas"], 4);
            assert!(broker["silent_ms"].is_u64(), "{broker}");
        }
        assert_eq!(
            json(&cluster, index, "/readyz").await.1["status"],
            "serving"
        );
        assert!(metric(&cluster, index, "lease_remaining_seconds").await > Some(0.0));
        assert!(
            metric(&cluster, index, "heartbeat_age_seconds")
                .await
                .is_some()
        );
    }
    assert!(sum(&cluster, &all, "replication_sent_bytes_total").await > 0.0);
    assert!(sum(&cluster, &all, "replication_received_bytes_total").await > 0.0);

    cluster.kill(2).await.unwrap();
    let left = [0, 1];
    eventually("the loss is seen", async || {
        let (_, view) = json(&cluster, 0, "/v1/cluster").await;
        sum(&cluster, &left, "partitions_under_replicated").await == 4.0
            && sum(&cluster, &left, "brokers_fenced").await == 1.0
            && view["partitions_under_replicated"] == 4
            && view["brokers"][2]["fenced"] == true
    })
    .await;
    assert!(sum(&cluster, &left, "isr_shrinks_total").await >= 4.0);
    let (_, topic) = json(&cluster, 0, "/v1/topics/t").await;
    for partition in topic["partitions"].as_array().unwrap() {
        assert_eq!(partition["isr"].as_array().unwrap().len(), 2, "{partition}");
        assert_eq!(partition["offline"], Value::Null);
    }
    load.progress(200, DEADLINE).await;
    eventually("it is behind", async || {
        sum(&cluster, &left, "follower_lag_records{follower=\"3\"}").await > 0.0
    })
    .await;
    let (status, moves) = json(&cluster, 0, "/v1/cluster/moves").await;
    assert_eq!((status, &moves["moves"]), (200, &Value::Array(Vec::new())));
    assert_eq!(moves["absent"][0]["node_id"], 3, "{moves}");

    cluster.restart(2).await.unwrap();
    eventually("it is in sync again", async || {
        sum(&cluster, &all, "partitions_under_replicated").await == 0.0
    })
    .await;
    assert!(sum(&cluster, &left, "isr_expands_total").await >= 4.0);
    load.stop().await;
    cluster.shutdown().await.unwrap();
}

/// A broker that is cut off from the controller must be taken out by a load balancer, and still tell its
/// operator what it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_a_broker_is_not_ready_and_says_why() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    eventually("three voters", async || {
        sum(&cluster, &[0, 1, 2], "quorum_voter").await == 3.0
    })
    .await;
    cluster.kill(1).await.unwrap();
    cluster.kill(2).await.unwrap();
    eventually("its lease is over", async || {
        let (status, ready) = json(&cluster, 0, "/readyz").await;
        status == 503 && ready["status"] == "fenced"
    })
    .await;
    let (_, ready) = json(&cluster, 0, "/readyz").await;
    assert!(
        ready["waits_for"].as_str().unwrap().contains("lease"),
        "{ready}"
    );
    assert_eq!(
        metric(&cluster, 0, "lease_remaining_seconds").await,
        Some(0.0)
    );
    eventually("no leader is known", async || {
        metric(&cluster, 0, "quorum_leader_known").await == Some(0.0)
    })
    .await;
    assert_eq!(
        get(cluster.broker(0).admin_address(), "/healthz").await.0,
        200
    );
    let (status, view) = json(&cluster, 0, "/v1/cluster").await;
    assert_eq!((status, &view["controller_id"]), (200, &Value::Null));
    assert_eq!(view["brokers"].as_array().unwrap().len(), 3);
    let (status, refused) = json(&cluster, 0, "/v1/cluster/quorum").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (503, &"NotController".into())
    );

    cluster.restart(1).await.unwrap();
    eventually("it serves again", async || {
        json(&cluster, 0, "/readyz").await.0 == 200
    })
    .await;
    cluster.restart(2).await.unwrap();
    cluster.shutdown().await.unwrap();
}
