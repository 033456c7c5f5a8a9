//! `highwater verify`: uses a cluster while things break, and checks every answer.

mod brokers;
mod check;
mod faults;
mod report;
mod run;
mod topic;

use clap::{Args, Subcommand};

use crate::args::{ConnectArgs, OutputArgs};
use crate::exit::Outcome;

/// Arguments of `highwater verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(subcommand)]
    verb: VerifyVerb,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum VerifyVerb {
    /// Write and read while brokers fail, then judge everything that was told
    Run(Box<run::RunArgs>),
    /// Judge a history that `run --history` has written
    Check(check::CheckArgs),
}

/// Does it.
pub(crate) async fn run(args: &VerifyArgs) -> Outcome {
    let json = args.output.json();
    match &args.verb {
        VerifyVerb::Run(run) => run::run(run, &args.connect, json).await,
        VerifyVerb::Check(check) => check::run(check, json),
    }
}
