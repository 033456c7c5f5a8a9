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

/// Broker processes; dropped, they are killed.
#[derive(Debug)]
pub(crate) struct Brokers {
    /// `None`: it was ended.
    processes: Vec<Option<BrokerProcess>>,
    starts: Vec<Start>,
    seeds: Vec<String>,
}

/// How one of them is started, the first time and again.
#[derive(Debug)]
struct Start {
    listen: Listen,
    settings: Vec<String>,
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
        let of = |index: usize| {
            let mut settings = settings.to_vec();
            settings.push(format!("node.id={}", index + 1));
            if seeds.len() > 1 {
                settings.push(format!("cluster.seeds={}", seeds.join(",")));
            }
            let listen = Listen {
                name: format!("{name}-{}", index + 1),
                address: seeds[index].clone(),
            };
            Start { listen, settings }
        };
        let starts: Vec<Start> = (0..seeds.len()).map(of).collect();
        // None serves before a majority is there.
        let processes = thread::scope(|scope| {
            let starting: Vec<_> = starts
                .iter()
                .map(|start| scope.spawn(move || start.run(scratch, cleanup)))
                .collect();
            let started = starting.into_iter().map(|starting| {
                let started = starting.join();
                let started =
                    started.map_err(|_| anyhow!("a thread that starts a broker panicked"))?;
                started.map(Some)
            });
            started.collect::<Result<Vec<_>>>()
        })?;
        Ok(Brokers {
            processes,
            starts,
            seeds,
        })
    }

    /// Where clients connect.
    pub(crate) fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// The processes that run.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let running = self.processes.iter().flatten();
        running.map(BrokerProcess::id).collect()
    }

    /// The process of one, if it runs.
    pub(crate) fn id(&self, index: usize) -> Option<u32> {
        let process = self.processes.get(index)?.as_ref();
        process.map(BrokerProcess::id)
    }

    /// Ends one as a crash of its process does.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        drop(self.take(index)?);
        Ok(())
    }

    /// Ends one in order.
    pub(crate) fn stop_one(&mut self, index: usize) -> Result<()> {
        self.take(index)?.stop()
    }

    /// Starts one that was ended on its data and its address, and waits until it serves.
    pub(crate) fn restart(
        &mut self,
        index: usize,
        scratch: &Scratch,
        cleanup: &Cleanup,
    ) -> Result<()> {
        let start = self.starts.get(index).context("there is such a broker")?;
        let process = start.run(scratch, cleanup)?;
        self.processes[index] = Some(process);
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<BrokerProcess> {
        let process = self.processes.get_mut(index).and_then(Option::take);
        process.context("the broker runs")
    }

    /// Ends them in order, the last one first.
    pub(crate) fn stop(self) -> Result<()> {
        for process in self.processes.into_iter().rev().flatten() {
            process.stop()?;
        }
        Ok(())
    }
}

impl Start {
    fn run(&self, scratch: &Scratch, cleanup: &Cleanup) -> Result<BrokerProcess> {
        BrokerProcess::start(scratch, &self.listen, &self.settings, cleanup)
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
