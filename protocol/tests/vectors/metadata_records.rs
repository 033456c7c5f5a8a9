//! The records of the metadata log.

use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId,
    ProducerId, TopicId, TopicName,
};
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;

use super::vector;

fn check(name: &str, record: &MetadataRecord) {
    let file = vector(&format!("metadata_{name}_v1"));
    assert_eq!(&MetadataRecord::decode(file.clone()).unwrap(), record);
    assert_eq!(record.encode(), file, "{name}");
}

#[test]
fn metadata_records() {
    let id: TopicId = "11112222-3333-4444-5555-666677778888".parse().unwrap();
    check(
        "topic_created",
        &MetadataRecord::TopicCreated {
            id,
            name: TopicName::new("orders").unwrap(),
            partitions: 6,
            replicas: 3,
            isr_min: 2,
            configs: vec![ConfigEntry {
                key: "retention.ms".into(),
                value: "604800000".into(),
            }],
        },
    );
    check("topic_deleted", &MetadataRecord::TopicDeleted { id });
    check(
        "partitions_added",
        &MetadataRecord::PartitionsAdded { id, total: 12 },
    );
    check(
        "topic_config_changed",
        &MetadataRecord::TopicConfigChanged {
            id,
            isr_min: 2,
            changes: vec![
                ConfigChange {
                    key: "retention.ms".into(),
                    value: Some("1000".into()),
                },
                ConfigChange {
                    key: "segment.bytes".into(),
                    value: None,
                },
            ],
        },
    );
    let directory: DirectoryId = "d1d1d1d1-d2d2-d3d3-d4d4-d5d5d5d5d5d5".parse().unwrap();
    let incarnation: IncarnationId = "a1a1a1a1-a2a2-a3a3-a4a4-a5a5a5a5a5a5".parse().unwrap();
    let nodes = |ids: &[u32]| ids.iter().copied().map(NodeId::new).collect();
    check(
        "broker_registered",
        &MetadataRecord::BrokerRegistered {
            node_id: NodeId::new(1),
            broker_epoch: BrokerEpoch::new(17),
            directory,
            incarnation,
            host: "10.0.0.1".into(),
            port: 7171,
            rack: None,
            version: "0.1.0".into(),
        },
    );
    check(
        "partition_changed",
        &MetadataRecord::PartitionChanged {
            topic_id: id,
            partition: PartitionId::new(0),
            partition_epoch: 9,
            leader: Some(NodeId::new(2)),
            leader_epoch: LeaderEpoch::new(4),
            recovering: true,
            replicas: nodes(&[1, 2, 5]),
            isr: nodes(&[2]),
            elr: nodes(&[1]),
            last_known_elr: nodes(&[6]),
            adding: nodes(&[5]),
            removing: nodes(&[1]),
        },
    );
    let cluster_id: ClusterId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
    check(
        "cluster_created",
        &MetadataRecord::ClusterCreated { cluster_id },
    );
    check(
        "node_joined",
        &MetadataRecord::NodeJoined {
            node_id: NodeId::new(3),
            directory,
            host: "10.0.0.3".into(),
            port: 7171,
        },
    );
    check(
        "node_removed",
        &MetadataRecord::NodeRemoved {
            node_id: NodeId::new(9),
        },
    );
    check(
        "broker_changed",
        &MetadataRecord::BrokerChanged {
            node_id: NodeId::new(3),
            broker_epoch: BrokerEpoch::new(230),
            fenced: true,
            shutting_down: false,
            draining: true,
        },
    );
    check(
        "producer_ids_allocated",
        &MetadataRecord::ProducerIdsAllocated {
            next: ProducerId::new(5000),
        },
    );
}
