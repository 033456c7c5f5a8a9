//! Settings of a Highwater broker and of its topics.
//!
//! One table ([`SETTINGS`]) says which there are, with kind, bounds, default and meaning. Reading,
//! checking, [`explain`]ing and the documented `config/highwater.toml` derive from it.
//!
//! [`load`] puts a [`BrokerConfig`] together from the defaults, a TOML file, the environment, `--set`
//! and dedicated flags, each overriding those before it, and remembers where each value came from.
//! It reports everything that is wrong at once: unknown names with a suggestion, bad values, values
//! that do not fit together, and settings that are known but do not work yet.
//!
//! Names are words separated by dots. In TOML, tables and dotted names are the same thing. The
//! environment variable of a setting is [`ENVIRONMENT_PREFIX`] and the name in upper case with `_`
//! for each dot. A setting of topics has one name for the broker's default and for a topic's own
//! value: [`TopicConfig`], [`TopicOverrides`]. [`units`] reads `7d` and `1GiB`.
//!
//! Nothing here depends on the broker or the storage engine; they convert what they need.
#![forbid(unsafe_code)]

mod address;
mod broker;
mod environment;
mod error;
mod explain;
mod field;
mod file;
mod load;
mod origin;
mod reference;
#[cfg(test)]
mod reference_tests;
mod refused;
mod relations;
mod setting;
mod suggest;
mod table;
mod topic;
pub mod units;

pub use address::AddressError;
pub use broker::{
    AdminConfig, BrokerConfig, ClusterConfig, HealingConfig, LogConfig, LogFormat, NetworkConfig,
    NewTopicConfig, ReplicationConfig, StorageConfig, Switch,
};
pub use environment::{ENVIRONMENT_PREFIX, variable};
pub use error::{ConfigErrors, Fault};
pub use explain::{Explanation, explain};
pub use load::{Flag, LoadOptions, Loaded, Origins, load, load_text};
pub use origin::Origin;
pub use reference::{reference_document, reference_file};
pub use setting::{Choice, Kind, Setting, ValueError};
pub use table::{SETTINGS, find};
pub use topic::{
    CleanupPolicy, CompressionPolicy, Durability, TimestampPolicy, TopicConfig, TopicOverrides,
    TopicSetting, TopicSettingSource, topic_settings,
};
