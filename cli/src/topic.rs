//! `highwater topic`: topics and what can be done to them. One file per verb.

mod add_partitions;
pub(crate) mod bounds;
mod config;
mod create;
mod delete;
mod describe;
mod list;
mod offsets;
mod pattern;
mod trim;

use clap::{Args, Subcommand};
use highwater_client::Client;
use highwater_protocol::ids::PartitionId;

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::connect;
use crate::exit::{Exit, Failure, Failures, Outcome};

/// Arguments of `highwater topic`.
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    verb: TopicVerb,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum TopicVerb {
    /// Create topics
    Create(create::CreateArgs),
    /// List topics
    List(list::ListArgs),
    /// Show partitions and settings of topics
    Describe(describe::DescribeArgs),
    /// Delete topics and their records
    Delete(delete::DeleteArgs),
    /// Give a topic more partitions
    AddPartitions(add_partitions::AddPartitionsArgs),
    /// Show and change settings of a topic
    Config(config::TopicConfigArgs),
    /// Show the offsets of a topic's partitions
    Offsets(offsets::OffsetsArgs),
    /// Delete the oldest records of a topic
    Trim(trim::TrimArgs),
}

/// What every verb needs.
struct Context {
    client: Client,
    json: bool,
}

impl Context {
    /// For verbs that go on after one of several topics failed.
    fn failures(&self) -> Failures {
        Failures::new(self.json)
    }
}

/// The partitions asked for, in order and once each; all of the topic's if none was named.
async fn select_partitions(
    context: &Context,
    topic: &str,
    wanted: &[PartitionId],
) -> Result<Vec<PartitionId>, Failure> {
    let there = context
        .client
        .admin()
        .describe_topic(topic)
        .await?
        .partitions;
    partitions_of(topic, there.len(), wanted)
}

/// As [`select_partitions`], of a topic with so many partitions.
pub(crate) fn partitions_of(
    topic: &str,
    there: usize,
    wanted: &[PartitionId],
) -> Result<Vec<PartitionId>, Failure> {
    let count = u32::try_from(there).unwrap_or(u32::MAX);
    if wanted.is_empty() {
        return Ok((0..count).map(PartitionId::new).collect());
    }
    if let Some(partition) = wanted.iter().find(|partition| partition.get() >= count) {
        let message = format!(
            "topic {topic} has no partition {partition}, only 0 to {}",
            count.saturating_sub(1)
        );
        return Err(Failure::new(Exit::NotFound, "UnknownPartition", message));
    }
    let mut partitions = wanted.to_vec();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// Does it.
pub(crate) async fn run(args: &TopicArgs) -> Outcome {
    let client = connect(&args.connect).await?;
    let context = Context {
        client,
        json: args.output.json(),
    };
    match &args.verb {
        TopicVerb::Create(args) => create::run(args, &context).await,
        TopicVerb::List(args) => list::run(args, &context).await,
        TopicVerb::Describe(args) => describe::run(args, &context).await,
        TopicVerb::Delete(args) => delete::run(args, &context).await,
        TopicVerb::AddPartitions(args) => add_partitions::run(args, &context).await,
        TopicVerb::Config(args) => config::run(args, &context).await,
        TopicVerb::Offsets(args) => offsets::run(args, &context).await,
        TopicVerb::Trim(args) => trim::run(args, &context).await,
    }
}
