//! ElectLeaders.

use crate::codec::{wire_enum, wire_struct};
use crate::ids::{NodeId, PartitionId};

use super::TopicResult;

wire_enum! {
    /// Whom to elect.
    pub enum ElectionKind {
        /// The first replica, if it is in sync.
        Preferred = 0,
        /// The replica with the longest log, in sync or not: committed records may be lost.
        Unclean = 1,
        /// The node that the request names, if it is in sync.
        Node = 2,
    }
}

wire_struct! {
    /// Elects leaders.
    pub struct ElectLeadersRequest {
        /// Whom.
        pub kind: ElectionKind;
        /// With `Node`: the node.
        pub node_id: Option<NodeId>;
        /// The partitions; `None`: all, which `Unclean` does not take.
        pub partitions: Option<Vec<TopicPartition>>;
    }
}

wire_struct! {
    /// A partition by name.
    pub struct TopicPartition {
        /// The topic.
        pub topic: String;
        /// The partition.
        pub partition: PartitionId;
    }
}

wire_struct! {
    /// What became of it.
    pub struct ElectLeadersResponse {
        /// Partitions asked for, in their order; with `None`, those whose leader changed. `name` is
        /// `topic/partition`.
        pub results: Vec<TopicResult>;
    }
}
