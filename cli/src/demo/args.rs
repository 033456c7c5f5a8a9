//! The command line of `highwater demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::parse_duration;

/// See it work: a broker, real data, a kill and a recovery, and every record checked.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Brokers of the demo's cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) nodes: u32,
    /// How long data streams; the broker is killed half-way
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Keep the data directory and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
    /// Directory whose text files are sent [default: the sources of Cargo's packages, or another
    /// tree of text that this machine has]
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,
}
