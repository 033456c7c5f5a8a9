//! **H15, liveness after healing.** Let all faults be lifted at `h` and `b = h + heal_ms_max`. Then for
//! every partition there are, complete before `b`: an acknowledged record that was sent after `h`; that
//! record or a later one, read; and a description in which it has a leader and all replicas are in
//! sync.
//!
//! O(n).

use std::time::Duration;

use super::Check;
use crate::event::AckLevel;
use crate::finding::{Finding, Findings};
use crate::history::History;

pub(super) const CHECK: Check = Check {
    id: "H15",
    name: "whole again in time",
    excused,
    run,
};

fn excused(history: &History) -> Option<&'static str> {
    if history.settled.is_none() {
        return Some("it was not noted when all faults were lifted");
    }
    let told = history.header.rules.acks != AckLevel::None;
    (!told).then_some("the producers asked for no acknowledgements")
}

fn run(history: &History, findings: &mut Findings) {
    let Some(healed) = history.settled else {
        return;
    };
    let bound = Duration::from_millis(history.header.rules.heal_ms_max);
    let until = healed.plus(bound);
    for (number, partition) in history.numbered() {
        let mut missing = Vec::new();
        let acked = partition
            .writes
            .iter()
            .filter(|write| write.is_acked() && write.invoke >= healed && write.complete <= until);
        match acked.filter_map(|write| write.offset).min() {
            None => missing.push("no record was acknowledged"),
            Some(first) => {
                let mut read = partition.polls.iter();
                if !read.any(|poll| poll.complete <= until && poll.next > first) {
                    missing.push("what was acknowledged was not read");
                }
            }
        }
        let mut described = partition.described.iter();
        let is_whole = described.any(|d| {
            let in_sync = d.replicas.iter().all(|replica| d.isr.contains(replica));
            (healed..=until).contains(&d.complete) && d.leader.is_some() && in_sync
        });
        if !is_whole {
            missing.push("not all replicas were in sync");
        }
        if !missing.is_empty() {
            findings.add(|| {
                let what = format!(
                    "within {bound:?} from {healed}, when all faults were lifted, {}",
                    missing.join(" and ")
                );
                Finding::at(number, what)
            });
        }
    }
}
