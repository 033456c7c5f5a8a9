//! Fetch: read record batches, for consumers and followers alike.

use bytes::Bytes;

use crate::codec::{wire_enum, wire_struct};
use crate::error_code::ErrorCode;
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, TopicId};

wire_enum! {
    /// What a consumer may see.
    pub enum Isolation {
        /// Everything below the high watermark.
        ReadUncommitted = 0,
        /// Everything below the last stable offset.
        ReadCommitted = 1,
    }
}

wire_struct! {
    /// Reads from any number of partitions.
    pub struct FetchRequest {
        /// Set by a follower, which sees up to the log end; a consumer leaves it out.
        pub replica: Option<FetchReplica>;
        /// How long to wait for `bytes_min`, in ms.
        pub wait_ms_max: u32;
        /// Answer as soon as this many record bytes are there.
        pub bytes_min: u32;
        /// Stop at about this many record bytes; the first batch is always whole.
        pub bytes_max: u32;
        /// What a consumer may see.
        pub isolation: Isolation;
        /// By topic.
        pub topics: Vec<FetchTopic>;
    }
}

wire_struct! {
    /// The follower that fetches.
    pub struct FetchReplica {
        /// The follower.
        pub node_id: NodeId;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
        /// Set when the leader shall remember what is asked; left out, the request is complete by itself.
        pub session: Option<FetchSession>;
    }
}

wire_struct! {
    /// Which fetches of a follower belong together.
    pub struct FetchSession {
        /// Drawn by the follower when the session begins.
        pub id: u64;
        /// 0 begins it; counts the fetches of the session.
        pub round: u32;
    }
}

wire_struct! {
    /// Reads from one topic.
    pub struct FetchTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// By partition.
        pub partitions: Vec<FetchPartition>;
    }
}

wire_struct! {
    /// A read from one partition.
    pub struct FetchPartition {
        /// The partition.
        pub partition: PartitionId;
        /// The leader epoch that the reader knows, checked when given.
        pub leader_epoch: Option<LeaderEpoch>;
        /// The first offset wanted. The batch that contains it comes whole: readers skip the records before.
        pub offset: Offset;
        /// Epoch of the last batch that a follower has.
        pub last_epoch: Option<LeaderEpoch>;
        /// Up to where a follower's log is on its disk.
        pub durable_end: Option<Offset>;
        /// Where a follower's log starts.
        pub log_start: Option<Offset>;
        /// Stop at about this many bytes from this partition.
        pub bytes_max: u32;
    }
}

wire_struct! {
    /// What was read.
    pub struct FetchResponse {
        /// How long the client should pause before the next request, in ms.
        pub throttle_ms: u32;
        /// In the order of the request.
        pub topics: Vec<FetchTopicResult>;
    }
}

wire_struct! {
    /// What was read from one topic.
    pub struct FetchTopicResult {
        /// The topic.
        pub topic_id: TopicId;
        /// In the order of the request.
        pub partitions: Vec<FetchPartitionResult>;
    }
}

wire_struct! {
    /// What was read from one partition.
    pub struct FetchPartitionResult {
        /// The partition.
        pub partition: PartitionId;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// Everything below is committed.
        pub high_watermark: Offset;
        /// Everything below is committed and of no open transaction.
        pub last_stable: Offset;
        /// First offset that the partition still has.
        pub log_start: Offset;
        /// Where a follower's log parts from the leader's; then there are no records.
        pub diverging: Option<EpochEnd>;
        /// Whole record batches back to back, possibly none.
        pub records: Bytes;
    }
}

wire_struct! {
    /// The end of a leader epoch in the leader's log.
    pub struct EpochEnd {
        /// The epoch.
        pub epoch: LeaderEpoch;
        /// First offset after it.
        pub end: Offset;
    }
}
