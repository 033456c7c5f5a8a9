//! `highwater config`: is a broker's configuration right, and what does a setting mean?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use highwater_config::{ConfigErrors, Explanation, LoadOptions, Loaded, explain, load};
use serde_json::json;

use crate::args::OutputArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Column, Rows};

/// Arguments of `highwater config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Find everything that is wrong with a configuration; exit status 2 if there is something
    #[command(after_help = "\
The environment (HIGHWATER_…) is checked along, as the broker would read it.

Examples:
  highwater config check highwater.toml
  highwater config check --set retention.ms=7d --set segment.bytes=1GiB")]
    Check(CheckArgs),
    /// Say what a setting means, its values, its default, and where its value comes from
    #[command(after_help = "\
Examples:
  highwater config explain                              all settings
  highwater config explain retention.ms
  highwater config explain log.retention.hours          Kafka's names are known too
  highwater config explain listen --config highwater.toml")]
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The file; without it only the environment and --set are checked
    #[arg(value_name = "FILE", env = "HIGHWATER_CONFIG")]
    file: Option<PathBuf>,
    /// A setting to check along, as the broker would be given it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The setting, by its name, another product's name for it, or its environment variable
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// The configuration whose value is shown
    #[arg(short = 'c', long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

/// Does it.
pub(crate) fn run(args: &ConfigArgs) -> Outcome {
    let json = args.output.json();
    match &args.verb {
        ConfigVerb::Check(check) => run_check(check, json),
        ConfigVerb::Explain(explain) => run_explain(explain, json),
    }
}

fn run_check(args: &CheckArgs, json: bool) -> Outcome {
    let mut options = LoadOptions::from_process(args.file.clone());
    options.sets.clone_from(&args.set);
    let (faults, warnings) = match load(&options) {
        Ok(loaded) => (Vec::new(), loaded.warnings),
        Err(errors) => (fault_lines(&errors), Vec::new()),
    };
    if json {
        let ok = faults.is_empty();
        output::print_json(&json!({ "ok": ok, "faults": faults, "warnings": warnings }))?;
    } else {
        let mut text = String::new();
        for fault in &faults {
            text.push_str(&format!("fault: {fault}\n"));
        }
        for warning in &warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        match faults.len() as u64 {
            0 => text.push_str("the configuration is right\n"),
            number => text.push_str(&format!("{} found\n", output::count(number, "fault"))),
        }
        output::print(text)?;
    }
    Ok(if faults.is_empty() {
        Exit::Ok
    } else {
        Exit::Findings
    })
}

fn run_explain(args: &ExplainArgs, json: bool) -> Outcome {
    let loaded =
        load(&LoadOptions::from_process(args.config.clone())).map_err(|errors| failure(&errors))?;
    match &args.key {
        None => list(&loaded, json)?,
        Some(key) => one(
            &explain(key).map_err(|errors| unknown(&errors))?,
            &loaded,
            json,
        )?,
    }
    Ok(Exit::Ok)
}

fn list(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    if json {
        let settings: Vec<_> = loaded
            .values()
            .into_iter()
            .map(|(setting, value, origin)| {
                json!({
                    "key": setting.key,
                    "value": value,
                    "origin": origin.to_string(),
                    "default": setting.default,
                    "topic": setting.is_topic(),
                    "doc": setting.doc,
                })
            })
            .collect();
        return output::print_json(&settings);
    }
    let mut rows = Rows::new(&[
        Column::Text("KEY"),
        Column::Text("VALUE"),
        Column::Text("FROM"),
        Column::Text("MEANING"),
    ]);
    for (setting, value, origin) in loaded.values() {
        rows.push([
            setting.key.to_owned(),
            value,
            origin.to_string(),
            first_sentence(setting.doc).to_owned(),
        ]);
    }
    output::print(rows)
}

fn one(explanation: &Explanation, loaded: &Loaded, json: bool) -> Result<(), Failure> {
    let value = loaded.config.value(explanation.key).unwrap_or_default();
    let origin = loaded.origins.of(explanation.key).to_string();
    if json {
        return output::print_json(&json!({
            "key": explanation.key,
            "doc": explanation.doc,
            "values": explanation.values,
            "default": explanation.default,
            "value": value,
            "origin": origin,
            "variable": explanation.variable,
            "aliases": explanation.aliases,
            "topic": explanation.is_topic,
            "takes_effect": explanation.takes_effect,
        }));
    }
    let mut lines = vec![
        explanation.key.to_owned(),
        format!("  {}", explanation.doc),
        String::new(),
        format!("  value         {value} (from: {origin})"),
        format!("  values        {}", explanation.values),
        format!("  default       {}", shown(explanation.default)),
        format!("  environment   {}", explanation.variable),
        format!("  takes effect  {}", explanation.takes_effect),
    ];
    if explanation.is_topic {
        lines.push("  per topic     yes: highwater topic config TOPIC set KEY=VALUE".to_owned());
    }
    if !explanation.aliases.is_empty() {
        lines.push(format!(
            "  also called   {}",
            explanation.aliases.join(", ")
        ));
    }
    output::print(lines.join("\n") + "\n")
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

/// The first sentence, without its stop.
pub(crate) fn first_sentence(doc: &str) -> &str {
    doc.split_once(". ")
        .map_or(doc, |(first, _)| first)
        .trim_end_matches('.')
}

/// Every fault as a line.
pub(crate) fn fault_lines(errors: &ConfigErrors) -> Vec<String> {
    errors.faults().iter().map(ToString::to_string).collect()
}

/// A configuration that cannot be used, all faults in one line.
pub(crate) fn failure(errors: &ConfigErrors) -> Failure {
    Failure::new(
        Exit::Error,
        "invalid_config",
        fault_lines(errors).join("; "),
    )
    .hint("`highwater config check FILE` lists every fault on a line of its own")
}

fn unknown(errors: &ConfigErrors) -> Failure {
    let text = errors.to_string();
    let text = text.strip_prefix("configuration: ").unwrap_or(&text);
    Failure::new(Exit::NotFound, "unknown_setting", text)
        .hint("`highwater config explain` lists the settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_says_the_essence() {
        assert_eq!(first_sentence("One. Two."), "One");
        assert_eq!(first_sentence("Only 1.5 of it."), "Only 1.5 of it");
    }

    #[test]
    fn a_setting_that_does_not_exist_is_not_found() {
        let failure = unknown(&explain("retention.sm").unwrap_err());
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(
            failure.message.contains("retention.ms"),
            "{}",
            failure.message
        );
    }
}
