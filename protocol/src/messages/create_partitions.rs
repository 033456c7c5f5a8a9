//! CreatePartitions.

use crate::codec::wire_struct;

use super::TopicResult;

wire_struct! {
    /// Topics to give more partitions.
    pub struct CreatePartitionsRequest {
        /// The topics.
        pub topics: Vec<MorePartitions>;
        /// Only check and say what would happen.
        pub validate_only: bool;
    }
}

wire_struct! {
    /// A topic to give more partitions.
    pub struct MorePartitions {
        /// Its name.
        pub name: String;
        /// How many it shall have then, in all.
        pub total: u32;
    }
}

wire_struct! {
    /// What became of them.
    pub struct CreatePartitionsResponse {
        /// In the order of the request.
        pub topics: Vec<TopicResult>;
    }
}
