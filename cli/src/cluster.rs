//! `highwater cluster`: the cluster as a whole. One file per verb.

mod health;
mod info;
mod quorum;
mod voters;

use clap::{Args, Subcommand};

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::Session;
use crate::exit::Outcome;

/// Arguments of `highwater cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    verb: ClusterVerb,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum ClusterVerb {
    /// Show the cluster and its brokers
    #[command(after_help = "\
Examples:
  highwater cluster info
  highwater cluster info -b broker1:7171 -o json | jq '.brokers[].log_bytes'")]
    Info,
    /// Tell whether everything is there that should be
    Health(health::HealthArgs),
    /// Show the metadata quorum: who leads, who votes, how far each is
    #[command(after_help = "\
Examples:
  highwater cluster quorum
  highwater cluster quorum -o json | jq '.members[] | select(.voter) | .node_id'")]
    Quorum,
    /// Change who votes in the metadata quorum
    Voters(voters::VotersArgs),
}

/// Does it.
pub(crate) async fn run(args: &ClusterArgs) -> Outcome {
    if let ClusterVerb::Health(health) = &args.verb {
        return health::run(health, &args.connect, &args.output).await;
    }
    let session = Session::open(&args.connect, &args.output).await?;
    match &args.verb {
        ClusterVerb::Info | ClusterVerb::Health(_) => info::run(&session).await,
        ClusterVerb::Quorum => quorum::run(&session).await,
        ClusterVerb::Voters(args) => voters::run(args, &session).await,
    }
}
