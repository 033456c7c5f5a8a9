//! A whole cluster in one thread and virtual time, with every fault.
//!
//! What runs here is real: the decisions of `highwater-coordination` (controller, cluster image, broker
//! registry, leaders, followers) and the logs of `highwater-storage` on a disk in memory that loses power.
//! What the broker does around them with tasks, sockets and clocks is done here by events, in the same
//! order. The metadata log is a model of what Raft promises (`quorum`). All chance comes from the seed:
//! the same seed is the same run.
//!
//! - [`plan`] what a seed stands for
//! - `cluster` the run; `schedule` its events, `network` and `message` what goes between, `clock`, `node`
//! - `quorum` the metadata log; `controller` who decides on it
//! - `broker` lives of brokers, `reconcile` what metadata means to them, `replica` and `replication` what
//!   leaders and followers do, `client` producers and readers
//! - `faults` what goes wrong; `watch` and `invariants` what must hold all the same
//! - [`trace`] what happened
#![forbid(unsafe_code)]

mod broker;
mod client;
mod clock;
mod cluster;
mod controller;
mod faults;
mod invariants;
mod message;
mod network;
mod node;
pub mod plan;
mod quorum;
mod reconcile;
mod replica;
mod replication;
mod schedule;
pub mod trace;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use invariants::Violation;

use cluster::Cluster;
use plan::Plan;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// Hash of the whole trace.
    pub trace_hash: u64,
    /// Lines of the whole trace.
    pub trace_lines: u64,
    /// The last of them.
    pub last: Vec<String>,
    /// Batches that were committed.
    pub committed: usize,
    /// Batches that were acknowledged with `acks=all`.
    pub acknowledged: usize,
    /// Virtual time that passed, in ms.
    pub virtual_ms: u64,
}

impl Outcome {
    /// The command that repeats the run.
    #[must_use]
    pub fn command(&self) -> String {
        format!("cargo run -p highwater-simulation -- --seed {}", self.seed)
    }
}

/// Runs one seed. A panic of what runs in it counts as a broken rule.
#[must_use]
pub fn run(seed: u64, is_printed: bool) -> Outcome {
    run_plan(seed, Plan::of(seed), is_printed)
}

/// As [`run`], with a plan of one's own.
#[must_use]
pub fn run_plan(seed: u64, plan: Plan, is_printed: bool) -> Outcome {
    let mut cluster = Cluster::new(seed, plan, is_printed);
    let ran = catch_unwind(AssertUnwindSafe(|| cluster.run()));
    let violation = match ran {
        Ok(()) => cluster.oracle.violation().cloned(),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation {
                rule: "panic",
                what: text.unwrap_or_default(),
            })
        }
    };
    Outcome {
        seed,
        violation,
        trace_hash: cluster.trace.hash(),
        trace_lines: cluster.trace.count(),
        last: cluster.trace.last(),
        committed: cluster.oracle.committed(),
        acknowledged: cluster.oracle.acknowledged(),
        virtual_ms: cluster.now,
    }
}
