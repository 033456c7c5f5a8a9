//! Elections that somebody asks for: preferred leaders, a named leader, and the unclean ones.

use std::collections::BTreeMap;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    PartitionsOfTopic, ReplicaLogsResponse, TopicPartition, TopicResult,
};

use crate::cluster_image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
use crate::partition_change::{Election, PartitionChange, Standings};

use super::{ControllerError, Decision, changes_of, partition_of, topic};

/// Whom to elect.
#[derive(Debug, Clone, Copy)]
pub enum Elect<'a> {
    /// The first replica, if it is in sync.
    Preferred,
    /// This node, if it is in sync.
    Node(NodeId),
    /// Where nobody who is complete can lead: these replicas, chosen by [`choose_winners`]. Committed
    /// records may be lost.
    Unclean(&'a BTreeMap<(TopicId, PartitionId), NodeId>),
}

/// Decides about elections. The reply has a result for every partition asked for, in their order; with
/// `None` all partitions are meant, and it has those whose leader changes.
///
/// # Errors
/// [`ControllerError::UncleanNeedsPartitions`]. What is wrong with one partition is in its result.
pub fn elect_leaders(
    image: &ClusterImage,
    elect: Elect<'_>,
    partitions: Option<&[TopicPartition]>,
) -> Result<Decision<Vec<TopicResult>>, ControllerError> {
    let standings = Standings::of(image);
    let mut records = Vec::new();
    let mut results = Vec::new();
    let Some(partitions) = partitions else {
        if matches!(elect, Elect::Unclean(_)) {
            return Err(ControllerError::UncleanNeedsPartitions);
        }
        records = changes_of(image, |topic, index, partition| {
            let after = elected(topic, index, partition, elect, &standings).ok()??;
            results.push(result(topic.name.as_str(), index, None));
            Some(after)
        });
        return Ok(Decision {
            records,
            reply: results,
        });
    };
    let mut seen = std::collections::BTreeSet::new();
    for asked in partitions {
        let index = asked.partition;
        let outcome = topic(image, &asked.topic).and_then(|topic| {
            let partition = partition_of(topic, index)?;
            if !seen.insert((topic.id, index)) {
                return Ok(None);
            }
            let after = elected(topic, index, partition, elect, &standings)?;
            Ok(after.map(|after| after.record(topic.id, index)))
        });
        let error = match outcome {
            Ok(record) => {
                records.extend(record);
                None
            }
            Err(error) => Some(error),
        };
        results.push(result(&asked.topic, index, error));
    }
    Ok(Decision {
        records,
        reply: results,
    })
}

/// Decides about giving partitions the leaders that balancing chose; the reply is how many change. Those
/// that are gone, or whose chosen leader cannot lead now, are passed over.
#[must_use]
pub fn elect_nodes(
    image: &ClusterImage,
    chosen: &BTreeMap<(TopicId, PartitionId), NodeId>,
) -> Decision<usize> {
    let standings = Standings::of(image);
    let mut records = Vec::new();
    for ((topic_id, index), node) in chosen {
        let Some(topic) = image.topic_by_id(*topic_id) else {
            continue;
        };
        let Some(partition) = topic.partition(*index) else {
            continue;
        };
        let after = elected(topic, *index, partition, Elect::Node(*node), &standings);
        if let Ok(Some(after)) = after {
            records.push(after.record(*topic_id, *index));
        }
    }
    let reply = records.len();
    Decision { records, reply }
}

