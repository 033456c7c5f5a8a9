//! `highwater topic delete`

use clap::Args;
use highwater_client::AdminError;
use highwater_protocol::error_code::ErrorCode;
use serde_json::json;

use super::Context;
use crate::connect::confirm;
use crate::exit::{Exit, Outcome};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal it asks first; -y skips that.

Examples:
  highwater topic delete orders
  highwater topic delete a b c -y --if-exists")]
pub(super) struct DeleteArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// A topic that does not exist is no error
    #[arg(long)]
    if_exists: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &DeleteArgs, context: &Context) -> Outcome {
    if !args.dry_run {
        let names = args.names.join(", ");
        confirm(
            &format!("Delete {names} and all records, for good?"),
            args.yes,
        )?;
    }
    let mut results = Vec::new();
    let mut failures = context.failures();
    for name in &args.names {
        let (what, deleted) = match delete(name, args.dry_run, context).await {
            Ok(()) if args.dry_run => ("would be deleted", false),
            Ok(()) => ("deleted", true),
            Err(error) if args.if_exists && is_unknown(&error) => ("was not there", false),
            Err(error) => {
                failures.add(error);
                continue;
            }
        };
        if context.json {
            results.push(json!({ "name": name, "deleted": deleted }));
        } else {
            output::print(format_args!("topic {name} {what}\n"))?;
        }
    }
    if context.json {
        output::print_json(&results)?;
    }
    Ok(failures.exit().unwrap_or(Exit::Ok))
}

async fn delete(name: &str, dry_run: bool, context: &Context) -> Result<(), AdminError> {
    let admin = context.client.admin();
    if dry_run {
        admin.describe_topic(name).await.map(drop)
    } else {
        admin.delete_topic(name).await
    }
}

fn is_unknown(error: &AdminError) -> bool {
    error.broker_code() == Some(ErrorCode::UnknownTopicOrPartition)
}
