//! DescribeCluster.

use crate::codec::wire_struct;
use crate::ids::{BrokerEpoch, ClusterId, NodeId};

use super::BrokerEndpoint;

wire_struct! {
    /// Asks about the cluster.
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
        /// Whether it is kept from serving: it is starting, or was not heard of for too long.
        pub fenced: bool;
        /// Whether it is being drained.
        pub draining: bool;
        /// Whether it is stopping in order.
        pub shutting_down: bool;
        /// Whether it votes in the metadata quorum.
        pub voter: bool;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
        /// Time since it was last heard of, in ms, if the controller has heard of it.
        pub silent_ms: Option<u64>;
        /// Partitions that have a replica on it.
        pub replicas: u32;
        /// Partitions that it leads.
        pub leaders: u32;
        /// Bytes of its record data.
        pub log_bytes: u64;
        /// Free bytes of its disk, as far as known.
        pub disk_free: Option<u64>;
        /// Size of its disk in bytes, as far as known.
        pub disk_total: Option<u64>;
    }
}
