//! `highwater verify check`

use std::path::PathBuf;

use clap::Args;
use highwater_verify::Verdict;
use highwater_verify::file::{FileError, read_history};

use super::report;
use crate::exit::{Exit, Failure, Outcome};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 valid, 2 invalid, 6 insufficient, and as for every command when the file cannot be
read.

Examples:
  highwater verify check history.jsonl
  highwater verify check history.jsonl -o json | jq '.checks[] | select(.found > 0)'")]
pub(super) struct CheckArgs {
    /// The history
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &CheckArgs, json: bool) -> Outcome {
    let history = read_history(&args.file).map_err(|error| {
        let exit = match &error {
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Exit::NotFound
            }
            _ => Exit::Error,
        };
        Failure::new(exit, "unreadable_history", error.to_string())
    })?;
    let verdict = Verdict::of(&history);
    report::print(&verdict, json)?;
    Ok(report::exit(&verdict))
}
