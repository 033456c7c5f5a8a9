//! DeleteRecords: trim the start of partitions.

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;
use crate::ids::{Offset, PartitionId, TopicId};

wire_struct! {
    /// Partitions to trim.
    pub struct DeleteRecordsRequest {
        /// By topic.
        pub topics: Vec<DeleteRecordsTopic>;
    }
}

wire_struct! {
    /// Partitions of one topic to trim.
    pub struct DeleteRecordsTopic {
        /// The topic.
        pub topic_id: TopicId;
        /// By partition.
        pub partitions: Vec<DeleteRecordsPartition>;
    }
}

wire_struct! {
    /// A partition to trim.
    pub struct DeleteRecordsPartition {
        /// The partition.
        pub partition: PartitionId;
        /// Everything before this offset goes; `None`: everything below the high watermark.
        pub before: Option<Offset>;
    }
}

wire_struct! {
    /// What became of them.
    pub struct DeleteRecordsResponse {
        /// In the order of the request.
        pub topics: Vec<DeleteRecordsTopicResult>;
    }
}

wire_struct! {
    /// What became of one topic's partitions.
    pub struct DeleteRecordsTopicResult {
        /// The topic.
        pub topic_id: TopicId;
        /// In the order of the request.
        pub partitions: Vec<DeleteRecordsPartitionResult>;
    }
}

wire_struct! {
    /// What became of one partition.
    pub struct DeleteRecordsPartitionResult {
        /// The partition.
        pub partition: PartitionId;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// Where the log starts now; `None` on error.
        pub log_start: Option<Offset>;
    }
}
