//! **H9, stale reads.** An end of a partition that was told to a client which asked at `t` is behind
//! every record that was acknowledged, at the latest, `stale_ms_max` before `t`:
//! `end > max { off(v) : v in acked, complete(v) < t - stale_ms_max }`.
//!
//! The ends that count are the answers of ListOffsets. With a fetch a leader tells its high watermark
//! too, but a new one may not know yet how far the partition is committed and then tells less; such
//! ends are measured ([`longest_stale_fetch`]) and not judged.
//!
//! Sorted by time with the running maximum, then one search for each answer: O(n log n).

use std::time::Duration;

use super::{Check, needs_acks_all};
use crate::event::{Bound, Moment, Purpose};
use crate::finding::{Finding, Findings};
use crate::history::{History, PartitionHistory, Write};

pub(super) const CHECK: Check = Check {
    id: "H9",
    name: "no outdated end of a partition",
    excused: needs_acks_all,
    run,
};

/// The highest offset that was acknowledged before any moment.
struct Acked<'a>(Vec<(Moment, u64, &'a Write)>);

impl<'a> Acked<'a> {
    fn of(partition: &'a PartitionHistory) -> Self {
        let acked = partition.writes.iter().filter(|write| write.is_acked());
        let mut acked: Vec<_> = acked
            .filter_map(|write| Some((write.complete, write.offset?, write)))
            .collect();
        acked.sort_by_key(|(complete, ..)| *complete);
        let mut highest: Option<(u64, &Write)> = None;
        for (_, offset, write) in &mut acked {
            match highest {
                Some((top, of)) if top > *offset => (*offset, *write) = (top, of),
                _ => highest = Some((*offset, *write)),
            }
        }
        Self(acked)
    }

    /// The highest offset acknowledged before `moment`, and its record.
    fn before(&self, moment: Moment) -> Option<(u64, &'a Write)> {
        let count = self.0.partition_point(|(complete, ..)| *complete < moment);
        let (_, offset, write) = self.0.get(count.checked_sub(1)?)?;
        Some((*offset, *write))
    }

    /// For how long an end that was asked for at `asked` had been outdated.
    fn staleness(&self, end: u64, asked: Moment) -> Option<Duration> {
        let first = self.0.partition_point(|(_, highest, _)| *highest < end);
        let (known, ..) = self.0.get(first)?;
        (*known < asked).then(|| asked.since(*known))
    }
}

fn run(history: &History, findings: &mut Findings) {
    let allowed = Duration::from_millis(history.header.rules.stale_ms_max);
    for (number, partition) in history.numbered() {
        let acked = Acked::of(partition);
        for listed in &partition.listed {
            if listed.bound != Bound::Latest {
                continue;
            }
            let Some(stale) = acked.staleness(listed.offset, listed.invoke) else {
                continue;
            };
            if stale <= allowed {
                continue;
            }
            let Some((offset, write)) = acked.before(listed.invoke) else {
                continue;
            };
            findings.add(|| {
                let what = format!(
                    "the end that was told, {}, had been outdated for {:.3} ms",
                    listed.offset,
                    stale.as_secs_f64() * 1e3
                );
                Finding::at(number, what)
                    .offset(offset)
                    .value(write.value)
                    .write(write)
                    .listed(history, listed)
            });
        }
    }
}

/// For how long the most outdated end that a fetch was told had been so.
pub(crate) fn longest_stale_fetch(history: &History) -> Option<Duration> {
    let of = |partition: &PartitionHistory| {
        let acked = Acked::of(partition);
        let tails = partition
            .polls
            .iter()
            .filter(|poll| poll.purpose == Purpose::Tail);
        tails
            .filter_map(|poll| acked.staleness(poll.high_watermark?, poll.invoke))
            .max()
    };
    history.partitions.iter().filter_map(of).max()
}
