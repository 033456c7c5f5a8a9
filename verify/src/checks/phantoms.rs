//! **H4, phantoms.** Everything that was read is a value `v`, every byte as it was sent, with a
//! `wrote(v)` to the same partition that did not fail.
//!
//! O(n log n).

use super::{Check, always};
use crate::event::Kind;
use crate::finding::{Finding, Findings};
use crate::history::{History, Write};
use crate::value::ValueId;

pub(super) const CHECK: Check = Check {
    id: "H4",
    name: "nothing that nobody sent",
    excused: always,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    let mut sent: Vec<(ValueId, u32, &Write)> = history
        .numbered()
        .flat_map(|(number, p)| p.writes.iter().map(move |w| (w.value, number, w)))
        .collect();
    sent.sort_unstable_by_key(|(value, ..)| *value);
    for (number, partition) in history.numbered() {
        for (offset, hex, seen) in &partition.damaged {
            findings.add(|| {
                Finding::at(number, format!("no value of ours; it begins with 0x{hex}"))
                    .offset(*offset)
                    .sighting(history, *offset, seen)
            });
        }
        for (offset, seen) in partition.all_sightings() {
            let Some(value) = seen.value else { continue };
            let Ok(at) = sent.binary_search_by_key(&value, |(value, ..)| *value) else {
                // In a history that was torn off, what was on its way is missing.
                if history.is_complete {
                    findings.add(|| {
                        Finding::at(number, "nobody sent it")
                            .offset(offset)
                            .value(value)
                            .sighting(history, offset, seen)
                    });
                }
                continue;
            };
            let (_, to, write) = sent[at];
            let what = if to != number {
                format!("it was sent to partition {to}")
            } else if write.kind == Kind::Fail {
                "its producer was told that it is not in the log and never will be".to_owned()
            } else {
                continue;
            };
            findings.add(|| {
                Finding::at(number, what)
                    .offset(offset)
                    .value(value)
                    .write(write)
                    .sighting(history, offset, seen)
            });
        }
    }
}
