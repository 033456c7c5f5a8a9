//! The broker of Highwater: sockets, tasks, time, and the admin endpoint, around the storage engine
//! and the decisions of `highwater-coordination`.
//!
//! - `server` start and end; `opening` the data directory at start; `embedded`, `embedded_cluster`,
//!   `loopback` for tests
//! - `formation` a first start, `joining` and `cluster_tasks` taking a place in the cluster, `life`
//!   registration and heartbeats, `lease` what they are for
//! - `listener` → `network_thread` → `connection` → `api`: the way of a request
//! - `partition`, `partitions`, `progress`: what requests act on and wait for; `producer_ids`
//! - `replication`, `replica_fetcher`, `isr_proposer`: following leaders, and who is in sync
//! - `quorum` the metadata log, by Raft; `controller` decides while this broker leads it,
//!   `controller_client` finds it; `metadata` and `reconcile` what images mean here
//! - `peers`, `addresses` connections to the other brokers
//! - `admission` bounded memory; `housekeeping` timers; `scrubber` looks for damage; `clock` the only clock
//! - `admin` the HTTP endpoint; `metrics` what it counts; `mutant` rules broken on purpose
//!
//! Run one with `Broker::start`, or in a test with `EmbeddedBroker::start`.
#![forbid(unsafe_code)]

mod addresses;
mod admin;
mod admin_backend;
mod admission;
mod api;
mod clock;
mod cluster_tasks;
mod connection;
mod controller;
mod controller_client;
mod dirty_keys;
mod disk_space;
mod embedded;
mod embedded_cluster;
mod foreign;
mod formation;
mod housekeeping;
mod identity;
mod isr_proposer;
mod joining;
mod lease;
mod life;
mod listener;
mod loopback;
mod metadata;
mod metrics;
pub mod mutant;
mod network_thread;
mod opening;
mod partition;
mod partitions;
mod peers;
mod producer_ids;
mod progress;
mod quorum;
mod readiness;
mod reconcile;
mod replica_fetcher;
mod replication;
mod scrubber;
mod server;
mod shared;
mod topic_settings;

pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use embedded_cluster::EmbeddedCluster;
pub use formation::FormationError;
pub use identity::IdentityError;
pub use loopback::free_loopback_addresses;
pub use server::{Broker, RunningBroker, ShutdownError, StartError};
