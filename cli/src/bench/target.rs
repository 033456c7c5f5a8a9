//! The brokers and the topic that a workload uses: its own, or those it was given.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use highwater_client::{Admin, Client, NewTopic, Offset, OffsetSpec};
use highwater_protocol::error_code::ErrorCode;
use tokio::runtime::{Builder, Runtime};

use crate::bench::args::WorkloadArgs;
use crate::bench::brokers::{Brokers, wait_until_in_sync};
use crate::bench::scratch::Scratch;
use crate::cleanup::Cleanup;

/// How long records that nobody acknowledges may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// A broker or a cluster to measure.
#[derive(Debug)]
pub(crate) struct Target {
    own: Option<Brokers>,
    seeds: Vec<String>,
    runtime: Runtime,
    admin: Admin,
}

impl Target {
    /// Starts as many brokers as there are replicas, or connects to those that were given.
    pub(crate) fn open(args: &WorkloadArgs, scratch: &Scratch, cleanup: &Cleanup) -> Result<Self> {
        let own = if args.bootstrap.is_empty() {
            let name = format!("of-{}", args.replicas);
            Some(Brokers::start(
                args.replicas,
                &name,
                &args.settings,
                scratch,
                cleanup,
            )?)
        } else {
            None
        };
        let seeds = match &own {
            Some(brokers) => brokers.seeds().to_vec(),
            None => args.bootstrap.clone(),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(
            Client::builder()
                .seeds(seeds.iter().cloned())
                .client_name("highwater-bench")
                .connect(),
        )?;
        Ok(Target {
            own,
            seeds,
            runtime,
            admin: client.admin(),
        })
    }

    /// Where clients connect.
    pub(crate) fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// The processes of our own brokers.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.own.as_ref().map(Brokers::ids).unwrap_or_default()
    }

    /// Creates the topic, unless it is there already, and waits until its replicas are in sync.
    pub(crate) fn open_topic(&self, args: &WorkloadArgs) -> Result<Topic<'_>> {
        let topic = NewTopic::new(args.topic.as_str())
            .partitions(args.partitions)
            .replicas(args.replicas)
            .config("durability", args.durability.name());
        let created = match self.runtime.block_on(self.admin.create_topic(topic)) {
            Ok(_) => true,
            Err(error) if error.broker_code() == Some(ErrorCode::TopicAlreadyExists) => false,
            Err(error) => return Err(error).context("creating the topic"),
        };
        wait_until_in_sync(&self.runtime, &self.admin, &args.topic)?;
        Ok(Topic {
            target: self,
            name: args.topic.clone(),
            created,
        })
    }

    /// Ends our own brokers in order.
    pub(crate) fn close(self) -> Result<()> {
        drop(self.admin);
        self.own.map_or(Ok(()), Brokers::stop)
    }
}

/// A topic to measure; deleted at the end if we made it.
#[derive(Debug)]
pub(crate) struct Topic<'a> {
    target: &'a Target,
    name: String,
    created: bool,
}

impl Topic<'_> {
    /// Records in all partitions, counted by their offsets.
    pub(crate) fn records(&self) -> Result<u64> {
        let offsets = |spec| -> Result<u64> {
            let admin = &self.target.admin;
            let partitions = self
                .target
                .runtime
                .block_on(admin.list_offsets(&self.name, spec))?;
            Ok(partitions
                .iter()
                .filter_map(|p| p.offset)
                .map(Offset::get)
                .sum())
        };
        Ok(offsets(OffsetSpec::Latest)?.saturating_sub(offsets(OffsetSpec::Earliest)?))
    }

    /// Waits for records that were sent without waiting until they can be read.
    pub(crate) fn wait_for_records(&self, records: u64) -> Result<()> {
        let deadline = Instant::now() + ARRIVAL_TIMEOUT;
        while self.records()? < records {
            if Instant::now() > deadline {
                bail!("not all of {records} records arrived within {ARRIVAL_TIMEOUT:?}");
            }
        }
        Ok(())
    }

    /// Checks that exactly the records that were acknowledged are there. Others may write to a
    /// topic that is not ours, so there it is not checked.
    pub(crate) fn check_records(&self, acknowledged: u64) -> Result<()> {
        if self.created {
            let found = self.records()?;
            ensure!(
                found == acknowledged,
                "{acknowledged} records were acknowledged, but the topic has {found}"
            );
        }
        Ok(())
    }

    /// Deletes the topic if we made it, and with it its pages in the cache.
    pub(crate) fn close(self) -> Result<()> {
        if self.created {
            self.target
                .runtime
                .block_on(self.target.admin.delete_topic(&self.name))?;
        }
        Ok(())
    }
}
