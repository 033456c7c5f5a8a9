//! A duplicate is no sooner safe than what it is a duplicate of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use highwater_coordination::partition_leader::ReplicaView;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{ProducerEpoch, ProducerId, Sequence};
use highwater_protocol::record_batch::ProducerStamp;
use highwater_storage::{Background, Engine, EngineOptions, PartitionMeta};

use super::*;

const ME: NodeId = NodeId::new(1);
const EPOCH: LeaderEpoch = LeaderEpoch::new(4);
const NOW: Timestamp = Timestamp::from_millis(1);

fn batch(sequence: u32) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.set_producer(Some(ProducerStamp {
        id: ProducerId::new(7),
        epoch: ProducerEpoch::ZERO,
        base_sequence: Some(Sequence::new(sequence)),
    }));
    for _ in 0..2 {
        builder.push(NOW, None, Some(b"value"), &[]);
    }
    builder.build()
}

/// A partition that is led here and whose records count when they are synced, which happens only when
/// a test does it.
fn partition(dir: &std::path::Path) -> (Arc<Engine>, Arc<Partition>) {
    let options = EngineOptions {
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(dir, options).unwrap();
    let meta = PartitionMeta {
        topic_id: TopicId::from_bytes([1; 16]),
        topic: TopicName::new("t").unwrap(),
        partition: PartitionId::ZERO,
    };
    let log = engine.create_log(meta, LogOptions::default()).unwrap();
    let partition = Partition::open(Opened {
        topic: TopicName::new("t").unwrap(),
        config: TopicConfig::default(),
        log,
        proposals: Arc::default(),
    });
    let view = PartitionView {
        partition_epoch: 0,
        recovering: false,
        isr: BTreeSet::from([ME]),
        replicas: BTreeMap::from([(ME, ReplicaView::default())]),
    };
    let lead = Lead {
        node: ME,
        epoch: EPOCH,
        view,
        isr_min: 1,
        lag_ms_max: 1000,
    };
    partition.become_leader(lead, Moment::default()).unwrap();
    (engine, partition)
}

#[test]
fn a_duplicate_is_acknowledged_no_sooner_than_its_first_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, partition) = partition(dir.path());
    let append = |sequence, acks| {
        partition
            .append_as_leader(&batch(sequence), acks, NOW)
            .unwrap()
    };
    for (n, acks) in [Acks::All, Acks::Leader].into_iter().enumerate() {
        let sequence = n as u32 * 4;
        let first = append(sequence, acks);
        let end = first.base_offset.unwrap().get() + 2;
        append(sequence + 2, acks);
        let again = append(sequence, acks);
        assert!(again.is_duplicate && !first.is_duplicate);
        assert_eq!(again.base_offset, first.base_offset);
        let waits_for = match acks {
            Acks::All => AckWhen::Committed(Offset::new(end)),
            _ => AckWhen::Durable(Offset::new(end)),
        };
        assert_eq!((first.ack, again.ack), (waits_for, waits_for));
        let state = partition.acknowledgement(EPOCH, again.ack);
        assert_eq!(state, Acknowledgement::Waiting);
        // Its own records count, not those behind them.
        partition.on_durable(Offset::new(end));
        let state = partition.acknowledgement(EPOCH, again.ack);
        assert_eq!(state, Acknowledgement::Done);
        assert_eq!(append(sequence, acks).ack, AckWhen::Now);
        partition.on_durable(Offset::new(end + 2));
    }
    assert_eq!(partition.log().end(), Offset::new(8));
}

#[test]
fn a_duplicate_whose_offset_is_forgotten_waits_for_all_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, partition) = partition(dir.path());
    let append = |sequence| {
        partition
            .append_as_leader(&batch(sequence), Acks::All, NOW)
            .unwrap()
    };
    for n in 0..8 {
        append(n * 2);
    }
    let again = append(0);
    assert!(again.is_duplicate);
    assert_eq!(again.base_offset, None);
    assert_eq!(again.ack, AckWhen::Committed(Offset::new(16)));
    assert_eq!(partition.log().end(), Offset::new(16));
}
