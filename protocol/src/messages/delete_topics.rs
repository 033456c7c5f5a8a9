//! DeleteTopics.

use crate::codec::wire_struct;
use crate::error_code::ErrorCode;

wire_struct! {
    /// Topics to delete with all of their records.
    pub struct DeleteTopicsRequest {
        /// Their names.
        pub topics: Vec<String>;
    }
}

wire_struct! {
    /// What became of them.
    pub struct DeleteTopicsResponse {
        /// In the order of the request.
        pub topics: Vec<TopicResult>;
    }
}

wire_struct! {
    /// What became of a change to one topic.
    pub struct TopicResult {
        /// The topic.
        pub name: String;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
    }
}
