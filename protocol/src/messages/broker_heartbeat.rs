//! BrokerHeartbeat: what keeps a broker's lease, and tells the controller how it is.

use crate::codec::wire_struct;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId, TopicId};

wire_struct! {
    /// Some partitions of one topic.
    pub struct PartitionsOfTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// The partitions.
        pub partitions: Vec<PartitionId>;
    }
}

wire_struct! {
    /// A replica that is to be begun anew.
    pub struct ReplicaToRebuild {
        /// The topic.
        pub topic_id: TopicId;
        /// The partition.
        pub partition: PartitionId;
        /// The last leader epoch in which its old log may have been told of. It is begun anew in a later
        /// one.
        pub leader_epoch: LeaderEpoch;
    }
}

wire_struct! {
    /// A broker is alive.
    pub struct BrokerHeartbeatRequest {
        /// The broker.
        pub node_id: NodeId;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
        /// How far it has applied the metadata log.
        pub metadata_index: u64;
        /// It is not ready, or no longer: it wants no partitions to lead.
        pub wants_fence: bool;
        /// It wants to stop as soon as others have taken over.
        pub wants_shutdown: bool;
        /// Partitions whose logs are offline here: damaged, or their disk failed.
        pub offline: Vec<PartitionsOfTopic>;
        /// Those of them that can be begun anew once a later leader epoch begins.
        pub to_rebuild: Vec<ReplicaToRebuild>;
        /// Bytes of record data that it has.
        pub log_bytes: u64;
        /// Free bytes of its disk.
        pub disk_free: u64;
        /// Size of its disk in bytes.
        pub disk_total: u64;
    }
}

wire_struct! {
    /// The lease is renewed, from the moment at which the heartbeat was sent.
    pub struct BrokerHeartbeatResponse {
        /// Whether it is kept from leading.
        pub fenced: bool;
        /// It leads nothing and nobody counts on it: it may stop.
        pub may_shut_down: bool;
        /// How long the controller waits for the next heartbeat before it fences, in ms.
        pub session_timeout_ms: u32;
        /// How far the controller had applied the metadata log. The lease begins once the broker has
        /// applied as much: before that it may not know that others lead what it led.
        pub metadata_index: u64;
    }
}
