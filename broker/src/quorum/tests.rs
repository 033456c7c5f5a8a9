//! Quorums of several nodes in one process, over real connections on the loopback interface.

mod cluster;
mod conformance;
mod elections;
mod log;
mod members;
mod nonsense;
mod snapshots;
