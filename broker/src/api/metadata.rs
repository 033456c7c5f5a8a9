//! Metadata: topics, partitions, leaders, brokers.

use highwater_coordination::cluster_image::{ClusterImage, TopicImage};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicName};
use highwater_protocol::messages::{
    BrokerEndpoint, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata,
};

use crate::partitions::{Hosted, Refusal};
use crate::shared::Shared;

pub(crate) fn handle(
    shared: &Shared,
    request: &MetadataRequest,
) -> Result<MetadataResponse, Refusal> {
    let image = shared.controller.image();
    let topics = match &request.topics {
        None => image
            .topics()
            .map(|topic| described(shared, topic))
            .collect(),
        Some(names) => names
            .iter()
            .map(|name| match image.topic(name) {
                Some(topic) => described(shared, topic),
                None => unknown(name),
            })
            .collect(),
    };
    Ok(MetadataResponse {
        cluster_id: shared.cluster_id,
        controller: Some(shared.node_id),
        brokers: endpoints(&image).collect(),
        topics,
    })
}

/// Where the brokers of the cluster listen.
pub(super) fn endpoints(image: &ClusterImage) -> impl Iterator<Item = BrokerEndpoint> {
    image
        .brokers()
        .map(|(node_id, broker)| endpoint(node_id, broker))
}

pub(super) fn endpoint(
    node_id: NodeId,
    broker: &highwater_coordination::cluster_image::BrokerImage,
) -> BrokerEndpoint {
    BrokerEndpoint {
        node_id,
        host: broker.host.clone(),
        port: broker.port,
        rack: broker.rack.clone(),
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
