//! Replicas of partitions: how they are written, and how a partition is doing.

use std::collections::BTreeMap;

use highwater_client::{Admin, AdminError, PartitionDescription, TopicDescription};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;

/// `1,2,3`.
pub(crate) fn join(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(",")
}

/// As [`join`]; `-` for none.
pub(crate) fn join_or_dash(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        "-".to_owned()
    } else {
        join(nodes)
    }
}

/// For JSON.
pub(crate) fn ids(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}

/// Who leads, or `none`.
pub(crate) fn leader(partition: &PartitionDescription) -> String {
    let leader = partition.leader;
    leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string())
}

/// What a move under way adds and removes: `+4 -1`, or `-`.
pub(crate) fn moving(partition: &PartitionDescription) -> String {
    let added = partition.adding.iter().map(|node| format!("+{node}"));
    let removed = partition.removing.iter().map(|node| format!("-{node}"));
    let changes: Vec<String> = added.chain(removed).collect();
    if changes.is_empty() {
        "-".to_owned()
    } else {
        changes.join(" ")
    }
}

/// Whether nobody serves the partition.
pub(crate) fn is_offline(partition: &PartitionDescription) -> bool {
    partition.error != ErrorCode::None || partition.is_offline()
}

/// How a partition is doing, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// Nobody serves it.
    Offline,
    /// Fewer replicas are in sync than acks=all demands.
    BelowMinIsr,
    /// As many are in sync as acks=all demands, and there should be more.
    AtMinIsr,
    /// Some replica is not in sync.
    UnderReplicated,
    /// Every replica is in sync.
    Healthy,
}

impl Condition {
    /// Of a partition whose topic demands so many in-sync replicas.
    pub(crate) fn of(partition: &PartitionDescription, isr_min: usize) -> Self {
        if is_offline(partition) {
            Self::Offline
        } else if partition.isr.len() < isr_min {
            Self::BelowMinIsr
        } else if !partition.is_under_replicated() {
            Self::Healthy
        } else if partition.isr.len() == isr_min {
            Self::AtMinIsr
        } else {
            Self::UnderReplicated
        }
    }

    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::BelowMinIsr => "below-min-isr",
            Self::AtMinIsr => "at-min-isr",
            Self::UnderReplicated => "under-replicated",
            Self::Healthy => "healthy",
        }
    }
}

/// Fewest in-sync replicas of topics, by name: looked up where it makes a difference.
pub(crate) type IsrMins = BTreeMap<String, Option<usize>>;

/// Asks for `min.insync.replicas` of every topic of which some partition has not all of its replicas.
pub(crate) async fn isr_mins(
    admin: &Admin,
    topics: &[TopicDescription],
) -> Result<IsrMins, AdminError> {
    let mut mins = IsrMins::new();
    for topic in topics {
        if !topic
            .partitions
            .iter()
            .any(|p| p.isr.len() < p.replicas.len())
        {
            continue;
        }
        let configs = match admin
            .describe_configs(&topic.name, Some(&["min.insync.replicas"]))
            .await
        {
            Ok(configs) => configs,
            // Deleted since it was listed.
            Err(error) if error.broker_code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let value = configs.first().and_then(|config| config.value.parse().ok());
        mins.insert(topic.name.clone(), value);
    }
    Ok(mins)
}

/// How many in-sync replicas acks=all demands of a partition.
pub(crate) fn isr_min(mins: &IsrMins, topic: &str, partition: &PartitionDescription) -> usize {
    // What is being moved in does not count yet.
    let replicas = partition.replicas.len() - partition.adding.len().min(partition.replicas.len());
    // What the broker does with `auto`: a majority of three, otherwise one.
    let auto = if replicas >= 3 { 2 } else { 1 };
    mins.get(topic).copied().flatten().unwrap_or(auto)
}

/// Partitions for tests: leader 1, replicas and in-sync replicas as given.
#[cfg(test)]
pub(crate) fn sample(number: u32, replicas: &[u32], isr: &[u32]) -> PartitionDescription {
    use highwater_protocol::ids::{LeaderEpoch, PartitionId};

    let nodes = |ids: &[u32]| ids.iter().copied().map(NodeId::new).collect();
    PartitionDescription {
        partition: PartitionId::new(number),
        error: ErrorCode::None,
        leader: isr.first().copied().map(NodeId::new),
        leader_epoch: LeaderEpoch::new(4),
        replicas: nodes(replicas),
        isr: nodes(isr),
        elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_go_from_offline_to_healthy() {
        let of = |isr: &[u32]| Condition::of(&sample(0, &[1, 2, 3, 4], isr), 2);
        assert_eq!(of(&[]), Condition::Offline);
        assert_eq!(of(&[1]), Condition::BelowMinIsr);
        assert_eq!(of(&[1, 2]), Condition::AtMinIsr);
        assert_eq!(of(&[1, 2, 3]), Condition::UnderReplicated);
        assert_eq!(of(&[1, 2, 3, 4]), Condition::Healthy);
        assert!(Condition::Offline < Condition::Healthy);
        assert_eq!(
            Condition::of(&sample(0, &[1], &[1]), 1),
            Condition::Healthy,
            "one replica of one is all there is"
        );
    }

    #[test]
    fn a_replica_that_is_moved_in_need_not_be_in_sync() {
        let mut partition = sample(0, &[1, 2, 3, 4], &[1, 2, 3]);
        partition.adding = vec![NodeId::new(4)];
        partition.removing = vec![NodeId::new(1)];
        assert_eq!(Condition::of(&partition, 2), Condition::Healthy);
        assert_eq!(moving(&partition), "+4 -1");
        assert_eq!(isr_min(&IsrMins::new(), "t", &partition), 2);
        let mins = IsrMins::from([("t".to_owned(), Some(3))]);
        assert_eq!(isr_min(&mins, "t", &partition), 3);
        assert_eq!(isr_min(&IsrMins::new(), "t", &sample(0, &[1, 2], &[1])), 1);
    }
}
