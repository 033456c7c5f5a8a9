//! The controller: commands in, records for the metadata log and a reply out.
//!
//! A decision changes nothing by itself. Its records are made durable first and then applied to the
//! image, all or none, by the same [`ClusterImage::apply`] that replays them at the next start. One
//! command is decided at a time, on an image that has everything decided before: so each sees the
//! effect of the last.
//!
//! - [`topics`] creating, deleting, enlarging topics, and their settings
//! - [`nodes`] who belongs to the cluster: creation, joining, draining, removing
//! - [`brokers`] the life of a broker: registration, heartbeats, fencing, shutdown
//! - [`isr`] proposals of leaders
//! - [`election`] elections that are asked for
//! - [`moves`] moves of replicas
//! - [`producer_ids`] blocks of producer ids

use highwater_protocol::ids::{BrokerEpoch, NodeId, PartitionId, TopicId};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};

pub mod brokers;
pub mod election;
pub mod isr;
pub mod moves;
pub mod nodes;
pub mod producer_ids;
mod refusal;
pub mod topics;

pub use brokers::{
    HeartbeatOutcome, fence_broker, heartbeat, proves_end_of_last_life, register_broker,
    shut_down_broker, take_offline, unfence_broker,
};
pub use election::{Elect, choose_winners, elect_leaders, elect_nodes, replicas_to_ask};
pub use isr::alter_partition;
pub use moves::{cancel_move, move_replicas, set_replicas};
pub use nodes::{create_cluster, drain_node, join_cluster, remove_node, replicas_on};
pub use producer_ids::allocate_producer_ids;
pub use refusal::ControllerError;
pub use topics::{CreateTopic, add_partitions, alter_topic_config, create_topic, delete_topic};

/// What a command amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<R> {
    /// To be made durable as one, then applied in this order. Empty: nothing changes, and the reply
    /// holds at once.
    pub records: Vec<MetadataRecord>,
    /// What the caller is told once that is done.
    pub reply: R,
}

impl<R> Decision<R> {
    /// Nothing changes.
    #[must_use]
    pub fn nothing(reply: R) -> Self {
        Self {
            records: Vec::new(),
            reply,
        }
    }

    /// The same decision with another reply.
    #[must_use]
    pub fn map<S>(self, reply: impl FnOnce(R) -> S) -> Decision<S> {
        Decision {
            records: self.records,
            reply: reply(self.reply),
        }
    }
}

/// Every partition that `change` changes, as records.
fn changes_of(
    image: &ClusterImage,
    mut change: impl FnMut(&TopicImage, PartitionId, &PartitionImage) -> Option<PartitionImage>,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (partition, index) in topic.partitions.iter().zip(0u32..) {
            let index = PartitionId::new(index);
            if let Some(after) = change(topic, index, partition) {
                records.push(after.record(topic.id, index));
            }
        }
    }
    records
}

fn topic<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a TopicImage, ControllerError> {
    image
        .topic(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControllerError::UnknownTopic {
            name: name.to_owned(),
        })
}

fn topic_by_id(image: &ClusterImage, id: TopicId) -> Result<&TopicImage, ControllerError> {
    image
        .topic_by_id(id)
        .map(AsRef::as_ref)
        .ok_or(ControllerError::UnknownTopicId { id })
}

fn partition_of(
    topic: &TopicImage,
    partition: PartitionId,
) -> Result<&PartitionImage, ControllerError> {
    topic
        .partition(partition)
        .ok_or_else(|| ControllerError::UnknownPartition {
            name: topic.name.clone(),
            partition,
        })
}

/// The node in the life that a message speaks of.
fn broker_in_life(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
) -> Result<&BrokerImage, ControllerError> {
    let broker = image
        .broker(node_id)
        .ok_or(ControllerError::UnknownNode { node_id })?;
    if broker.epoch() == Some(epoch) {
        Ok(broker)
    } else {
        Err(ControllerError::StaleBrokerEpoch {
            node_id,
            given: epoch,
            current: broker.epoch(),
        })
    }
}

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod test_cluster;
