//! `highwater log verify`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::findings::{Finding, Verifier};
use super::segment_files;
use crate::exit::{Exit, Outcome};
use crate::output;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
Checks every batch (checksum, lengths, counts), that offsets follow each other and leader epochs never
go back, the seals of finished segments and the checksums of their indexes. Files are only read.

Examples:
  highwater log verify highwater-data
  highwater log verify highwater-data -o json | jq '.findings[].file'")]
pub(super) struct VerifyArgs {
    /// Segment files, partition directories, or a data directory
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs, json: bool) -> Outcome {
    let files = segment_files::find(&args.paths)?;
    let bytes = files
        .iter()
        .filter_map(|file| Some(std::fs::metadata(file).ok()?.len()))
        .sum();
    let progress = if json {
        Progress::hidden()
    } else {
        Progress::bytes(Some(bytes))
    };
    let mut verifier = Verifier::default();
    for file in &files {
        let records = verifier.totals.records;
        verifier.segment(file, |bytes| progress.advance(bytes, records));
    }
    progress.finish();
    let Verifier {
        findings, totals, ..
    } = verifier;
    if json {
        output::print_json(&json!({
            "ok": findings.is_empty(),
            "checked": totals,
            "findings": findings,
        }))?;
    } else {
        let mut text: String = findings.iter().map(line).collect();
        text.push_str(&format!(
            "{} ({} sealed), {}, {}, {}: {}\n",
            output::count(totals.segments, "segment"),
            totals.sealed,
            batches(totals.batches),
            output::count(totals.records, "record"),
            output::bytes(totals.bytes),
            match findings.len() as u64 {
                0 => "nothing is wrong".to_owned(),
                number => format!("{} found", output::count(number, "fault")),
            },
        ));
        output::print(text)?;
    }
    Ok(if findings.is_empty() {
        Exit::Ok
    } else {
        Exit::Findings
    })
}

fn line(finding: &Finding) -> String {
    let at = finding
        .position
        .map_or_else(String::new, |position| format!(" at {position}"));
    format!(
        "{}: {}{at}: {}\n",
        finding.kind, finding.file, finding.problem
    )
}

fn batches(number: u64) -> String {
    if number == 1 {
        "1 batch".to_owned()
    } else {
        format!("{number} batches")
    }
}
