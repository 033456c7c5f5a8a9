//! Produce: append record batches.

use bytes::Bytes;

use crate::codec::{wire_enum, wire_struct};
use crate::error_code::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionId, TopicId};

wire_enum! {
    /// When a produce request is answered.
    pub enum Acks {
        /// Never: no response frame is sent at all.
        None = 0,
        /// When the leader has it (`durability = synced`: on its disk).
        Leader = 1,
        /// When every in-sync replica has it (`durability = synced`: on their disks).
        All = 2,
    }
}

wire_struct! {
    /// Batches for any number of partitions.
    pub struct ProduceRequest {
        /// When to answer.
        pub acks: Acks;
        /// How long the broker may wait for the acknowledgement, in ms.
        pub timeout_ms: u32;
        /// By topic.
        pub topics: Vec<ProduceTopic>;
    }
}

wire_struct! {
    /// Batches of one topic.
    pub struct ProduceTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// By partition.
        pub partitions: Vec<ProducePartition>;
    }
}

wire_struct! {
    /// Batches of one partition.
    pub struct ProducePartition {
        /// The partition.
        pub partition: PartitionId;
        /// The leader epoch that the client knows, checked when given.
        pub leader_epoch: Option<LeaderEpoch>;
        /// One or more record batches back to back; appended all or none.
        pub records: Bytes;
    }
}

wire_struct! {
    /// What became of them.
    pub struct ProduceResponse {
        /// How long the client should pause before the next request, in ms.
        pub throttle_ms: u32;
        /// In the order of the request.
        pub topics: Vec<ProduceTopicResult>;
    }
}

wire_struct! {
    /// What became of one topic's batches.
    pub struct ProduceTopicResult {
        /// The topic.
        pub topic_id: TopicId;
        /// In the order of the request.
        pub partitions: Vec<ProducePartitionResult>;
    }
}

wire_struct! {
    /// What became of one partition's batches.
    pub struct ProducePartitionResult {
        /// The partition.
        pub partition: PartitionId;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// Offset of the first record; `None` on error.
        pub base_offset: Option<Offset>;
        /// First offset that the partition still has; `None` on error.
        pub log_start: Option<Offset>;
    }
}
