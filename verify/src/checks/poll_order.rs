//! **H10, order of polls.** For each reader and partition: a poll begins where the one before it ended,
//! unless the reader chose another position, and hands out the record at every offset from there to
//! where it ends, in order. (The topic is neither compacted nor transactional, so its offsets have no
//! gaps.)
//!
//! O(n).

use std::collections::HashMap;

use super::{Check, always};
use crate::event::Purpose;
use crate::finding::{Finding, Findings};
use crate::history::{History, Poll, ProcessId};

pub(super) const CHECK: Check = Check {
    id: "H10",
    name: "readers neither skip nor go back",
    excused: always,
    run,
};

fn run(history: &History, findings: &mut Findings) {
    for (number, partition) in history.numbered() {
        let mut last: HashMap<(ProcessId, Purpose), &Poll> = HashMap::new();
        for poll in &partition.polls {
            if let Some((expected, found)) = poll.jump {
                findings.add(|| {
                    let what = format!("after offset {expected} was due, {found} came");
                    Finding::at(number, what).offset(found).poll(history, poll)
                });
            }
            let before = last.insert((poll.process, poll.purpose), poll);
            if let Some(before) = before
                && !poll.seek
                && before.next != poll.position
            {
                findings.add(|| {
                    let what = if before.next < poll.position {
                        "the reader skipped records"
                    } else {
                        "the reader went back"
                    };
                    Finding::at(number, what)
                        .offset(before.next.min(poll.position))
                        .poll(history, before)
                        .poll(history, poll)
                });
            }
        }
        for read in &partition.finals {
            let end = last.get(&(read.process, Purpose::Final));
            let reached = end.map_or(read.start, |poll| poll.next);
            if reached < read.end {
                findings.add(|| {
                    let what = format!("the reading ended before {}", read.end);
                    Finding::at(number, what).offset(reached)
                });
            }
        }
    }
}
