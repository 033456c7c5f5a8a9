//! How partitions are, in numbers: for operators and alarms.

use highwater_protocol::ids::NodeId;

use crate::cluster_image::{ClusterImage, PartitionImage, TopicImage};

/// How many partitions are in which state; one can be in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionHealth {
    /// All that were looked at.
    pub partitions: u64,
    /// Nobody leads them.
    pub leaderless: u64,
    /// A replica that is not just being added is not in sync.
    pub under_replicated: u64,
    /// Fewer replicas are in sync than `min.insync.replicas`: nothing commits.
    pub below_min_isr: u64,
    /// Replicas are added or removed.
    pub moving: u64,
}

impl PartitionHealth {
    /// Of all partitions of the cluster.
    #[must_use]
    pub fn of_cluster(image: &ClusterImage) -> Self {
        Self::of(image, |_| true)
    }

    /// Of the partitions that `node` leads.
    #[must_use]
    pub fn of_leader(image: &ClusterImage, node: NodeId) -> Self {
        Self::of(image, |partition| partition.leader == Some(node))
    }

    fn of(image: &ClusterImage, counts: impl Fn(&PartitionImage) -> bool) -> Self {
        let mut health = Self::default();
        for topic in image.topics() {
            for partition in topic.partitions.iter().filter(|one| counts(one)) {
                health.add(topic, partition);
            }
        }
        health
    }

    fn add(&mut self, topic: &TopicImage, partition: &PartitionImage) {
        let lags =
            |node: &NodeId| !partition.isr.contains(node) && !partition.adding.contains(node);
        self.partitions += 1;
        self.leaderless += u64::from(partition.leader.is_none());
        self.under_replicated += u64::from(partition.replicas.iter().any(lags));
        self.below_min_isr += u64::from(partition.isr.len() < usize::from(topic.isr_min));
        self.moving += u64::from(!partition.adding.is_empty() || !partition.removing.is_empty());
    }
}

/// What a step from one image to the next did to the partitions that one broker leads after it. What
/// came and went between the two is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaderEvents {
    /// Leaderships that it was given, those of new partitions aside.
    pub elected: u64,
    /// Those of them that came from an unclean election.
    pub elected_unclean: u64,
    /// Partitions of which a replica fell out of the in-sync replicas.
    pub isr_shrinks: u64,
    /// Partitions of which a replica came into the in-sync replicas.
    pub isr_expands: u64,
}

impl LeaderEvents {
    /// What happened to the partitions of `node`.
    #[must_use]
    pub fn between(before: &ClusterImage, after: &ClusterImage, node: NodeId) -> Self {
        let mut events = Self::default();
        for topic in after.topics() {
            let Some(old) = before.topic_by_id(topic.id) else {
                continue;
            };
            if std::sync::Arc::ptr_eq(old, topic) {
                continue;
            }
            for (was, is) in old.partitions.iter().zip(&topic.partitions) {
                if is.leader == Some(node) {
                    events.add(was, is);
                }
            }
        }
        events
    }

    fn add(&mut self, was: &PartitionImage, is: &PartitionImage) {
        let elected = was.leader_epoch != is.leader_epoch && was.leader != is.leader;
        let left = was.isr.iter().any(|node| !is.isr.contains(node));
        let joined = is.isr.iter().any(|node| !was.isr.contains(node));
        self.elected += u64::from(elected);
        self.elected_unclean += u64::from(is.recovering && was.leader_epoch != is.leader_epoch);
        self.isr_shrinks += u64::from(left);
        self.isr_expands += u64::from(joined);
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::ids::{LeaderEpoch, PartitionId, TopicId, TopicName};
    use highwater_protocol::metadata_record::MetadataRecord;

    use super::*;

    fn nodes(ids: &[u32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId::new).collect()
    }

    fn created(partitions: u32) -> ClusterImage {
        let mut image = ClusterImage::default();
        image
            .apply(&MetadataRecord::TopicCreated {
                id: id(),
                name: TopicName::new("t").unwrap(),
                partitions,
                replicas: 3,
                isr_min: 2,
                configs: Vec::new(),
            })
            .unwrap();
        image
    }

    fn id() -> TopicId {
        TopicId::from_bytes([7; 16])
    }

    /// A state of partition 0, with the epochs set by `epoch`.
    fn state(epoch: u32, leader: Option<u32>, isr: &[u32]) -> PartitionImage {
        PartitionImage {
            partition_epoch: epoch,
            leader: leader.map(NodeId::new),
            leader_epoch: LeaderEpoch::new(epoch),
            replicas: nodes(&[1, 2, 3]),
            isr: nodes(isr),
            ..PartitionImage::default()
        }
    }

    fn with(image: &ClusterImage, index: u32, state: &PartitionImage) -> ClusterImage {
        let mut image = image.clone();
        image
            .apply(&state.record(id(), PartitionId::new(index)))
            .unwrap();
        image
    }

    #[test]
    fn partitions_are_counted_by_what_is_wrong_with_them() {
        let image = created(4);
        let image = with(&image, 0, &state(1, Some(1), &[1, 2, 3]));
        let image = with(&image, 1, &state(1, Some(2), &[2]));
        let image = with(&image, 2, &state(1, None, &[]));
        let moving = PartitionImage {
            replicas: nodes(&[1, 2, 3, 4]),
            adding: nodes(&[4]),
            removing: nodes(&[3]),
            ..state(1, Some(1), &[1, 2, 3])
        };
        let image = with(&image, 3, &moving);
        let cluster = PartitionHealth {
            partitions: 4,
            leaderless: 1,
            under_replicated: 2,
            below_min_isr: 2,
            moving: 1,
        };
        assert_eq!(PartitionHealth::of_cluster(&image), cluster);
        let of_two = PartitionHealth {
            partitions: 1,
            under_replicated: 1,
            below_min_isr: 1,
            ..PartitionHealth::default()
        };
        assert_eq!(PartitionHealth::of_leader(&image, NodeId::new(2)), of_two);
    }

    #[test]
    fn events_are_those_of_the_leader_after_the_step() {
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        let empty = ClusterImage::default();
        let new = with(&created(1), 0, &state(1, Some(1), &[1, 2, 3]));
        let none = LeaderEvents::default();
        assert_eq!(
            LeaderEvents::between(&empty, &new, one),
            none,
            "a new topic"
        );

        let failed_over = with(&new, 0, &state(2, Some(2), &[2, 3]));
        let elected = LeaderEvents {
            elected: 1,
            isr_shrinks: 1,
            ..none
        };
        assert_eq!(LeaderEvents::between(&new, &failed_over, two), elected);
        assert_eq!(LeaderEvents::between(&new, &failed_over, one), none);

        let mut back = state(2, Some(2), &[1, 2, 3]);
        back.partition_epoch = 3;
        let back = with(&failed_over, 0, &back);
        let joined = LeaderEvents {
            isr_expands: 1,
            ..none
        };
        assert_eq!(LeaderEvents::between(&failed_over, &back, two), joined);

        let unclean = PartitionImage {
            recovering: true,
            ..state(4, Some(1), &[1])
        };
        let unclean = with(&back, 0, &unclean);
        let events = LeaderEvents::between(&back, &unclean, one);
        assert_eq!((events.elected, events.elected_unclean), (1, 1));
    }
}
