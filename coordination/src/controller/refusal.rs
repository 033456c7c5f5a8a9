//! Why the controller refuses a command, and the code that a client sees.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, DirectoryId, NodeId, PartitionId, TopicId, TopicName, TopicNameError,
};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use thiserror::Error;

use crate::reassignment::ReassignmentError;

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// There is one already.
    #[error("topic {name} exists already")]
    TopicExists {
        /// The topic.
        name: TopicName,
    },
    /// There is none.
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name asked for.
        name: String,
    },
    /// There is none of this id.
    #[error("there is no topic with id {id}")]
    UnknownTopicId {
        /// The id asked for.
        id: TopicId,
    },
    /// The topic has no such partition.
    #[error("topic {name} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        name: TopicName,
        /// The partition asked for.
        partition: PartitionId,
    },
    /// Zero or too many partitions.
    #[error("{count} partitions: a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}")]
    PartitionCount {
        /// How many were asked for.
        count: u32,
    },
    /// Partitions cannot be taken away.
    #[error("topic {name} has {now} partitions; it can only get more, not {total}")]
    FewerPartitions {
        /// The topic.
        name: TopicName,
        /// How many it has.
        now: usize,
        /// How many were asked for.
        total: u32,
    },
    /// There are not that many brokers.
    #[error(
        "replication factor {replicas} needs {replicas} brokers; this cluster has {brokers} that \
         can take replicas"
    )]
    ReplicationFactor {
        /// What was asked for.
        replicas: u16,
        /// How many brokers are active and not drained.
        brokers: usize,
    },
    /// A partition that nobody holds.
    #[error(
        "a replication factor of 0: each partition needs 1 replica at least, and 3 outlive a broker"
    )]
    NoReplicas,
    /// More in-sync replicas demanded than there are replicas, or none.
    #[error("min.insync.replicas is {isr_min}; with {replicas} replicas it can be 1 to {replicas}")]
    InSyncMin {
        /// What was asked for.
        isr_min: u16,
        /// How many replicas each partition has.
        replicas: u16,
    },
    /// The cluster has been created.
    #[error("the cluster exists already")]
    ClusterExists,
    /// The cluster has not been created.
    #[error("there is no cluster yet")]
    NoCluster,
    /// No node has this id.
    #[error("there is no node {node_id}")]
    UnknownNode {
        /// The id asked for.
        node_id: NodeId,
    },
    /// The wanted node id belongs to another directory.
    #[error(
        "node id {node_id} belongs to a node with another data directory ({directory}): start with \
         another node.id, or with none and the cluster chooses one; if the old node's data is lost, \
         remove it first with `node remove {node_id}`"
    )]
    NodeIdTaken {
        /// The id.
        node_id: NodeId,
        /// The directory that has it.
        directory: DirectoryId,
    },
    /// The wanted node id was removed.
    #[error(
        "node id {node_id} was removed from the cluster and is never given out again: start with \
         another node.id and an empty data directory"
    )]
    NodeWasRemoved {
        /// The id.
        node_id: NodeId,
    },
    /// The directory joined under another id.
    #[error(
        "data directory {directory} has joined as node {node_id}, not as node {wanted}: set node.id \
         to {node_id} or remove the setting"
    )]
    DirectoryHasId {
        /// The directory.
        directory: DirectoryId,
        /// The id that it has.
        node_id: NodeId,
        /// The id that it was configured with.
        wanted: NodeId,
    },
    /// A node that never joined wants to register.
    #[error(
        "node {node_id} is not part of this cluster: start it with an empty data directory, so that \
         it joins"
    )]
    NotMember {
        /// The id.
        node_id: NodeId,
    },
    /// A node wants to register with another directory than it joined with.
    #[error(
        "node {node_id} joined with data directory {expected} and comes with {given}: bring the old \
         directory back, or remove the node with `node remove {node_id}` and let it join anew with \
         an empty directory and without its old node.id"
    )]
    WrongDirectory {
        /// The node.
        node_id: NodeId,
        /// The directory that it joined with.
        expected: DirectoryId,
        /// The directory that it came with.
        given: DirectoryId,
    },
    /// Another process of the same node is alive.
    #[error(
        "another process is registered as node {node_id} and was heard of within its session: it \
         has to stop, or its session to end, first"
    )]
    DuplicateBroker {
        /// The node.
        node_id: NodeId,
    },
    /// A message from an earlier life.
    #[error("broker epoch {given} of node {node_id} is not its registration ({current:?})")]
    StaleBrokerEpoch {
        /// The node.
        node_id: NodeId,
        /// What the message says.
        given: BrokerEpoch,
        /// What the image says.
        current: Option<BrokerEpoch>,
    },
    /// The new registration is not newer than all before.
    #[error("broker epoch {epoch} was given out before")]
    BrokerEpochUsed {
        /// What the caller chose.
        epoch: BrokerEpoch,
    },
    /// A node that still runs cannot be removed.
    #[error("node {node_id} is still running: stop it first")]
    NodeRuns {
        /// The node.
        node_id: NodeId,
    },
    /// A node that still holds replicas is not removed without force.
    #[error(
        "node {node_id} holds {replicas} replicas: drain it first, or remove it with force, which \
         counts them as lost"
    )]
    NodeHoldsReplicas {
        /// The node.
        node_id: NodeId,
        /// How many.
        replicas: u32,
    },
    /// A move's replicas cannot be had.
    #[error(transparent)]
    Reassignment(#[from] ReassignmentError),
    /// A move's replicas make no sense.
    #[error("replicas {target:?} are no target: {reason}")]
    MoveTarget {
        /// What was asked for.
        target: Vec<u32>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no move to give up.
    #[error("partition {partition} of topic {name} is not being moved")]
    NoMove {
        /// The topic.
        name: TopicName,
        /// The partition.
        partition: PartitionId,
    },
    /// Giving up a move would take in-sync replicas away that are needed.
    #[error(
        "the move of partition {partition} of topic {name} cannot be given up: without the replicas \
         that it added {in_sync} would be in sync, and {needed} are demanded"
    )]
    MoveIsNeeded {
        /// The topic.
        name: TopicName,
        /// The partition.
        partition: PartitionId,
        /// How many would be in sync.
        in_sync: usize,
        /// `min.insync.replicas`
        needed: u16,
    },
    /// The node cannot lead the partition.
    #[error("node {node_id} cannot lead: it is not in sync, or not active")]
    CannotLead {
        /// The node.
        node_id: NodeId,
    },
    /// An unclean election where it is not needed.
    #[error("a complete replica can lead, or is about to: no unclean election")]
    CleanLeader,
    /// An unclean election without anybody to elect.
    #[error("no replica that is up can be elected")]
    NoCandidate,
    /// An unclean election of everything.
    #[error("an unclean election may lose records: name the partitions")]
    UncleanNeedsPartitions,
    /// All producer ids are used up.
    #[error("there are no producer ids left")]
    ProducerIdsExhausted,
}

