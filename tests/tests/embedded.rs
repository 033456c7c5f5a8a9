//! The broker as a library: what our tests, and those of our users, start.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::Duration;

use highwater_broker::EmbeddedBroker;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId};
use highwater_protocol::messages::{
    Acks, AlterConfigsRequest, ConfigChange, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, MetadataRequest, MorePartitions, NewTopic, OffsetSpec, TopicConfigChanges,
};
use highwater_tests::raw::{RawClient, batch_of};

const ZERO: PartitionId = PartitionId::ZERO;

fn append(client: &mut RawClient, topic: highwater_protocol::ids::TopicId, values: &[&str]) {
    for value in values {
        let batch = batch_of([value.as_bytes()]);
        client
            .produce(topic, ZERO, Acks::All, batch)
            .unwrap()
            .unwrap();
    }
}

fn values(client: &mut RawClient, topic: highwater_protocol::ids::TopicId) -> Vec<String> {
    let read = client.read_all(topic, ZERO, Offset::ZERO);
    read.into_iter()
        .map(|(_, value)| String::from_utf8(value).unwrap())
        .collect()
}

#[tokio::test]
async fn records_outlive_orderly_stops_and_kills() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let address = broker.address();
    let mut client = RawClient::hello(address);
    let topic = client.create_topic("t", 1);
    append(&mut client, topic, &["a", "b"]);
    assert_eq!(values(&mut client, topic), ["a", "b"]);

    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    assert_eq!(
        broker.address(),
        address,
        "a restarted broker keeps its port"
    );
    let mut client = RawClient::hello(address);
    assert_eq!(values(&mut client, topic), ["a", "b"]);
    append(&mut client, topic, &["c"]);

    broker.restart().await.unwrap();
    let mut client = RawClient::hello(address);
    assert_eq!(values(&mut client, topic), ["a", "b", "c"]);
    let dir = broker.data_dir().to_owned();
    broker.shutdown().await.unwrap();
    assert!(!dir.exists(), "the temporary directory is removed");
}

