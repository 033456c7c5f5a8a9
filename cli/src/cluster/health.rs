//! `highwater cluster health`

use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater_client::{AdminError, ClusterDescription, TopicDescription};
use highwater_protocol::ids::NodeId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::{ConnectArgs, OutputArgs};
use crate::connect::Session;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::replicas::{self, Condition, IsrMins};

/// How often a cluster is looked at that is being waited for.
const PERIOD: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
The exit status is 0 if the cluster is healthy, 2 if something is missing, and with --wait 3 if it was
still missing when --timeout was over.

Examples:
  highwater cluster health
  highwater cluster health --wait healthy --timeout 5m")]
pub(super) struct HealthArgs {
    /// Wait until the cluster is like this, for at most --timeout
    #[arg(long, value_name = "STATE")]
    wait: Option<Wanted>,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    // Every broker is there and every replica in sync.
    Healthy,
    // Every partition has a leader and enough replicas for acks=all.
    Writable,
}

/// What is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Health {
    controller: Option<NodeId>,
    brokers: usize,
    fenced: Vec<NodeId>,
    partitions: usize,
    offline: usize,
    below_min_isr: usize,
    at_min_isr: usize,
    under_replicated: usize,
    moving: usize,
}

impl Health {
    fn of(cluster: &ClusterDescription, topics: &[TopicDescription], mins: &IsrMins) -> Self {
        let fenced = cluster.brokers.iter().filter(|broker| broker.fenced);
        let mut health = Self {
            controller: cluster.controller,
            brokers: cluster.brokers.len(),
            fenced: fenced.map(|broker| broker.node_id).collect(),
            ..Self::default()
        };
        for topic in topics {
            for partition in &topic.partitions {
                health.partitions += 1;
                health.moving += usize::from(partition.is_moving());
                let isr_min = replicas::isr_min(mins, &topic.name, partition);
                let condition = Condition::of(partition, isr_min);
                health.offline += usize::from(condition == Condition::Offline);
                health.below_min_isr += usize::from(condition == Condition::BelowMinIsr);
                health.at_min_isr += usize::from(condition == Condition::AtMinIsr);
                health.under_replicated += usize::from(condition < Condition::Healthy);
            }
        }
        health
    }

    fn is_writable(&self) -> bool {
        self.controller.is_some() && self.offline == 0 && self.below_min_isr == 0
    }

    fn is_healthy(&self) -> bool {
        self.is_writable() && self.fenced.is_empty() && self.under_replicated == 0
    }

    fn is(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Healthy => self.is_healthy(),
            Wanted::Writable => self.is_writable(),
        }
    }

    fn state(&self) -> &'static str {
        match (self.is_healthy(), self.is_writable()) {
            (true, _) => "healthy",
            (false, true) => "degraded",
            (false, false) => "impaired",
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "state": self.state(),
            "controller": self.controller.map(NodeId::get),
            "brokers": self.brokers,
            "fenced": replicas::ids(&self.fenced),
            "partitions": self.partitions,
            "offline": self.offline,
            "below_min_isr": self.below_min_isr,
            "at_min_isr": self.at_min_isr,
            "under_replicated": self.under_replicated,
            "moving": self.moving,
        })
    }

    fn to_text(&self) -> String {
        let controller = self.controller;
        let fenced = if self.fenced.is_empty() {
            String::new()
        } else {
            format!(", missing {}", replicas::join(&self.fenced))
        };
        format!(
            "\
state             {}
controller        {}
brokers           {}{fenced}
partitions        {}
offline           {}
below min isr     {}
at min isr        {}
under-replicated  {}
moving            {}
",
            self.state(),
            controller.map_or_else(|| "none".to_owned(), |node| node.to_string()),
            self.brokers,
            self.partitions,
            self.offline,
            self.below_min_isr,
            self.at_min_isr,
            self.under_replicated,
            self.moving,
        )
    }
}

