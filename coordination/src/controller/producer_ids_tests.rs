use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, ProducerId};
use highwater_protocol::messages::AllocateProducerIdsRequest;
use highwater_protocol::metadata_record::MetadataRecord;

use super::super::test_cluster::{TestCluster, node};
use super::super::*;

#[test]
fn blocks_never_overlap_and_end_where_the_batch_format_ends() {
    let mut cluster = TestCluster::of(2);
    let request = |cluster: &TestCluster, id| AllocateProducerIdsRequest {
        node_id: node(id),
        broker_epoch: cluster.epoch(id),
    };
    let mut end = 0;
    for id in [1, 2, 1] {
        let block = request(&cluster, id);
        let block = cluster.apply(allocate_producer_ids(&cluster.image, &block));
        assert_eq!(block.first.get(), end);
        end += u64::from(block.count);
    }
    let mut stale = request(&cluster, 1);
    stale.broker_epoch = BrokerEpoch::new(1);
    let stale = allocate_producer_ids(&cluster.image, &stale).unwrap_err();
    assert_eq!(stale.code(), ErrorCode::StaleBrokerEpoch);

    let last = MetadataRecord::ProducerIdsAllocated {
        next: ProducerId::new(i64::MAX as u64 - 10),
    };
    cluster.apply(Ok(Decision {
        records: vec![last],
        reply: (),
    }));
    let none = allocate_producer_ids(&cluster.image, &request(&cluster, 1)).unwrap_err();
    assert_eq!(none, ControllerError::ProducerIdsExhausted);
}