/// A leader of another life is another leader: what it may not have had any more must not be taken for what
/// it appends now.
#[tokio::test]
async fn every_life_of_a_broker_begins_leader_epochs_of_its_own() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let address = broker.address();
    RawClient::hello(address).create_topic("t", 1);
    let epoch = || {
        let all = RawClient::hello(address)
            .call(&MetadataRequest { topics: None })
            .unwrap();
        all.topics[0].partitions[0].leader_epoch.get()
    };
    let first = epoch();
    broker.restart().await.unwrap();
    let second = epoch();
    assert!(second > first);
    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    assert!(epoch() > second);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_recreated_topic_never_meets_its_old_data() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let old = client.create_topic("t", 1);
    append(&mut client, old, &["old"]);
    let delete = DeleteTopicsRequest {
        topics: vec!["t".to_owned()],
    };
    assert_eq!(
        client.call(&delete).unwrap().topics[0].error,
        ErrorCode::None
    );
    let refused = client.fetch(old, ZERO, Offset::ZERO).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownTopicId);
    let new = client.create_topic("t", 1);
    assert_ne!(new, old);
    assert!(values(&mut client, new).is_empty());
    let late = client
        .produce(old, ZERO, Acks::All, batch_of([&b"late"[..]]))
        .unwrap();
    assert_eq!(late.unwrap_err().code, ErrorCode::UnknownTopicId);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let mut create = |replicas, key: &str, value: &str| {
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: Some(1),
            replicas: Some(replicas),
            configs: vec![highwater_protocol::messages::ConfigEntry {
                key: key.to_owned(),
                value: value.to_owned(),
            }],
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            validate_only: true,
        };
        let result = client.call(&request).unwrap().topics.remove(0);
        (result.error, result.message.unwrap_or_default())
    };
    assert_eq!(create(1, "retention.ms", "7d").0, ErrorCode::None);
    let (code, message) = create(2, "retention.ms", "7d");
    assert_eq!(code, ErrorCode::InvalidReplicationFactor);
    assert!(message.contains("replication factor 2"), "{message}");
    let (code, message) = create(1, "retention.mss", "7d");
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(
        message.contains("retention.ms"),
        "the right name is suggested: {message}"
    );
    let (code, message) = create(1, "cleanup.policy", "compact");
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(message.contains("compact"), "{message}");
    assert_eq!(
        create(1, "min.insync.replicas", "2").0,
        ErrorCode::InvalidConfig
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn settings_partitions_trimming_and_offsets() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    append(&mut client, topic, &["a", "b", "c", "d"]);

    let offset = |client: &mut RawClient, spec| {
        let partitions = vec![ListOffsetsPartition {
            partition: ZERO,
            leader_epoch: None,
            spec,
        }];
        let topics = vec![ListOffsetsTopic {
            topic_id: topic,
            partitions,
        }];
        let response = client.call(&ListOffsetsRequest { topics }).unwrap();
        let result = &response.topics[0].partitions[0];
        assert_eq!(result.error, ErrorCode::None, "{:?}", result.message);
        result.offset.map(Offset::get)
    };
    let trim = |client: &mut RawClient, before| {
        let partitions = vec![DeleteRecordsPartition {
            partition: ZERO,
            before,
        }];
        let topics = vec![DeleteRecordsTopic {
            topic_id: topic,
            partitions,
        }];
        let response = client.call(&DeleteRecordsRequest { topics }).unwrap();
        response.topics[0].partitions[0].clone()
    };
    assert_eq!(offset(&mut client, OffsetSpec::Earliest), Some(0));
    assert_eq!(offset(&mut client, OffsetSpec::Latest), Some(4));
    let at = |ms| OffsetSpec::At(highwater_protocol::ids::Timestamp::from_millis(ms));
    assert_eq!(offset(&mut client, at(0)), Some(0));
    assert_eq!(offset(&mut client, at(i64::MAX)), None);
    assert!(offset(&mut client, OffsetSpec::MaxTimestamp).is_some());
    assert_eq!(
        trim(&mut client, Some(Offset::new(2))).log_start,
        Some(Offset::new(2))
    );
    assert_eq!(
        trim(&mut client, Some(Offset::new(9))).error,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(offset(&mut client, OffsetSpec::Earliest), Some(2));
    let refused = client.fetch(topic, ZERO, Offset::ZERO).unwrap_err();
    assert_eq!(refused.code, ErrorCode::OffsetOutOfRange);

    let more = MorePartitions {
        name: "t".to_owned(),
        total: 3,
    };
    let request = CreatePartitionsRequest {
        topics: vec![more],
        validate_only: false,
    };
    assert_eq!(
        client.call(&request).unwrap().topics[0].error,
        ErrorCode::None
    );
    let change = ConfigChange {
        key: "retention.bytes".to_owned(),
        value: Some("1GiB".to_owned()),
    };
    let changes = TopicConfigChanges {
        name: "t".to_owned(),
        changes: vec![change],
    };
    let request = AlterConfigsRequest {
        topics: vec![changes],
        validate_only: false,
    };
    assert_eq!(
        client.call(&request).unwrap().topics[0].error,
        ErrorCode::None
    );

    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    assert_eq!(offset(&mut client, OffsetSpec::Earliest), Some(2));
    assert_eq!(offset(&mut client, OffsetSpec::Latest), Some(4));
    let cluster = client
        .call(&DescribeClusterRequest {
            include_fenced: false,
        })
        .unwrap();
    assert_eq!((cluster.topics, cluster.partitions), (1, 3));
    let keys = Some(vec!["retention.bytes".to_owned()]);
    let request = DescribeConfigsRequest {
        topics: vec!["t".to_owned()],
        keys,
    };
    let described = client.call(&request).unwrap();
    assert_eq!(described.topics[0].configs[0].value, "1GiB");
    broker.shutdown().await.unwrap();
}

/// A long poll on one connection holds up nothing else on it, and is answered by the append.
#[tokio::test]
async fn a_long_poll_does_not_block_its_connection() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    let poll = client.long_poll(topic, ZERO, 60_000);
    for _ in 0..3 {
        client.assert_served();
    }
    let mut other = RawClient::hello(broker.address());
    append(&mut other, topic, &["woken"]);
    let ((correlation, error), _) = client.receive().unwrap();
    assert_eq!((correlation, error), (poll, ErrorCode::None));
    broker.shutdown().await.unwrap();
}

/// A long poll in flight does not hold up an orderly stop.
#[tokio::test]
async fn stopping_answers_long_polls() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    client.long_poll(topic, ZERO, 200_000);
    let stopped = tokio::time::timeout(Duration::from_secs(20), broker.shutdown()).await;
    stopped
        .expect("the stop does not wait for the poll")
        .unwrap();
    client.receive().expect("the poll was answered");
}
