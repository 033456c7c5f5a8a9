//! CreateTopics.

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;
use crate::ids::TopicId;

wire_struct! {
    /// Topics to create, each by itself.
    pub struct CreateTopicsRequest {
        /// The topics.
        pub topics: Vec<NewTopic>;
        /// Only check and say what would happen.
        pub validate_only: bool;
    }
}

wire_struct! {
    /// A topic to create.
    pub struct NewTopic {
        /// Its name.
        pub name: String;
        /// Number of partitions; `None`: the broker's `num.partitions`.
        pub partitions: Option<u32>;
        /// Replicas of each; `None`: the broker's `default.replication.factor`.
        pub replicas: Option<u16>;
        /// Settings that differ from the broker's defaults.
        pub configs: Vec<ConfigEntry>;
    }
}

wire_struct! {
    /// A setting.
    pub struct ConfigEntry {
        /// Its name, for example `retention.ms`.
        pub key: String;
        /// Its value as text.
        pub value: String;
    }
}

wire_struct! {
    /// What became of them.
    pub struct CreateTopicsResponse {
        /// In the order of the request.
        pub topics: Vec<NewTopicResult>;
    }
}

wire_struct! {
    /// What became of one.
    pub struct NewTopicResult {
        /// Its name.
        pub name: String;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// Its id; `None` on error and when only checked.
        pub topic_id: Option<TopicId>;
        /// Its number of partitions.
        pub partitions: u32;
        /// Replicas of each.
        pub replicas: u16;
    }
}
