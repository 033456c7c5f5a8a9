//! DescribeConfigs: settings of topics.

use crate::codec::{wire_enum, wire_struct};
use crate::error_code::ErrorCode;

wire_enum! {
    /// Where a topic's value comes from.
    pub enum ConfigSource {
        /// Built in.
        Default = 0,
        /// The broker's own configuration.
        Broker = 1,
        /// Set on the topic.
        Topic = 2,
    }
}

wire_struct! {
    /// Asks for settings.
    pub struct DescribeConfigsRequest {
        /// Topics by name.
        pub topics: Vec<String>;
        /// Only these keys; `None`: all.
        pub keys: Option<Vec<String>>;
    }
}

wire_struct! {
    /// The settings.
    pub struct DescribeConfigsResponse {
        /// In the order of the request.
        pub topics: Vec<TopicConfigs>;
    }
}

wire_struct! {
    /// One topic's settings.
    pub struct TopicConfigs {
        /// Its name.
        pub name: String;
        /// Success or why not.
        pub error: ErrorCode;
        /// The error in words.
        pub message: Option<String>;
        /// The settings by name.
        pub configs: Vec<ConfigDescription>;
    }
}

wire_struct! {
    /// A setting with its value in force.
    pub struct ConfigDescription {
        /// Its name.
        pub key: String;
        /// The value in force.
        pub value: String;
        /// Where that comes from.
        pub source: ConfigSource;
        /// What it means, in a sentence.
        pub doc: String;
    }
}
