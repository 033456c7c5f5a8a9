//! MoveReplicas.

use crate::codec::wire_struct;
use crate::ids::{NodeId, PartitionId};

use super::TopicResult;

wire_struct! {
    /// Moves partitions.
    pub struct MoveReplicasRequest {
        /// The moves; each is taken or refused by itself.
        pub moves: Vec<ReplicaMove>;
    }
}

wire_struct! {
    /// A move.
    pub struct ReplicaMove {
        /// The topic.
        pub topic: String;
        /// The partition.
        pub partition: PartitionId;
        /// The replicas that it shall have, the preferred leader first; `None`: give up the move that
        /// is under way.
        pub replicas: Option<Vec<NodeId>>;
    }
}

wire_struct! {
    /// What became of the moves: they go on by themselves, Metadata shows how far.
    pub struct MoveReplicasResponse {
        /// In the order of the request; `name` is `topic/partition`.
        pub results: Vec<TopicResult>;
    }
}
