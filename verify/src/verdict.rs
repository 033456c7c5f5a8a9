//! What a history shows.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::checks::{CHECKS, longest_stale_fetch};
use crate::event::{AckLevel, Kind, Phase};
use crate::finding::{Finding, Findings};
use crate::history::History;
use crate::unavailability::{FaultWindow, Pauses};

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is wrong, and enough was tried.
    Valid,
    /// Something is wrong.
    Invalid,
    /// Nothing is wrong as far as can be seen, but that proves nothing.
    Insufficient,
}

/// What one check says.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// `H1` and so on, as the check's file states it.
    pub id: &'static str,
    /// What it looks for.
    pub name: &'static str,
    /// Why it was not asked of this history.
    pub excused: Option<&'static str>,
    /// How much it found.
    pub found: u64,
    /// The first of that.
    pub findings: Vec<Finding>,
}

/// The judgement of a history.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// Why it proves nothing.
    pub insufficient: Vec<String>,
    /// Each check.
    pub checks: Vec<CheckResult>,
    /// Records sent.
    pub sent: u64,
    /// Of these, acknowledged.
    pub acked: u64,
    /// Of these, in doubt.
    pub in_doubt: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Offsets at which a record was read.
    pub read: u64,
    /// Ends of partitions that were asked for and compared.
    pub probes: u64,
    /// Questions of readers and probes that came to nothing.
    pub reads_in_doubt: u64,
    /// Faults that were there.
    pub faults: u64,
    /// Longest times without an acknowledgement.
    pub pauses: Pauses,
    /// The same for each fault.
    pub fault_windows: Vec<FaultWindow>,
    /// For how long the most outdated end that a fetch told had been so, in ms: a new leader may not
    /// know the end yet. Not judged.
    pub stale_fetch_ms_max: Option<f64>,
}

impl Verdict {
    /// Judges a history.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let checks: Vec<CheckResult> = CHECKS
            .iter()
            .map(|check| {
                let excused = (check.excused)(history);
                let mut findings = Findings::default();
                if excused.is_none() {
                    (check.run)(history, &mut findings);
                }
                CheckResult {
                    id: check.id,
                    name: check.name,
                    excused,
                    found: findings.total,
                    findings: findings.kept,
                }
            })
            .collect();
        let count = |kind| history.writes().filter(|write| write.kind == kind).count() as u64;
        let partitions = history.partitions.iter();
        let insufficient = insufficient(history);
        let outcome = if checks.iter().any(|check| check.found > 0) {
            Outcome::Invalid
        } else if insufficient.is_empty() {
            Outcome::Valid
        } else {
            Outcome::Insufficient
        };
        let installed = |fault: &&crate::history::Fault| {
            fault.phase == Phase::Installed && fault.kind == Kind::Ok
        };
        Self {
            outcome,
            insufficient,
            checks,
            sent: history.writes().count() as u64,
            acked: count(Kind::Ok),
            in_doubt: count(Kind::Info),
            refused: count(Kind::Fail),
            read: partitions.clone().map(|p| p.sightings.len() as u64).sum(),
            probes: partitions.map(|p| p.listed.len() as u64).sum(),
            reads_in_doubt: history.reads_in_doubt,
            faults: history.faults.iter().filter(installed).count() as u64,
            pauses: Pauses::of(history),
            fault_windows: FaultWindow::all_of(history),
            stale_fetch_ms_max: longest_stale_fetch(history).map(ms),
        }
    }

    /// Everything that was found, with the check that found it.
    pub fn findings(&self) -> impl Iterator<Item = (&CheckResult, &Finding)> {
        let checks = self.checks.iter();
        checks.flat_map(|check| check.findings.iter().map(move |finding| (check, finding)))
    }
}

pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn insufficient(history: &History) -> Vec<String> {
    let mut reasons = Vec::new();
    let rules = &history.header.rules;
    let (mut sent, mut acked, mut in_doubt) = (0u64, 0u64, 0u64);
    for write in history.writes() {
        sent += 1;
        acked += u64::from(write.kind == Kind::Ok);
        in_doubt += u64::from(write.kind == Kind::Info);
    }
    let least = rules.acked_min.max(1);
    if acked < least {
        reasons.push(format!(
            "{acked} records were acknowledged, fewer than {least}"
        ));
    }
    if in_doubt * 2 > sent {
        reasons.push(format!(
            "{in_doubt} of {sent} records are in doubt, more than half"
        ));
    }
    if !history.is_complete {
        reasons.push("the history is torn off: it does not say that it is complete".to_owned());
    }
    let unread = history.numbered().filter(|(_, p)| p.finals.is_empty());
    let unread: Vec<String> = unread.map(|(number, _)| number.to_string()).collect();
    if !unread.is_empty() {
        let shown = unread[..unread.len().min(10)].join(", ");
        let count = unread.len();
        reasons.push(format!(
            "{count} partitions were not read to their end after the workload: {shown}"
        ));
    }
    if rules.acks != AckLevel::None && history.partitions.iter().all(|p| p.sightings.is_empty()) {
        reasons.push("nothing was read".to_owned());
    }
    let installed: BTreeSet<&str> = history
        .faults
        .iter()
        .filter(|fault| fault.phase == Phase::Installed && fault.kind == Kind::Ok)
        .map(|fault| fault.fault.as_str())
        .collect();
    for wanted in &history.header.faults_wanted {
        if !installed.contains(wanted.as_str()) {
            reasons.push(format!(
                "the fault {wanted:?} was asked for and never happened"
            ));
        }
    }
    reasons
}

impl Verdict {
    /// For tests.
    ///
    /// # Panics
    /// When the outcome is not [`Outcome::Valid`], with everything that was found.
    pub fn expect_valid(&self) {
        assert!(self.outcome == Outcome::Valid, "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.outcome)?;
        for reason in &self.insufficient {
            writeln!(f, "insufficient: {reason}")?;
        }
        for check in &self.checks {
            if check.found > 0 {
                writeln!(f, "{} {}: found {}", check.id, check.name, check.found)?;
            }
            for finding in &check.findings {
                writeln!(f, "  {finding}")?;
                for evidence in &finding.evidence {
                    writeln!(f, "    {evidence}")?;
                }
            }
        }
        Ok(())
    }
}
