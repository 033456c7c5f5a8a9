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
    memory_max: Option<u64>,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// `None` with a broker that is not ours.
    pub(crate) broker_cpu: Option<Duration>,
    pub(crate) client_cpu: Duration,
    /// Most memory that the broker was seen to have besides its mapped files.
    pub(crate) broker_memory: Option<u64>,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn start(broker: Option<u32>) -> Result<Meter> {
        Ok(Meter {
            broker,
            broker_before: broker.and_then(cpu_time),
            client_before: own()?,
            memory_max: None,
        })
    }

    /// Looks at the broker's memory; to be called now and then.
    pub(crate) fn sample(&mut self) {
        self.memory_max = self
            .memory_max
            .max(self.broker.and_then(resident_anonymous));
    }

    /// What was taken since.
    pub(crate) fn stop(mut self) -> Result<Usage> {
        self.sample();
        let broker_after = self.broker.and_then(cpu_time);
        let broker_cpu = broker_after
            .zip(self.broker_before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(Usage {
            broker_cpu,
            client_cpu: own()?.saturating_sub(self.client_before),
            broker_memory: self.memory_max,
        })
    }
}

fn own() -> Result<Duration> {
    own_cpu_time().context("reading the CPU time of this process from /proc")
}
