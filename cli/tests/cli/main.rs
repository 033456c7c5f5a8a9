//! The real binary against a real broker process, as a user or a script would run them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod broker_process;
mod cluster;
mod consume;
mod demo;
mod errors;
mod harness;
mod health;
mod offline;
mod produce;
mod topics;
mod verify;
