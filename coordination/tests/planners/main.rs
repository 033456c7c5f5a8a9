//! The planners over clusters of all shapes: where replicas go, what is moved, and when nothing is.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod balance;
mod cluster;
mod healing;
mod placement;
mod reassignment;
mod safe_mode;
