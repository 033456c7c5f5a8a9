//! A cluster of three broker processes of the bench's own, to take brokers away from.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use highwater_client::{Admin, Client, NewTopic, NodeId, Producer, TopicDescription};
use tokio::runtime::{Builder, Runtime};

use crate::bench::brokers::Brokers;
use crate::bench::scratch::Scratch;
use crate::cleanup::Cleanup;

/// As many brokers as a partition has replicas: each has everything.
const BROKERS: u16 = 3;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a topic: one of thousands of partitions is not cheap to describe.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Options of the benches that start a cluster of their own.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Directory for the files of the brokers (a fresh directory inside it is used and removed)
    /// [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Setting for all brokers, as in `highwater broker --set`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

/// Three brokers, and a client that looks at them.
#[derive(Debug)]
pub(crate) struct Cluster {
    brokers: Brokers,
    runtime: Runtime,
    client: Client,
    admin: Admin,
    scratch: Scratch,
    cleanup: Cleanup,
}

impl Cluster {
    /// Starts the brokers and waits until all of them vote in the metadata quorum.
    pub(crate) fn start(args: &ClusterArgs, cleanup: &Cleanup) -> Result<Cluster> {
        let scratch = Scratch::create(args.data_dir.as_deref(), cleanup)?;
        let brokers = Brokers::start(BROKERS, "node", &args.settings, &scratch, cleanup)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(
            Client::builder()
                .seeds(brokers.seeds().iter().cloned())
                .client_name("highwater-bench")
                .connect(),
        )?;
        let cluster = Cluster {
            admin: client.admin(),
            brokers,
            runtime,
            client,
            scratch,
            cleanup: cleanup.clone(),
        };
        cluster.wait_for_voters()?;
        Ok(cluster)
    }

    /// Runs its clients.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The administrative calls.
    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The bench's own directory.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// A producer as applications have it: idempotent, acknowledged by all in-sync replicas.
    pub(crate) fn producer(&self) -> Producer {
        let _inside = self.runtime.enter();
        self.client.producer().build()
    }

    /// The process of a broker, if it runs.
    pub(crate) fn process(&self, node: NodeId) -> Option<u32> {
        self.brokers.id(place(node))
    }

    /// All node ids.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        (1..=u32::from(BROKERS)).map(NodeId::new)
    }

    /// Creates a topic with a replica of each partition on every broker. Returns how long it took
    /// until it was created, and until all were in sync.
    pub(crate) fn create(
        &self,
        topic: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<(Duration, Duration)> {
        let mut new = NewTopic::new(topic)
            .partitions(partitions)
            .replicas(BROKERS);
        for (key, value) in configs {
            new = new.config(*key, *value);
        }
        let began = Instant::now();
        self.runtime.block_on(self.admin.create_topic(new))?;
        let created = began.elapsed();
        self.until_whole(topic)?;
        Ok((created, began.elapsed()))
    }

    /// Waits until all replicas are in sync.
    pub(crate) fn until_whole(&self, topic: &str) -> Result<TopicDescription> {
        self.until(topic, "all replicas are in sync", |topic| {
            let mut partitions = topic.partitions.iter();
            partitions.all(|partition| {
                partition.leader.is_some() && partition.isr.len() == usize::from(BROKERS)
            })
        })
    }

    /// Waits until a topic is as it should be.
    pub(crate) fn until(
        &self,
        topic: &str,
        what: &str,
        is_so: impl Fn(&TopicDescription) -> bool,
    ) -> Result<TopicDescription> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // While brokers are away it may fail.
            match self.runtime.block_on(self.admin.describe_topic(topic)) {
                Ok(topic) if is_so(&topic) => return Ok(topic),
                Ok(_) | Err(_) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
                Ok(_) => bail!("not within {PATIENCE:?}: {what}"),
                Err(error) => return Err(error).context(format!("waiting until {what}")),
            }
        }
    }

    /// The active controller.
    pub(crate) fn controller(&self) -> Result<NodeId> {
        let quorum = self.runtime.block_on(self.admin.describe_quorum());
        Ok(quorum.context("asking for the controller")?.leader)
    }

    /// Kills a broker's process.
    pub(crate) fn kill(&mut self, node: NodeId) -> Result<()> {
        self.brokers.kill(place(node))
    }

    /// Asks a broker to stop and waits until it has.
    pub(crate) fn stop_one(&mut self, node: NodeId) -> Result<()> {
        self.brokers.stop_one(place(node))
    }

    /// Starts a broker again and waits until it serves.
    pub(crate) fn restart(&mut self, node: NodeId) -> Result<()> {
        self.brokers
            .restart(place(node), &self.scratch, &self.cleanup)
    }

    /// Ends everything in order.
    pub(crate) fn close(self) -> Result<()> {
        drop(self.admin);
        drop(self.client);
        self.brokers.stop()
    }

    /// The first node of a young cluster is its whole quorum for a moment.
    fn wait_for_voters(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let quorum = self.runtime.block_on(self.admin.describe_quorum());
            let voters = quorum.as_ref().map_or(0, |quorum| {
                quorum.members.iter().filter(|member| member.voter).count()
            });
            if voters == usize::from(BROKERS) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("only {voters} of {BROKERS} brokers vote after {PATIENCE:?}");
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The place of a node among the brokers.
fn place(node: NodeId) -> usize {
    node.get() as usize - 1
}
