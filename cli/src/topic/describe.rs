//! `highwater topic describe`

use std::collections::BTreeMap;

use clap::Args;
use highwater_client::{AdminError, ConfigSource, PartitionDescription, TopicDescription};
use highwater_protocol::ids::{NodeId, Offset, PartitionId};
use serde_json::{Value, json};

use super::Context;
use super::bounds::partition_bounds;
use crate::consume::Bounds;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};
use crate::replicas::{self, ids};

#[derive(Debug, Args)]
#[command(after_help = "\
Without --partitions or --configs both are shown, of the settings only those that differ from what
is built in; `highwater topic config NAME get` shows all of them.

Examples:
  highwater topic describe orders
  highwater topic describe orders --partitions -o json")]
pub(super) struct DescribeArgs {
    /// Names of the topics
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Only the partitions
    #[arg(long, conflicts_with = "configs")]
    partitions: bool,
    /// Only the settings
    #[arg(long)]
    configs: bool,
}

struct Described {
    topic: TopicDescription,
    bounds: BTreeMap<PartitionId, Bounds>,
    configs: Vec<highwater_client::ConfigDescription>,
}

pub(super) async fn run(args: &DescribeArgs, context: &Context) -> Outcome {
    let mut failures = context.failures();
    let mut results = Vec::new();
    for (number, name) in args.names.iter().enumerate() {
        match look_up(name, context).await {
            Ok(described) if context.json => results.push(to_json(args, &described)),
            Ok(described) => {
                let gap = if number > 0 { "\n" } else { "" };
                output::print(format_args!("{gap}{}", to_text(args, &described)))?;
            }
            Err(error) => failures.add(error),
        }
    }
    if context.json {
        output::print_json(&results)?;
    }
    Ok(failures.exit().unwrap_or(Exit::Ok))
}

async fn look_up(name: &str, context: &Context) -> Result<Described, AdminError> {
    let admin = context.client.admin();
    let topic = admin.describe_topic(name).await?;
    // An offline partition has no offsets to tell; the others still do.
    let online: Vec<_> = topic
        .partitions
        .iter()
        .filter(|partition| !replicas::is_offline(partition))
        .map(|partition| partition.partition)
        .collect();
    let bounds = partition_bounds(&admin, name, &online).await?;
    let configs = admin.describe_configs(name, None).await?;
    Ok(Described {
        topic,
        bounds,
        configs,
    })
}

fn to_json(args: &DescribeArgs, described: &Described) -> Value {
    let topic = &described.topic;
    let mut object = json!({ "name": topic.name, "topic_id": topic.topic_id.to_string() });
    if !args.configs {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| {
                let bounds = described.bounds.get(&partition.partition);
                json!({
                    "partition": partition.partition.get(),
                    "leader": partition.leader.map(NodeId::get),
                    "leader_epoch": partition.leader_epoch.get(),
                    "replicas": ids(&partition.replicas),
                    "isr": ids(&partition.isr),
                    "elr": ids(&partition.elr),
                    "adding": ids(&partition.adding),
                    "removing": ids(&partition.removing),
                    "online": !replicas::is_offline(partition),
                    "start_offset": bounds.map(|bounds| bounds.start.get()),
                    "end_offset": bounds.map(|bounds| bounds.end.get()),
                })
            })
            .collect();
        object["partitions"] = Value::from(partitions);
    }
    if !args.partitions {
        object["configs"] = super::config::to_json(&described.configs);
    }
    object
}

fn to_text(args: &DescribeArgs, described: &Described) -> String {
    let topic = &described.topic;
    let mut text = format!(
        "topic       {}\nid          {}\npartitions  {}\n",
        topic.name,
        topic.topic_id,
        topic.partitions.len()
    );
    let own: Vec<_> = described
        .configs
        .iter()
        .filter(|config| args.configs || config.source != ConfigSource::Default)
        .cloned()
        .collect();
    if !args.partitions && !own.is_empty() {
        text.push_str(&format!("\n{}", super::config::to_rows(&own)));
    }
    if !args.configs {
        let mut rows = Rows::new(&[
            Column::Number("PARTITION"),
            Column::Text("LEADER"),
            Column::Number("EPOCH"),
            Column::Text("REPLICAS"),
            Column::Text("ISR"),
            Column::Text("ELR"),
            Column::Text("MOVING"),
            Column::Number("START"),
            Column::Number("END"),
            Column::Number("RECORDS"),
            Column::Text("STATE"),
        ]);
        for partition in &topic.partitions {
            rows.push(partition_row(
                partition,
                described.bounds.get(&partition.partition),
            ));
        }
        text.push_str(&format!("\n{rows}"));
    }
    text
}

fn partition_row(partition: &PartitionDescription, bounds: Option<&Bounds>) -> [String; 11] {
    let offset = |pick: fn(&Bounds) -> Offset| {
        bounds.map_or_else(|| "-".to_owned(), |bounds| pick(bounds).to_string())
    };
    [
        partition.partition.to_string(),
        replicas::leader(partition),
        partition.leader_epoch.to_string(),
        replicas::join(&partition.replicas),
        replicas::join_or_dash(&partition.isr),
        replicas::join_or_dash(&partition.elr),
        replicas::moving(partition),
        offset(|bounds| bounds.start),
        offset(|bounds| bounds.end),
        bounds.map_or_else(
            || "-".to_owned(),
            |bounds| bounds.end.records_since(bounds.start).to_string(),
        ),
        if replicas::is_offline(partition) {
            "offline"
        } else {
            "online"
        }
        .to_owned(),
    ]
}
