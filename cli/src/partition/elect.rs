//! `highwater partition elect`

use clap::Args;
use highwater_client::{Election, PartitionName};
use highwater_protocol::ids::NodeId;

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Without partitions, --preferred is for all of them. --unclean makes a replica the leader that is not
known to have every committed record: what it lacks is lost, and what consumers have seen may come
again differently. It is the last resort where all in-sync replicas are gone for good.

Examples:
  highwater partition elect
  highwater partition elect orders/0 --to 2
  highwater partition elect --unclean orders/3 --accept-data-loss")]
pub(super) struct ElectArgs {
    /// Partitions
    #[arg(value_name = "TOPIC/PARTITION")]
    partitions: Vec<PartitionName>,
    /// The first of the replicas, if it is in sync (the default)
    #[arg(long, conflicts_with_all = ["to", "unclean"])]
    preferred: bool,
    /// This broker, if it is in sync
    #[arg(
        long,
        value_name = "NODE",
        conflicts_with = "unclean",
        requires = "partitions"
    )]
    to: Option<NodeId>,
    /// The replica with the longest log, in sync or not
    #[arg(long, requires = "accept_data_loss", requires = "partitions")]
    unclean: bool,
    /// I know that committed records may be lost
    #[arg(long, requires = "unclean")]
    accept_data_loss: bool,
}

impl ElectArgs {
    fn election(&self) -> Election {
        match (self.to, self.unclean) {
            (Some(node), _) => Election::Node(node),
            (None, true) => Election::Unclean,
            (None, false) => Election::Preferred,
        }
    }
}

/// Does it.
pub(super) async fn run(args: &ElectArgs, session: &Session) -> Outcome {
    let partitions = (!args.partitions.is_empty()).then_some(args.partitions.as_slice());
    let outcomes = session
        .admin()
        .elect_leaders(args.election(), partitions)
        .await?;
    if outcomes.is_empty() && !session.json {
        output::note("every partition is led by its preferred leader, as far as that is in sync");
        return Ok(Exit::Ok);
    }
    super::report(outcomes, session, |_| "has its leader")
}
