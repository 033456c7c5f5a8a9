//! Leaders and followers of a partition: alone, and two logs against each other. A whole cluster of them
//! runs in `tests/simulation`.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod divergence;
mod in_sync;
mod leader;
mod model_log;
