//! `highwater topic config`

use clap::{Args, Subcommand};
use highwater_client::{ConfigDescription, ConfigSource};
use serde_json::{Value, json};

use super::Context;
use crate::args::parse_assignment;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Column, Rows};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic config orders
  highwater topic config orders get retention.ms
  highwater topic config orders set retention.ms=3d retention.bytes=10GiB
  highwater topic config orders unset retention.ms          back to the broker's value
  highwater topic config orders set retention.ms=3d --dry-run")]
pub(super) struct TopicConfigArgs {
    /// Name of the topic
    #[arg(value_name = "NAME")]
    name: String,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show settings: all, or those named
    Get {
        /// The settings
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Give the topic values of its own, all of them or none
    Set {
        /// The settings and their values
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = parse_assignment)]
        values: Vec<(String, String)>,
        /// Only check
        #[arg(long)]
        dry_run: bool,
    },
    /// Go back to the broker's values
    Unset {
        /// The settings
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        /// Only check
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(args: &TopicConfigArgs, context: &Context) -> Outcome {
    match &args.action {
        None => get(&args.name, &[], context).await,
        Some(Action::Get { keys }) => get(&args.name, keys, context).await,
        Some(Action::Set { values, dry_run }) => {
            let changes = values
                .iter()
                .map(|(key, value)| (key.clone(), Some(value.clone())));
            alter(&args.name, changes.collect(), *dry_run, context).await
        }
        Some(Action::Unset { keys, dry_run }) => {
            let changes = keys.iter().map(|key| (key.clone(), None));
            alter(&args.name, changes.collect(), *dry_run, context).await
        }
    }
}

async fn get(name: &str, keys: &[String], context: &Context) -> Outcome {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let wanted = (!keys.is_empty()).then_some(keys.as_slice());
    let configs = context
        .client
        .admin()
        .describe_configs(name, wanted)
        .await?;
    show(&configs, context)?;
    Ok(Exit::Ok)
}

async fn alter(
    name: &str,
    changes: Vec<(String, Option<String>)>,
    dry_run: bool,
    context: &Context,
) -> Outcome {
    let admin = context.client.admin();
    if dry_run {
        admin.validate_configs(name, changes).await?;
        output::note("the change is right; nothing was changed");
        return Ok(Exit::Ok);
    }
    let keys: Vec<String> = changes.iter().map(|(key, _)| key.clone()).collect();
    admin.alter_configs(name, changes).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    show(&admin.describe_configs(name, Some(&keys)).await?, context)?;
    Ok(Exit::Ok)
}

fn show(configs: &[ConfigDescription], context: &Context) -> Result<(), Failure> {
    if context.json {
        output::print_json(&to_json(configs))
    } else {
        output::print(to_rows(configs))
    }
}

pub(super) fn to_json(configs: &[ConfigDescription]) -> Value {
    configs
        .iter()
        .map(|config| {
            json!({
                "key": config.key,
                "value": config.value,
                "source": source(config.source),
                "doc": config.doc,
            })
        })
        .collect()
}

pub(super) fn to_rows(configs: &[ConfigDescription]) -> Rows {
    let mut rows = Rows::new(&[
        Column::Text("SETTING"),
        Column::Text("VALUE"),
        Column::Text("FROM"),
        Column::Text("MEANING"),
    ]);
    for config in configs {
        let meaning = crate::config::first_sentence(&config.doc).to_owned();
        let from = source(config.source).to_owned();
        rows.push([config.key.clone(), config.value.clone(), from, meaning]);
    }
    rows
}

fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Default => "default",
        ConfigSource::Broker => "broker",
        ConfigSource::Topic => "topic",
    }
}
