//! The brokers of the bench's own: one, or a cluster of several.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use highwater_broker::free_loopback_addresses;
use highwater_client::Admin;
use tokio::runtime::Runtime;

use crate::bench::broker_process::{BrokerProcess, Listen};
use crate::bench::scratch::Scratch;
use crate::cleanup::Cleanup;

/// How long a cluster may take to agree on its voters, and a topic until its replicas are in sync.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Running broker processes; dropped, they are killed.
#[derive(Debug)]
pub(crate) struct Brokers {
    processes: Vec<BrokerProcess>,
    seeds: Vec<String>,
}

impl Brokers {
    /// Starts so many brokers, which form one cluster, and waits until all serve. `name` sets their
    /// files apart from those of others in the same directory.
    pub(crate) fn start(
        count: u16,
        name: &str,
        settings: &[String],
        scratch: &Scratch,
        cleanup: &Cleanup,
    ) -> Result<Brokers> {
        let addresses = free_loopback_addresses(count.into()).context("looking for free ports")?;
        let seeds: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let start = |index: usize| {
            let listen = Listen {
                name: format!("{name}-{}", index + 1),
                address: seeds[index].clone(),
            };
            let mut settings = settings.to_vec();
            settings.push(format!("node.id={}", index + 1));
            if seeds.len() > 1 {
                settings.push(format!("cluster.seeds={}", seeds.join(",")));
            }
            BrokerProcess::start(scratch, &listen, &settings, cleanup)
        };
        // None serves before a majority is there.
        let processes = thread::scope(|scope| {
            let starting: Vec<_> = (0..seeds.len())
                .map(|index| scope.spawn(move || start(index)))
                .collect();
            let started = starting.into_iter().map(|starting| {
                let started = starting.join();
                started.map_err(|_| anyhow!("a thread that starts a broker panicked"))?
            });
            started.collect::<Result<Vec<_>>>()
        })?;
        Ok(Brokers { processes, seeds })
    }

    /// Where clients connect.
    pub(crate) fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// Their processes.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(BrokerProcess::id).collect()
    }

    /// Ends them in order, the last one first.
    pub(crate) fn stop(self) -> Result<()> {
        for process in self.processes.into_iter().rev() {
            process.stop()?;
        }
        Ok(())
    }
}

/// Waits until all replicas of a topic are in sync.
pub(crate) fn wait_until_in_sync(runtime: &Runtime, admin: &Admin, topic: &str) -> Result<()> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let described = runtime.block_on(admin.describe_topic(topic));
        let is_whole = described.as_ref().is_ok_and(|topic| {
            let mut partitions = topic.partitions.iter();
            partitions.all(|partition| partition.isr.len() == partition.replicas.len())
        });
        if is_whole {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not all replicas of {topic} were in sync within {SETTLE_TIMEOUT:?}");
        }
        thread::sleep(LOOK_EVERY);
    }
}
