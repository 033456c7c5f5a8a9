//! `highwater cluster`: what the cluster looks like.

use clap::{Args, Subcommand};
use highwater_protocol::ids::NodeId;
use serde_json::json;

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::connect;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

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
}

/// Does it.
pub(crate) async fn run(args: &ClusterArgs) -> Outcome {
    let ClusterVerb::Info = args.verb;
    let cluster = connect(&args.connect)
        .await?
        .admin()
        .describe_cluster()
        .await?;
    if args.output.json() {
        let brokers: Vec<_> = cluster
            .brokers
            .iter()
            .map(|broker| {
                json!({
                    "node_id": broker.node_id.get(),
                    "host": broker.host,
                    "port": broker.port,
                    "rack": broker.rack,
                    "version": broker.version,
                    "fenced": broker.fenced,
                    "replicas": broker.replicas,
                    "leaders": broker.leaders,
                    "log_bytes": broker.log_bytes,
                })
            })
            .collect();
        output::print_json(&json!({
            "cluster_id": cluster.cluster_id.to_string(),
            "controller": cluster.controller.map(NodeId::get),
            "topics": cluster.topics,
            "partitions": cluster.partitions,
            "brokers": brokers,
        }))?;
        return Ok(Exit::Ok);
    }
    let mut rows = Rows::new(&[
        Column::Number("BROKER"),
        Column::Text("ADDRESS"),
        Column::Text("STATE"),
        Column::Text("RACK"),
        Column::Text("VERSION"),
        Column::Number("REPLICAS"),
        Column::Number("LEADERS"),
        Column::Number("DATA"),
    ]);
    for broker in &cluster.brokers {
        let is_controller = cluster.controller == Some(broker.node_id);
        rows.push([
            format!("{}{}", broker.node_id, if is_controller { "*" } else { "" }),
            format!("{}:{}", broker.host, broker.port),
            if broker.fenced { "fenced" } else { "online" }.to_owned(),
            broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
            broker.version.clone(),
            broker.replicas.to_string(),
            broker.leaders.to_string(),
            output::bytes(broker.log_bytes),
        ]);
    }
    output::print(format_args!(
        "cluster     {}\ntopics      {}\npartitions  {}\n\n{rows}\n* controller\n",
        cluster.cluster_id, cluster.topics, cluster.partitions,
    ))?;
    Ok(Exit::Ok)
}
