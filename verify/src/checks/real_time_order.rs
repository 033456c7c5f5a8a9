//! **H8, order in real time.** For every partition, `A` in `acked` and `B` in `acked` or read:
//! `A < B` in time implies `off(A) < off(B)`. And for each idempotent producer: of two of its values in
//! the log, the one that was sent first has the lower offset.
//!
//! A sweep over the invocations, in order of time, with the highest offset acknowledged so far:
//! O(n log n).

use super::Check;
use crate::event::AckLevel;
use crate::finding::{Finding, Findings};
use crate::history::{History, PartitionHistory, Write};

pub(super) const CHECK: Check = Check {
    id: "H8",
    name: "the order in which records were sent",
    excused,
    run,
};

fn excused(history: &History) -> Option<&'static str> {
    let rules = history.header.rules;
    let nothing = rules.acks != AckLevel::All && !rules.idempotent;
    nothing.then_some("the producers asked neither for acks=all nor for idempotence")
}

/// A record with the offset at which it is.
type Located<'a> = (u64, &'a Write);

fn run(history: &History, findings: &mut Findings) {
    for (number, partition) in history.numbered() {
        let located = locate(partition);
        if history.header.rules.acks == AckLevel::All {
            real_time(number, located.clone(), findings);
        }
        if history.header.rules.idempotent {
            program_order(number, located, findings);
        }
    }
}

fn locate(partition: &PartitionHistory) -> Vec<Located<'_>> {
    let seen = partition.offsets_by_value();
    let writes = partition.writes.iter();
    writes
        .filter_map(|write| {
            let told = write.offset.filter(|_| write.is_acked());
            let offset = told.or_else(|| seen.get(&write.value).copied())?;
            Some((offset, write))
        })
        .collect()
}

fn real_time(number: u32, mut located: Vec<Located<'_>>, findings: &mut Findings) {
    let mut acked: Vec<Located<'_>> = located.clone();
    acked.retain(|(_, write)| write.is_acked());
    acked.sort_by_key(|(_, write)| write.complete);
    located.sort_by_key(|(_, write)| write.invoke);
    let mut acked = acked.into_iter().peekable();
    let mut highest: Option<Located<'_>> = None;
    for (offset, write) in located {
        while let Some(earlier) = acked.next_if(|(_, acked)| acked.complete < write.invoke) {
            if highest.is_none_or(|(highest, _)| highest < earlier.0) {
                highest = Some(earlier);
            }
        }
        if let Some((before, earlier)) = highest
            && before >= offset
        {
            findings.add(|| {
                let what = format!(
                    "sent after {} was acknowledged, and not behind it",
                    earlier.value
                );
                Finding::at(number, what)
                    .offset(offset)
                    .value(write.value)
                    .write(earlier)
                    .write(write)
            });
        }
    }
}

fn program_order(number: u32, mut located: Vec<Located<'_>>, findings: &mut Findings) {
    located.sort_by_key(|(_, write)| write.value);
    for pair in located.windows(2) {
        let ((before, first), (offset, second)) = (pair[0], pair[1]);
        if first.value.producer() == second.value.producer() && before >= offset {
            findings.add(|| {
                let what = format!(
                    "its producer sent {} before, which is at {before}",
                    first.value
                );
                Finding::at(number, what)
                    .offset(offset)
                    .value(second.value)
                    .write(first)
                    .write(second)
            });
        }
    }
}
