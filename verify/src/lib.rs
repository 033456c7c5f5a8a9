//! Checks what clients of a cluster have seen.
//!
//! A [`Workload`] sends records with unique values, reads them while that goes on, and asks again and
//! again where the partitions end, whatever is done to the brokers meanwhile. Everything that is asked
//! and told becomes an [`Event`](event::Event) of a [`History`]; afterwards the partitions are read as
//! a whole, and a [`Verdict`] says whether the history is one that the cluster's promises allow. If
//! not, it names the operations that contradict each other.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = highwater_broker::EmbeddedBroker::start().await?;
//! # let seeds = [broker.address().to_string()];
//! use std::time::Duration;
//! use highwater_client::{Client, NewTopic};
//! use highwater_verify::Workload;
//!
//! let client = Client::builder().seeds(&seeds).connect().await?;
//! client.admin().create_topic(NewTopic::new("checked").partitions(2)).await?;
//!
//! let load = Workload::start(&seeds, "checked", 2, 1).await?;
//! load.progress(200, Duration::from_secs(30)).await?; // and break what you like
//! let outcome = load.stop().await?;
//! outcome.check(&seeds).await?.expect_valid();
//! # Ok(()) }
//! ```
//!
//! - [`event`]: what is noted; [`file`]: on disk, as JSON lines.
//! - [`History`]: what the checks need of it, in little memory.
//! - `checks/`: one file per check, each with its formal statement.
//! - [`Verdict`]: valid, invalid with evidence, or insufficient: a run in which little happened passes
//!   nothing.
//! - [`Workload`]: producers, readers and probes.
#![forbid(unsafe_code)]

mod checks;
pub mod event;
pub mod file;
mod finding;
mod history;
mod offset_ranges;
mod recorder;
mod unavailability;
mod value;
mod verdict;
mod workload;

pub use finding::{Evidence, Finding};
pub use history::{
    Described, Fault, FinalRead, History, HistoryError, Listed, PartitionHistory, Poll, ProcessId,
    Sighting, Write,
};
pub use recorder::{RecordError, Recorder};
pub use unavailability::{FaultWindow, Pauses};
pub use value::{Seen, ValueId, ValueIdError};
pub use verdict::{CheckResult, Outcome, Verdict};
pub use workload::{Plan, Progress, Stopped, Workload, WorkloadError};
