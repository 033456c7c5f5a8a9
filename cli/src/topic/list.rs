//! `highwater topic list`

use clap::Args;
use serde_json::json;

use super::Context;
use super::pattern::Pattern;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Column, Rows};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic list
  highwater topic list 'orders.*'
  highwater topic list -o json | jq -r '.[].name'")]
pub(super) struct ListArgs {
    /// Only topics whose name fits; * stands for anything, ? for one character
    #[arg(value_name = "PATTERN")]
    pattern: Option<Pattern>,
}

pub(super) async fn run(args: &ListArgs, context: &Context) -> Outcome {
    let mut topics = context.client.admin().list_topics().await?;
    topics.retain(|topic| {
        args.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.fits(&topic.name))
    });
    if context.json {
        let topics: Vec<_> = topics
            .iter()
            .map(|topic| {
                json!({
                    "name": topic.name,
                    "topic_id": topic.topic_id.to_string(),
                    "partitions": topic.partitions.len(),
                    "replicas": topic.partitions.first().map_or(0, |first| first.replicas.len()),
                    "offline": offline(topic),
                })
            })
            .collect();
        output::print_json(&topics)?;
        return Ok(Exit::Ok);
    }
    if topics.is_empty() {
        output::note(if args.pattern.is_some() {
            "no topic fits"
        } else {
            "no topics yet"
        });
        return Ok(Exit::Ok);
    }
    let mut rows = Rows::new(&[
        Column::Text("NAME"),
        Column::Number("PARTITIONS"),
        Column::Number("REPLICAS"),
        Column::Text("STATE"),
    ]);
    for topic in &topics {
        let state = match offline(topic) {
            0 => "online".to_owned(),
            number => format!("{number} offline"),
        };
        let replicas = topic
            .partitions
            .first()
            .map_or(0, |first| first.replicas.len());
        rows.push([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas.to_string(),
            state,
        ]);
    }
    output::print(rows)?;
    Ok(Exit::Ok)
}

fn offline(topic: &highwater_client::TopicDescription) -> usize {
    topic
        .partitions
        .iter()
        .filter(|partition| crate::replicas::is_offline(partition))
        .count()
}
