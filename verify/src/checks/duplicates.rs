//! **H2, duplicates.** For every partition and value `v` of an idempotent producer: all offsets at
//! which `v` was read or acknowledged are one offset.
//!
//! O(n).

use std::collections::HashMap;

use super::{Check, needs_idempotence};
use crate::finding::{Finding, Findings};
use crate::history::{History, Sighting};
use crate::value::ValueId;

pub(super) const CHECK: Check = Check {
    id: "H2",
    name: "no value twice",
    excused: needs_idempotence,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    for (number, partition) in history.numbered() {
        let mut found: HashMap<ValueId, (u64, &Sighting)> = HashMap::new();
        for (offset, seen) in partition.all_sightings() {
            let Some(value) = seen.value else { continue };
            let (first, before) = *found.entry(value).or_insert((offset, seen));
            if first != offset {
                findings.add(|| {
                    Finding::at(number, format!("the value is at offset {first} as well"))
                        .offset(offset)
                        .value(value)
                        .sighting(history, first, before)
                        .sighting(history, offset, seen)
                });
            }
        }
        for write in partition.writes.iter().filter(|write| write.is_acked()) {
            if let (Some(told), Some((offset, seen))) = (write.offset, found.get(&write.value))
                && told != *offset
            {
                findings.add(|| {
                    Finding::at(number, format!("it was acknowledged at offset {told}"))
                        .offset(*offset)
                        .value(write.value)
                        .write(write)
                        .sighting(history, *offset, seen)
                });
            }
        }
    }
}
