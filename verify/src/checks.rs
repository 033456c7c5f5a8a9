//! The checks, one file each with its formal statement. `wrote(v)` is the record with value `v`,
//! `acked` those that were acknowledged, `off(v)` where a value was read or said to be, and
//! `A < B` in time: A was complete before B was invoked.

mod duplicates;
mod inconsistent_offsets;
mod liveness;
mod lost_writes;
mod monotone;
mod phantoms;
mod poll_order;
mod real_time_order;
mod stale_reads;

pub(crate) use self::stale_reads::longest_stale_fetch;
use crate::finding::Findings;
use crate::history::History;

/// One check.
pub(crate) struct Check {
    /// `H1`.
    pub(crate) id: &'static str,
    /// What it looks for.
    pub(crate) name: &'static str,
    /// Why it is not asked of this history, if so.
    pub(crate) excused: fn(&History) -> Option<&'static str>,
    /// Looks.
    pub(crate) run: fn(&History, &mut Findings),
}

/// All of them.
pub(crate) const CHECKS: [Check; 9] = [
    inconsistent_offsets::CHECK,
    duplicates::CHECK,
    lost_writes::CHECK,
    phantoms::CHECK,
    real_time_order::CHECK,
    stale_reads::CHECK,
    poll_order::CHECK,
    monotone::CHECK,
    liveness::CHECK,
];

/// Whether every partition is whole again, as the check of liveness asks.
pub(crate) fn is_whole(history: &History) -> bool {
    let mut findings = Findings::default();
    (liveness::CHECK.run)(history, &mut findings);
    findings.total == 0
}

fn always(_: &History) -> Option<&'static str> {
    None
}

fn needs_acks_all(history: &History) -> Option<&'static str> {
    let all = history.header.rules.acks == crate::event::AckLevel::All;
    (!all).then_some("the producers did not ask for acks=all")
}

fn needs_idempotence(history: &History) -> Option<&'static str> {
    (!history.header.rules.idempotent).then_some("the producers were not idempotent")
}
