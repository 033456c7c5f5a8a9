//! What the step from one cluster image to the next means for one broker.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_protocol::ids::{NodeId, PartitionId};

use crate::cluster_image::{ClusterImage, PartitionImage, TopicImage};

/// Something that a broker has to do because the image changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalChange {
    /// The topic's settings changed.
    Reconfigure {
        /// The topic with its new settings.
        topic: Arc<TopicImage>,
    },
    /// This broker holds the partition, and something about it is new: see [`LocalRole::of`].
    Hold {
        /// The topic.
        topic: Arc<TopicImage>,
        /// The partition.
        partition: PartitionId,
        /// It did not hold it before: there is no log yet.
        is_new: bool,
    },
    /// Remove this partition and its data: the topic was deleted.
    Delete {
        /// The topic as it was.
        topic: Arc<TopicImage>,
        /// The partition.
        partition: PartitionId,
    },
    /// Remove this replica and its data: others hold the partition now.
    Release {
        /// The topic.
        topic: Arc<TopicImage>,
        /// The partition.
        partition: PartitionId,
    },
}

/// What a broker is to a partition that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRole {
    /// Its leader.
    Lead,
    /// A follower of this one.
    Follow(NodeId),
    /// Nobody leads it now.
    Wait,
}

impl LocalRole {
    /// What `node` is to the partition; `None`: it does not hold it.
    #[must_use]
    pub fn of(partition: &PartitionImage, node: NodeId) -> Option<Self> {
        if !partition.replicas.contains(&node) {
            return None;
        }
        Some(match partition.leader {
            Some(leader) if leader == node => Self::Lead,
            Some(leader) => Self::Follow(leader),
            None => Self::Wait,
        })
    }
}

/// Everything that `node` has to do on the way from `before` to `after`: deletions first, so that they
/// free space for what comes.
///
/// Data is removed only for what `before` says that the node held and `after` says that it does not, in
/// so many words: a topic that is unknown to both is nobody's business here.
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
        for (index, _) in held(old, node) {
            changes.push(LocalChange::Delete {
                topic: Arc::clone(old),
                partition: index,
            });
        }
    }
    let brokers = changed_brokers(before, after);
    for new in after.topics() {
        let old = before.topic_by_id(new.id);
        if old.is_some_and(|old| Arc::ptr_eq(old, new)) && brokers.is_empty() {
            continue;
        }
        if old.is_some_and(|old| old.configs != new.configs || old.isr_min != new.isr_min) {
            changes.push(LocalChange::Reconfigure {
                topic: Arc::clone(new),
            });
        }
        for (partition, index) in new.partitions.iter().zip(0u32..) {
            let was = old.and_then(|old| old.partitions.get(index as usize));
            let held_before = was.is_some_and(|was| was.replicas.contains(&node));
            let holds = partition.replicas.contains(&node);
            let index = PartitionId::new(index);
            if held_before && !holds {
                changes.push(LocalChange::Release {
                    topic: Arc::clone(new),
                    partition: index,
                });
            }
            let matters = was != Some(partition)
                || partition.replicas.iter().any(|node| brokers.contains(node));
            if holds && matters {
                changes.push(LocalChange::Hold {
                    topic: Arc::clone(new),
                    partition: index,
                    is_new: !held_before,
                });
            }
        }
    }
    changes
}

/// The partitions of a topic that a node holds.
fn held(
    topic: &TopicImage,
    node: NodeId,
) -> impl Iterator<Item = (PartitionId, &PartitionImage)> + '_ {
    let numbered = topic.partitions.iter().zip(0u32..);
    numbered
        .filter(move |(partition, _)| partition.replicas.contains(&node))
        .map(|(partition, index)| (PartitionId::new(index), partition))
}

/// Brokers whose fitness to be in sync may have changed.
fn changed_brokers(before: &ClusterImage, after: &ClusterImage) -> BTreeSet<NodeId> {
    let state = |image: &ClusterImage, node| {
        image
            .broker(node)
            .map(|broker| (broker.epoch(), broker.is_active()))
    };
    let nodes = before
        .brokers()
        .chain(after.brokers())
        .map(|(node, _)| node);
    nodes
        .filter(|node| state(before, *node) != state(after, *node))
        .collect()
}
