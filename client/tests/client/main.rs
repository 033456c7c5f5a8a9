//! What the client promises, one file per property.
//!
//! Most tests run against a fake broker in memory, which fails where they tell it to; those in
//! `against_a_broker` run against a real one.
// Modules of one test binary; helpers of tests may unwrap as tests do.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod acked_means_written;
mod against_a_broker;
mod back_pressure;
mod batching;
mod cancel_safety;
mod closing;
mod connections;
mod failover;
mod ordering;
mod partitioning;
mod reading;
mod retries;
mod runtimes;
mod support;
