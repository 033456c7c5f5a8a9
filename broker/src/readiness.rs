//! How far a start has got: for `/readyz` and the log.

use parking_lot::Mutex;

/// Where a broker is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Opening the data directory.
    Starting,
    /// Looking for its cluster, or waiting for it to take this broker in.
    Joining { waits_for: String },
    /// Reading partitions back.
    Recovering {
        partitions_done: usize,
        partitions_total: usize,
    },
    /// Serving clients.
    Serving,
    /// Finishing what is in flight.
    Stopping,
}

/// The phase, shared.
#[derive(Debug)]
pub(crate) struct Readiness {
    phase: Mutex<Phase>,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Starting),
        }
    }

    pub(crate) fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    /// What the start waits for at the moment, in words.
    pub(crate) fn waits_for(&self, what: &str) {
        self.set(Phase::Joining {
            waits_for: what.to_owned(),
        });
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }
}
