//! `highwater node list`

use highwater_client::ClusterDescription;
use serde_json::Value;

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

/// Does it.
pub(super) async fn run(session: &Session) -> Outcome {
    let cluster = session.admin().describe_cluster().await?;
    if session.json {
        let brokers: Vec<Value> = cluster.brokers.iter().map(super::to_json).collect();
        output::print_json(&brokers)?;
    } else {
        output::print(to_text(&cluster))?;
    }
    Ok(Exit::Ok)
}

fn to_text(cluster: &ClusterDescription) -> String {
    let mut rows = Rows::new(&[
        Column::Number("NODE"),
        Column::Text("ADDRESS"),
        Column::Text("STATE"),
        Column::Text("QUORUM"),
        Column::Text("RACK"),
        Column::Number("REPLICAS"),
        Column::Number("LEADERS"),
        Column::Number("DATA"),
        Column::Number("FREE"),
        Column::Text("LAST SEEN"),
    ]);
    for broker in &cluster.brokers {
        let role = match (cluster.controller == Some(broker.node_id), broker.voter) {
            (true, _) => "controller",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        rows.push([
            broker.node_id.to_string(),
            format!("{}:{}", broker.host, broker.port),
            super::state(broker).to_owned(),
            role.to_owned(),
            broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
            broker.replicas.to_string(),
            broker.leaders.to_string(),
            output::bytes(broker.log_bytes),
            broker
                .disk_free
                .map_or_else(|| "?".to_owned(), output::bytes),
            broker
                .silent_for
                .map_or_else(|| "?".to_owned(), |silent| format!("{silent:.0?} ago")),
        ]);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use highwater_client::{ClusterId, NodeId};

    use super::super::sample;
    use super::*;

    #[test]
    fn every_broker_has_a_line() {
        let mut gone = sample(3);
        gone.fenced = true;
        gone.silent_for = None;
        gone.disk_free = None;
        let cluster = ClusterDescription {
            cluster_id: ClusterId::random(),
            controller: Some(NodeId::new(2)),
            brokers: vec![sample(1), sample(2), gone],
            topics: 1,
            partitions: 12,
        };
        let text = to_text(&cluster);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[1][..4], ["1", "b1:7171", "online", "voter"]);
        assert_eq!(lines[2][..4], ["2", "b2:7171", "online", "controller"]);
        assert_eq!(lines[3][..4], ["3", "b3:7171", "fenced", "learner"]);
        assert!(
            text.contains("120ms ago") && text.contains("50.0 GiB"),
            "{text}"
        );
    }
}
