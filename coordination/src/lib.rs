//! Decisions of Highwater, apart from everything that acts.
//!
//! Each machine here takes events (and, where it matters, the time) and returns what shall happen as
//! plain data: records for the metadata log, or the effects of an event on a partition. There is no
//! I/O, no clock, no async and no randomness in this crate, so that every decision can be tested
//! alone and replayed.
//!
//! - [`cluster_image`] what the metadata log amounts to; changes only by applying a record
//! - [`controller`] commands in, records and a reply out
//! - [`partition_change`] the rules of in-sync replicas, eligible replicas and elections
//! - [`broker_registry`] sessions of brokers, and how they are
//! - [`placement`] which brokers hold a new partition
//! - [`reassignment`] moves of replicas: what is wanted, and how far it has come
//! - [`healing`] replicas of nodes that are gone or drained are rebuilt elsewhere
//! - [`balance`] every node gets its share of replicas and leaders
//! - [`safe_mode`] when nothing is moved because the picture has not settled
//! - [`node_loads`] how nodes are, as far as the controller knows
//! - [`quorum_members`] who keeps the metadata log, and who votes
//! - [`image_changes`] what the step from one image to the next means for one broker
//! - [`partition_health`] how many partitions are in which state, for operators
//! - [`partition_leader`] the leader's view of a partition: ends, high watermark, in-sync replicas
//! - [`partition_follower`] the follower's: where its log parts from the leader's
//! - [`moment`] time, as an input
//! - [`mutant`] rules that tests can break on purpose
#![forbid(unsafe_code)]

pub mod balance;
mod balance_board;
pub mod broker_registry;
pub mod cluster_image;
pub mod controller;
mod failure_domains;
pub mod healing;
pub mod image_changes;
mod leader_spread;
pub mod moment;
pub mod mutant;
pub mod node_loads;
mod outage;
pub mod partition_change;
pub mod partition_follower;
pub mod partition_health;
pub mod partition_leader;
pub mod placement;
pub mod quorum_members;
pub mod reassignment;
mod replica_sizes;
pub mod safe_mode;
