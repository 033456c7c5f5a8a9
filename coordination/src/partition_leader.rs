//! The leader's view of its partition: how far the log goes, how far it is durable, and how far it is
//! committed.
//!
//! All ends are exclusive. `high_watermark <= log_end` and `durable_end <= log_end` hold after every
//! event ([`PartitionLeader::check`]). What counts as written on a replica depends on the topic's
//! durability (docs/STORAGE.md): with `synced`, what `fdatasync` covered; with `replicated`, what is
//! in the page cache.

use std::collections::BTreeSet;

use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::Acks;

/// What counts as written on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenMeans {
    /// On its disk.
    Durable,
    /// In its memory.
    Appended,
}

/// A partition as its leader sees it.
#[derive(Debug, Clone)]
pub struct PartitionLeader {
    node: NodeId,
    epoch: LeaderEpoch,
    /// Log end at take-over. The high watermark is known to be true again once it is past this.
    epoch_start: Offset,
    written_means: WrittenMeans,
    isr: BTreeSet<NodeId>,
    isr_min: usize,
    log_end: Offset,
    durable_end: Offset,
    high_watermark: Offset,
}

/// What a leader starts from.
#[derive(Debug, Clone)]
pub struct TakeOver {
    /// This broker.
    pub node: NodeId,
    /// The epoch that the controller gave it.
    pub epoch: LeaderEpoch,
    /// In-sync replicas, this broker among them.
    pub isr: BTreeSet<NodeId>,
    /// Fewest in-sync replicas for anything to commit.
    pub isr_min: usize,
    /// What counts as written.
    pub written_means: WrittenMeans,
    /// End of the local log.
    pub log_end: Offset,
    /// End of its durable part.
    pub durable_end: Offset,
    /// The high watermark that was checkpointed: a lower bound of the true one.
    pub high_watermark: Offset,
}

/// What an append must wait for before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckWhen {
    /// Nothing: acknowledge at once.
    Now,
    /// The leader's durable end reaches this offset.
    Durable(Offset),
    /// The high watermark reaches this offset.
    Committed(Offset),
}

/// Why an append is refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEnoughReplicas {
    /// In-sync replicas now.
    pub in_sync: usize,
    /// What the topic demands.
    pub needed: usize,
}

impl PartitionLeader {
    /// Takes a partition over.
    #[must_use]
    pub fn new(from: TakeOver) -> Self {
        let mut leader = Self {
            node: from.node,
            epoch: from.epoch,
            epoch_start: from.log_end,
            written_means: from.written_means,
            isr: from.isr,
            isr_min: from.isr_min,
            log_end: from.log_end,
            durable_end: from.durable_end.min(from.log_end),
            high_watermark: from.high_watermark.min(from.log_end),
        };
        leader.advance();
        leader.check();
        leader
    }

    /// The leader epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Everything below is committed, and the promise is that it is never lost.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether the high watermark has caught up with what the last leader may have committed. Until
    /// then it must not be told as the end of the partition.
    #[must_use]
    pub fn high_watermark_is_known(&self) -> bool {
        self.high_watermark >= self.epoch_start
    }

    /// Whether an append with these acks may go ahead.
    ///
    /// # Errors
    /// [`NotEnoughReplicas`] for `acks = all` below the topic's `min.insync.replicas`.
    pub fn admit(&self, acks: Acks) -> Result<(), NotEnoughReplicas> {
        if acks == Acks::All && self.isr.len() < self.isr_min {
            return Err(NotEnoughReplicas {
                in_sync: self.isr.len(),
                needed: self.isr_min,
            });
        }
        Ok(())
    }

    /// The local log grew to `end`. Returns what the acknowledgement waits for.
    pub fn on_appended(&mut self, end: Offset, acks: Acks) -> AckWhen {
        self.log_end = self.log_end.max(end);
        self.advance();
        self.check();
        let when = match (acks, self.written_means) {
            (Acks::None, _) | (Acks::Leader, WrittenMeans::Appended) => return AckWhen::Now,
            (Acks::Leader, WrittenMeans::Durable) => AckWhen::Durable(end),
            (Acks::All, _) => AckWhen::Committed(end),
        };
        if self.is_reached(when) {
            AckWhen::Now
        } else {
            when
        }
    }

    /// The local log is on disk up to `end`.
    pub fn on_durable(&mut self, end: Offset) {
        self.durable_end = self.durable_end.max(end.min(self.log_end));
        self.advance();
        self.check();
    }

    /// The topic's durability or `min.insync.replicas` changed.
    pub fn on_settings(&mut self, written_means: WrittenMeans, isr_min: usize) {
        self.written_means = written_means;
        self.isr_min = isr_min;
        self.advance();
        self.check();
    }

