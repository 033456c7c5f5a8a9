//! `highwater partition list`

use clap::{Args, ValueEnum};
use highwater_client::{PartitionDescription, TopicDescription};
use highwater_protocol::ids::NodeId;
use serde_json::{Value, json};

use crate::connect::Session;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};
use crate::replicas::{self, Condition, IsrMins};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater partition list
  highwater partition list orders payments --only under-replicated
  highwater partition list --only offline -o json | jq length")]
pub(super) struct ListArgs {
    /// Only these topics
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only partitions that are like this
    #[arg(long, value_name = "CONDITION")]
    only: Option<Only>,
}

/// Which partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    // Some replica is not in sync, or worse.
    UnderReplicated,
    // Nobody leads them.
    Offline,
    // One more loss and acks=all is refused, or it is already.
    AtMinIsr,
    // Replicas are being moved.
    Moving,
}

impl Only {
    fn fits(self, partition: &PartitionDescription, condition: Condition) -> bool {
        match self {
            Self::UnderReplicated => condition <= Condition::UnderReplicated,
            Self::Offline => condition == Condition::Offline,
            Self::AtMinIsr => condition <= Condition::AtMinIsr,
            Self::Moving => partition.is_moving(),
        }
    }
}

/// A partition to show.
struct Line<'a> {
    topic: &'a str,
    partition: &'a PartitionDescription,
    condition: Condition,
}

/// Does it.
pub(super) async fn run(args: &ListArgs, session: &Session) -> Outcome {
    let admin = session.admin();
    let mut failures = session.failures();
    let topics = if args.topics.is_empty() {
        admin.list_topics().await?
    } else {
        let mut topics = Vec::new();
        for name in &args.topics {
            match admin.describe_topic(name).await {
                Ok(topic) => topics.push(topic),
                Err(error) => failures.add(error),
            }
        }
        topics
    };
    let mins = replicas::isr_mins(&admin, &topics).await?;
    let lines = select(&topics, &mins, args.only);
    if session.json {
        output::print_json(&lines.iter().map(to_json).collect::<Vec<_>>())?;
    } else if lines.is_empty() {
        output::note(if args.only.is_some() {
            "no partition is like that"
        } else {
            "no partitions yet"
        });
    } else {
        output::print(to_rows(&lines))?;
    }
    Ok(failures.exit().unwrap_or(Exit::Ok))
}

fn select<'a>(topics: &'a [TopicDescription], mins: &IsrMins, only: Option<Only>) -> Vec<Line<'a>> {
    let all = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let isr_min = replicas::isr_min(mins, &topic.name, partition);
            Line {
                topic: &topic.name,
                partition,
                condition: Condition::of(partition, isr_min),
            }
        })
    });
    all.filter(|line| only.is_none_or(|only| only.fits(line.partition, line.condition)))
        .collect()
}

fn to_json(line: &Line<'_>) -> Value {
    let partition = line.partition;
    json!({
        "topic": line.topic,
        "partition": partition.partition.get(),
        "leader": partition.leader.map(NodeId::get),
        "leader_epoch": partition.leader_epoch.get(),
        "replicas": replicas::ids(&partition.replicas),
        "isr": replicas::ids(&partition.isr),
        "elr": replicas::ids(&partition.elr),
        "adding": replicas::ids(&partition.adding),
        "removing": replicas::ids(&partition.removing),
        "condition": line.condition.name(),
    })
}

fn to_rows(lines: &[Line<'_>]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("PARTITION"),
        Column::Text("LEADER"),
        Column::Number("EPOCH"),
        Column::Text("REPLICAS"),
        Column::Text("ISR"),
        Column::Text("ELR"),
        Column::Text("MOVING"),
        Column::Text("CONDITION"),
    ]);
    for line in lines {
        let partition = line.partition;
        rows.push([
            format!("{}/{}", line.topic, partition.partition),
            replicas::leader(partition),
            partition.leader_epoch.to_string(),
            replicas::join(&partition.replicas),
            replicas::join_or_dash(&partition.isr),
            replicas::join_or_dash(&partition.elr),
            replicas::moving(partition),
            line.condition.name().to_owned(),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use highwater_client::TopicId;

    use super::*;
    use crate::replicas::sample;

    fn topics() -> Vec<TopicDescription> {
        let mut offline = sample(1, &[1, 2, 3], &[]);
        offline.elr = vec![NodeId::new(2)];
        let mut moving = sample(2, &[1, 2, 3, 4], &[1, 2, 3]);
        moving.adding = vec![NodeId::new(4)];
        moving.removing = vec![NodeId::new(1)];
        vec![TopicDescription {
            name: "orders".to_owned(),
            topic_id: TopicId::random(),
            partitions: vec![
                sample(0, &[1, 2, 3], &[1, 2, 3]),
                offline,
                moving,
                sample(3, &[1, 2, 3], &[1, 2]),
            ],
        }]
    }

    #[test]
    fn each_condition_selects_its_partitions() {
        let topics = topics();
        let numbers = |only| {
            let lines = select(&topics, &IsrMins::new(), only);
            let numbers = lines.iter().map(|line| line.partition.partition.get());
            numbers.collect::<Vec<_>>()
        };
        assert_eq!(numbers(None), [0, 1, 2, 3]);
        assert_eq!(numbers(Some(Only::UnderReplicated)), [1, 3]);
        assert_eq!(numbers(Some(Only::Offline)), [1]);
        assert_eq!(numbers(Some(Only::AtMinIsr)), [1, 3]);
        assert_eq!(numbers(Some(Only::Moving)), [2]);
    }

    #[test]
    fn lines_tell_all_there_is_to_know() {
        let topics = topics();
        let lines = select(&topics, &IsrMins::new(), None);
        assert_eq!(
            to_rows(&lines).to_string(),
            "\
PARTITION  LEADER  EPOCH  REPLICAS  ISR    ELR  MOVING  CONDITION
orders/0   1           4  1,2,3     1,2,3  -    -       healthy
orders/1   none        4  1,2,3     -      2    -       offline
orders/2   1           4  1,2,3,4   1,2,3  -    +4 -1   healthy
orders/3   1           4  1,2,3     1,2    -    -       at-min-isr
"
        );
        assert_eq!(to_json(&lines[2])["adding"], json!([4]));
    }
}
