//! **H1, inconsistent offsets.** For every partition and offset `o`: all that was read at `o`, and with
//! acks=all all that was acknowledged at `o`, is one value.
//!
//! O(n log n).

use super::{Check, always};
use crate::event::AckLevel;
use crate::finding::{Finding, Findings};
use crate::history::{History, Write};

pub(super) const CHECK: Check = Check {
    id: "H1",
    name: "one value at each offset",
    excused: always,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    for (number, partition) in history.numbered() {
        for (offset, other) in &partition.conflicts {
            let first = &partition.sightings[offset];
            if first.value == other.value && other.value.is_some() {
                // The same record of another epoch: the check of what never goes back says it.
                continue;
            }
            findings.add(|| {
                Finding::at(number, "readers saw different values at one offset")
                    .offset(*offset)
                    .value(other.value)
                    .sighting(history, *offset, first)
                    .sighting(history, *offset, other)
            });
        }
        if history.header.rules.acks != AckLevel::All {
            continue;
        }
        let mut acked: Vec<(u64, &Write)> = partition
            .writes
            .iter()
            .filter(|write| write.is_acked())
            .filter_map(|write| Some((write.offset?, write)))
            .collect();
        acked.sort_by_key(|(offset, _)| *offset);
        for pair in acked.windows(2) {
            if pair[0].0 == pair[1].0 {
                findings.add(|| {
                    Finding::at(number, "two records were acknowledged at one offset")
                        .offset(pair[0].0)
                        .value(pair[1].1.value)
                        .write(pair[0].1)
                        .write(pair[1].1)
                });
            }
        }
        for (offset, write) in acked {
            if let Some(seen) = partition.sightings.get(&offset)
                && seen.value != Some(write.value)
            {
                findings.add(|| {
                    Finding::at(
                        number,
                        "another value was acknowledged at this offset than read",
                    )
                    .offset(offset)
                    .value(write.value)
                    .write(write)
                    .sighting(history, offset, seen)
                });
            }
        }
    }
}
