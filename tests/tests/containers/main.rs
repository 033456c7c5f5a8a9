//! The image and `docker-compose.yml`, as users run them, on a real Docker Engine.
//!
//! Not part of a plain `cargo test`, since not everyone who changes the code has an engine:
//!
//! ```text
//! cargo test -p highwater-tests --features containers --test containers
//! ```
//!
//! builds the image and runs them. Without a registry, `.ci/containers` makes the images that the
//! `Dockerfile` starts from and then does the same. Each run has names and a loopback address of its
//! own, and takes away what it made.
#![cfg(feature = "containers")]
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod cluster;
mod command;
mod compose;
mod image;
