//! Moves of replicas. A move only ever adds: what it takes away goes in the change in which everything
//! that it adds is in sync, and enough replicas are (`PartitionChange` ends it).

use std::collections::BTreeSet;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{MoveReason, ReplicaMove, TopicResult};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{ClusterImage, PartitionImage, TopicImage};
use crate::partition_change::{PartitionChange, Standings};
use crate::reassignment::{Factor, check_target, origin_of};

use super::{ControllerError, Decision, partition_of, topic, topic_by_id};

/// Decides about giving a partition other replicas, the preferred leader first. A move that is under
/// way is given up for it, on the conditions of [`cancel_move`]. The same target again is no change.
/// The reply is the partition afterwards.
///
/// Whether the target is a good one (racks, disks) is for the planner.
///
/// # Errors
/// [`ControllerError::Reassignment`] when its nodes cannot take the replicas;
/// [`ControllerError::MoveTarget`] when they are fewer than `min.insync.replicas`;
/// [`ControllerError::MoveIsNeeded`].
pub fn set_replicas(
    image: &ClusterImage,
    topic_id: TopicId,
    partition: PartitionId,
    target: &[NodeId],
) -> Result<Decision<PartitionImage>, ControllerError> {
    let topic = topic_by_id(image, topic_id)?;
    let now = partition_of(topic, partition)?;
    let after = with_target(image, topic, partition, now, target, Factor::MayChange)?;
    Ok(decision(topic, partition, now, after))
}

/// Decides about giving up a move: the replicas that it added are dropped. That is refused when they
/// are needed: when some of them are in sync or eligible, and without them fewer than
/// `min.insync.replicas` were in sync. The reply is the partition afterwards.
///
/// # Errors
/// [`ControllerError::NoMove`], [`ControllerError::MoveIsNeeded`].
pub fn cancel_move(
    image: &ClusterImage,
    topic_id: TopicId,
    partition: PartitionId,
) -> Result<Decision<PartitionImage>, ControllerError> {
    let topic = topic_by_id(image, topic_id)?;
    let now = partition_of(topic, partition)?;
    let after = without_move(image, topic, partition, now)?;
    Ok(decision(topic, partition, now, after))
}

/// Decides about moves that an operator asked for. Each is taken or refused by itself; the reply has
/// their results in order. A second move of the same partition is refused, and so are fewer replicas than
/// the topic wants: healing would add them again.
#[must_use]
pub fn move_replicas(image: &ClusterImage, moves: &[ReplicaMove]) -> Decision<Vec<TopicResult>> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(moves.len());
    for wanted in moves {
        let index = wanted.partition;
        let moved = topic(image, &wanted.topic).and_then(|topic| {
            let now = partition_of(topic, index)?;
            if !seen.insert((topic.id, index)) {
                return Err(ControllerError::MoveTarget {
                    target: numbers(wanted.replicas.as_deref().unwrap_or_default()),
                    reason: "the request moves the partition twice",
                });
            }
            let after = match &wanted.replicas {
                Some(target) => with_target(image, topic, index, now, target, Factor::MayGrow)?,
                None => without_move(image, topic, index, now)?,
            };
            Ok(after.map(|after| after.record(topic.id, index)))
        });
        let error = match moved {
            Ok(record) => {
                records.extend(record);
                None
            }
            Err(error) => Some(error),
        };
        results.push(TopicResult {
            name: format!("{}/{index}", wanted.topic),
            error: error
                .as_ref()
                .map_or(ErrorCode::None, ControllerError::code),
            message: error.map(|error| error.to_string()),
        });
    }
    Decision {
        records,
        reply: results,
    }
}

fn decision(
    topic: &TopicImage,
    partition: PartitionId,
    now: &PartitionImage,
    after: Option<PartitionImage>,
) -> Decision<PartitionImage> {
    let records: Vec<MetadataRecord> = after
        .iter()
        .map(|after| after.record(topic.id, partition))
        .collect();
    Decision {
        records,
        reply: after.unwrap_or_else(|| now.clone()),
    }
}

fn with_target(
    image: &ClusterImage,
    topic: &TopicImage,
    index: PartitionId,
    now: &PartitionImage,
    target: &[NodeId],
    factor: Factor,
) -> Result<Option<PartitionImage>, ControllerError> {
    check_target(
        image,
        topic.name.as_str(),
        index,
        target,
        factor,
        MoveReason::Operator,
    )?;
    if target.len() < usize::from(topic.isr_min) {
        return Err(ControllerError::MoveTarget {
            target: numbers(target),
            reason: "fewer replicas than min.insync.replicas could never commit anything",
        });
    }
    if now.target() == target {
        return Ok(None);
    }
    let old = before_move(topic, index, now, |added| target.contains(added))?;
    let adding: Vec<NodeId> = difference(target, &old);
    let removing = difference(&old, target);
    let replicas = [target, &removing].concat();
    let standings = Standings::of(image);
    Ok(PartitionChange::new(now, topic.isr_min, &standings)
        .replicas(replicas, adding, removing)
        .build())
}

fn without_move(
    image: &ClusterImage,
    topic: &TopicImage,
    index: PartitionId,
    now: &PartitionImage,
) -> Result<Option<PartitionImage>, ControllerError> {
    if !now.is_moving() {
        return Err(ControllerError::NoMove {
            name: topic.name.clone(),
            partition: index,
        });
    }
    let old = before_move(topic, index, now, |_| false)?;
    let standings = Standings::of(image);
    Ok(PartitionChange::new(now, topic.isr_min, &standings)
        .replicas(old, Vec::new(), Vec::new())
        .build())
}

/// The replicas before the move that is under way. `stays`: replicas that it added and that stay.
fn before_move(
    topic: &TopicImage,
    partition: PartitionId,
    now: &PartitionImage,
    stays: impl Fn(&NodeId) -> bool,
) -> Result<Vec<NodeId>, ControllerError> {
    let dropped: Vec<NodeId> = now
        .adding
        .iter()
        .copied()
        .filter(|node| !stays(node))
        .collect();
    let without_dropped = PartitionImage {
        adding: dropped.clone(),
        ..now.clone()
    };
    if replicas_without_move(&without_dropped, topic.isr_min).is_none() {
        return Err(ControllerError::MoveIsNeeded {
            name: topic.name.clone(),
            partition,
            in_sync: difference(&now.isr, &dropped).len(),
            needed: topic.isr_min,
        });
    }
    Ok(origin_of(now).collect())
}

/// The replicas that a partition had before the move that is under way, if that may be given up: the
/// replicas that the move added are neither in sync nor eligible, or there are `isr_min` in-sync
/// replicas without them.
pub(super) fn replicas_without_move(
    partition: &PartitionImage,
    isr_min: u16,
) -> Option<Vec<NodeId>> {
    let is_needed = partition
        .adding
        .iter()
        .any(|node| partition.isr.contains(node) || partition.elr.contains(node));
    let remain = difference(&partition.isr, &partition.adding).len();
    if is_needed && remain < usize::from(isr_min.max(1)) {
        return None;
    }
    Some(origin_of(partition).collect())
}

fn difference(list: &[NodeId], gone: &[NodeId]) -> Vec<NodeId> {
    list.iter()
        .copied()
        .filter(|node| !gone.contains(node))
        .collect()
}

fn numbers(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}

#[cfg(test)]
#[path = "moves_tests.rs"]
mod tests;
