//! Everything that can be typed after `highwater`. Each verb's own arguments stand in its module.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};

use crate::balance::BalanceArgs;
use crate::bench::BenchArgs;
use crate::broker::BrokerArgs;
use crate::cluster::ClusterArgs;
use crate::completion::CompletionArgs;
use crate::config::ConfigArgs;
use crate::consume::ConsumeArgs;
use crate::demo::DemoArgs;
use crate::health::HealthArgs;
use crate::log::LogArgs;
use crate::node::NodeArgs;
use crate::partition::PartitionArgs;
use crate::produce::ProduceArgs;
use crate::topic::TopicArgs;
use crate::verify::VerifyArgs;

const EXAMPLES: &str = "\
Examples:
  highwater demo                               see it work, needs nothing else
  highwater broker                             run a broker on 127.0.0.1:7171
  highwater topic create orders -p 3
  echo 'k1:hello' | highwater produce orders -K :
  highwater consume orders -o start -e -f '%o %k %v\\n'

Exit status: 0 done, 1 failed, 2 something was found (check, verify), 3 timed out, 4 denied,
5 not found, 6 too little to judge (verify), 64 wrong usage, 130 interrupted.";

/// Highwater: an append-only distributed log broker.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// No colours (as does the environment variable NO_COLOR)
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        display_order = 1000
    )]
    pub(crate) no_color: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a broker
    Broker(BrokerArgs),
    /// Create, list, describe, change and delete topics
    Topic(TopicArgs),
    /// Send records from files or stdin, one a line
    Produce(ProduceArgs),
    /// Print the records of a topic
    Consume(ConsumeArgs),
    /// Look at the cluster: brokers, health, metadata quorum
    Cluster(ClusterArgs),
    /// Look at, drain and remove single brokers
    Node(NodeArgs),
    /// Look at partitions, move replicas, elect leaders
    Partition(PartitionArgs),
    /// Give every broker its share of the replicas
    Balance(BalanceArgs),
    /// Ask a broker whether it is ready, as a health check does
    Health(HealthArgs),
    /// Use a cluster while brokers fail, and check everything that it says
    Verify(VerifyArgs),
    /// Look at a broker's files, offline
    Log(LogArgs),
    /// Check and explain a broker's configuration
    Config(ConfigArgs),
    /// Measure the broker against what this machine can do at all
    Bench(BenchArgs),
    /// See it work: one broker or several, real data, a kill, and every record checked
    Demo(DemoArgs),
    /// Print completions for a shell
    Completion(CompletionArgs),
}

impl Verb {
    /// Whether results, and so errors too, are asked for as JSON.
    pub(crate) fn reports_json(&self) -> bool {
        match self {
            Self::Topic(args) => args.output.json(),
            Self::Produce(args) => args.output.json(),
            Self::Consume(args) => args.reports_json(),
            Self::Cluster(args) => args.output.json(),
            Self::Node(args) => args.output.json(),
            Self::Partition(args) => args.output.json(),
            Self::Balance(args) => args.output.json(),
            Self::Verify(args) => args.output.json(),
            Self::Log(args) => args.output.json(),
            Self::Config(args) => args.output.json(),
            Self::Bench(args) => args.output.json(),
            Self::Broker(_) | Self::Health(_) | Self::Demo(_) | Self::Completion(_) => false,
        }
    }
}

/// How a verb finds its broker.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct ConnectArgs {
    /// A broker of the cluster; one is enough, several are tried in turn
    #[arg(
        short = 'b',
        long = "bootstrap",
        value_name = "HOST:PORT",
        env = "HIGHWATER_BOOTSTRAP",
        value_delimiter = ',',
        default_value = "127.0.0.1:7171",
        global = true
    )]
    pub(crate) bootstrap: Vec<String>,
    /// How long to wait for an answer, as in 500ms, 10s or 2m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration, global = true)]
    pub(crate) timeout: Duration,
}

