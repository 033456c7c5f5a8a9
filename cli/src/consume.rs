//! `highwater consume`: prints the records of a topic.

mod format;
mod json_line;
mod offset_range;
mod plan;
mod printer;
mod record_view;
mod run;

use clap::Args;
use highwater_protocol::ids::{PartitionId, TopicName};

use crate::args::{ConnectArgs, OutputFormat};
use crate::moment::now;

use format::Format;
pub(crate) use offset_range::Bounds;
use offset_range::OffsetRange;
pub(crate) use run::run;

/// Arguments of `highwater consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Offsets (-o), for every partition:
  start      from the first record (the default)     end       only what comes from now on
  N          from offset N                           N:M       from N up to, not including, M
  +N         from N behind the start                 -N        from N before the end
  :M         from the start up to M                  :end      from the start up to the end of now
  @TIME      from the first record at or after TIME  @T1:T2    from T1 up to T2
  @-1h:end   the last hour                           @:T2      from the start up to T2
TIME is 2026-01-31, 2026-01-31T12:00:00Z, seconds or milliseconds since 1970, or a duration before
now such as -1h. A duration behind an absolute T1 counts from there: @2026-01-31:1h.

Format verbs (-f):
  %t topic  %p partition  %o offset  %k key  %v value  %h headers  %d date and time  %% percent
  %T time in ms  %K bytes of the key, -1 if it has none  %S bytes of the value, -1 if it has none
  \\n \\t \\r \\0 \\\\ \\xNN bytes

Examples:
  highwater consume orders
  highwater consume orders -o start -e -f '%p/%o %k: %v\\n'
  highwater consume orders -o -10 -e                   the last ten of every partition
  highwater consume orders -o @-1h:end --output json | jq .value
  highwater consume orders -p 0 -o 100 -n 1            the record at offset 100")]
pub(crate) struct ConsumeArgs {
    /// The topic
    topic: TopicName,
    /// Only these partitions; may be given several times, or separated by commas
    #[arg(
        short = 'p',
        long = "partition",
        value_name = "N",
        value_delimiter = ','
    )]
    partitions: Vec<PartitionId>,
    /// From where, and up to where
    #[arg(
        short = 'o',
        long = "offset",
        value_name = "OFFSET",
        default_value = "start",
        allow_hyphen_values = true,
        value_parser = |text: &str| OffsetRange::parse(text, now())
    )]
    range: OffsetRange,
    /// Stop at what is the end of each partition now
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Stop after so many records
    #[arg(short = 'n', long = "number", value_name = "COUNT")]
    limit: Option<u64>,
    /// What is printed of a record [default: %v\n]
    #[arg(short = 'f', long, value_name = "FORMAT", value_parser = Format::parse, conflicts_with = "output")]
    format: Option<Format>,
    /// `json` prints every record as an object on a line of its own
    #[arg(long, value_name = "FORMAT")]
    output: Option<OutputFormat>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ConsumeArgs {
    /// Whether errors are reported as JSON.
    pub(crate) fn reports_json(&self) -> bool {
        self.output == Some(OutputFormat::Json)
    }
}
