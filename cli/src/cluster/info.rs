//! `highwater cluster info`

use highwater_protocol::ids::NodeId;
use serde_json::json;

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

/// Does it.
pub(super) async fn run(session: &Session) -> Outcome {
    let cluster = session.admin().describe_cluster().await?;
    if session.json {
        let brokers: Vec<_> = cluster.brokers.iter().map(crate::node::to_json).collect();
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
            crate::node::state(broker).to_owned(),
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
