//! What calls about the cluster take and give.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, ClusterId, NodeId, PartitionId};
use highwater_protocol::messages as m;

pub use highwater_protocol::messages::MoveReason;

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: ClusterId,
    /// The active controller, if there is one.
    pub controller: Option<NodeId>,
    /// Its brokers.
    pub brokers: Vec<BrokerDescription>,
    /// Number of topics.
    pub topics: u32,
    /// Number of partitions.
    pub partitions: u32,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its id.
    pub node_id: NodeId,
    /// Where it tells clients to connect.
    pub host: String,
    /// Where it tells clients to connect.
    pub port: u16,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Version of its software.
    pub version: String,
    /// Whether it is kept from serving: it is starting, or was not heard of for too long.
    pub fenced: bool,
    /// Whether everything is being moved off it.
    pub draining: bool,
    /// Whether it is stopping in order.
    pub shutting_down: bool,
    /// Whether it votes in the metadata quorum.
    pub voter: bool,
    /// Its registration: a larger one than any before.
    pub broker_epoch: BrokerEpoch,
    /// Time since the controller heard of it, if it has.
    pub silent_for: Option<Duration>,
    /// Partitions that have a replica on it.
    pub replicas: u32,
    /// Partitions that it leads.
    pub leaders: u32,
    /// Bytes of its record data.
    pub log_bytes: u64,
    /// Free bytes of its disk, as far as known.
    pub disk_free: Option<u64>,
    /// Size of its disk in bytes, as far as known.
    pub disk_total: Option<u64>,
}

impl From<m::DescribeClusterResponse> for ClusterDescription {
    fn from(answer: m::DescribeClusterResponse) -> Self {
        let brokers = answer.brokers.into_iter().map(|broker| BrokerDescription {
            node_id: broker.endpoint.node_id,
            host: broker.endpoint.host,
            port: broker.endpoint.port,
            rack: broker.endpoint.rack,
            version: broker.version,
            fenced: broker.fenced,
            draining: broker.draining,
            shutting_down: broker.shutting_down,
            voter: broker.voter,
            broker_epoch: broker.broker_epoch,
            silent_for: broker.silent_ms.map(Duration::from_millis),
            replicas: broker.replicas,
            leaders: broker.leaders,
            log_bytes: broker.log_bytes,
            disk_free: broker.disk_free,
            disk_total: broker.disk_total,
        });
        Self {
            cluster_id: answer.cluster_id,
            controller: answer.controller,
            brokers: brokers.collect(),
            topics: answer.topics,
            partitions: answer.partitions,
        }
    }
}

/// The metadata quorum, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumDescription {
    /// The leader: the active controller.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
    /// Last entry of its log.
    pub last_index: u64,
    /// Last committed entry.
    pub commit_index: u64,
    /// Last entry that the newest snapshot contains.
    pub snapshot_index: Option<u64>,
    /// Voters first, then learners, by id.
    pub members: Vec<QuorumMember>,
}

/// A node that keeps the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumMember {
    /// The node.
    pub node_id: NodeId,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it votes.
    pub voter: bool,
    /// How far its log is known to match the leader's.
    pub matched_index: Option<u64>,
}

impl From<m::DescribeQuorumResponse> for QuorumDescription {
    fn from(answer: m::DescribeQuorumResponse) -> Self {
        let members = answer.members.into_iter().map(|member| QuorumMember {
            node_id: member.node_id,
            host: member.host,
            port: member.port,
            voter: member.voter,
            matched_index: member.matched_index,
        });
        Self {
            leader: answer.leader,
            term: answer.term,
            last_index: answer.last_index,
            commit_index: answer.commit_index,
            snapshot_index: answer.snapshot_index,
            members: members.collect(),
        }
    }
}

/// A partition by the name of its topic: `orders/3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
}

impl PartitionName {
    /// Of this topic, with this number.
    pub fn new(topic: impl Into<String>, partition: PartitionId) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl FromStr for PartitionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topic, partition) = text
            .rsplit_once('/')
            .filter(|(topic, _)| !topic.is_empty())
            .ok_or_else(|| format!("{text:?} is not TOPIC/PARTITION"))?;
        let partition = partition
            .parse()
            .map_err(|_| format!("{partition:?} is not the number of a partition"))?;
        Ok(Self::new(topic, partition))
    }
}

/// A move of a partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaMove {
    /// The partition.
    pub partition: PartitionName,
    /// The replicas that it shall have, the preferred leader first; `None` gives up the move that is
    /// under way.
    pub replicas: Option<Vec<NodeId>>,
}

/// Whom to elect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// This node, if it is in sync.
    Node(NodeId),
    /// The replica with the longest log, in sync or not: committed records may be lost.
    Unclean,
}

/// What became of one partition's move or election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// The partition, as `topic/number`.
    pub partition: String,
    /// [`ErrorCode::None`], or why it was refused.
    pub error: ErrorCode,
    /// Why, in words.
    pub message: Option<String>,
}

impl PartitionOutcome {
    pub(super) fn all(results: Vec<m::TopicResult>) -> Vec<Self> {
        let results = results.into_iter().map(|result| Self {
            partition: result.name,
            error: result.error,
            message: result.message,
        });
        results.collect()
    }
}

/// A plan to balance, or what is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceStatus {
    /// The moves: planned ones where a plan was asked for or begun, otherwise those under way.
    pub moves: Vec<PlannedMove>,
    /// Moves that wait for their turn.
    pub waiting: u32,
    /// Why nothing is moved at present, if so.
    pub paused: Option<String>,
    /// Nodes that are gone.
    pub absent: Vec<AbsentNode>,
}

/// A move of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMove {
    /// The partition.
    pub partition: PartitionName,
    /// Replicas now.
    pub from: Vec<NodeId>,
    /// Replicas afterwards.
    pub to: Vec<NodeId>,
    /// Why.
    pub reason: MoveReason,
}

/// A node that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentNode {
    /// The node.
    pub node_id: NodeId,
    /// Its replicas.
    pub replicas: u32,
    /// Until they are rebuilt elsewhere; `None`: they will not be.
    pub heals_in: Option<Duration>,
}

impl From<m::BalanceResponse> for BalanceStatus {
    fn from(answer: m::BalanceResponse) -> Self {
        let moves = answer.moves.into_iter().map(|planned| PlannedMove {
            partition: PartitionName::new(planned.topic, planned.partition),
            from: planned.from,
            to: planned.to,
            reason: planned.reason,
        });
        let absent = answer.absent.into_iter().map(|node| AbsentNode {
            node_id: node.node_id,
            replicas: node.replicas,
            heals_in: node.heals_in_ms.map(Duration::from_millis),
        });
        Self {
            moves: moves.collect(),
            waiting: answer.waiting,
            paused: answer.paused,
            absent: absent.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_topic_and_number() {
        let name: PartitionName = "a/b/3".parse().unwrap();
        assert_eq!(name, PartitionName::new("a/b", PartitionId::new(3)));
        assert_eq!(name.to_string(), "a/b/3");
        for bad in ["", "a", "/3", "a/", "a/-1", "a/x", "a/99999999999"] {
            assert!(bad.parse::<PartitionName>().is_err(), "{bad}");
        }
    }
}
