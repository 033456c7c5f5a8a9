//! `highwater partition`: replicas and leaders of partitions. One file per verb.

mod elect;
mod list;
mod move_replicas;

use clap::{Args, Subcommand};
use highwater_client::{AdminError, PartitionOutcome};
use highwater_protocol::error_code::ErrorCode;
use serde_json::{Value, json};

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::Session;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Arguments of `highwater partition`.
#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    #[command(subcommand)]
    verb: PartitionVerb,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum PartitionVerb {
    /// List partitions with their leaders and replicas
    List(list::ListArgs),
    /// Move replicas to other brokers
    Move(move_replicas::MoveArgs),
    /// Elect leaders
    Elect(elect::ElectArgs),
}

/// Does it.
pub(crate) async fn run(args: &PartitionArgs) -> Outcome {
    let session = Session::open(&args.connect, &args.output).await?;
    match &args.verb {
        PartitionVerb::List(args) => list::run(args, &session).await,
        PartitionVerb::Move(args) => move_replicas::run(args, &session).await,
        PartitionVerb::Elect(args) => elect::run(args, &session).await,
    }
}

/// Prints what became of each partition; the status is that of the first that was refused.
fn report(
    outcomes: Vec<PartitionOutcome>,
    session: &Session,
    done: impl Fn(&str) -> &'static str,
) -> Result<Exit, Failure> {
    let mut failures = session.failures();
    let mut results: Vec<Value> = Vec::new();
    for outcome in outcomes {
        let ok = outcome.error == ErrorCode::None;
        if session.json {
            results.push(json!({
                "partition": outcome.partition,
                "ok": ok,
                "error": (!ok).then(|| outcome.error.name()),
                "message": outcome.message,
            }));
        } else if ok {
            let what = done(&outcome.partition);
            output::print(format_args!("{} {what}\n", outcome.partition))?;
        }
        if !ok {
            let message = outcome.message;
            failures.add(AdminError::Refused {
                message: message.unwrap_or_else(|| outcome.error.name().to_owned()),
                subject: outcome.partition,
                code: outcome.error,
            });
        }
    }
    if session.json {
        output::print_json(&results)?;
    }
    Ok(failures.exit().unwrap_or(Exit::Ok))
}