    /// Whether records can be read only once the disk has them, and it does not have them all.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.written_means == WrittenMeans::Durable && self.durable_end < self.log_end
    }

    /// Whether an acknowledgement need not wait any longer.
    #[must_use]
    pub fn is_reached(&self, when: AckWhen) -> bool {
        match when {
            AckWhen::Now => true,
            AckWhen::Durable(end) => self.durable_end >= end,
            AckWhen::Committed(end) => self.high_watermark >= end,
        }
    }

    /// The high watermark never moves while fewer replicas are in sync than the topic demands, whatever
    /// the acks of a producer (KIP-966, strict min ISR), and never back.
    fn advance(&mut self) {
        if self.isr.len() < self.isr_min || !self.isr.contains(&self.node) {
            return;
        }
        let own_end = match self.written_means {
            WrittenMeans::Durable => self.durable_end,
            WrittenMeans::Appended => self.log_end,
        };
        self.high_watermark = self.high_watermark.max(own_end);
    }

    fn check(&self) {
        debug_assert!(self.high_watermark <= self.log_end, "{self:?}");
        debug_assert!(self.durable_end <= self.log_end, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leader(written_means: WrittenMeans, isr_min: usize) -> PartitionLeader {
        PartitionLeader::new(TakeOver {
            node: NodeId::new(1),
            epoch: LeaderEpoch::new(3),
            isr: BTreeSet::from([NodeId::new(1)]),
            isr_min,
            written_means,
            log_end: Offset::new(10),
            durable_end: Offset::new(10),
            high_watermark: Offset::new(4),
        })
    }

    #[test]
    fn in_memory_mode_commits_with_the_append() {
        let mut leader = leader(WrittenMeans::Appended, 1);
        assert_eq!(leader.high_watermark(), Offset::new(10));
        assert_eq!(leader.on_appended(Offset::new(12), Acks::All), AckWhen::Now);
        assert_eq!(leader.high_watermark(), Offset::new(12));
    }

    #[test]
    fn synced_mode_waits_for_the_disk_with_acks_1_and_all() {
        let mut leader = leader(WrittenMeans::Durable, 1);
        let end = Offset::new(12);
        assert_eq!(leader.on_appended(end, Acks::Leader), AckWhen::Durable(end));
        assert_eq!(leader.on_appended(end, Acks::All), AckWhen::Committed(end));
        assert_eq!(leader.on_appended(end, Acks::None), AckWhen::Now);
        assert_eq!(leader.high_watermark(), Offset::new(10));
        assert!(leader.waits_for_disk());
        leader.on_durable(Offset::new(11));
        assert!(!leader.is_reached(AckWhen::Durable(end)));
        leader.on_durable(end);
        assert!(leader.is_reached(AckWhen::Durable(end)));
        assert!(leader.is_reached(AckWhen::Committed(end)));
        assert!(!leader.waits_for_disk());
    }

    #[test]
    fn below_min_isr_nothing_commits_and_acks_all_is_refused() {
        let mut leader = leader(WrittenMeans::Appended, 2);
        assert_eq!(leader.high_watermark(), Offset::new(4));
        assert!(!leader.high_watermark_is_known());
        assert_eq!(
            leader.admit(Acks::All),
            Err(NotEnoughReplicas {
                in_sync: 1,
                needed: 2
            })
        );
        assert_eq!(leader.admit(Acks::Leader), Ok(()));
        leader.on_appended(Offset::new(20), Acks::Leader);
        assert_eq!(leader.high_watermark(), Offset::new(4));
        leader.on_settings(WrittenMeans::Appended, 1);
        assert_eq!(leader.high_watermark(), Offset::new(20));
        assert!(leader.high_watermark_is_known());
    }

    proptest! {
        /// Whatever comes in whatever order: the high watermark never moves back, never passes the
        /// log end, and with `synced` never passes what is on disk (unless the mode was changed).
        #[test]
        fn high_watermark_is_monotone_and_bounded(
            events in proptest::collection::vec((0..4u8, 0..1000u64), 0..100),
        ) {
            let mut leader = leader(WrittenMeans::Durable, 1);
            let (mut end, mut durable) = (10, 10);
            for (kind, number) in events {
                let before = leader.high_watermark();
                if kind < 2 {
                    end += number;
                    leader.on_appended(Offset::new(end), Acks::All);
                } else {
                    durable = durable.max(number.min(end));
                    leader.on_durable(Offset::new(number));
                }
                prop_assert!(leader.high_watermark() >= before);
                prop_assert_eq!(leader.high_watermark(), Offset::new(durable));
            }
        }
    }
}
