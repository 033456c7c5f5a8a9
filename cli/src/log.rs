//! `highwater log`: looks at the files of a broker that is not running, or of a copy.

mod dump;
mod findings;
mod segment_files;
mod segment_reader;
mod verify;

use clap::{Args, Subcommand};

use crate::args::OutputArgs;
use crate::exit::Outcome;

/// Arguments of `highwater log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    verb: LogVerb,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum LogVerb {
    /// Print the batches, or the records, of segment files
    Dump(dump::DumpArgs),
    /// Find damage in segment files and indexes; exit status 2 if there is some
    Verify(verify::VerifyArgs),
}

/// Does it.
pub(crate) fn run(args: &LogArgs) -> Outcome {
    match &args.verb {
        LogVerb::Dump(dump) => dump::run(dump, args.output.json()),
        LogVerb::Verify(verify) => verify::run(verify, args.output.json()),
    }
}
