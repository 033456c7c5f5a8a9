//! The real binary against a real broker process, as a user or a script would run them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broker_process;
mod consume;
mod errors;
mod harness;
mod offline;
mod produce;
mod topics;
