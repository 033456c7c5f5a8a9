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
//! - [`image_changes`] what the step from one image to the next means for one broker
//! - [`partition_leader`] the leader's view of a partition: ends, high watermark, acknowledgement
#![forbid(unsafe_code)]

pub mod broker_registry;
pub mod cluster_image;
pub mod controller;
pub mod image_changes;
pub mod partition_change;
pub mod partition_leader;
pub mod placement;
