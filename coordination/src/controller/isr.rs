//! Proposals of leaders about who is in sync (KIP-497, KIP-903).

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, AlterPartitionTopicResult, IsrDecision,
    IsrProposal,
};

use crate::cluster_image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
use crate::mutant::{self, Mutant};
use crate::partition_change::{PartitionChange, Standings};

use super::{ControllerError, Decision, broker_in_life};

/// Decides about the proposals of a leader: one decision for all of them, an answer for each.
///
/// A proposal is accepted only on the basis of the present state, and only for replicas in the life in
/// which they proved to be in sync. A move that can end does so in the same change; the answer has the
/// state after it. On an error the answer has the present state, so that the leader learns what it
/// lacks.
///
/// A leader that shuts down and could not hand over may still take replicas in: the first of them
/// leads at once.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`]: nothing was looked at.
pub fn alter_partition(
    image: &ClusterImage,
    request: &AlterPartitionRequest,
) -> Result<Decision<AlterPartitionResponse>, ControllerError> {
    broker_in_life(image, request.node_id, request.broker_epoch)?;
    let standings = Standings::of(image);
    let mut changed: BTreeMap<(TopicId, PartitionId), PartitionImage> = BTreeMap::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = image.topic_by_id(asked.topic_id);
        let mut decisions = Vec::with_capacity(asked.partitions.len());
        for proposal in &asked.partitions {
            let key = (asked.topic_id, proposal.partition);
            let Some(topic) = topic else {
                decisions.push(unknown(proposal, ErrorCode::UnknownTopicId));
                continue;
            };
            let now = changed
                .get(&key)
                .or_else(|| topic.partition(proposal.partition));
            let Some(now) = now else {
                decisions.push(unknown(proposal, ErrorCode::UnknownTopicOrPartition));
                continue;
            };
            match decide(image, topic, now, request.node_id, proposal, &standings) {
                Ok(Some(after)) => {
                    decisions.push(answer(proposal, ErrorCode::None, &after));
                    changed.insert(key, after);
                }
                Ok(None) => decisions.push(answer(proposal, ErrorCode::None, now)),
                Err(error) => decisions.push(answer(proposal, error, now)),
            }
        }
        topics.push(AlterPartitionTopicResult {
            topic_id: asked.topic_id,
            partitions: decisions,
        });
    }
    Ok(Decision {
        records: changed
            .iter()
            .map(|((topic, index), after)| after.record(*topic, *index))
            .collect(),
        reply: AlterPartitionResponse { topics },
    })
}

/// The order of the checks decides which error a leader sees, and so what it does: a proposer that
/// knows more than this controller must not be told that it is wrong, one that knows less must not be
/// told to retry.
fn decide(
    image: &ClusterImage,
    topic: &TopicImage,
    now: &PartitionImage,
    proposer: NodeId,
    proposal: &IsrProposal,
    standings: &Standings,
) -> Result<Option<PartitionImage>, ErrorCode> {
    if proposal.leader_epoch > now.leader_epoch || proposal.partition_epoch > now.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if proposal.leader_epoch < now.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if now.leader != Some(proposer) {
        return Err(ErrorCode::InvalidRequest);
    }
    if proposal.partition_epoch < now.partition_epoch {
        return Err(ErrorCode::StalePartitionEpoch);
    }
    let isr: BTreeSet<NodeId> = proposal.isr.iter().map(|member| member.node_id).collect();
    if isr.len() != proposal.isr.len()
        || !isr.contains(&proposer)
        || isr.iter().any(|node| !now.replicas.contains(node))
    {
        return Err(ErrorCode::InvalidRequest);
    }
    // Recovered once is recovered for good: a proposal can only say that it is over.
    let is_recovering = now.recovering && !proposal.recovered;
    if is_recovering && isr.len() > 1 {
        return Err(ErrorCode::InvalidRequest);
    }
    for member in &proposal.isr {
        let node = member.node_id;
        let is_same_life = image.broker(node).and_then(BrokerImage::epoch)
            == Some(member.broker_epoch)
            || mutant::is_on(Mutant::BrokerEpochIgnored);
        let may = standings.is_active(node) || (node == proposer && standings.is_up(node));
        if !is_same_life || !may {
            return Err(ErrorCode::IneligibleReplica);
        }
    }
    // Who proposes what there is wants to be sure that nothing older is accepted any more.
    let is_present = isr.len() == now.isr.len() && now.isr.iter().all(|node| isr.contains(node));
    let change = PartitionChange::new(now, topic.isr_min, standings).isr(isr);
    let change = if is_present { change.forced() } else { change };
    let change = if proposal.recovered {
        change.recovered()
    } else {
        change
    };
    Ok(change.build())
}

fn unknown(proposal: &IsrProposal, error: ErrorCode) -> IsrDecision {
    answer(proposal, error, &PartitionImage::default())
}

fn answer(proposal: &IsrProposal, error: ErrorCode, state: &PartitionImage) -> IsrDecision {
    IsrDecision {
        partition: proposal.partition,
        error,
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        isr: state.isr.clone(),
    }
}

#[cfg(test)]
#[path = "isr_tests.rs"]
mod tests;
