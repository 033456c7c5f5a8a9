//! CPU time and memory that a run took, of broker and client apart.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::cpu::{cpu_time, own_cpu_time, resident_anonymous};

/// Counting since the start of a run.
#[derive(Debug)]
pub(crate) struct Meter {
    broker: Option<u32>,
    broker_before: Option<Duration>,
    client_before: Duration,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// `None` with a broker that is not ours.
    pub(crate) broker_cpu: Option<Duration>,
    pub(crate) client_cpu: Duration,
    /// Memory of the broker besides its mapped files, at the end of the run.
    pub(crate) broker_memory: Option<u64>,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn start(broker: Option<u32>) -> Result<Meter> {
        Ok(Meter {
            broker,
            broker_before: broker.and_then(cpu_time),
            client_before: own()?,
        })
    }

    /// What was taken since.
    pub(crate) fn stop(&self) -> Result<Usage> {
        let broker_after = self.broker.and_then(cpu_time);
        let broker_cpu = broker_after
            .zip(self.broker_before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(Usage {
            broker_cpu,
            client_cpu: own()?.saturating_sub(self.client_before),
            broker_memory: self.broker.and_then(resident_anonymous),
        })
    }
}

fn own() -> Result<Duration> {
    own_cpu_time().context("reading the CPU time of this process from /proc")
}
