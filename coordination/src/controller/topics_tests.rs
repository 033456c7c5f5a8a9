use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, TopicId};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_protocol::messages::{ConfigChange, ConfigEntry, DrainNodeRequest};

use super::super::test_cluster::{TestCluster, node, nodes};
use super::super::*;

fn new_topic(id: u8, name: &str, partitions: u32, replicas: u16) -> CreateTopic<'_> {
    CreateTopic {
        id: TopicId::from_bytes([id; 16]),
        name,
        partitions,
        replicas,
        isr_min: 1,
        configs: vec![ConfigEntry {
            key: "retention.ms".to_owned(),
            value: "1000".to_owned(),
        }],
    }
}

#[test]
fn a_created_topic_is_led_and_can_be_deleted_and_created_again_under_another_id() {
    let mut cluster = TestCluster::of(3);
    cluster.apply(create_topic(&cluster.image, &new_topic(7, "orders", 6, 2)));
    let topic = cluster.image.topic("orders").unwrap();
    assert_eq!(topic.partitions.len(), 6);
    for partition in &topic.partitions {
        assert_eq!(partition.replicas.len(), 2);
        assert_eq!(partition.isr, partition.replicas);
        assert_eq!(partition.leader, Some(partition.replicas[0]));
    }
    assert_eq!(topic.configs["retention.ms"], "1000");

    let again = create_topic(&cluster.image, &new_topic(8, "orders", 3, 1)).unwrap_err();
    assert_eq!(again.code(), ErrorCode::TopicAlreadyExists);

    cluster.apply(delete_topic(&cluster.image, "orders"));
    assert!(cluster.image.topic("orders").is_none());
    cluster.apply(create_topic(&cluster.image, &new_topic(8, "orders", 1, 1)));
    assert_eq!(cluster.id("orders"), TopicId::from_bytes([8; 16]));
    let old = TopicId::from_bytes([7; 16]);
    assert!(cluster.image.topic_by_id(old).is_none());
}

#[test]
fn what_cannot_be_is_refused_with_its_code() {
    let mut cluster = TestCluster::of(1);
    let code = |cluster: &TestCluster, topic: CreateTopic<'_>| {
        create_topic(&cluster.image, &topic).unwrap_err().code()
    };
    let cases = [
        (new_topic(1, "a/b", 1, 1), ErrorCode::InvalidTopic),
        (new_topic(1, "a", 0, 1), ErrorCode::InvalidPartitions),
        (
            new_topic(1, "a", PARTITIONS_PER_TOPIC_MAX + 1, 1),
            ErrorCode::InvalidPartitions,
        ),
        (new_topic(1, "a", 1, 0), ErrorCode::InvalidReplicationFactor),
        (new_topic(1, "a", 1, 2), ErrorCode::InvalidReplicationFactor),
    ];
    for (topic, expected) in cases {
        assert_eq!(code(&cluster, topic), expected);
    }
    for isr_min in [0, 2] {
        let topic = CreateTopic {
            isr_min,
            ..new_topic(1, "a", 1, 1)
        };
        assert_eq!(code(&cluster, topic), ErrorCode::InvalidConfig);
    }

    cluster.apply(create_topic(&cluster.image, &new_topic(1, "a", 4, 1)));
    let fewer = add_partitions(&cluster.image, "a", 3).unwrap_err();
    assert_eq!(fewer.code(), ErrorCode::InvalidPartitions);
    let same = add_partitions(&cluster.image, "a", 4).unwrap();
    assert!(same.records.is_empty());
    let unknown = add_partitions(&cluster.image, "b", 4).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::UnknownTopicOrPartition);
    let unknown = alter_topic_config(&cluster.image, "b", 1, Vec::new()).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::UnknownTopicOrPartition);
    let more = alter_topic_config(&cluster.image, "a", 2, Vec::new()).unwrap_err();
    assert_eq!(more.code(), ErrorCode::InvalidConfig);
}

#[test]
fn new_replicas_go_to_brokers_that_are_active_and_not_drained() {
    let mut cluster = TestCluster::of(4);
    cluster.fence(1);
    let drain = DrainNodeRequest {
        node_id: node(2),
        drain: true,
    };
    cluster.apply(drain_node(&cluster.image, &drain));
    let refused = create_topic(&cluster.image, &new_topic(1, "a", 1, 3)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "replication factor 3 needs 3 brokers; this cluster has 2 that can take replicas"
    );
    cluster.apply(create_topic(&cluster.image, &new_topic(1, "a", 4, 2)));
    cluster.apply(add_partitions(&cluster.image, "a", 7));
    for partition in &cluster.image.topic("a").unwrap().partitions {
        let mut replicas = partition.replicas.clone();
        replicas.sort();
        assert_eq!(replicas, nodes(&[3, 4]));
    }
}

#[test]
fn more_partitions_keep_the_old_ones() {
    let mut cluster = TestCluster::of(2);
    cluster.apply(create_topic(&cluster.image, &new_topic(1, "a", 2, 2)));
    cluster.fence(2);
    cluster.unfence(2);
    let before = cluster.image.topic("a").unwrap().partitions.clone();
    cluster.apply(add_partitions(&cluster.image, "a", 5));
    let after = &cluster.image.topic("a").unwrap().partitions;
    assert_eq!(after.len(), 5);
    assert_eq!(after[..2], before[..]);
    assert!(after.iter().all(|p| p.leader.is_some()));
}

#[test]
fn settings_change_and_the_minimum_takes_the_elr_along_in_one_decision() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[1, 2, 3], 2);
    cluster.alter("a", &[1]);
    assert_eq!(cluster.partition("a").elr, nodes(&[2, 3]));
    let before = cluster.partition("a").clone();

    let change = ConfigChange {
        key: "retention.ms".to_owned(),
        value: Some("5".to_owned()),
    };
    cluster.apply(alter_topic_config(&cluster.image, "a", 2, vec![change]));
    assert_eq!(
        cluster.image.topic("a").unwrap().configs["retention.ms"],
        "5"
    );
    assert_eq!(cluster.partition("a"), &before);
    let nothing = alter_topic_config(&cluster.image, "a", 2, Vec::new()).unwrap();
    assert!(nothing.records.is_empty());

    cluster.apply(alter_topic_config(&cluster.image, "a", 1, Vec::new()));
    let partition = cluster.partition("a");
    assert!(partition.elr.is_empty(), "1 commits alone from now on");
    assert_eq!(partition.partition_epoch, before.partition_epoch + 1);
    assert_eq!(partition.leader_epoch, LeaderEpoch::ZERO);
    assert_eq!(partition.leader, Some(node(1)));
}

#[test]
fn a_partition_that_waits_for_an_eligible_replica_still_finds_it_after_another_minimum() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("a", &[1, 2], 2);
    cluster.fence(1);
    cluster.fence(2);
    cluster.apply(alter_topic_config(&cluster.image, "a", 1, Vec::new()));
    cluster.unfence(1);
    assert_eq!(cluster.partition("a").leader, Some(node(1)));
}
