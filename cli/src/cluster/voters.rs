//! `highwater cluster voters`

use clap::Args;
use highwater_protocol::ids::NodeId;
use serde_json::json;

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output;
use crate::replicas;

#[derive(Debug, Args)]
#[command(after_help = "\
A node that no longer votes goes on learning what the others decide. An odd number of voters, three or
five, stands the loss of one or two.

Examples:
  highwater cluster voters --add 4 --remove 1")]
#[group(required = true, multiple = true)]
pub(super) struct VotersArgs {
    /// A node that shall vote; may be given several times
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    add: Vec<NodeId>,
    /// A node that shall not vote any more; may be given several times
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    remove: Vec<NodeId>,
}

/// Does it.
pub(super) async fn run(args: &VotersArgs, session: &Session) -> Outcome {
    let admin = session.admin();
    let voters = admin.alter_voters(&args.add, &args.remove).await?;
    if session.json {
        output::print_json(&json!({ "voters": replicas::ids(&voters) }))?;
    } else {
        output::print(format_args!("voters {}\n", replicas::join(&voters)))?;
    }
    Ok(Exit::Ok)
}
