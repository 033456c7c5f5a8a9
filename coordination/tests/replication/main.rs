//! Leaders and followers of a partition: alone, two logs against each other, and a whole partition in a
//! simulated cluster that loses messages, stops, and loses power.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod divergence;
mod in_sync;
mod leader;
mod model_controller;
mod model_log;
mod simulation;
