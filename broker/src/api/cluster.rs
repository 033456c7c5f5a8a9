//! DescribeCluster.

use highwater_protocol::messages::{
    BrokerDescription, DescribeClusterRequest, DescribeClusterResponse,
};

use super::Peer;
use super::metadata::endpoint;
use crate::partitions::Refusal;
use crate::shared::Shared;

pub(crate) fn handle(
    shared: &Shared,
    peer: &Peer,
    _request: &DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Refusal> {
    let image = shared.controller.image();
    let brokers = image.brokers().map(|(node_id, broker)| {
        let partitions = || image.topics().flat_map(|topic| &topic.partitions);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        BrokerDescription {
            endpoint: endpoint(shared, peer, node_id, broker),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fenced: broker.fenced,
            draining: broker.draining,
            shutting_down: broker.shutting_down,
            voter: true,
            broker_epoch: broker.epoch().unwrap_or_default(),
            silent_ms: None,
            replicas: count(
                partitions()
                    .filter(|p| p.replicas.contains(&node_id))
                    .count(),
            ),
            leaders: count(partitions().filter(|p| p.leader == Some(node_id)).count()),
            log_bytes: shared.log_bytes(),
            disk_free: None,
            disk_total: None,
        }
    });
    Ok(DescribeClusterResponse {
        cluster_id: shared.cluster_id,
        controller: Some(shared.node_id),
        brokers: brokers.collect(),
        topics: u32::try_from(image.topics().len()).unwrap_or(u32::MAX),
        partitions: u32::try_from(image.partition_count()).unwrap_or(u32::MAX),
    })
}
