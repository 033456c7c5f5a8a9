//! Metadata: topics, partitions, leaders, brokers.

use std::collections::HashSet;
use std::net::IpAddr;

use highwater_coordination::cluster_image::{BrokerImage, ClusterImage, TopicImage};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicName};
use highwater_protocol::messages::{
    BrokerEndpoint, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata,
};

use super::Peer;
use crate::partitions::{Hosted, Refusal};
use crate::shared::Shared;

pub(crate) fn handle(
    shared: &Shared,
    peer: &Peer,
    request: &MetadataRequest,
) -> Result<MetadataResponse, Refusal> {
    let image = shared.controller.image();
    let mut seen = HashSet::new();
    let topics = match &request.topics {
        None => image
            .topics()
            .map(|topic| described(shared, topic))
            .collect(),
        // A name asked for many times is answered once: an answer is no larger than the metadata.
        Some(names) => names
            .iter()
            .filter(|name| seen.insert(*name))
            .map(|name| match image.topic(name) {
                Some(topic) => described(shared, topic),
                None => unknown(name),
            })
            .collect(),
    };
    Ok(MetadataResponse {
        cluster_id: shared.cluster_id,
        controller: Some(shared.node_id),
        brokers: endpoints(shared, peer, &image).collect(),
        topics,
    })
}

/// Where the brokers of the cluster listen.
fn endpoints(
    shared: &Shared,
    peer: &Peer,
    image: &ClusterImage,
) -> impl Iterator<Item = BrokerEndpoint> {
    image
        .brokers()
        .map(|(node_id, broker)| endpoint(shared, peer, node_id, broker))
}

/// Where a broker listens. Nobody can connect to a wildcard address: a broker that listens on one and
/// was not told what to advertise is, for this client, where the client has just reached it.
pub(super) fn endpoint(
    shared: &Shared,
    peer: &Peer,
    node_id: NodeId,
    broker: &BrokerImage,
) -> BrokerEndpoint {
    let is_wildcard = || {
        broker
            .host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    };
    let host = match peer.local {
        Some(local) if node_id == shared.node_id && is_wildcard() => {
            local.ip().to_canonical().to_string()
        }
        _ => broker.host.clone(),
    };
    BrokerEndpoint {
        node_id,
        host,
        port: broker.port,
        rack: broker.rack().map(str::to_owned),
    }
}

fn described(shared: &Shared, topic: &TopicImage) -> TopicMetadata {
    let partitions = topic
        .partitions
        .iter()
        .zip(0u32..)
        .map(|(partition, index)| {
            let id = PartitionId::new(index);
            let offline = matches!(
                shared.controller.partitions().get((topic.id, id)),
                Some(Hosted::Offline(_)) | None
            );
            PartitionMetadata {
                error: if offline {
                    ErrorCode::PartitionOffline
                } else {
                    ErrorCode::None
                },
                partition: id,
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                elr: partition.elr.clone(),
                adding: partition.adding.clone(),
                removing: partition.removing.clone(),
            }
        });
    TopicMetadata {
        error: ErrorCode::None,
        name: topic.name.as_str().to_owned(),
        topic_id: Some(topic.id),
        partitions: partitions.collect(),
    }
}

fn unknown(name: &str) -> TopicMetadata {
    let error = match TopicName::new(name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopic,
    };
    TopicMetadata {
        error,
        name: name.to_owned(),
        topic_id: None,
        partitions: Vec::new(),
    }
}
