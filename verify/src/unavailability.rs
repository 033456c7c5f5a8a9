//! For how long nothing was acknowledged.

use serde::Serialize;

use crate::event::{Kind, Moment, Phase};
use crate::history::History;
use crate::verdict::ms;

/// The longest time between two acknowledgements of a partition, over all partitions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pauses {
    /// Of each partition, in ms.
    pub by_partition_ms: Vec<f64>,
    /// The median of these.
    pub p50_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A time in which nothing of a partition was acknowledged although records were on their way.
#[derive(Debug, Clone, Copy)]
struct Pause {
    from: Moment,
    to: Moment,
}

impl Pause {
    fn ms(self) -> f64 {
        ms(self.to.since(self.from))
    }
}

/// Between the acknowledgements of each partition. Time in which no record was on its way does not
/// count.
fn pauses(history: &History) -> Vec<Vec<Pause>> {
    let of = |partition: &crate::history::PartitionHistory| {
        let mut acked: Vec<_> = partition
            .writes
            .iter()
            .filter(|write| write.is_acked())
            .map(|write| (write.complete, write.invoke))
            .collect();
        acked.sort_unstable();
        let mut before: Option<Moment> = None;
        let mut found = Vec::with_capacity(acked.len());
        for (complete, invoke) in acked {
            // One that was sent before the last acknowledgement has waited since then.
            let from = before.map_or(invoke, |before| before.max(invoke));
            found.push(Pause { from, to: complete });
            before = Some(complete);
        }
        found
    };
    history.partitions.iter().map(of).collect()
}

impl Pauses {
    pub(crate) fn of(history: &History) -> Self {
        let longest = |pauses: Vec<Pause>| pauses.into_iter().map(Pause::ms).fold(0.0, f64::max);
        let by_partition_ms: Vec<f64> = pauses(history).into_iter().map(longest).collect();
        let mut sorted = by_partition_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            p50_ms: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            max_ms: sorted.last().copied().unwrap_or_default(),
            by_partition_ms,
        }
    }
}

/// What a fault did to those who write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultWindow {
    /// What was done.
    pub fault: String,
    /// To whom.
    pub target: String,
    /// When it was there.
    pub from: Moment,
    /// When it was lifted, if it was.
    pub to: Option<Moment>,
    /// Over the partitions, the median of the longest times without an acknowledgement that overlap
    /// it, in ms.
    pub p50_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl FaultWindow {
    pub(crate) fn all_of(history: &History) -> Vec<Self> {
        let pauses = pauses(history);
        let mut windows = Vec::new();
        for (at, fault) in history.faults.iter().enumerate() {
            if fault.phase != Phase::Installed || fault.kind != Kind::Ok {
                continue;
            }
            let healed = history.faults[at..].iter().find(|later| {
                later.phase == Phase::Healed
                    && later.fault == fault.fault
                    && later.target == fault.target
            });
            let to = healed.map(|healed| healed.complete);
            let overlaps =
                |pause: &&Pause| pause.to >= fault.invoke && to.is_none_or(|to| pause.from <= to);
            let longest = |pauses: &Vec<Pause>| {
                let inside = pauses.iter().filter(overlaps);
                inside.map(|pause| pause.ms()).fold(0.0, f64::max)
            };
            let mut sorted: Vec<f64> = pauses.iter().map(longest).collect();
            sorted.sort_by(f64::total_cmp);
            windows.push(Self {
                fault: fault.fault.clone(),
                target: fault.target.clone(),
                from: fault.invoke,
                to,
                p50_ms: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
                max_ms: sorted.last().copied().unwrap_or_default(),
            });
        }
        windows
    }
}
