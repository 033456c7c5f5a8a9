//! `highwater balance`: replicas where there is room for them.

use std::time::Duration;

use clap::{Args, Subcommand};
use highwater_client::{AdminError, BalanceStatus, MoveReason};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::Session;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Column, Rows};
use crate::replicas;

/// How often moves are looked at that are being waited for.
const PERIOD: Duration = Duration::from_secs(1);

/// Arguments of `highwater balance`.
#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    #[command(subcommand)]
    verb: BalanceVerb,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum BalanceVerb {
    /// Show which moves would give every broker its share
    #[command(after_help = "\
Examples:
  highwater balance plan
  highwater balance plan -o json | jq '.moves | length'")]
    Plan,
    /// Make those moves
    #[command(after_help = "\
Examples:
  highwater balance run -w")]
    Run(WatchArgs),
    /// Show the moves that are under way, whatever began them, and the brokers that are gone
    #[command(after_help = "\
Examples:
  highwater balance status
  highwater balance status -w")]
    Status(WatchArgs),
    /// Give up every move that balancing began
    #[command(after_help = "\
Examples:
  highwater balance cancel")]
    Cancel,
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// Go on until nothing is moved any more
    #[arg(short = 'w', long)]
    watch: bool,
}

/// Does it.
pub(crate) async fn run(args: &BalanceArgs) -> Outcome {
    let session = Session::open(&args.connect, &args.output).await?;
    let admin = session.admin();
    match &args.verb {
        BalanceVerb::Plan => print(&admin.plan_balance().await?, "to make", session.json)?,
        BalanceVerb::Run(args) => {
            let status = admin.run_balance().await?;
            if !args.watch {
                print(&status, "begun", session.json)?;
            } else {
                watch(&session).await?;
            }
        }
        BalanceVerb::Status(args) if args.watch => watch(&session).await?,
        BalanceVerb::Status(_) => print(&admin.balance_status().await?, UNDER_WAY, session.json)?,
        BalanceVerb::Cancel => print(&admin.cancel_balance().await?, UNDER_WAY, session.json)?,
    }
    Ok(Exit::Ok)
}

const UNDER_WAY: &str = "under way";

/// Prints what is under way whenever that changes, until nothing is.
async fn watch(session: &Session) -> Result<(), Failure> {
    let mut before: Option<BalanceStatus> = None;
    loop {
        let status = match session.admin().balance_status().await {
            Ok(status) => status,
            Err(error) if may_pass(&error) && before.is_some() => {
                sleep(PERIOD).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let news = before.as_ref().is_none_or(|before| {
            (&before.moves, before.waiting, &before.paused)
                != (&status.moves, status.waiting, &status.paused)
        });
        if news {
            print(&status, UNDER_WAY, session.json)?;
        }
        if status.moves.is_empty() && status.waiting == 0 {
            return Ok(());
        }
        before = Some(status);
        sleep(PERIOD).await;
    }
}

/// The controller may change in the middle of it.
fn may_pass(error: &AdminError) -> bool {
    error.is_retriable()
}

fn print(status: &BalanceStatus, what: &str, json: bool) -> Result<(), Failure> {
    if json {
        output::print_json(&to_json(status))
    } else {
        output::print(to_text(status, what))
    }
}

fn reason(reason: MoveReason) -> &'static str {
    match reason {
        MoveReason::Operator => "operator",
        MoveReason::Balance => "balance",
        MoveReason::Heal => "heal",
        MoveReason::Drain => "drain",
    }
}

fn to_json(status: &BalanceStatus) -> Value {
    let moves = status.moves.iter().map(|planned| {
        json!({
            "topic": planned.partition.topic,
            "partition": planned.partition.partition.get(),
            "from": replicas::ids(&planned.from),
            "to": replicas::ids(&planned.to),
            "reason": reason(planned.reason),
        })
    });
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let absent = status.absent.iter().map(|node| {
        json!({
            "node_id": node.node_id.get(),
            "replicas": node.replicas,
            "heals_in_ms": node.heals_in.map(millis),
        })
    });
    json!({
        "moves": moves.collect::<Vec<_>>(),
        "waiting": status.waiting,
        "paused": status.paused,
        "absent": absent.collect::<Vec<_>>(),
    })
}

fn to_text(status: &BalanceStatus, what: &str) -> String {
    let moves = u64::try_from(status.moves.len()).unwrap_or(u64::MAX);
    let mut text = format!("{} {what}", output::count(moves, "move"));
    if status.waiting > 0 {
        text.push_str(&format!(", {} waiting", status.waiting));
    }
    text.push('\n');
    if let Some(paused) = &status.paused {
        text.push_str(&format!("paused: {paused}\n"));
    }
    for node in &status.absent {
        let replicas = output::count(node.replicas.into(), "replica");
        let then = node.heals_in.map_or_else(
            || "are not rebuilt".to_owned(),
            |left| {
                let left = Duration::from_secs(left.as_secs());
                format!("will be rebuilt in {}", humantime::format_duration(left))
            },
        );
        text.push_str(&format!(
            "node {} is gone: {replicas} {then}\n",
            node.node_id
        ));
    }
    if !status.moves.is_empty() {
        let mut rows = Rows::new(&[
            Column::Text("PARTITION"),
            Column::Text("FROM"),
            Column::Text("TO"),
            Column::Text("REASON"),
        ]);
        for planned in &status.moves {
            rows.push([
                planned.partition.to_string(),
                replicas::join(&planned.from),
                replicas::join(&planned.to),
                reason(planned.reason).to_owned(),
            ]);
        }
        text.push_str(&format!("\n{rows}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use highwater_client::{AbsentNode, PartitionName, PlannedMove};
    use highwater_protocol::ids::{NodeId, PartitionId};

    use super::*;

    fn sample() -> BalanceStatus {
        BalanceStatus {
            moves: vec![PlannedMove {
                partition: PartitionName::new("orders", PartitionId::new(3)),
                from: [1, 2, 3].map(NodeId::new).to_vec(),
                to: [1, 2, 4].map(NodeId::new).to_vec(),
                reason: MoveReason::Heal,
            }],
            waiting: 5,
            paused: Some("too many brokers are gone".to_owned()),
            absent: vec![
                AbsentNode {
                    node_id: NodeId::new(3),
                    replicas: 1,
                    heals_in: Some(Duration::from_millis(90_400)),
                },
                AbsentNode {
                    node_id: NodeId::new(5),
                    replicas: 2,
                    heals_in: None,
                },
            ],
        }
    }

    #[test]
    fn moves_and_what_keeps_them_are_shown() {
        assert_eq!(
            to_text(&sample(), UNDER_WAY),
            "\
1 move under way, 5 waiting
paused: too many brokers are gone
node 3 is gone: 1 replica will be rebuilt in 1m 30s
node 5 is gone: 2 replicas are not rebuilt

PARTITION  FROM   TO     REASON
orders/3   1,2,3  1,2,4  heal
"
        );
        let json = to_json(&sample());
        assert_eq!(json["moves"][0]["reason"], "heal");
        assert_eq!(json["absent"][0]["heals_in_ms"], 90_400);
        assert_eq!(json["absent"][1]["heals_in_ms"], Value::Null);
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let nothing = BalanceStatus {
            moves: Vec::new(),
            waiting: 0,
            paused: None,
            absent: Vec::new(),
        };
        assert_eq!(to_text(&nothing, "to make"), "0 moves to make\n");
    }
}
