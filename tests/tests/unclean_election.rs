//! The last resort: the only replica with everything is gone, and an operator gives up what it had.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_broker::EmbeddedCluster;
use highwater_client::{
    Client, Election, ErrorCode, NewTopic, PartitionId, PartitionName, ProducerRecord,
    TopicDescription, Until,
};
use highwater_config::BrokerConfig;
use highwater_protocol::ids::NodeId;

const DEADLINE: Duration = Duration::from_secs(60);

fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_millis(1500);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
}

/// Waits until the topic is as it should be.
async fn until(
    client: &Client,
    what: &str,
    is_so: impl Fn(&TopicDescription) -> bool,
) -> TopicDescription {
    let began = Instant::now();
    loop {
        let described = client.admin().describe_topic("t").await;
        match described {
            Ok(topic) if is_so(&topic) => return topic,
            described => assert!(
                began.elapsed() < DEADLINE,
                "not in time: {what}: {described:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn produce(client: &Client, values: &[&str]) {
    let producer = client.producer().build();
    for value in values {
        let record = ProducerRecord::to("t").value(value.to_string());
        producer.send(record).await.unwrap();
    }
    producer.close(DEADLINE).await.unwrap();
}

async fn read(client: &Client) -> Vec<String> {
    let mut reader = client.reader("t").until(Until::End).build().await.unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        let value = record.value.as_deref().unwrap_or_default();
        values.push(String::from_utf8(value.to_vec()).unwrap());
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_give_up_what_nobody_has_any_more_and_the_old_leader_follows() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    let client = Client::builder().seeds(cluster.addresses().to_vec());
    let client = client.connect().await.unwrap();
    let topic = NewTopic::new("t").partitions(1).replicas(2);
    let topic = topic.config("min.insync.replicas", "1");
    client.admin().create_topic(topic).await.unwrap();
    let whole = |topic: &TopicDescription| topic.partitions[0].isr.len() == 2;
    let topic = until(&client, "both are in sync", whole).await;
    let [first, second] = topic.partitions[0].replicas[..] else {
        panic!("two replicas: {topic:?}");
    };
    let index = |node: NodeId| node.get() as usize - 1;
    produce(&client, &["a", "b"]).await;

    // What follows is on the leader alone.
    cluster.kill(index(second)).await.unwrap();
    until(&client, "the leader is alone", |topic| {
        topic.partitions[0].isr == [first]
    })
    .await;
    produce(&client, &["only here", "and here"]).await;
    cluster.kill(index(first)).await.unwrap();
    cluster.restart(index(second)).await.unwrap();
    let topic = until(
        &client,
        "it waits for the one that has everything",
        |topic| topic.partitions[0].leader.is_none() && topic.partitions[0].elr == [first],
    )
    .await;
    assert!(topic.partitions[0].isr.is_empty());

    let name = PartitionName {
        topic: "t".to_owned(),
        partition: PartitionId::new(0),
    };
    let admin = client.admin();
    let clean = admin
        .elect_leaders(Election::Node(second), Some(std::slice::from_ref(&name)))
        .await
        .unwrap();
    assert_ne!(
        clean[0].error,
        ErrorCode::None,
        "it does not have everything"
    );
    let unclean = admin
        .elect_leaders(Election::Unclean, Some(std::slice::from_ref(&name)))
        .await
        .unwrap();
    assert_eq!(unclean[0].error, ErrorCode::None, "{unclean:?}");
    until(&client, "it leads", |topic| {
        topic.partitions[0].leader == Some(second)
    })
    .await;
    assert_eq!(read(&client).await, ["a", "b"]);
    let again = admin
        .elect_leaders(Election::Unclean, Some(&[name]))
        .await
        .unwrap();
    assert_ne!(again[0].error, ErrorCode::None, "there is a leader");
    produce(&client, &["c"]).await;

    // The old leader had told readers of what is given up now. It cuts that, and follows.
    cluster.restart(index(first)).await.unwrap();
    until(&client, "both are in sync again", whole).await;
    cluster.kill(index(second)).await.unwrap();
    until(&client, "the old leader leads again", |topic| {
        topic.partitions[0].leader == Some(first)
    })
    .await;
    assert_eq!(read(&client).await, ["a", "b", "c"]);
    cluster.restart(index(second)).await.unwrap();
    cluster.shutdown().await.unwrap();
}