/// Does it.
pub(super) async fn run(args: &HealthArgs, connect: &ConnectArgs, output: &OutputArgs) -> Outcome {
    let Some(wanted) = args.wait else {
        let health = look(&Session::open(connect, output).await?).await?;
        print(&health, output.json())?;
        return Ok(if health.is_healthy() {
            Exit::Ok
        } else {
            Exit::Findings
        });
    };
    let deadline = Instant::now() + connect.timeout;
    loop {
        // Nobody may be there yet: that is what is waited for.
        let last = match Session::open(connect, output).await {
            Ok(session) => wait(&session, wanted, deadline).await,
            Err(failure) => Err(failure),
        };
        match last {
            Ok(health) => {
                print(&health, output.json())?;
                return Ok(if health.is(wanted) {
                    Exit::Ok
                } else {
                    Exit::Timeout
                });
            }
            Err(failure) if Instant::now() + PERIOD >= deadline => return Err(failure),
            Err(_) => sleep(PERIOD).await,
        }
    }
}

/// Looks until it is as wanted or the time is over; returns what was last seen.
async fn wait(session: &Session, wanted: Wanted, deadline: Instant) -> Result<Health, Failure> {
    loop {
        let health = look(session).await?;
        if health.is(wanted) || Instant::now() + PERIOD >= deadline {
            return Ok(health);
        }
        sleep(PERIOD).await;
    }
}

async fn look(session: &Session) -> Result<Health, AdminError> {
    let admin = session.admin();
    let cluster = admin.describe_cluster().await?;
    let topics = admin.list_topics().await?;
    let mins = replicas::isr_mins(&admin, &topics).await?;
    Ok(Health::of(&cluster, &topics, &mins))
}

fn print(health: &Health, json: bool) -> Result<(), Failure> {
    if json {
        output::print_json(&health.to_json())
    } else {
        output::print(health.to_text())
    }
}

#[cfg(test)]
mod tests {
    use highwater_client::{ClusterId, TopicId};

    use super::*;
    use crate::node::sample as broker;
    use crate::replicas::sample as partition;

    fn cluster(fenced: &[u32]) -> ClusterDescription {
        let brokers = (1..=3).map(|node| {
            let mut broker = broker(node);
            broker.fenced = fenced.contains(&node);
            broker
        });
        ClusterDescription {
            cluster_id: ClusterId::random(),
            controller: Some(NodeId::new(1)),
            brokers: brokers.collect(),
            topics: 1,
            partitions: 4,
        }
    }

    fn topics(isrs: &[&[u32]]) -> Vec<TopicDescription> {
        let partitions = isrs
            .iter()
            .zip(0..)
            .map(|(isr, n)| partition(n, &[1, 2, 3], isr));
        vec![TopicDescription {
            name: "orders".to_owned(),
            topic_id: TopicId::random(),
            partitions: partitions.collect(),
        }]
    }

    #[test]
    fn what_is_missing_is_counted() {
        let all: &[&[u32]] = &[&[1, 2, 3], &[1, 2], &[1], &[]];
        let health = Health::of(&cluster(&[3]), &topics(all), &IsrMins::new());
        assert_eq!(
            health.to_text(),
            "\
state             impaired
controller        1
brokers           3, missing 3
partitions        4
offline           1
below min isr     1
at min isr        1
under-replicated  3
moving            0
"
        );
        assert_eq!(health.to_json()["fenced"], json!([3]));
        assert!(!health.is(Wanted::Writable));
    }

    #[test]
    fn degraded_is_writable_and_healthy_is_all_there() {
        let isr: &[&[u32]] = &[&[1, 2]];
        let health = Health::of(&cluster(&[]), &topics(isr), &IsrMins::new());
        assert_eq!(health.state(), "degraded");
        assert!(health.is(Wanted::Writable) && !health.is(Wanted::Healthy));
        let isr: &[&[u32]] = &[&[3, 2, 1]];
        let health = Health::of(&cluster(&[]), &topics(isr), &IsrMins::new());
        assert!(health.is(Wanted::Healthy));
        let mut nobody = cluster(&[]);
        nobody.controller = None;
        let health = Health::of(&nobody, &topics(isr), &IsrMins::new());
        assert_eq!(health.state(), "impaired");
    }
}
