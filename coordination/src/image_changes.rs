//! What the step from one cluster image to the next means for one broker.

use std::sync::Arc;

use highwater_protocol::ids::{NodeId, PartitionId};

use crate::cluster_image::{ClusterImage, TopicImage};

/// Something that a broker has to do because the image changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalChange {
    /// Hold this partition (anew, or after a start) and lead it in the image's epoch.
    Lead {
        /// The topic.
        topic: Arc<TopicImage>,
        /// The partition.
        partition: PartitionId,
    },
    /// The topic's settings changed.
    Reconfigure {
        /// The topic with its new settings.
        topic: Arc<TopicImage>,
    },
    /// Remove this partition and its data.
    Delete {
        /// The topic as it was.
        topic: Arc<TopicImage>,
        /// The partition.
        partition: PartitionId,
    },
}

/// Everything that `node` has to do on the way from `before` to `after`: deletions first, so that they
/// free space for what comes.
#[must_use]
pub fn local_changes(
    before: &ClusterImage,
    after: &ClusterImage,
    node: NodeId,
) -> Vec<LocalChange> {
    let mut changes = Vec::new();
    for old in before.topics() {
        if after.topic_by_id(old.id).is_some() {
            continue;
        }
        for (partition, index) in old.partitions.iter().zip(0u32..) {
            if partition.replicas.contains(&node) {
                let partition = PartitionId::new(index);
                changes.push(LocalChange::Delete {
                    topic: Arc::clone(old),
                    partition,
                });
            }
        }
    }
    for new in after.topics() {
        let old = before.topic_by_id(new.id);
        if old.is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        if old.is_some_and(|old| old.configs != new.configs) {
            changes.push(LocalChange::Reconfigure {
                topic: Arc::clone(new),
            });
        }
        for (index, partition) in new.partitions.iter().enumerate() {
            let was = old.and_then(|old| old.partitions.get(index));
            let led = partition.leader == Some(node);
            let led_so = was.is_some_and(|was| {
                was.leader == Some(node) && was.leader_epoch == partition.leader_epoch
            });
            if led && !led_so {
                // Cannot truncate: the image bounds the number of partitions.
                let partition = PartitionId::new(index as u32);
                changes.push(LocalChange::Lead {
                    topic: Arc::clone(new),
                    partition,
                });
            }
        }
    }
    changes
}
