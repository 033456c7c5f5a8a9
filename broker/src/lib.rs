//! The broker of Highwater: sockets, tasks, time, and the admin endpoint, around the storage engine
//! and the decisions of `highwater-coordination`.
//!
//! - `server` start and end; `opening` the data directory at start; `embedded` for tests
//! - `listener` → `network_thread` → `connection` → `api`: the way of a request
//! - `partition`, `partitions`, `progress`: what requests act on and wait for; `producer_ids`
//! - `controller`, `metadata_log`, `topic_settings`: topics and their settings
//! - `admission` bounded memory; `housekeeping` timers; `scrubber` looks for damage; `clock` the only clock
//! - `admin` the HTTP endpoint; `metrics` what it counts
//!
//! Run one with `Broker::start`, or in a test with `EmbeddedBroker::start`.
#![forbid(unsafe_code)]

mod admin;
mod admin_backend;
mod admission;
mod api;
mod clock;
mod connection;
mod controller;
mod embedded;
mod foreign;
mod housekeeping;
mod identity;
mod listener;
mod metadata_log;
mod metrics;
mod network_thread;
mod opening;
mod partition;
mod partitions;
#[allow(dead_code, reason = "wired with the quorum")]
mod peers;
mod producer_ids;
mod progress;
#[allow(dead_code, unused_imports, reason = "wired with the cluster")]
mod quorum;
mod readiness;
#[allow(dead_code, reason = "the server starts it")]
mod scrubber;
mod server;
mod shared;
mod topic_settings;

pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use identity::IdentityError;
pub use metadata_log::MetadataLogError;
pub use server::{Broker, RunningBroker, ShutdownError, StartError};
