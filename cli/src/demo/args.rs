//! The command line of `highwater demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::parse_duration;

const AFTER_HELP: &str = "\
With one broker, that broker is killed half-way and recovers. With several, every partition has
three replicas: the broker that leads the busiest one is killed, the others take over, and it comes
back and catches up. Exit status 0 means that every acknowledged record was read back once, in order
and unchanged.

Examples:
  highwater demo                              one broker: kill and recovery
  highwater demo --nodes 3                    three brokers: kill a leader, watch the failover
  highwater demo --nodes 3 --duration 1m
  highwater demo --nodes 5 --keep --files ~/src
  highwater demo --nodes 3 2>/dev/null        only the verdict";

/// What can be typed after `highwater demo`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DemoArgs {
    /// Brokers of the demo's cluster: 1, 3, 5, 7 or 9, all in this process
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) nodes: u32,
    /// How long data streams; a broker is killed on the way
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Keep the data directories and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
    /// Directory whose text files are sent [default: the sources of Cargo's packages, or another
    /// tree of text that this machine has]
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
}
