//! The checks against histories made by hand, histories of a model with one thing spoilt, and the
//! workload against real brokers.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod by_hand;
mod coverage;
mod files;
mod model;
mod spoilt;
mod story;
mod workload;
