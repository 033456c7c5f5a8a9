//! The real binary against a real broker process, as a user or a script would run them.

mod broker_process;
mod consume;
mod errors;
mod harness;
mod offline;
mod produce;
mod topics;
