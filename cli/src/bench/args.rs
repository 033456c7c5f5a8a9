//! The command line of `highwater bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use highwater_config::units::parse_size;
use highwater_protocol::compression::Compression;

use crate::args::OutputArgs;
use crate::bench::peer::PeerArgs;

/// Measure throughput and latency, and the limits of this machine beside them.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write records; compared with `sink`: a bare loopback stream received into a file, or, with
    /// several --replicas, with one broker alone
    Produce(WorkloadArgs),
    /// Fill a topic, then read it back and decode every record; compared with `source`: a file
    /// in the page cache sent over a bare loopback stream
    Consume(WorkloadArgs),
    /// Write at a fixed rate and read in the same process: latency from the intended send time to
    /// the receipt; compared with a bare TCP echo
    E2e(WorkloadArgs),
    /// Measure this machine without any broker: loopback, memory, disk, echo, sink and source
    Limits(WorkloadArgs),
    /// The other process of a limit
    #[command(hide = true)]
    Peer(PeerArgs),
}

/// Options that every workload shares, so that a script can vary the workload alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkloadArgs {
    /// Measure this cluster instead of starting brokers of our own
    #[arg(
        short = 'b',
        long = "bootstrap",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub(crate) bootstrap: Vec<String>,
    /// Topic to use; one that does not exist is created, and deleted afterwards
    #[arg(long, default_value = "highwater-bench")]
    pub(crate) topic: String,
    /// Bytes of the value of each record
    #[arg(long, default_value = "1KiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) size: u64,
    /// Stop a run after this many records
    #[arg(long, value_name = "N")]
    pub(crate) records: Option<u64>,
    /// Stop a run after this time [default: 10s or 2 GiB, whichever comes first; limits: 1s each]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Producers (consume: producers that fill the topic)
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) producers: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Replicas of each partition; the bench starts as many brokers of its own, as one cluster, and
    /// holds the throughput against one broker alone with acks=1
    #[arg(short = 'r', long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) replicas: u16,
    /// Who must have a record before it is acknowledged
    #[arg(long, default_value = "1")]
    pub(crate) acks: AcksArg,
    /// Largest batch that a producer sends
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) batch: u64,
    /// How long a producer waits for a batch to fill
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) linger: Duration,
    /// Records per second over all producers; latency then counts from the time at which a record
    /// was due, so that a stall is not hidden [default: as fast as possible; e2e: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Keep at most N records unacknowledged per producer; 1 is one record per request, one
    /// request at a time [default: as many as the producer's buffer holds]
    #[arg(long, value_name = "N", conflicts_with = "rate",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: Option<u32>,
    /// Compression of the batches
    #[arg(
        short = 'z',
        long = "compression",
        default_value = "none",
        value_name = "CODEC"
    )]
    pub(crate) compression: Compression,
    /// Durability of the topic that is created
    #[arg(long, default_value = "replicated")]
    pub(crate) durability: DurabilityArg,
    /// Touch and release a few GiB right before each measured run, so that a virtual machine's
    /// cost of fresh memory is not measured; `--warm=false` turns it off
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) warm: bool,
    /// Measure this often, limit and workload in turn, and report the median
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Directory for the files of the bench and of its own broker (a fresh directory inside it is
    /// used and removed) [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Setting for the bench's own brokers, as in `highwater broker --set`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Threads for the producers [default: one per producer, at most one per core; 1 with
    /// --rate or --in-flight]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
}

/// A size as typed; nothing is not a size.
fn parse_bytes(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("must be at least 1 byte".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Acknowledgement that a producer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    /// None: not even an answer
    #[value(name = "0")]
    None,
    /// The leader
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas
    #[value(name = "all")]
    All,
}

impl AcksArg {
    /// As it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AcksArg::None => "0",
            AcksArg::Leader => "1",
            AcksArg::All => "all",
        }
    }
}

/// Durability of the topic under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// A record counts when it is in the page cache of the replica
    Replicated,
    /// A record counts when fdatasync covered it
    Synced,
}

impl DurabilityArg {
    /// The value of the topic's `durability` setting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DurabilityArg::Replicated => "replicated",
            DurabilityArg::Synced => "synced",
        }
    }
}
