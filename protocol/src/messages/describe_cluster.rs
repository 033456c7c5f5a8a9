//! DescribeCluster.

use crate::codec::wire_struct;
use crate::ids::{ClusterId, NodeId};

use super::BrokerEndpoint;

wire_struct! {
    /// Asks about the cluster; no fields but one reserved byte, so that the body is never empty.
    pub struct DescribeClusterRequest {
        /// Also brokers that are fenced or gone.
        pub include_fenced: bool;
    }
}

wire_struct! {
    /// The cluster.
    pub struct DescribeClusterResponse {
        /// The cluster.
        pub cluster_id: ClusterId;
        /// The active controller, if there is one.
        pub controller: Option<NodeId>;
        /// The brokers.
        pub brokers: Vec<BrokerDescription>;
        /// Number of topics.
        pub topics: u32;
        /// Number of partitions.
        pub partitions: u32;
    }
}

wire_struct! {
    /// A broker.
    pub struct BrokerDescription {
        /// Where it listens.
        pub endpoint: BrokerEndpoint;
        /// Version of its software.
        pub version: String;
        /// Whether it is kept from serving.
        pub fenced: bool;
        /// Partitions that have a replica on it.
        pub replicas: u32;
        /// Partitions that it leads.
        pub leaders: u32;
        /// Bytes of its record data.
        pub log_bytes: u64;
    }
}
