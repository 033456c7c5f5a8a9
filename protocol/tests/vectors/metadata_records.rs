//! The records of the metadata log.

use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId, TopicId, TopicName};
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
            replicas: 1,
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
    check(
        "broker_registered",
        &MetadataRecord::BrokerRegistered {
            node_id: NodeId::new(1),
            broker_epoch: BrokerEpoch::new(17),
            host: "10.0.0.1".into(),
            port: 7171,
            rack: None,
        },
    );
    check(
        "partition_changed",
        &MetadataRecord::PartitionChanged {
            topic_id: id,
            partition: PartitionId::new(0),
            leader: Some(NodeId::new(2)),
            leader_epoch: LeaderEpoch::new(4),
            replicas: vec![NodeId::new(1), NodeId::new(2)],
            isr: vec![NodeId::new(2)],
        },
    );
}
