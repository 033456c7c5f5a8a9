//! Bytes and names of Highwater: what travels on the wire and lies on the disk.
//!
//! - [`ids`] the newtypes, [`limits`] the hard bounds, [`error_code`] the one table of errors
//! - [`codec`] how values lie on the wire; [`frame`] how requests and responses are delimited;
//!   [`api_key`] which there are; [`messages`] one file per API
//! - [`record_batch`] the batch header and its checks, [`record`] records inside of it,
//!   [`batch_builder`] making one, [`compression`] the codecs
//! - [`metadata_record`] what the metadata log is made of
//! - [`partitioner`] which partition a key belongs to
//! - [`fuzzing`] what must hold of any bytes whatever
//!
//! Nothing here does I/O or knows the time.
#![forbid(unsafe_code)]

pub mod api_key;
pub mod batch_builder;
pub mod codec;
pub mod compression;
#[cfg(test)]
mod document_tests;
pub mod error_code;
pub mod frame;
pub mod fuzzing;
pub mod ids;
pub mod limits;
pub mod messages;
pub mod metadata_record;
pub mod partitioner;
pub mod record;
pub mod record_batch;
#[cfg(test)]
mod sample;
mod varint;
