//! Metadata: which topics there are and who leads their partitions.

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;
use crate::ids::{ClusterId, LeaderEpoch, NodeId, PartitionId, TopicId};

wire_struct! {
    /// Asks for topics by name.
    pub struct MetadataRequest {
        /// The topics; `None` asks for all.
        pub topics: Option<Vec<String>>;
    }
}

wire_struct! {
    /// The cluster as the answering broker sees it.
    pub struct MetadataResponse {
        /// The cluster.
        pub cluster_id: ClusterId;
        /// The active controller, if there is one.
        pub controller: Option<NodeId>;
        /// Live brokers.
        pub brokers: Vec<BrokerEndpoint>;
        /// One entry per topic asked for, or all topics sorted by name.
        pub topics: Vec<TopicMetadata>;
    }
}

wire_struct! {
    /// Where a broker listens.
    pub struct BrokerEndpoint {
        /// The broker.
        pub node_id: NodeId;
        /// Host name or address that clients connect to.
        pub host: String;
        /// TCP port.
        pub port: u16;
        /// Failure domain.
        pub rack: Option<String>;
    }
}

wire_struct! {
    /// A topic.
    pub struct TopicMetadata {
        /// `None`, `UnknownTopicOrPartition` or `InvalidTopic`; on error the rest is empty.
        pub error: ErrorCode;
        /// The name asked for.
        pub name: String;
        /// The topic's id; `None` on error.
        pub topic_id: Option<TopicId>;
        /// All partitions, in order.
        pub partitions: Vec<PartitionMetadata>;
    }
}

wire_struct! {
    /// A partition.
    pub struct PartitionMetadata {
        /// `None` or `PartitionOffline`.
        pub error: ErrorCode;
        /// Its number.
        pub partition: PartitionId;
        /// Who leads it, if anyone.
        pub leader: Option<NodeId>;
        /// Epoch of that leader.
        pub leader_epoch: LeaderEpoch;
        /// All replicas, the preferred leader first.
        pub replicas: Vec<NodeId>;
        /// In-sync replicas.
        pub isr: Vec<NodeId>;
        /// Replicas that are not in sync and yet known to have everything that is committed.
        pub elr: Vec<NodeId>;
        /// Replicas that a move under way adds; they are among `replicas`.
        pub adding: Vec<NodeId>;
        /// Replicas that a move under way removes once the added ones are in sync.
        pub removing: Vec<NodeId>;
    }
}
