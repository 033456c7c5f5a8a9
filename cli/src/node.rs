//! `highwater node`: one broker of the cluster. One file per verb.

mod describe;
mod drain;
mod list;
mod remove;

use clap::{Args, Subcommand};
use highwater_client::{Admin, BrokerDescription, ClusterDescription};
use highwater_protocol::ids::NodeId;
use serde_json::{Value, json};

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::Session;
use crate::exit::{Exit, Failure, Outcome};

/// Arguments of `highwater node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    verb: NodeVerb,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum NodeVerb {
    /// List the brokers
    #[command(after_help = "\
Examples:
  highwater node list
  highwater node list -o json | jq '.[] | select(.fenced) | .node_id'")]
    List,
    /// Show a broker and the partitions that it has
    Describe(describe::DescribeArgs),
    /// Move everything off a broker and keep new replicas away
    Drain(drain::DrainArgs),
    /// Let a broker have replicas again
    Undrain(drain::UndrainArgs),
    /// Take a broker that is stopped out of the cluster, for ever
    Remove(remove::RemoveArgs),
}

/// Does it.
pub(crate) async fn run(args: &NodeArgs) -> Outcome {
    if let NodeVerb::Remove(args) = &args.verb {
        // Before a connection is made: the answer may take its time.
        remove::confirm(args)?;
    }
    let session = Session::open(&args.connect, &args.output).await?;
    match &args.verb {
        NodeVerb::List => list::run(&session).await,
        NodeVerb::Describe(args) => describe::run(args, &session).await,
        NodeVerb::Drain(args) => drain::run(args, &session).await,
        NodeVerb::Undrain(args) => drain::end(args, &session).await,
        NodeVerb::Remove(args) => remove::run(args, &session).await,
    }
}

/// The broker with this id.
async fn find(admin: &Admin, node: NodeId) -> Result<(ClusterDescription, usize), Failure> {
    let cluster = admin.describe_cluster().await?;
    let place = cluster.brokers.iter().position(|b| b.node_id == node);
    match place {
        Some(place) => Ok((cluster, place)),
        None => Err(Failure::new(
            Exit::NotFound,
            "UnknownNode",
            format!("the cluster has no node {node}"),
        )
        .hint("`highwater node list` shows the nodes there are")),
    }
}

/// One word for how a broker is doing.
pub(crate) fn state(broker: &BrokerDescription) -> &'static str {
    if broker.shutting_down {
        "stopping"
    } else if broker.fenced {
        "fenced"
    } else if broker.draining {
        "draining"
    } else {
        "online"
    }
}

/// For JSON.
pub(crate) fn to_json(broker: &BrokerDescription) -> Value {
    let silent = broker.silent_for;
    json!({
        "node_id": broker.node_id.get(),
        "host": broker.host,
        "port": broker.port,
        "rack": broker.rack,
        "version": broker.version,
        "fenced": broker.fenced,
        "draining": broker.draining,
        "shutting_down": broker.shutting_down,
        "voter": broker.voter,
        "broker_epoch": broker.broker_epoch.get(),
        "silent_ms": silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        "replicas": broker.replicas,
        "leaders": broker.leaders,
        "log_bytes": broker.log_bytes,
        "disk_free": broker.disk_free,
        "disk_total": broker.disk_total,
    })
}

/// A broker for tests.
#[cfg(test)]
pub(crate) fn sample(node: u32) -> BrokerDescription {
    BrokerDescription {
        node_id: NodeId::new(node),
        host: format!("b{node}"),
        port: 7171,
        rack: None,
        version: "0.1.0".to_owned(),
        fenced: false,
        draining: false,
        shutting_down: false,
        voter: node < 3,
        broker_epoch: highwater_client::BrokerEpoch::new(40 + u64::from(node)),
        silent_for: Some(std::time::Duration::from_millis(120)),
        replicas: 12,
        leaders: 4,
        log_bytes: 3 << 20,
        disk_free: Some(50 << 30),
        disk_total: Some(100 << 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_the_most_telling_word() {
        let mut broker = sample(1);
        assert_eq!(state(&broker), "online");
        broker.draining = true;
        assert_eq!(state(&broker), "draining");
        broker.fenced = true;
        assert_eq!(state(&broker), "fenced");
        broker.shutting_down = true;
        assert_eq!(state(&broker), "stopping");
        assert_eq!(to_json(&broker)["silent_ms"], 120);
    }
}
