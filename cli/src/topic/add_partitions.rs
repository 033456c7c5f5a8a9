//! `highwater topic add-partitions`

use clap::Args;
use serde_json::json;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Records with a key may go to another partition afterwards than before: the order of one key's records
is only kept within a partition. The number of partitions cannot shrink.

Examples:
  highwater topic add-partitions orders --to 24")]
pub(super) struct AddPartitionsArgs {
    /// Name of the topic
    #[arg(value_name = "NAME")]
    name: String,
    /// The number of partitions that it shall have
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(u32).range(1..))]
    to: u32,
    /// Only check and say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &AddPartitionsArgs, context: &Context) -> Outcome {
    let admin = context.client.admin();
    let before = admin.describe_topic(&args.name).await?.partitions.len();
    if (args.to as usize) <= before {
        let message = format!(
            "topic {} has {} already: --to must be larger",
            args.name,
            output::count(before as u64, "partition")
        );
        return Err(Failure::new(Exit::Error, "InvalidPartitions", message));
    }
    if !args.dry_run {
        admin.add_partitions(&args.name, args.to).await?;
    }
    if context.json {
        output::print_json(&json!({
            "name": args.name,
            "partitions_before": before,
            "partitions": args.to,
            "changed": !args.dry_run,
        }))?;
    } else {
        let has = if args.dry_run { "would have" } else { "has" };
        output::print(format_args!(
            "topic {} {has} {} (before: {before})\n",
            args.name,
            output::count(args.to.into(), "partition")
        ))?;
        output::note("note: records with a key may now go to another partition than before");
    }
    Ok(Exit::Ok)
}
