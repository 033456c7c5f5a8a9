//! `highwater node describe`

use clap::Args;
use highwater_client::{BrokerDescription, PartitionName, TopicDescription};
use highwater_protocol::ids::NodeId;
use serde_json::{Value, json};

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater node describe 2
  highwater node describe 2 -o json | jq '.partitions[] | select(.leads)'")]
pub(super) struct DescribeArgs {
    /// Its id
    #[arg(value_name = "NODE")]
    node: NodeId,
}

/// A replica on the broker.
struct Replica {
    name: PartitionName,
    leads: bool,
    in_sync: bool,
    moving: &'static str,
}

/// Does it.
pub(super) async fn run(args: &DescribeArgs, session: &Session) -> Outcome {
    let admin = session.admin();
    let (cluster, place) = super::find(&admin, args.node).await?;
    let broker = &cluster.brokers[place];
    let is_controller = cluster.controller == Some(args.node);
    let replicas = replicas_on(args.node, &admin.list_topics().await?);
    if session.json {
        output::print_json(&to_json(broker, is_controller, &replicas))?;
    } else {
        output::print(to_text(broker, is_controller, &replicas))?;
    }
    Ok(Exit::Ok)
}

fn replicas_on(node: NodeId, topics: &[TopicDescription]) -> Vec<Replica> {
    let mut found = Vec::new();
    for topic in topics {
        for partition in topic
            .partitions
            .iter()
            .filter(|p| p.replicas.contains(&node))
        {
            let moving = if partition.adding.contains(&node) {
                "coming"
            } else if partition.removing.contains(&node) {
                "going"
            } else {
                "-"
            };
            found.push(Replica {
                name: PartitionName::new(&topic.name, partition.partition),
                leads: partition.leader == Some(node),
                in_sync: partition.isr.contains(&node),
                moving,
            });
        }
    }
    found
}

fn to_json(broker: &BrokerDescription, is_controller: bool, replicas: &[Replica]) -> Value {
    let mut object = super::to_json(broker);
    object["controller"] = Value::from(is_controller);
    let partitions = replicas.iter().map(|replica| {
        json!({
            "topic": replica.name.topic,
            "partition": replica.name.partition.get(),
            "leads": replica.leads,
            "in_sync": replica.in_sync,
            "coming": replica.moving == "coming",
            "going": replica.moving == "going",
        })
    });
    object["partitions"] = partitions.collect();
    object
}

fn to_text(broker: &BrokerDescription, is_controller: bool, replicas: &[Replica]) -> String {
    let role = match (is_controller, broker.voter) {
        (true, _) => "controller",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let disk = match (broker.disk_free, broker.disk_total) {
        (Some(free), Some(total)) => {
            format!("{} free of {}", output::bytes(free), output::bytes(total))
        }
        _ => "unknown".to_owned(),
    };
    let seen = broker.silent_for;
    let mut text = format!(
        "\
node       {}
address    {}:{}
state      {}
quorum     {role}
rack       {}
version    {}
epoch      {}
last seen  {}
replicas   {}
leaders    {}
data       {}
disk       {disk}
",
        broker.node_id,
        broker.host,
        broker.port,
        super::state(broker),
        broker.rack.as_deref().unwrap_or("-"),
        broker.version,
        broker.broker_epoch,
        seen.map_or_else(|| "unknown".to_owned(), |seen| format!("{seen:.0?} ago")),
        broker.replicas,
        broker.leaders,
        output::bytes(broker.log_bytes),
    );
    if !replicas.is_empty() {
        let mut rows = Rows::new(&[
            Column::Text("PARTITION"),
            Column::Text("ROLE"),
            Column::Text("IN SYNC"),
            Column::Text("MOVING"),
        ]);
        for replica in replicas {
            rows.push([
                replica.name.to_string(),
                if replica.leads { "leader" } else { "follower" }.to_owned(),
                if replica.in_sync { "yes" } else { "no" }.to_owned(),
                replica.moving.to_owned(),
            ]);
        }
        text.push_str(&format!("\n{rows}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use highwater_client::TopicId;

    use super::super::sample;
    use super::*;
    use crate::replicas::sample as partition;

    #[test]
    fn its_replicas_are_listed_with_what_they_do() {
        let mut moving = partition(1, &[1, 2, 3], &[1]);
        moving.adding = vec![NodeId::new(2)];
        let topics = [TopicDescription {
            name: "orders".to_owned(),
            topic_id: TopicId::random(),
            partitions: vec![
                partition(0, &[2, 1], &[2, 1]),
                moving,
                partition(2, &[1], &[1]),
            ],
        }];
        let replicas = replicas_on(NodeId::new(2), &topics);
        let text = to_text(&sample(2), true, &replicas);
        assert!(text.contains("quorum     controller\n"), "{text}");
        assert!(
            text.contains("disk       50.0 GiB free of 100.0 GiB\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "\
PARTITION  ROLE      IN SYNC  MOVING
orders/0   leader    yes      -
orders/1   follower  no       coming
"
            ),
            "{text}"
        );
        let json = to_json(&sample(2), true, &replicas);
        assert_eq!(json["controller"], true);
        assert_eq!(json["partitions"].as_array().unwrap().len(), 2);
        assert_eq!(json["partitions"][1]["coming"], true);
    }
}
