//! Tests of metadata records.

use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, Source};

fn sample(kind: u16, s: &mut Source) -> MetadataRecord {
    match kind {
        1 => MetadataRecord::TopicCreated {
            id: Sample::sample(s),
            name: Sample::sample(s),
            partitions: Sample::sample(s),
            replicas: Sample::sample(s),
            isr_min: Sample::sample(s),
            configs: Sample::sample(s),
        },
        2 => MetadataRecord::TopicDeleted {
            id: Sample::sample(s),
        },
        3 => MetadataRecord::PartitionsAdded {
            id: Sample::sample(s),
            total: Sample::sample(s),
        },
        4 => MetadataRecord::TopicConfigChanged {
            id: Sample::sample(s),
            isr_min: Sample::sample(s),
            changes: Sample::sample(s),
        },
        5 => MetadataRecord::BrokerRegistered {
            node_id: Sample::sample(s),
            broker_epoch: Sample::sample(s),
            directory: Sample::sample(s),
            incarnation: Sample::sample(s),
            host: Sample::sample(s),
            port: Sample::sample(s),
            rack: Sample::sample(s),
            version: Sample::sample(s),
        },
        6 => MetadataRecord::PartitionChanged {
            topic_id: Sample::sample(s),
            partition: Sample::sample(s),
            partition_epoch: Sample::sample(s),
            leader: Sample::sample(s),
            leader_epoch: Sample::sample(s),
            recovering: Sample::sample(s),
            replicas: Sample::sample(s),
            isr: Sample::sample(s),
            elr: Sample::sample(s),
            last_known_elr: Sample::sample(s),
            adding: Sample::sample(s),
            removing: Sample::sample(s),
        },
        7 => MetadataRecord::ClusterCreated {
            cluster_id: Sample::sample(s),
        },
        8 => MetadataRecord::NodeJoined {
            node_id: Sample::sample(s),
            directory: Sample::sample(s),
            host: Sample::sample(s),
            port: Sample::sample(s),
        },
        9 => MetadataRecord::NodeRemoved {
            node_id: Sample::sample(s),
        },
        10 => MetadataRecord::BrokerChanged {
            node_id: Sample::sample(s),
            broker_epoch: Sample::sample(s),
            fenced: Sample::sample(s),
            shutting_down: Sample::sample(s),
            draining: Sample::sample(s),
        },
        11 => MetadataRecord::ProducerIdsAllocated {
            next: Sample::sample(s),
        },
        other => panic!("no sample for kind {other}"),
    }
}

proptest! {
    #[test]
    fn every_kind_round_trips(seed: u64) {
        let mut source = Source::new(seed);
        for (kind, name) in MetadataRecord::KINDS {
            let record = sample(*kind, &mut source);
            let bytes = record.encode();
            prop_assert_eq!(&bytes[..4], &[0, *kind as u8, 0, 1][..], "{}", name);
            prop_assert_eq!(MetadataRecord::decode(bytes.clone()), Ok(record));
            for end in 0..bytes.len() {
                prop_assert!(MetadataRecord::decode(bytes.slice(..end)).is_err());
            }
        }
    }
}

#[test]
fn records_of_a_newer_build_are_told_apart_from_damage() {
    let decode = |bytes: &'static [u8]| MetadataRecord::decode(Bytes::from_static(bytes));
    assert_eq!(
        decode(&[1, 0, 0, 1]),
        Err(MetadataRecordError::UnknownKind { kind: 256 })
    );
    for version in [0, 2] {
        let mut value = vec![0, 2, 0, version];
        value.extend([0; 16]);
        assert_eq!(
            MetadataRecord::decode(value.into()),
            Err(MetadataRecordError::UnknownVersion {
                name: "TopicDeleted",
                version: version.into(),
                version_max: 1
            })
        );
    }
    assert!(matches!(
        decode(&[0, 2, 0, 1, 7]),
        Err(MetadataRecordError::Damaged(_))
    ));
    assert!(matches!(decode(&[]), Err(MetadataRecordError::Damaged(_))));
}
