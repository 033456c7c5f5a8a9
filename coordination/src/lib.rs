//! Decisions of Highwater, apart from everything that acts.
//!
//! Each machine here takes events (and, where it matters, the time) and returns what shall happen as
//! plain data: records for the metadata log, or the effects of an event on a partition. There is no
//! I/O, no clock, no async and no randomness in this crate, so that every decision can be tested
//! alone and replayed.
//!
//! - [`cluster_image`] what the metadata log amounts to; changes only by applying a record
//! - [`controller`] commands in, records and a reply out
//! - [`placement`] which brokers hold a new partition
//! - [`image_changes`] what the step from one image to the next means for one broker
//! - [`partition_leader`] the leader's view of a partition: ends, high watermark, in-sync replicas
//! - [`partition_follower`] a follower's: what to ask its leader, and what the answer means
//! - [`moment`] monotonic time, as an input
#![forbid(unsafe_code)]

pub mod cluster_image;
pub mod controller;
pub mod image_changes;
pub mod moment;
pub mod partition_follower;
pub mod partition_leader;
pub mod placement;
