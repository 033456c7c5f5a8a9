//! Moves of replicas: what is wanted, whether it can be, and how far it has come.
//!
//! A partition under way holds its old and its new replicas. What it shall have in the end is
//! `replicas` without `removing`; what it had is `replicas` without `adding`. Nothing is removed before
//! everything that is added is in sync.

use std::collections::BTreeMap;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicId, TopicName};
use highwater_protocol::messages::MoveReason;
use thiserror::Error;

use crate::cluster_image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};

/// The replicas that a partition shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaTarget {
    /// The topic.
    pub topic: TopicName,
    /// Its id: a topic of the same name that is created later is not meant.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Who shall hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Why.
    pub reason: MoveReason,
}

/// The leader that a partition shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderTarget {
    /// The topic.
    pub topic: TopicName,
    /// Its id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it.
    pub from: Option<NodeId>,
    /// Who shall lead it: in sync and active when this was decided.
    pub to: NodeId,
}

/// How many replicas a partition may have after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// As many as its topic wants, or more. Fewer are not for an operator to ask for: healing would add
    /// what is missing.
    MayGrow,
    /// Any number: healing goes on with what there is room for.
    MayChange,
}

/// Why replicas cannot be what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReassignmentError {
    /// There is no such topic.
    #[error("there is no topic {topic:?}")]
    UnknownTopic {
        /// The name asked for.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition asked for.
        partition: PartitionId,
    },
    /// A partition needs at least one replica.
    #[error("a partition needs at least one replica")]
    NoReplicas,
    /// One node twice.
    #[error("node {node} is named twice")]
    Repeated {
        /// The node.
        node: NodeId,
    },
    /// The cluster does not have the node.
    #[error("there is no node {node} in this cluster")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// A replica cannot be built on a node that is not up.
    #[error("node {node} is not active: it cannot take a replica now")]
    Inactive {
        /// The node.
        node: NodeId,
    },
    /// A replica on a node that is being emptied.
    #[error("node {node} is being drained: it takes no replicas")]
    Draining {
        /// The node.
        node: NodeId,
    },
    /// Fewer replicas than the topic wants.
    #[error("partitions of topic {topic} have {factor} replicas, not {wanted}")]
    Factor {
        /// The topic.
        topic: TopicName,
        /// How many it wants.
        factor: u16,
        /// How many nodes were named.
        wanted: usize,
    },
}

impl ReassignmentError {
    /// The code that a client sees.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NoReplicas | Self::Factor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::Repeated { .. } => ErrorCode::InvalidRequest,
            Self::UnknownNode { .. } => ErrorCode::UnknownNode,
            Self::Inactive { .. } | Self::Draining { .. } => ErrorCode::PreconditionFailed,
        }
    }
}

/// Checks the replicas that a partition shall have. Those that it has already may be on nodes that are
/// down or being drained; others may not. What it has now is a valid wish and no move. A move that is
/// under way is replaced.
///
/// # Errors
/// [`ReassignmentError`] says what is wrong.
pub fn check_target(
    image: &ClusterImage,
    topic: &str,
    partition: PartitionId,
    replicas: &[NodeId],
    factor: Factor,
    reason: MoveReason,
) -> Result<ReplicaTarget, ReassignmentError> {
    let Some(found) = image.topic(topic) else {
        return Err(ReassignmentError::UnknownTopic {
            topic: topic.to_owned(),
        });
    };
    let Some(now) = found.partition(partition) else {
        return Err(ReassignmentError::UnknownPartition {
            topic: found.name.clone(),
            partition,
        });
    };
    if replicas.is_empty() {
        return Err(ReassignmentError::NoReplicas);
    }
    let held: Vec<NodeId> = origin_of(now).collect();
    for (position, node) in replicas.iter().enumerate() {
        let node = *node;
        if replicas[..position].contains(&node) {
            return Err(ReassignmentError::Repeated { node });
        }
        let broker = image
            .broker(node)
            .ok_or(ReassignmentError::UnknownNode { node })?;
        if held.contains(&node) {
            continue;
        }
        if !broker.is_active() {
            return Err(ReassignmentError::Inactive { node });
        }
        if broker.draining {
            return Err(ReassignmentError::Draining { node });
        }
    }
    let wanted = replicas.len();
    if wanted < usize::from(found.replicas) && factor == Factor::MayGrow {
        return Err(ReassignmentError::Factor {
            topic: found.name.clone(),
            factor: found.replicas,
            wanted,
        });
    }
    Ok(ReplicaTarget {
        topic: found.name.clone(),
        topic_id: found.id,
        partition,
        replicas: replicas.to_vec(),
        reason,
    })
}

