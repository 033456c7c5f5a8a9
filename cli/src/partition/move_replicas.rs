//! `highwater partition move`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use highwater_client::{PartitionName, ReplicaMove};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use tokio::time::sleep;

use crate::connect::Session;
use crate::exit::{Failure, Outcome};
use crate::output;

/// How often moves are looked at that are being waited for.
const PERIOD: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
A move copies the partition to the brokers that are new to it, and takes it off the old ones when those
are in sync. The first broker named is the preferred leader. --wait waits for as long as that takes;
Ctrl-C ends the waiting, not the moves.

Examples:
  highwater partition move orders/0=1,2,3 orders/1=2,3,1 --wait
  highwater partition move --cancel orders/0")]
pub(super) struct MoveArgs {
    /// A partition and the brokers that shall have it
    #[arg(value_name = "TOPIC/PARTITION=NODE,NODE", value_parser = parse_move, required_unless_present = "cancel")]
    moves: Vec<ReplicaMove>,
    /// Give up the move of this partition that is under way; may be given several times
    #[arg(long, value_name = "TOPIC/PARTITION")]
    cancel: Vec<PartitionName>,
    /// Wait until the moves are done
    #[arg(long)]
    wait: bool,
}

fn parse_move(text: &str) -> Result<ReplicaMove, String> {
    let (partition, nodes) = text
        .split_once('=')
        .ok_or("write TOPIC/PARTITION=NODE,NODE, as in orders/0=1,2,3")?;
    let partition = partition.trim().parse()?;
    let mut replicas: Vec<NodeId> = Vec::new();
    for node in nodes.split(',') {
        let node = node
            .trim()
            .parse()
            .map_err(|_| format!("{node:?} is not the id of a node"))?;
        if replicas.contains(&node) {
            return Err(format!("node {node} is named twice"));
        }
        replicas.push(node);
    }
    Ok(ReplicaMove {
        partition,
        replicas: Some(replicas),
    })
}

/// Does it.
pub(super) async fn run(args: &MoveArgs, session: &Session) -> Outcome {
    let cancelled = args.cancel.iter().map(|partition| ReplicaMove {
        partition: partition.clone(),
        replicas: None,
    });
    let moves: Vec<ReplicaMove> = args.moves.iter().cloned().chain(cancelled).collect();
    let outcomes = session.admin().move_replicas(moves).await?;
    let refused: BTreeSet<String> = outcomes
        .iter()
        .filter(|outcome| outcome.error != ErrorCode::None)
        .map(|outcome| outcome.partition.clone())
        .collect();
    let given_up: BTreeSet<String> = args.cancel.iter().map(ToString::to_string).collect();
    let exit = super::report(outcomes, session, |partition| {
        if given_up.contains(partition) {
            "is not moved any more"
        } else {
            "is being moved"
        }
    })?;
    if args.wait {
        let begun = args.moves.iter().map(|wanted| &wanted.partition);
        let begun = begun.filter(|name| !refused.contains(&name.to_string()));
        wait(begun.cloned().collect(), session).await?;
    }
    Ok(exit)
}

/// Waits until none of them is moving.
async fn wait(mut moving: Vec<PartitionName>, session: &Session) -> Result<(), Failure> {
    let admin = session.admin();
    while !moving.is_empty() {
        sleep(PERIOD).await;
        let topics: BTreeSet<String> = moving.iter().map(|name| name.topic.clone()).collect();
        let mut done = Vec::new();
        for topic in topics {
            let described = match admin.describe_topic(&topic).await {
                Ok(described) => described,
                // Brokers may come and go meanwhile.
                Err(error) if error.is_retriable() => continue,
                Err(error) => return Err(error.into()),
            };
            let still = described.partitions.iter().filter(|p| p.is_moving());
            let still: BTreeSet<_> = still.map(|p| p.partition).collect();
            let of_topic = moving.iter().filter(|name| name.topic == topic);
            done.extend(
                of_topic
                    .filter(|name| !still.contains(&name.partition))
                    .cloned(),
            );
        }
        for name in done {
            if !session.json {
                output::print(format_args!("{name} is moved\n"))?;
            }
            moving.retain(|other| *other != name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_a_partition_and_its_brokers() {
        let wanted = parse_move("a/b/7=3,1, 2").unwrap();
        assert_eq!(wanted.partition.to_string(), "a/b/7");
        let ids = wanted.replicas.unwrap();
        assert_eq!(ids, [3, 1, 2].map(NodeId::new));
        for bad in [
            "", "a/0", "a=1", "a/0=", "a/0=x", "a/0=1,1", "/0=1", "a/0=1,",
        ] {
            assert!(parse_move(bad).is_err(), "{bad}");
        }
    }
}
