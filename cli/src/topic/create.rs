//! `highwater topic create`

use clap::Args;
use highwater_client::NewTopic;
use serde_json::json;

use super::Context;
use crate::args::parse_assignment;
use crate::exit::{Exit, Outcome};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic create orders
  highwater topic create orders -p 12 -c retention.ms=3d -c durability=synced
  highwater topic create a b c --if-not-exists
  highwater topic create orders -p 12 --dry-run")]
pub(super) struct CreateArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(short = 'p', long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// Copies of each partition [default: the broker's default.replication.factor]
    #[arg(short = 'r', long, value_name = "REPLICAS", value_parser = clap::value_parser!(u16).range(1..))]
    replicas: Option<u16>,
    /// A setting of the topics; may be given several times
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = parse_assignment)]
    configs: Vec<(String, String)>,
    /// A topic that is there already is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Only check and say what would be created
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &CreateArgs, context: &Context) -> Outcome {
    let admin = context.client.admin();
    let mut results = Vec::new();
    let mut failures = context.failures();
    for name in &args.names {
        let mut topic = NewTopic::new(name);
        if let Some(partitions) = args.partitions {
            topic = topic.partitions(partitions);
        }
        if let Some(replicas) = args.replicas {
            topic = topic.replicas(replicas);
        }
        for (key, value) in &args.configs {
            topic = topic.config(key, value);
        }
        if args.if_not_exists {
            topic = topic.if_not_exists();
        }
        if args.dry_run {
            topic = topic.validate_only();
        }
        let created = match admin.create_topic(topic).await {
            Ok(created) => created,
            Err(error) => {
                failures.add(error);
                continue;
            }
        };
        if context.json {
            results.push(json!({
                "name": created.name,
                "topic_id": created.topic_id.map(|id| id.to_string()),
                "partitions": created.partitions,
                "replicas": created.replicas,
                "created": created.created && !args.dry_run,
            }));
            continue;
        }
        let what = match (created.created, args.dry_run) {
            (true, false) => "created",
            (true, true) => "would be created",
            (false, _) => "was there already",
        };
        output::print(format_args!(
            "topic {} {what}: {}, {} each\n",
            created.name,
            output::count(created.partitions.into(), "partition"),
            output::count(created.replicas.into(), "replica"),
        ))?;
    }
    if context.json {
        output::print_json(&results)?;
    }
    Ok(failures.exit().unwrap_or(Exit::Ok))
}
