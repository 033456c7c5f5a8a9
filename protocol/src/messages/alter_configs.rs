//! AlterConfigs: change settings of topics, each topic's changes all or none.

use crate::codec::wire_struct;

use super::TopicResult;

wire_struct! {
    /// Changes.
    pub struct AlterConfigsRequest {
        /// By topic.
        pub topics: Vec<TopicConfigChanges>;
        /// Only check and say what would happen.
        pub validate_only: bool;
    }
}

wire_struct! {
    /// Changes of one topic.
    pub struct TopicConfigChanges {
        /// Its name.
        pub name: String;
        /// What to change.
        pub changes: Vec<ConfigChange>;
    }
}

wire_struct! {
    /// A change.
    pub struct ConfigChange {
        /// The setting.
        pub key: String;
        /// Its new value; `None`: back to the broker's default.
        pub value: Option<String>;
    }
}

wire_struct! {
    /// What became of them.
    pub struct AlterConfigsResponse {
        /// In the order of the request.
        pub topics: Vec<TopicResult>;
    }
}
