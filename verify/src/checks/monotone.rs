//! **H14, what never goes back.** For every partition:
//!
//! - of two answers of ListOffsets of which one was complete before the other was asked for, the later
//!   has no lower log start, no lower leader epoch and, allowing for `stale_ms_max`, no lower end;
//! - one reader's high watermarks do not fall;
//! - leader epochs do not fall from one offset to the next, and a record keeps its epoch.
//!
//! A sweep over the questions, in order of time, with the highest answer so far: O(n log n).

use std::collections::HashMap;
use std::time::Duration;

use super::{Check, always};
use crate::event::Bound;
use crate::finding::{Finding, Findings};
use crate::history::{History, Listed, PartitionHistory, Poll, ProcessId};

pub(super) const CHECK: Check = Check {
    id: "H14",
    name: "ends and epochs do not go back",
    excused: always,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    let stale = Duration::from_millis(history.header.rules.stale_ms_max);
    for (number, partition) in history.numbered() {
        let of = |bound: Bound| {
            let listed = partition.listed.iter();
            listed
                .filter(move |listed| listed.bound == bound)
                .collect::<Vec<_>>()
        };
        let offset = |listed: &Listed| Some(listed.offset);
        let mut look = |what, listed, value, allowed| {
            never_falls(history, number, what, listed, value, allowed, findings);
        };
        look(
            "the log start",
            of(Bound::Earliest),
            &offset,
            Duration::ZERO,
        );
        look("the end", of(Bound::Latest), &offset, stale);
        let epoch = |listed: &Listed| listed.leader_epoch.map(u64::from);
        let all = partition.listed.iter().collect();
        look("the leader epoch", all, &epoch, stale);
        high_watermarks(history, number, partition, findings);
        epochs_by_offset(history, number, partition, findings);
    }
}

fn never_falls(
    history: &History,
    number: u32,
    what: &str,
    mut listed: Vec<&Listed>,
    value: &dyn Fn(&Listed) -> Option<u64>,
    allowed: Duration,
    findings: &mut Findings,
) {
    listed.retain(|listed| value(listed).is_some());
    let mut answered = listed.clone();
    answered.sort_by_key(|listed| listed.complete);
    listed.sort_by_key(|listed| listed.invoke);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<&Listed> = None;
    for later in listed {
        while let Some(earlier) =
            answered.next_if(|earlier| earlier.complete.plus(allowed) < later.invoke)
        {
            if highest.is_none_or(|highest| value(highest) < value(earlier)) {
                highest = Some(earlier);
            }
        }
        if let Some(earlier) = highest
            && value(earlier) > value(later)
        {
            findings.add(|| {
                Finding::at(number, format!("{what} went back"))
                    .listed(history, earlier)
                    .listed(history, later)
            });
        }
    }
}

fn high_watermarks(
    history: &History,
    number: u32,
    partition: &PartitionHistory,
    findings: &mut Findings,
) {
    let mut last: HashMap<ProcessId, &Poll> = HashMap::new();
    let follows = |poll: &&Poll| poll.purpose != crate::event::Purpose::Tail;
    for poll in partition.polls.iter().filter(follows) {
        let Some(told) = poll.high_watermark else {
            continue;
        };
        if let Some(before) = last.insert(poll.process, poll)
            && before.high_watermark > Some(told)
        {
            findings.add(|| {
                Finding::at(number, "the high watermark went back")
                    .offset(told)
                    .poll(history, before)
                    .poll(history, poll)
            });
        }
    }
}

fn epochs_by_offset(
    history: &History,
    number: u32,
    partition: &PartitionHistory,
    findings: &mut Findings,
) {
    let mut highest: Option<(u32, u64)> = None;
    for (offset, seen) in &partition.sightings {
        let Some(epoch) = seen.leader_epoch else {
            continue;
        };
        if let Some((before, at)) = highest
            && before > epoch
        {
            findings.add(|| {
                let what = format!("of leader epoch {epoch}, behind {before} at offset {at}");
                Finding::at(number, what)
                    .offset(*offset)
                    .value(seen.value)
                    .sighting(history, *offset, seen)
                    .sighting(history, at, &partition.sightings[&at])
            });
        } else {
            highest = Some((epoch, *offset));
        }
    }
    for (offset, other) in &partition.conflicts {
        let first = &partition.sightings[offset];
        if first.value == other.value && other.value.is_some() {
            findings.add(|| {
                let what = "readers saw one record with two leader epochs";
                Finding::at(number, what)
                    .offset(*offset)
                    .value(other.value)
                    .sighting(history, *offset, first)
                    .sighting(history, *offset, other)
            });
        }
    }
}
