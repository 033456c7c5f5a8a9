//! What the client promises, one file per property.
//!
//! Most tests run against a fake broker in memory, which fails where they tell it to; those in
//! `against_a_broker` run against a real one.
#![allow(unreachable_pub)] // Modules of one test binary.

mod acked_means_written;
mod against_a_broker;

mod back_pressure;
mod batching;
mod cancel_safety;
mod closing;
mod connections;
mod ordering;
mod partitioning;
mod reading;
mod retries;
mod runtimes;
mod support;