impl ControllerError {
    /// The code that a client sees.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Name(_) => ErrorCode::InvalidTopic,
            Self::Reassignment(error) => error.code(),
            Self::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopic { .. } | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
            Self::PartitionCount { .. } | Self::FewerPartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            Self::NoReplicas | Self::ReplicationFactor { .. } => {
                ErrorCode::InvalidReplicationFactor
            }
            Self::InSyncMin { .. } => ErrorCode::InvalidConfig,
            Self::UnknownNode { .. } => ErrorCode::UnknownNode,
            Self::NodeIdTaken { .. }
            | Self::NodeWasRemoved { .. }
            | Self::DirectoryHasId { .. }
            | Self::NotMember { .. }
            | Self::WrongDirectory { .. } => ErrorCode::NodeRefused,
            // Its first records are on their way.
            Self::NoCluster => ErrorCode::Busy,
            Self::DuplicateBroker { .. } => ErrorCode::DuplicateBroker,
            Self::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            Self::ClusterExists
            | Self::NodeRuns { .. }
            | Self::NodeHoldsReplicas { .. }
            | Self::NoMove { .. }
            | Self::MoveIsNeeded { .. }
            | Self::CannotLead { .. }
            | Self::CleanLeader
            | Self::NoCandidate => ErrorCode::PreconditionFailed,
            Self::MoveTarget { .. } | Self::UncleanNeedsPartitions => ErrorCode::InvalidRequest,
            Self::BrokerEpochUsed { .. } | Self::ProducerIdsExhausted => ErrorCode::Internal,
        }
    }
}