fn elected(
    topic: &TopicImage,
    index: PartitionId,
    partition: &PartitionImage,
    elect: Elect<'_>,
    standings: &Standings,
) -> Result<Option<PartitionImage>, ControllerError> {
    let change = PartitionChange::new(partition, topic.isr_min, standings);
    let (wanted, election) = match elect {
        Elect::Preferred => (partition.replicas.first().copied(), Election::Preferred),
        Elect::Node(node) => (Some(node), Election::Node(node)),
        Elect::Unclean(winners) => {
            if partition.leader.is_some() || !partition.isr.is_empty() {
                return Err(ControllerError::CleanLeader);
            }
            let winner = winners.get(&(topic.id, index));
            let winner = *winner.ok_or(ControllerError::NoCandidate)?;
            let after = change.election(Election::Unclean(winner)).build();
            return match after {
                Some(after) if after.leader.is_some() => Ok(Some(after)),
                _ => Err(ControllerError::NoCandidate),
            };
        }
    };
    let wanted = wanted.ok_or(ControllerError::NoCandidate)?;
    if partition.leader == Some(wanted) {
        return Ok(None);
    }
    change
        .election(election)
        .build()
        .filter(|after| after.leader == Some(wanted))
        .map(Some)
        .ok_or(ControllerError::CannotLead { node_id: wanted })
}

fn result(topic: &str, partition: PartitionId, error: Option<ControllerError>) -> TopicResult {
    TopicResult {
        name: format!("{topic}/{partition}"),
        error: error
            .as_ref()
            .map_or(ErrorCode::None, ControllerError::code),
        message: error.map(|error| error.to_string()),
    }
}

/// Whom to ask for their logs before an unclean election of these partitions: every active replica of
/// those without a leader. Partitions that do not exist are left out.
#[must_use]
pub fn replicas_to_ask(
    image: &ClusterImage,
    partitions: &[TopicPartition],
) -> BTreeMap<NodeId, Vec<PartitionsOfTopic>> {
    let standings = Standings::of(image);
    let mut asked: BTreeMap<NodeId, BTreeMap<TopicId, Vec<PartitionId>>> = BTreeMap::new();
    for wanted in partitions {
        let Some(topic) = image.topic(&wanted.topic) else {
            continue;
        };
        let Some(partition) = topic.partition(wanted.partition) else {
            continue;
        };
        if partition.leader.is_some() {
            continue;
        }
        for node in &partition.replicas {
            if standings.is_active(*node) {
                let list = asked.entry(*node).or_default().entry(topic.id).or_default();
                if !list.contains(&wanted.partition) {
                    list.push(wanted.partition);
                }
            }
        }
    }
    asked
        .into_iter()
        .map(|(node, topics)| {
            let topics = topics
                .into_iter()
                .map(|(topic_id, partitions)| PartitionsOfTopic {
                    topic_id,
                    partitions,
                })
                .collect();
            (node, topics)
        })
        .collect()
}

/// The replica with the longest log of each partition that somebody answered for: the highest epoch of
/// the last batch, then the highest end, then the first in replica order. An answer from another life
/// of a broker than its present one says nothing.
#[must_use]
pub fn choose_winners(
    image: &ClusterImage,
    answers: &BTreeMap<NodeId, ReplicaLogsResponse>,
) -> BTreeMap<(TopicId, PartitionId), NodeId> {
    type Length = (Option<LeaderEpoch>, Offset);
    let mut logs: BTreeMap<(TopicId, PartitionId), BTreeMap<NodeId, Length>> = BTreeMap::new();
    for (node, answer) in answers {
        if image.broker(*node).and_then(BrokerImage::epoch) != Some(answer.broker_epoch) {
            continue;
        }
        for log in answer
            .logs
            .iter()
            .filter(|log| log.error == ErrorCode::None)
        {
            logs.entry((log.topic_id, log.partition))
                .or_default()
                .insert(*node, (log.last_epoch, log.end));
        }
    }
    let mut winners = BTreeMap::new();
    for (key, lengths) in logs {
        let partition = image
            .topic_by_id(key.0)
            .and_then(|topic| topic.partition(key.1));
        let Some(partition) = partition else {
            continue;
        };
        let candidates = partition
            .replicas
            .iter()
            .filter_map(|node| Some((lengths.get(node)?, *node)));
        // Of equals the last is taken: so from behind.
        let best = candidates.rev().max_by_key(|(length, _)| **length);
        if let Some((_, node)) = best {
            winners.insert(key, node);
        }
    }
    winners
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
