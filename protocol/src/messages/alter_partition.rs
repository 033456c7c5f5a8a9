//! AlterPartition: a leader proposes in-sync replicas; the controller decides (KIP-497, KIP-903).

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId, TopicId};

wire_struct! {
    /// Proposals of one leader.
    pub struct AlterPartitionRequest {
        /// The leader.
        pub node_id: NodeId;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
        /// By topic.
        pub topics: Vec<AlterPartitionTopic>;
    }
}

wire_struct! {
    /// Proposals for one topic.
    pub struct AlterPartitionTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// By partition.
        pub partitions: Vec<IsrProposal>;
    }
}

wire_struct! {
    /// A proposal for one partition.
    pub struct IsrProposal {
        /// The partition.
        pub partition: PartitionId;
        /// The leader's epoch.
        pub leader_epoch: LeaderEpoch;
        /// The state that the leader starts from.
        pub partition_epoch: u32;
        /// The new in-sync replicas, each with the registration under which it proved itself.
        pub isr: Vec<IsrMember>;
        /// The partition has recovered from an unclean election.
        pub recovered: bool;
    }
}

wire_struct! {
    /// A replica that is proposed.
    pub struct IsrMember {
        /// The replica.
        pub node_id: NodeId;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
    }
}

wire_struct! {
    /// The controller's decisions.
    pub struct AlterPartitionResponse {
        /// In the order of the request.
        pub topics: Vec<AlterPartitionTopicResult>;
    }
}

wire_struct! {
    /// Decisions about one topic.
    pub struct AlterPartitionTopicResult {
        /// The topic.
        pub topic_id: TopicId;
        /// In the order of the request.
        pub partitions: Vec<IsrDecision>;
    }
}

wire_struct! {
    /// The decision about one partition.
    pub struct IsrDecision {
        /// The partition.
        pub partition: PartitionId;
        /// Success or why not; on an error the rest is the present state, as far as there is one.
        pub error: ErrorCode;
        /// Who leads.
        pub leader: Option<NodeId>;
        /// In which epoch.
        pub leader_epoch: LeaderEpoch;
        /// Counts every change of the partition.
        pub partition_epoch: u32;
        /// The in-sync replicas now.
        pub isr: Vec<NodeId>;
    }
}
