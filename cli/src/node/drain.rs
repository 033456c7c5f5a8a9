//! `highwater node drain` and `highwater node undrain`

use std::time::Duration;

use clap::Args;
use highwater_protocol::ids::NodeId;
use serde_json::json;
use tokio::time::sleep;

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output;

/// How often a broker is looked at that is being waited for.
const PERIOD: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
Leaderships move at once, replicas as fast as they can be copied. --wait waits for as long as that
takes; Ctrl-C ends the waiting, not the moves.

Examples:
  highwater node drain 3 --wait && ssh broker3 systemctl stop highwater")]
pub(super) struct DrainArgs {
    /// Its id
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// Wait until it has no replica any more
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What was moved away does not come back by itself: see `highwater balance`.

Examples:
  highwater node undrain 3")]
pub(super) struct UndrainArgs {
    /// Its id
    #[arg(value_name = "NODE")]
    node: NodeId,
}

/// Begins, and waits if asked to.
pub(super) async fn run(args: &DrainArgs, session: &Session) -> Outcome {
    let node = args.node;
    let mut left = session.admin().drain_node(node, true).await?;
    while args.wait && left > 0 {
        sleep(PERIOD).await;
        let (cluster, place) = super::find(&session.admin(), node).await?;
        let now = cluster.brokers[place].replicas;
        if now != left && !session.json {
            output::note(format_args!(
                "{} left",
                output::count(now.into(), "replica")
            ));
        }
        left = now;
    }
    if session.json {
        let done = left == 0;
        output::print_json(
            &json!({ "node_id": node.get(), "draining": true, "replicas_left": left, "done": done }),
        )?;
    } else if left == 0 {
        output::print(format_args!("node {node} has no replicas\n"))?;
    } else {
        let replicas = output::count(left.into(), "replica");
        output::print(format_args!(
            "node {node} is being drained: {replicas} left\n"
        ))?;
    }
    Ok(Exit::Ok)
}

/// Ends it.
pub(super) async fn end(args: &UndrainArgs, session: &Session) -> Outcome {
    let node = args.node;
    let left = session.admin().drain_node(node, false).await?;
    if session.json {
        output::print_json(
            &json!({ "node_id": node.get(), "draining": false, "replicas_left": left }),
        )?;
    } else {
        output::print(format_args!("node {node} may have replicas again\n"))?;
    }
    Ok(Exit::Ok)
}
