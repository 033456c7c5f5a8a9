//! Metadata: topics, partitions, leaders, brokers.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use highwater_coordination::cluster_image::{ClusterImage, TopicImage};
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
    let image = shared.metadata.image();
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
        controller: shared.quorum.leader(),
        brokers: endpoints(shared, peer, &image).collect(),
        topics,
    })
}

/// Where the brokers listen that are alive.
fn endpoints(
    shared: &Shared,
    peer: &Peer,
    image: &ClusterImage,
) -> impl Iterator<Item = BrokerEndpoint> {
    image
        .brokers()
        .filter(|(_, broker)| broker.registration.is_some() && !broker.fenced)
        .map(|(node_id, broker)| BrokerEndpoint {
            node_id,
            host: reachable_host(shared, peer.local, node_id, &broker.host),
            port: broker.port,
            rack: broker.rack().map(str::to_owned),
        })
}

/// Where a broker can be reached. Nobody can connect to a wildcard address: a broker that listens on one
/// and was not told what to advertise is, for this client, where the client has just reached it.
pub(super) fn reachable_host(
    shared: &Shared,
    local: Option<SocketAddr>,
    node_id: NodeId,
    host: &str,
) -> String {
    let is_wildcard = || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    match local {
        Some(local) if node_id == shared.node_id && is_wildcard() => {
            local.ip().to_canonical().to_string()
        }
        _ => host.to_owned(),
    }
}

fn described(shared: &Shared, topic: &TopicImage) -> TopicMetadata {
    let partitions = topic
        .partitions
        .iter()
        .zip(0u32..)
        .map(|(partition, index)| {
            let id = PartitionId::new(index);
            // What another broker has is for that broker to say.
            let is_here = partition.replicas.contains(&shared.node_id);
            let is_leader = partition.leader == Some(shared.node_id);
            let offline = is_here
                && (is_leader || partition.replicas.len() == 1)
                && match shared.partitions.get((topic.id, id)) {
                    Some(Hosted::Online(found)) => found.offline_reason().is_some(),
                    Some(Hosted::Offline(_)) | None => true,
                };
            PartitionMetadata {
                error: if offline || partition.leader.is_none() {
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
