//! The requests and responses, one file per API; each docstring is the layout.

mod alter_configs;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod fetch;
mod hello;
mod list_offsets;
mod metadata;
mod produce;

pub use alter_configs::*;
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use fetch::*;
pub use hello::*;
pub use list_offsets::*;
pub use metadata::*;
pub use produce::*;
