//! **H3, lost writes.**
//!
//! Online, with acks=all: let `m` and `n` be the lowest and the highest offset that anybody read. Every
//! `v` in `acked` with `m <= off(v) <= n` was read by somebody.
//!
//! Final: for each reading of the whole partition, from `start` to `end`, begun at `t`: everything that
//! was read before `t` at an offset of at least `start` is in it, and, with acks=all, so is everything
//! that was acknowledged before `t`, at the offset that was told.
//!
//! O(n log n).

use super::{Check, always};
use crate::event::AckLevel;
use crate::finding::{Finding, Findings};
use crate::history::{FinalRead, History, PartitionHistory};

pub(super) const CHECK: Check = Check {
    id: "H3",
    name: "nothing acknowledged or read is lost",
    excused: always,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    let acked_stay = history.header.rules.acks == AckLevel::All;
    for (number, partition) in history.numbered() {
        if acked_stay {
            online(number, partition, findings);
        }
        for read in &partition.finals {
            if acked_stay {
                acked_in_final(number, history, partition, read, findings);
            }
            read_in_final(number, history, partition, read, findings);
        }
    }
}

fn online(number: u32, partition: &PartitionHistory, findings: &mut Findings) {
    let offsets = &partition.sightings;
    let (Some((low, _)), Some((high, _))) = (offsets.first_key_value(), offsets.last_key_value())
    else {
        return;
    };
    for write in partition.writes.iter().filter(|write| write.is_acked()) {
        if let Some(offset) = write.offset
            && (*low..=*high).contains(&offset)
            && !offsets.contains_key(&offset)
        {
            findings.add(|| {
                Finding::at(
                    number,
                    format!("acknowledged, and never read, though records up to {high} were"),
                )
                .offset(offset)
                .value(write.value)
                .write(write)
            });
        }
    }
}

fn acked_in_final(
    number: u32,
    history: &History,
    partition: &PartitionHistory,
    read: &FinalRead,
    findings: &mut Findings,
) {
    let by_value = partition.offsets_by_value();
    for write in &partition.writes {
        if !write.is_acked() || write.complete >= read.invoke {
            continue;
        }
        // One whose offset the broker did not know any more can be anywhere.
        let offset = write.offset.or_else(|| by_value.get(&write.value).copied());
        let is_there = offset.is_some_and(|offset| {
            offset < read.start
                || (partition.final_saw(read, offset)
                    && partition.sightings[&offset].value == Some(write.value))
        });
        if !is_there {
            let process = history.process(read.process);
            let (start, end) = (read.start, read.end);
            let what = format!(
                "acknowledged, and not there when {process} read the partition from {start} to \
                 {end} at {}",
                read.invoke
            );
            findings.add(|| {
                let finding = Finding::at(number, what).value(write.value).write(write);
                match offset {
                    Some(offset) => finding.offset(offset),
                    None => finding,
                }
            });
        }
    }
}

fn read_in_final(
    number: u32,
    history: &History,
    partition: &PartitionHistory,
    read: &FinalRead,
    findings: &mut Findings,
) {
    for (offset, seen) in partition.sightings.range(read.start..) {
        if seen.complete < read.invoke && !partition.final_saw(read, *offset) {
            let what = format!(
                "read before, and not there when {} read the partition from {} to {} at {}",
                history.process(read.process),
                read.start,
                read.end,
                read.invoke
            );
            findings.add(|| {
                Finding::at(number, what)
                    .offset(*offset)
                    .value(seen.value)
                    .sighting(history, *offset, seen)
            });
        }
    }
}
