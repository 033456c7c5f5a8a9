//! `highwater node remove`

use clap::Args;
use highwater_protocol::ids::NodeId;
use serde_json::json;

use crate::connect::{self, Session};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
The broker must be stopped, and drained before. With --force its replicas count as lost and are built
anew elsewhere, from the others. Its id is never given out again.

Examples:
  highwater node drain 3 --wait && ssh broker3 systemctl stop highwater && highwater node remove 3 -y
  highwater node remove 3 --force -y          its disk is gone for good")]
pub(super) struct RemoveArgs {
    /// Its id
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// Also if it still has replicas: they are lost
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
}

pub(super) fn confirm(args: &RemoveArgs) -> Result<(), Failure> {
    let lost = if args.force {
        " and give up its replicas"
    } else {
        ""
    };
    let question = format!("Remove node {}{lost}, for ever?", args.node);
    connect::confirm(&question, args.yes)
}

/// Does it.
pub(super) async fn run(args: &RemoveArgs, session: &Session) -> Outcome {
    let lost = session.admin().remove_node(args.node, args.force).await?;
    if session.json {
        output::print_json(&json!({ "node_id": args.node.get(), "replicas_lost": lost }))?;
    } else {
        let replicas = output::count(lost.into(), "replica");
        output::print(format_args!(
            "node {} removed, it had {replicas}\n",
            args.node
        ))?;
    }
    Ok(Exit::Ok)
}
