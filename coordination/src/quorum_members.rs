//! Who keeps the metadata log, and who of them votes.
//!
//! Every node of the cluster learns the log. The number of voters is always odd: a fourth voter makes a
//! majority larger, and nothing safer. Voters are added in one step up to the number that is wanted, and
//! a voter that is gone for too long gives its vote to a node that is there.

use std::collections::BTreeSet;

use highwater_protocol::ids::NodeId;

use crate::cluster_image::ClusterImage;

/// Who keeps the log now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who only learns.
    pub learners: BTreeSet<NodeId>,
}

/// What to change, in this order. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembersPlan {
    /// Nodes that are to learn the log.
    pub learn: Vec<NodeId>,
    /// Who is to vote from now on, if that changes.
    pub voters: Option<BTreeSet<NodeId>>,
    /// Nodes that are no longer part of the cluster and do not vote.
    pub remove: Vec<NodeId>,
}

/// Plans the members of the quorum.
///
/// `voters_wanted`: how many shall vote where there are so many nodes. `kept_from_voting`: nodes that an
/// operator took the vote from. `is_lost`: a node that is gone for so long that its vote goes to another.
#[must_use]
pub fn plan_members(
    image: &ClusterImage,
    members: &Members,
    voters_wanted: usize,
    kept_from_voting: &BTreeSet<NodeId>,
    is_lost: impl Fn(NodeId) -> bool,
) -> MembersPlan {
    let voters = &members.voters;
    let known: BTreeSet<NodeId> = voters.union(&members.learners).copied().collect();
    let learn = image
        .brokers()
        .map(|(node, _)| node)
        .filter(|node| !known.contains(node))
        .collect();
    let is_removed = |node: &NodeId| image.was_removed(*node);

    let mut wanted: BTreeSet<NodeId> = voters
        .iter()
        .copied()
        .filter(|node| !is_removed(node) && !is_lost(*node))
        .collect();
    // Whoever can take a vote: it is there, and has the log.
    let mut candidates = image
        .brokers()
        .filter(|(node, broker)| {
            broker.is_active()
                && !broker.draining
                && known.contains(node)
                && !wanted.contains(node)
                && !kept_from_voting.contains(node)
        })
        .map(|(node, _)| node)
        .collect::<Vec<_>>()
        .into_iter();
    let reachable = wanted.len() + candidates.len();
    let target = voters_of(reachable, voters_wanted);
    while wanted.len() < target {
        let Some(node) = candidates.next() else {
            break;
        };
        wanted.insert(node);
    }
    // A lost voter without anybody to take its vote keeps it: fewer voters would be no safer. One that
    // was removed cannot keep it.
    for node in voters {
        if wanted.len() >= target.max(1) && wanted.len() % 2 == 1 {
            break;
        }
        if !is_removed(node) {
            wanted.insert(*node);
        }
    }
    let remove = known
        .iter()
        .copied()
        .filter(|node| is_removed(node) && !wanted.contains(node))
        .collect();
    let is_change = wanted != *voters && !wanted.is_empty();
    MembersPlan {
        learn,
        voters: is_change.then_some(wanted),
        remove,
    }
}

/// How many of so many nodes vote: as many as wanted, but always an odd number, at least 1.
#[must_use]
pub fn voters_of(nodes: usize, voters_wanted: usize) -> usize {
    let number = voters_wanted.min(nodes);
    if number % 2 == 1 {
        number
    } else {
        number.saturating_sub(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_protocol::ids::{BrokerEpoch, DirectoryId, IncarnationId};
    use highwater_protocol::metadata_record::MetadataRecord;

    fn image(active: &[u32], fenced: &[u32], removed: &[u32]) -> ClusterImage {
        let mut image = ClusterImage::default();
        let mut apply = |record: MetadataRecord| image.apply(&record).unwrap();
        for (number, is_fenced) in active
            .iter()
            .map(|number| (*number, false))
            .chain(fenced.iter().map(|number| (*number, true)))
        {
            let node_id = NodeId::new(number);
            apply(MetadataRecord::BrokerRegistered {
                node_id,
                broker_epoch: BrokerEpoch::new(number.into()),
                directory: DirectoryId::random(),
                incarnation: IncarnationId::random(),
                host: "h".to_owned(),
                port: 1,
                rack: None,
                version: String::new(),
            });
            apply(MetadataRecord::BrokerChanged {
                node_id,
                broker_epoch: BrokerEpoch::new(number.into()),
                fenced: is_fenced,
                shutting_down: false,
                draining: false,
            });
        }
        for number in removed {
            apply(MetadataRecord::NodeRemoved {
                node_id: NodeId::new(*number),
            });
        }
        image
    }

    fn members(voters: &[u32], learners: &[u32]) -> Members {
        let nodes = |numbers: &[u32]| numbers.iter().copied().map(NodeId::new).collect();
        Members {
            voters: nodes(voters),
            learners: nodes(learners),
        }
    }

    fn set(numbers: &[u32]) -> Option<BTreeSet<NodeId>> {
        Some(numbers.iter().copied().map(NodeId::new).collect())
    }

    fn plan(image: &ClusterImage, members: &Members, lost: &[u32]) -> MembersPlan {
        plan_members(image, members, 3, &BTreeSet::new(), |node| {
            lost.contains(&node.get())
        })
    }

    #[test]
    fn one_voter_becomes_three_in_one_step_and_never_two() {
        let two = plan(&image(&[1, 2], &[], &[]), &members(&[1], &[2]), &[]);
        assert_eq!(two, MembersPlan::default());
        let three = plan(&image(&[1, 2, 3], &[], &[]), &members(&[1], &[2, 3]), &[]);
        assert_eq!(three.voters, set(&[1, 2, 3]));
        let more = plan(
            &image(&[1, 2, 3, 4, 5], &[], &[]),
            &members(&[1, 2, 3], &[4, 5]),
            &[],
        );
        assert_eq!(more, MembersPlan::default());
    }

    #[test]
    fn a_node_learns_before_it_votes() {
        let plan = plan(&image(&[1, 2, 3], &[], &[]), &members(&[1], &[2]), &[]);
        assert_eq!(plan.learn, [NodeId::new(3)]);
        assert_eq!(plan.voters, None);
    }

    #[test]
    fn a_lost_voter_gives_its_vote_to_a_node_that_is_there() {
        let present = image(&[1, 2, 4], &[3], &[]);
        let fenced = plan(&present, &members(&[1, 2, 3], &[4]), &[]);
        assert_eq!(fenced.voters, None, "it may come back");
        let lost = plan(&present, &members(&[1, 2, 3], &[4]), &[3]);
        assert_eq!(lost.voters, set(&[1, 2, 4]));
        let nobody = plan(&image(&[1, 2], &[3], &[]), &members(&[1, 2, 3], &[]), &[3]);
        assert_eq!(nobody.voters, None, "two voters are no safer than three");
    }

    #[test]
    fn a_removed_voter_is_replaced_and_then_removed() {
        let after = image(&[1, 2, 4], &[], &[3]);
        let first = plan(&after, &members(&[1, 2, 3], &[4]), &[]);
        assert_eq!(first.voters, set(&[1, 2, 4]));
        assert_eq!(first.remove, [NodeId::new(3)]);
        let small = plan(&image(&[1, 2], &[], &[3]), &members(&[1, 2, 3], &[]), &[]);
        assert_eq!(small.voters, set(&[1, 2]));
    }
}
