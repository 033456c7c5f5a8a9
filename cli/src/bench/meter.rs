//! CPU time and memory that a run took, of brokers and client apart.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::cpu::{cpu_time, own_cpu_time, resident_anonymous};

/// Counting since the start of a run.
#[derive(Debug)]
pub(crate) struct Meter {
    brokers: Vec<u32>,
    brokers_before: Option<Duration>,
    client_before: Duration,
    memory_max: Option<u64>,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Of all brokers together; `None` with brokers that are not ours.
    pub(crate) broker_cpu: Option<Duration>,
    pub(crate) client_cpu: Duration,
    /// Most memory that a broker was seen to have besides its mapped files.
    pub(crate) broker_memory: Option<u64>,
}

impl Meter {
    /// Begins to count.
    pub(crate) fn start(brokers: &[u32]) -> Result<Meter> {
        Ok(Meter {
            brokers: brokers.to_vec(),
            brokers_before: sum_of_cpu(brokers),
            client_before: own()?,
            memory_max: None,
        })
    }

    /// Looks at the brokers' memory; to be called now and then.
    pub(crate) fn sample(&mut self) {
        let now = self.brokers.iter().copied().filter_map(resident_anonymous);
        self.memory_max = self.memory_max.max(now.max());
    }

    /// What was taken since.
    pub(crate) fn stop(mut self) -> Result<Usage> {
        self.sample();
        let broker_cpu = sum_of_cpu(&self.brokers)
            .zip(self.brokers_before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok(Usage {
            broker_cpu,
            client_cpu: own()?.saturating_sub(self.client_before),
            broker_memory: self.memory_max,
        })
    }
}

/// `None` without any, and when one is gone.
fn sum_of_cpu(brokers: &[u32]) -> Option<Duration> {
    if brokers.is_empty() {
        return None;
    }
    brokers.iter().copied().map(cpu_time).sum()
}

fn own() -> Result<Duration> {
    own_cpu_time().context("reading the CPU time of this process from /proc")
}
