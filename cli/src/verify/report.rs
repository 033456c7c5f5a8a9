//! The verdict, for people and for programs.

use std::fmt::Write as _;

use highwater_verify::{Outcome, Verdict};

use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Rows};

/// Faults that are listed one by one.
const FAULTS_SHOWN: usize = 20;

/// Writes it to stdout.
pub(super) fn print(verdict: &Verdict, json: bool) -> Result<(), Failure> {
    if json {
        output::print_json(verdict)
    } else {
        output::print(text(verdict))
    }
}

/// The status that says it.
pub(super) fn exit(verdict: &Verdict) -> Exit {
    match verdict.outcome {
        Outcome::Valid => Exit::Ok,
        Outcome::Invalid => Exit::Findings,
        Outcome::Insufficient => Exit::Insufficient,
    }
}

fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, verdict);
    text
}

fn write(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    let mut summary = Rows::new(&[Column::Text("RECORDS"), Column::Number("")]);
    for (name, count) in [
        ("sent", verdict.sent),
        ("acknowledged", verdict.acked),
        ("in doubt", verdict.in_doubt),
        ("refused", verdict.refused),
        ("read", verdict.read),
        ("ends asked for", verdict.probes),
        ("reads without an answer", verdict.reads_in_doubt),
        ("faults", verdict.faults),
    ] {
        summary.push([name.to_owned(), count.to_string()]);
    }
    writeln!(text, "{summary}")?;
    let pauses = &verdict.pauses;
    writeln!(
        text,
        "Longest time without an acknowledgement, by partition: p50 {:.0} ms, max {:.0} ms",
        pauses.p50_ms, pauses.max_ms
    )?;
    if let Some(ms) = verdict.stale_fetch_ms_max {
        writeln!(
            text,
            "Most outdated end told with a fetch, which a new leader may not know yet: {ms:.0} ms"
        )?;
    }
    if !verdict.fault_windows.is_empty() {
        let mut faults = Rows::new(&[
            Column::Text("FAULT"),
            Column::Text("OF"),
            Column::Text("AT"),
            Column::Text("LIFTED"),
            Column::Number("P50 MS"),
            Column::Number("MAX MS"),
        ]);
        for window in verdict.fault_windows.iter().take(FAULTS_SHOWN) {
            faults.push([
                window.fault.clone(),
                window.target.clone(),
                window.from.to_string(),
                window
                    .to
                    .map_or_else(|| "-".to_owned(), |to| to.to_string()),
                format!("{:.0}", window.p50_ms),
                format!("{:.0}", window.max_ms),
            ]);
        }
        writeln!(text, "\n{faults}")?;
        let more = verdict.fault_windows.len().saturating_sub(FAULTS_SHOWN);
        if more > 0 {
            writeln!(text, "and {more} more")?;
        }
    } else {
        writeln!(text)?;
    }
    let mut checks = Rows::new(&[
        Column::Text("CHECK"),
        Column::Text("RESULT"),
        Column::Text("THAT"),
    ]);
    for check in &verdict.checks {
        let result = match (check.excused, check.found) {
            (Some(why), _) => format!("not asked: {why}"),
            (None, 0) => "ok".to_owned(),
            (None, found) => format!("{found} found"),
        };
        checks.push([check.id.to_owned(), result, check.name.to_owned()]);
    }
    writeln!(text, "{checks}")?;
    for (check, finding) in verdict.findings() {
        writeln!(text, "{} {finding}", check.id)?;
        for evidence in &finding.evidence {
            writeln!(text, "     {evidence}")?;
        }
    }
    for reason in &verdict.insufficient {
        writeln!(text, "Not enough: {reason}")?;
    }
    writeln!(
        text,
        "{}",
        match verdict.outcome {
            Outcome::Valid => "VALID: everything that clients were told is as promised",
            Outcome::Invalid => "INVALID: clients were told what must not be",
            Outcome::Insufficient => "INSUFFICIENT: nothing wrong was seen, which proves nothing",
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_verify::History;
    use highwater_verify::event::{Header, Rules};

    #[test]
    fn an_empty_history_is_called_insufficient() {
        let header = Header {
            history: Header::VERSION,
            topic: "t".to_owned(),
            partitions: 1,
            rules: Rules::default(),
            faults_wanted: vec!["kill".to_owned()],
        };
        let verdict = Verdict::of(&History::new(header).unwrap());
        let text = text(&verdict);
        assert!(text.contains("INSUFFICIENT"), "{text}");
        assert!(text.contains("\"kill\""), "{text}");
        assert_eq!(exit(&verdict), Exit::Insufficient);
    }
}