/// How results are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// How results, and errors, are printed
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        global = true
    )]
    pub(crate) output: OutputFormat,
}

impl OutputArgs {
    /// Whether JSON is wanted.
    pub(crate) fn json(&self) -> bool {
        self.output == OutputFormat::Json
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    // For people. No doc comments here: they would become a paragraph each in every --help.
    Table,
    // For programs.
    Json,
}

/// A duration as typed.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write a number and a unit, as in 500ms, 10s, 2m or 1h".to_owned()),
    }
}

/// `key=value` as typed.
pub(crate) fn parse_assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write key=value, as in retention.ms=7d".to_owned()),
    }
}

/// Whether output may be coloured, as far as the user is concerned.
pub(crate) fn may_color() -> bool {
    color_choice(std::env::args_os(), std::env::var_os("NO_COLOR")) != ColorChoice::Never
}

/// Whether output may be coloured. Looked up before the arguments are parsed, because the parser's
/// own messages obey it too.
pub(crate) fn color_choice(
    mut args: impl Iterator<Item = OsString>,
    no_color: Option<OsString>,
) -> ColorChoice {
    if no_color.is_some_and(|value| !value.is_empty()) || args.any(|arg| arg == "--no-color") {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("highwater").chain(line.split_whitespace()))
    }

    #[test]
    fn the_declarations_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_spelling_that_scripts_rely_on_is_understood() {
        for line in [
            "broker",
            "broker --config f.toml --data-dir d --listen h:1 --admin h:2 --node-id 3 --seed a:1 --seed b:2 --set a=b --set c=d",
            "topic create orders",
            "topic create orders -p 3 -r 1 -c retention.ms=1d -c segment.bytes=1MiB -b h:1 -b h:2",
            "topic list",
            "topic list -b h:1 -o json",
            "topic describe orders",
            "topic delete orders --yes",
            "topic add-partitions orders --to 6",
            "topic config orders",
            "topic config orders get",
            "topic config orders set retention.ms=1d",
            "topic config orders unset retention.ms -b h:1 -o json",
            "topic offsets orders --at earliest",
            "topic offsets orders --at @2026-01-01T00:00Z -p 0 -p 1",
            "topic trim orders --before 100 -p 0,1",
            "produce orders",
            "produce orders a.txt b.txt -K : -p 1 -H a=b -H c=d --acks all -z zstd",
            "produce orders -b h:1 --acks 0",
            "consume orders",
            "consume orders -p 0 -p 1 -o start -e -n 5 --output json",
            "consume orders -o -10 -f %v\\n",
            "consume orders -o @-1h:end",
            "consume orders -o :end -b h:1 -b h:2",
            "consume orders -o 5:9",
            "cluster info",
            "cluster info -o json -b h:1",
            "topic create orders -r 3",
            "cluster quorum",
            "cluster quorum -o json",
            "cluster voters --add 4 --remove 1",
            "cluster voters --add 4,5",
            "cluster health",
            "cluster health --wait healthy --timeout 5m",
            "cluster health --wait writable -o json",
            "node list",
            "node describe 2 -o json",
            "node drain 3",
            "node drain 3 --wait",
            "node undrain 3",
            "node remove 3 --force -y",
            "partition list",
            "partition list orders --only under-replicated",
            "partition list --only offline",
            "partition list --only at-min-isr",
            "partition list --only moving -o json",
            "partition move orders/0=1,2,3 orders/1=2,3,1 --wait",
            "partition move --cancel orders/0",
            "partition elect",
            "partition elect --preferred orders/0",
            "partition elect orders/0 --to 2",
            "partition elect --unclean orders/3 --accept-data-loss",
            "balance plan",
            "balance run -w",
            "balance status --watch",
            "balance cancel -o json",
            "health",
            "health --url http://h:1/readyz --timeout 2s",
            "verify run",
            "verify run -b h:1 -d 10m -p 8 -r 3 --producers 4 --rate 500 --value-bytes 100",
            "verify run --spawn 3 --faults kill,pause,stop --fault-every 5s --fault-for 2s --seed 7",
            "verify run --fault-command false --heal-command true --history f --keep -o json",
            "verify run --acks 1 --no-idempotence --readers 2 -c durability=synced",
            "verify check f -o json",
            "log dump dir",
            "log verify dir -o json",
            "config check",
            "config check f.toml -o json",
            "config explain retention.ms",
            "completion bash",
            "completion zsh",
            "completion fish",
        ] {
            if let Err(error) = parse(line) {
                panic!("highwater {line}: {error}");
            }
        }
    }

    #[test]
    fn every_command_of_the_operations_document_is_understood() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let document = root.join("../docs/OPERATIONS.md");
        let text = std::fs::read_to_string(document).unwrap();
        let mut known = 0;
        for line in text.split("```").skip(1).step_by(2).flat_map(str::lines) {
            let line = line.split(" #").next().unwrap_or(line);
            let Some(arguments) = line.strip_prefix("highwater ") else {
                continue;
            };
            // Dots stand for what is left out.
            if arguments.contains('…') {
                continue;
            }
            if let Err(error) = parse(arguments) {
                panic!("{line}: {error}");
            }
            known += 1;
        }
        assert!(known > 20, "only {known} commands were found");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "topic",
            "topic create",
            "topic add-partitions orders",
            "produce",
            "consume",
            "consume orders -o sideways",
            "consume orders -f %q",
            "produce orders --acks 2",
            "produce orders -z rar",
            "topic create orders -p 0",
            "topic create orders -c novalue",
            "topic list --timeout 5",
            "cluster voters",
            "cluster health --wait sick",
            "node drain",
            "node remove x",
            "partition move",
            "partition move orders/0",
            "partition list --only broken",
            "partition elect --to 2",
            "partition elect --unclean orders/3",
            "partition elect --unclean --accept-data-loss",
            "partition elect orders/3 --accept-data-loss",
            "partition elect orders/3 --to 2 --unclean --accept-data-loss",
            "balance",
            "verify",
            "verify check",
            "verify run --faults kill",
            "verify run --spawn 3 --faults flood",
            "verify run --spawn 3 -b h:1",
            "verify run --heal-command true",
            "produce orders -K :  -k fixed",
            "broker --set novalue=",
        ] {
            // An empty value is a value: the configuration decides about it.
            if line.ends_with("novalue=") {
                assert!(parse(line).is_ok());
            } else {
                assert!(parse(line).is_err(), "highwater {line}");
            }
        }
    }

    #[test]
    fn options_of_a_noun_may_stand_anywhere_behind_it() {
        for line in ["topic -b h:1 -o json list", "topic list -b h:1 -o json"] {
            let Ok(Cli {
                verb: Verb::Topic(args),
                ..
            }) = parse(line)
            else {
                panic!("{line}")
            };
            assert_eq!(args.connect.bootstrap, ["h:1"], "{line}");
            assert!(args.output.json(), "{line}");
        }
        let Ok(Cli {
            verb: Verb::Topic(args),
            ..
        }) = parse("topic list -b a:1,b:2 -b c:3")
        else {
            panic!()
        };
        assert_eq!(args.connect.bootstrap, ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn colour_is_off_when_asked() {
        let choice = |args: &[&str], no_color: Option<&str>| {
            color_choice(
                args.iter().map(OsString::from),
                no_color.map(OsString::from),
            )
        };
        assert_eq!(choice(&["topic"], None), ColorChoice::Auto);
        assert_eq!(choice(&["topic", "--no-color"], None), ColorChoice::Never);
        assert_eq!(choice(&[], Some("1")), ColorChoice::Never);
        assert_eq!(choice(&[], Some("")), ColorChoice::Auto);
    }
}
