//! `highwater produce`: sends records from files or stdin.

mod acknowledgements;
mod blocks;
mod envelope;
mod feed;
mod input;
mod line;
mod pace;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{PartitionId, TopicName};

use crate::args::{ConnectArgs, OutputArgs};

use line::{HeaderArg, parse_separator};
use pace::Rate;
pub(crate) use run::run;

/// A separator as its bytes. (A plain `Vec` would make the parser expect several values.)
type Separator = Box<[u8]>;

/// Arguments of `highwater produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
One record a line. Without FILE, or for the FILE -, records come from stdin. How many were
acknowledged is reported on stderr; the exit status is 0 only if all were.

Records with a key go to the partition of the key's hash (Kafka's murmur2), records without one to
any partition in turn, batch by batch. Records of one partition keep their order.

Examples:
  echo hello | highwater produce orders
  highwater produce logs app.log app.log.1 -z zstd
  highwater produce orders -K : <<< 'k1:first'
  highwater produce users -K '\\t' --null NULL users.tsv    a value NULL deletes the key
  highwater produce orders -H source=cli -p 0 --acks 1 --rate 100/s orders.txt
  highwater consume a --output json -e | highwater produce b --from-json")]
pub(crate) struct ProduceArgs {
    /// The topic
    topic: TopicName,
    /// Files to read, one after the other
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What separates key and value in a line, for example : or \t; every line must have it
    #[arg(short = 'K', long = "key-sep", value_name = "KEYSEP", value_parser = separator, conflicts_with = "key")]
    key_separator: Option<Separator>,
    /// The key of every record
    #[arg(short = 'k', long, value_name = "KEY")]
    key: Option<String>,
    /// A header of every record; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<HeaderArg>,
    /// The partition of every record
    #[arg(short = 'p', long, value_name = "PARTITION")]
    partition: Option<PartitionId>,
    /// What ends a record
    #[arg(short = 'D', long = "delim", value_name = "DELIM", default_value = "\\n", value_parser = separator)]
    delimiter: Separator,
    /// The text that stands for a missing value, or a missing key
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Read objects as `consume --output json` writes them; topic, partition and offset are ignored
    #[arg(long, conflicts_with_all = ["key_separator", "key", "null", "delimiter"])]
    from_json: bool,
    /// When a record counts as acknowledged: never, when the leader has it, when all replicas have it
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: AcksArg,
    /// How batches are compressed: none, lz4, zstd, snappy, gzip
    #[arg(
        short = 'z',
        long = "compression",
        value_name = "CODEC",
        default_value = "none"
    )]
    compression: Compression,
    /// At most so many records per second: 100, 10k/s, 600/m
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Stop after so many records
    #[arg(short = 'n', long = "number", value_name = "COUNT")]
    limit: Option<u64>,
    /// How long a batch waits for more records
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = linger)]
    linger: Duration,
    /// Send a batch when it has so many bytes; never more than the topic's max.message.bytes
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = batch_bytes)]
    batch: usize,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `--acks` as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    // No doc comments here: they would become a paragraph each in --help.
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

fn separator(text: &str) -> Result<Separator, String> {
    parse_separator(text)
        .map(Vec::into_boxed_slice)
        .map_err(|error| error.to_string())
}

fn linger(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number and a unit, as in 0ms, 5ms or 1s".to_owned())
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    let bytes = highwater_config::units::parse_size(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "must be at least one byte".to_owned())
}
