//! What a leader knows about one of its followers.

use highwater_protocol::ids::{BrokerEpoch, Offset};

use super::{ReplicaView, WrittenMeans};
use crate::moment::Moment;
use crate::mutant::{self, Mutant};

/// A follower as its leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    /// What the metadata says of its broker.
    pub(super) broker: ReplicaView,
    /// `None` until it has fetched in this leader epoch: nothing that it proved to an earlier leader,
    /// or in an earlier epoch of this one, counts.
    pub(super) progress: Option<FollowerProgress>,
    /// When it last had everything that the leader had at that time. `None`: never in this leader
    /// epoch, and it was not in sync when that began.
    last_caught_up: Option<Moment>,
    /// Where the leader's log ended at a moment not long ago. Once the follower gets there, it was
    /// caught up at that moment. A mark stays until it is reached: a disk that takes longer for a sync
    /// than a fetch takes must not make a follower that keeps up look as if it did not.
    mark: Option<(Offset, Moment)>,
}

/// What the last fetch of a follower said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerProgress {
    /// End of its log.
    pub log_end: Offset,
    /// End of the durable part of it.
    pub durable_end: Offset,
    /// The registration under which it fetched.
    pub broker_epoch: BrokerEpoch,
}

impl Follower {
    pub(super) fn new(broker: ReplicaView, last_caught_up: Option<Moment>) -> Self {
        Self {
            broker,
            progress: None,
            last_caught_up,
            mark: None,
        }
    }

    /// For [`Mutant::UnseenCounts`]: takes it for one that has the log up to here.
    pub(super) fn assume(&mut self, end: Offset) {
        self.progress = self.broker.epoch.map(|broker_epoch| FollowerProgress {
            log_end: end,
            durable_end: end,
            broker_epoch,
        });
    }

    /// Up to where it has the log in the sense of the topic's durability.
    pub(super) fn end(&self, means: WrittenMeans) -> Option<Offset> {
        self.progress.map(|progress| match means {
            WrittenMeans::Durable if mutant::is_on(Mutant::MemoryCountsAsDisk) => progress.log_end,
            WrittenMeans::Durable => progress.durable_end,
            WrittenMeans::Appended => progress.log_end,
        })
    }

    /// Whether it may join the in-sync replicas as far as its broker is concerned: active, and the
    /// registration under which it fetches is the one that the metadata knows (KIP-903).
    pub(super) fn is_eligible(&self) -> bool {
        self.broker.is_active
            && self
                .progress
                .is_some_and(|progress| Some(progress.broker_epoch) == self.broker.epoch)
    }

    pub(super) fn is_caught_up(
        &self,
        means: WrittenMeans,
        leader_end: Offset,
        now: Moment,
        lag_ms_max: u64,
    ) -> bool {
        self.end(means).is_some_and(|end| end >= leader_end)
            || self
                .last_caught_up
                .is_some_and(|at| now.millis_since(at) <= lag_ms_max)
    }

    /// For how long it has not been known to be caught up.
    pub(super) fn behind_ms(&self, now: Moment) -> Option<u64> {
        self.last_caught_up.map(|at| now.millis_since(at))
    }

    /// Whether a report of the same life was overtaken by a fetch that told of a longer log. A log that was
    /// begun anew is told of by fetches: it wants records.
    pub(super) fn knows_better(&self, report: &FollowerProgress) -> bool {
        self.progress.is_some_and(|known| {
            known.broker_epoch == report.broker_epoch && known.log_end > report.log_end
        })
    }

    pub(super) fn on_fetch(
        &mut self,
        mut progress: FollowerProgress,
        means: WrittenMeans,
        leader_end: Offset,
        now: Moment,
    ) {
        // Another life of its broker, or a log that was begun anew: what it had does not count any more.
        let is_another = self.progress.is_some_and(|before| {
            before.broker_epoch != progress.broker_epoch || before.log_end > progress.log_end
        });
        if is_another {
            self.last_caught_up = None;
            self.mark = None;
        } else if let Some(before) = self.progress {
            // A fetch may be overtaken by a report. What is durable stays so while the log does not
            // become shorter.
            progress.durable_end = progress.durable_end.max(before.durable_end);
        }
        self.progress = Some(progress);
        let end = match means {
            WrittenMeans::Durable => progress.durable_end,
            WrittenMeans::Appended => progress.log_end,
        };
        if end >= leader_end {
            self.last_caught_up = Some(now);
            self.mark = None;
            return;
        }
        if let Some((offset, at)) = self.mark
            && end >= offset
        {
            self.last_caught_up = self.last_caught_up.max(Some(at));
            self.mark = None;
        }
        self.mark.get_or_insert((leader_end, now));
    }

    /// The leader did not run for a while: what it did not hear in that time means nothing.
    pub(super) fn rebase(&mut self, now: Moment) {
        if self.last_caught_up.is_some() {
            self.last_caught_up = Some(now);
        }
        self.mark = None;
    }

    /// It is in sync from now on: it has a whole lag to prove that it keeps up.
    pub(super) fn on_joined(&mut self, now: Moment) {
        self.last_caught_up = Some(now);
    }
}