/// The replicas that the partition had before the move under way, if any.
pub fn origin_of(partition: &PartitionImage) -> impl Iterator<Item = NodeId> + '_ {
    partition
        .replicas
        .iter()
        .copied()
        .filter(|node| !partition.adding.contains(node))
}

/// Why moves that are under way were begun. Known to the controller that began them; a later one does
/// not have it.
pub type MovesBegun = BTreeMap<(TopicId, PartitionId), MoveReason>;

/// Forgets the moves that have ended.
pub fn forget_ended(begun: &mut MovesBegun, image: &ClusterImage) {
    begun.retain(|(topic, partition), _| {
        image
            .topic_by_id(*topic)
            .and_then(|topic| topic.partition(*partition))
            .is_some_and(PartitionImage::is_moving)
    });
}

/// How far a move has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveProgress {
    /// The topic.
    pub topic: TopicName,
    /// Its id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Replicas before.
    pub from: Vec<NodeId>,
    /// Replicas afterwards.
    pub to: Vec<NodeId>,
    /// New replicas that are not in sync yet: what the move waits for.
    pub catching_up: Vec<NodeId>,
    /// Replicas that go once nothing is waited for.
    pub removing: Vec<NodeId>,
    /// Why it was begun, or most likely was.
    pub reason: MoveReason,
}

/// The moves that are under way, by topic and partition.
#[must_use]
pub fn under_way(image: &ClusterImage, begun: &MovesBegun) -> Vec<MoveProgress> {
    partitions_of(image)
        .filter(|(_, _, now)| now.is_moving())
        .map(|(topic, partition, now)| MoveProgress {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition,
            from: origin_of(now).collect(),
            to: now.target(),
            catching_up: now
                .adding
                .iter()
                .copied()
                .filter(|node| !now.isr.contains(node))
                .collect(),
            removing: now.removing.clone(),
            reason: begun
                .get(&(topic.id, partition))
                .copied()
                .unwrap_or_else(|| likely_reason(image, now)),
        })
        .collect()
}

/// How many partitions are being copied to new replicas.
#[must_use]
pub fn moves_in_flight(image: &ClusterImage) -> usize {
    partitions_of(image)
        .filter(|(_, _, now)| !now.adding.is_empty())
        .count()
}

/// All partitions by topic and number.
pub(crate) fn partitions_of(
    image: &ClusterImage,
) -> impl Iterator<Item = (&TopicImage, PartitionId, &PartitionImage)> {
    image.topics().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .zip(0u32..)
            .map(move |(now, index)| (topic.as_ref(), PartitionId::new(index), now))
    })
}

fn likely_reason(image: &ClusterImage, partition: &PartitionImage) -> MoveReason {
    let all = |is: &dyn Fn(NodeId) -> bool| {
        !partition.removing.is_empty() && partition.removing.iter().all(|node| is(*node))
    };
    if all(&|node| image.broker(node).is_some_and(|broker| broker.draining)) {
        MoveReason::Drain
    } else if all(&|node| !image.broker(node).is_some_and(BrokerImage::is_active)) {
        MoveReason::Heal
    } else {
        MoveReason::Operator
    }
}
