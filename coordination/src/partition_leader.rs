//! The leader's view of its partition: how far the log goes, how far it is durable, how far it is
//! committed, and who is in sync.
//!
//! All ends are exclusive. `high_watermark <= log_end` and `durable_end <= log_end` hold after every
//! event. What counts as written on a replica depends on the topic's durability (docs/STORAGE.md): with
//! `synced`, what `fdatasync` covered; with `replicated`, what is in the page cache.
//!
//! - `follower` what is known of a follower; `isr` changes of the in-sync replicas

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::{Acks, EpochEnd};

use crate::cluster_image::{ClusterImage, PartitionImage};
use crate::moment::Moment;
use crate::mutant::{self, Mutant};

mod follower;
mod isr;

pub use follower::FollowerProgress;
pub use isr::AlterOutcome;

use follower::Follower;
use isr::Pending;

/// What counts as written on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenMeans {
    /// On its disk.
    Durable,
    /// In its memory.
    Appended,
}

/// A replica's broker, as the metadata knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaView {
    /// Its registration.
    pub epoch: Option<BrokerEpoch>,
    /// Neither fenced nor shutting down.
    pub is_active: bool,
}

/// What the metadata says that a leader has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Counts every change of the partition.
    pub partition_epoch: u32,
    /// The leader came from an unclean election and nobody has joined it yet.
    pub recovering: bool,
    /// Who is in sync.
    pub isr: BTreeSet<NodeId>,
    /// Who holds it, the leader among them.
    pub replicas: BTreeMap<NodeId, ReplicaView>,
}

impl PartitionView {
    /// Picks it out of the cluster's image.
    #[must_use]
    pub fn of(partition: &PartitionImage, cluster: &ClusterImage) -> Self {
        let replicas = partition.replicas.iter().map(|node| {
            let view = cluster.broker(*node).map(|broker| ReplicaView {
                epoch: broker.epoch(),
                is_active: broker.is_active(),
            });
            (*node, view.unwrap_or_default())
        });
        Self {
            partition_epoch: partition.partition_epoch,
            recovering: partition.recovering,
            isr: partition.isr.iter().copied().collect(),
            replicas: replicas.collect(),
        }
    }
}

/// A partition as its leader sees it.
#[derive(Debug, Clone)]
pub struct PartitionLeader {
    node: NodeId,
    own_broker: ReplicaView,
    epoch: LeaderEpoch,
    /// Log end at take-over. The high watermark is known to be true again once it is past this.
    epoch_start: Offset,
    written_means: WrittenMeans,
    partition_epoch: u32,
    recovering: bool,
    /// As the controller decided.
    isr: BTreeSet<NodeId>,
    isr_min: usize,
    pending: Option<Pending>,
    /// The controller refused a member: nobody is proposed before the next tick or newer metadata.
    is_held: bool,
    followers: BTreeMap<NodeId, Follower>,
    lag_ms_max: u64,
    last_tick: Moment,
    /// The latest moment that was told.
    now: Moment,
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
    /// The partition in that epoch.
    pub view: PartitionView,
    /// Fewest in-sync replicas for anything to commit.
    pub isr_min: usize,
    /// What counts as written.
    pub written_means: WrittenMeans,
    /// How long a follower may lag before it is put out of the in-sync replicas, in ms.
    pub lag_ms_max: u64,
    /// End of the local log.
    pub log_end: Offset,
    /// End of its durable part.
    pub durable_end: Offset,
    /// The high watermark that was known here: a lower bound of the true one.
    pub high_watermark: Offset,
    /// The time now.
    pub now: Moment,
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

/// How an append stands that was to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckState {
    /// Not yet.
    Waiting,
    /// It can be acknowledged.
    Done,
    /// Too few replicas are in sync to commit it now. It may be committed later.
    NotEnoughReplicas,
}

/// Why an append is refused before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEnoughReplicas {
    /// In-sync replicas now.
    pub in_sync: usize,
    /// What the topic demands.
    pub needed: usize,
}

/// A fetch of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The follower.
    pub follower: NodeId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch in which it follows.
    pub leader_epoch: LeaderEpoch,
    /// End of its log: where it reads on.
    pub offset: Offset,
    /// The last epoch of its log; `None` when the log knows none.
    pub last_epoch: Option<LeaderEpoch>,
    /// End of the durable part of its log.
    pub durable_end: Offset,
    /// It wants no records and only tells how far it is, beside the fetches that do. The two may overtake
    /// each other.
    pub is_report: bool,
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchAnswer {
    /// Records from where it asked, up to the log end.
    Records,
    /// Its log parts from the leader's: neither records nor the high watermark.
    Diverging(EpochEnd),
}

/// Why a follower gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRefusal {
    /// It follows an earlier leader.
    FencedLeaderEpoch,
    /// It knows a later epoch than this leader, or is no replica that this leader knows of.
    UnknownLeaderEpoch,
    /// It was registered anew since.
    StaleBrokerEpoch,
    /// It is outside of the log.
    OutOfRange,
    /// It has records of an epoch that this leader never heard of.
    EpochAhead,
}

impl PartitionLeader {
    /// Takes a partition over.
    #[must_use]
    pub fn new(from: TakeOver) -> Self {
        let own_broker = from.view.replicas.get(&from.node).copied();
        let followers = from
            .view
            .replicas
            .iter()
            .filter(|(node, _)| **node != from.node)
            .map(|(node, broker)| {
                let caught_up = from.view.isr.contains(node).then_some(from.now);
                (*node, Follower::new(*broker, caught_up))
            });
        let mut leader = Self {
            node: from.node,
            own_broker: own_broker.unwrap_or_default(),
            epoch: from.epoch,
            epoch_start: from.log_end,
            written_means: from.written_means,
            partition_epoch: from.view.partition_epoch,
            recovering: from.view.recovering,
            followers: followers.collect(),
            isr: from.view.isr,
            isr_min: from.isr_min,
            pending: None,
            is_held: false,
            lag_ms_max: from.lag_ms_max,
            last_tick: from.now,
            now: from.now,
            log_end: from.log_end,
            durable_end: from.durable_end.min(from.log_end),
            high_watermark: from.high_watermark.min(from.log_end),
        };
        if mutant::is_on(Mutant::UnseenCounts) {
            for follower in leader.followers.values_mut() {
                follower.assume(leader.epoch_start);
            }
        }
        leader.advance();
        leader.check();
        leader
    }

    /// The leader epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The state of the partition that is known to be decided.
    #[must_use]
    pub fn partition_epoch(&self) -> u32 {
        self.partition_epoch
    }

    /// Everything below is committed, and the promise is that it is never lost.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The high watermark that goes with an answer to a follower: none with one that says where the logs
    /// part, because below it that follower may have other records.
    #[must_use]
    pub fn told_with(&self, answer: &FetchAnswer) -> Offset {
        match answer {
            FetchAnswer::Diverging(_) if !mutant::is_on(Mutant::WatermarkBeforeDivergence) => {
                Offset::ZERO
            }
            FetchAnswer::Diverging(_) | FetchAnswer::Records => self.high_watermark,
        }
    }

    /// Whether the high watermark has caught up with what the last leader may have committed. Until
    /// then it must not be told as the end of the partition.
    #[must_use]
    pub fn high_watermark_is_known(&self) -> bool {
        self.high_watermark >= self.epoch_start
    }

    /// Who is in sync, as the controller decided.
    #[must_use]
    pub fn isr(&self) -> &BTreeSet<NodeId> {
        &self.isr
    }

    /// Whether other brokers hold the partition too.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// What is known of the followers in this leader epoch.
    pub fn followers(&self) -> impl Iterator<Item = (NodeId, Option<FollowerProgress>)> + '_ {
        self.followers
            .iter()
            .map(|(node, follower)| (*node, follower.progress))
    }

    /// Members of the in-sync replicas that have not been caught up for too long: what is known of each,
    /// and for how many ms it has not been, if it ever was.
    pub fn lagging(
        &self,
    ) -> impl Iterator<Item = (NodeId, Option<FollowerProgress>, Option<u64>)> + '_ {
        self.followers
            .iter()
            .filter(|(node, follower)| self.isr.contains(node) && self.lags(follower))
            .map(|(node, follower)| (*node, follower.progress, follower.behind_ms(self.now)))
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
        match self.ack_state(when) {
            AckState::Done => AckWhen::Now,
            AckState::Waiting | AckState::NotEnoughReplicas => when,
        }
    }

    /// The local log is on disk up to `end`.
    pub fn on_durable(&mut self, end: Offset) {
        self.durable_end = self.durable_end.max(end.min(self.log_end));
        self.advance();
        self.check();
    }

    /// A follower fetches. `epoch_end` says where an epoch ends in the local log
    /// (`None`: the log does not know), whose first offset is `log_start`.
    ///
    /// The order of the checks is part of the protocol: where the log starts comes before where it
    /// parts, and a follower whose log parts from this one has proved nothing.
    ///
    /// # Errors
    /// [`FetchRefusal`]; nothing is noted then.
    pub fn on_fetch(
        &mut self,
        fetch: &FollowerFetch,
        log_start: Offset,
        epoch_end: impl FnOnce(LeaderEpoch) -> Option<EpochEnd>,
        now: Moment,
    ) -> Result<FetchAnswer, FetchRefusal> {
        let answer = self.check_fetch(fetch, log_start, epoch_end)?;
        if answer == FetchAnswer::Records
            && let Some(follower) = self.followers.get_mut(&fetch.follower)
        {
            let progress = FollowerProgress {
                log_end: fetch.offset,
                durable_end: fetch.durable_end.min(fetch.offset),
                broker_epoch: fetch.broker_epoch,
            };
            if fetch.is_report && follower.knows_better(&progress) {
                return Ok(answer);
            }
            follower.on_fetch(progress, self.written_means, self.log_end, now);
            self.now = self.now.max(now);
            // First, so that one that joins now is not outrun by what its own fetch commits.
            self.propose();
            self.advance();
            self.check();
        }
        Ok(answer)
    }

    /// What a follower's fetch would be answered, without taking note of it: for a fetch that was noted
    /// when it came and has waited since, in which time a later one may have told more.
    ///
    /// # Errors
    /// [`FetchRefusal`].
    pub fn check_fetch(
        &self,
        fetch: &FollowerFetch,
        log_start: Offset,
        epoch_end: impl FnOnce(LeaderEpoch) -> Option<EpochEnd>,
    ) -> Result<FetchAnswer, FetchRefusal> {
        if fetch.leader_epoch < self.epoch {
            return Err(FetchRefusal::FencedLeaderEpoch);
        }
        if fetch.leader_epoch > self.epoch {
            return Err(FetchRefusal::UnknownLeaderEpoch);
        }
        let Some(follower) = self.followers.get(&fetch.follower) else {
            return Err(FetchRefusal::UnknownLeaderEpoch);
        };
        let known = follower
            .progress
            .map(|progress| progress.broker_epoch)
            .max(follower.broker.epoch);
        if known.is_some_and(|known| fetch.broker_epoch < known) {
            return Err(FetchRefusal::StaleBrokerEpoch);
        }
        if fetch.offset < log_start {
            return Err(FetchRefusal::OutOfRange);
        }
        if let Some(last) = fetch.last_epoch {
            let found = epoch_end(last).ok_or(FetchRefusal::EpochAhead)?;
            if found.epoch < last || found.end < fetch.offset {
                return Ok(FetchAnswer::Diverging(found));
            }
        } else if fetch.offset > self.log_end {
            return Err(FetchRefusal::OutOfRange);
        }
        Ok(FetchAnswer::Records)
    }

    /// The topic's durability or `min.insync.replicas` changed, by metadata in which the partition is in
    /// this leader epoch. Whoever led in an earlier one must not commit by a minimum that was never in
    /// force while it led: it may be lower, and others lead already.
    pub fn on_settings(&mut self, epoch: LeaderEpoch, written_means: WrittenMeans, isr_min: usize) {
        if epoch != self.epoch {
            return;
        }
        self.written_means = written_means;
        self.isr_min = isr_min;
        self.advance();
        self.propose();
        self.check();
    }

    /// Whether records can be read only once the disk has them, and it does not have them all.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        self.written_means == WrittenMeans::Durable && self.durable_end < self.log_end
    }

    /// How an acknowledgement stands. What is committed once was written by as many replicas as the
    /// topic demands, whoever left them since.
    #[must_use]
    pub fn ack_state(&self, when: AckWhen) -> AckState {
        let done = match when {
            AckWhen::Now => true,
            AckWhen::Durable(end) => self.durable_end >= end,
            AckWhen::Committed(end) => self.high_watermark >= end,
        };
        match when {
            _ if done => AckState::Done,
            AckWhen::Committed(_) if self.maximal_count() < self.isr_min => {
                AckState::NotEnoughReplicas
            }
            _ => AckState::Waiting,
        }
    }

    /// The high watermark never moves while fewer replicas are in sync than the topic demands, whatever
    /// the acks of a producer (KIP-966, strict min ISR), and never back.
    ///
    /// It waits for everybody who is in sync or may be, and for those that are about to join: they
    /// would be outrun for ever otherwise. Of whom nothing was heard in this epoch, nothing is known.
    fn advance(&mut self) {
        let too_few = self.isr.len() < self.isr_min && !mutant::is_on(Mutant::CommitsBelowMinimum);
        if too_few || !self.isr.contains(&self.node) {
            return;
        }
        let mut end = match self.written_means {
            WrittenMeans::Durable => self.durable_end,
            WrittenMeans::Appended => self.log_end,
        };
        for (node, follower) in &self.followers {
            let counts = if mutant::is_on(Mutant::CommittedIsrOnly) {
                self.isr.contains(node)
            } else {
                self.is_in_maximal(*node)
            };
            let counts = counts
                || (follower.is_eligible()
                    && follower.is_caught_up(
                        self.written_means,
                        self.log_end,
                        self.now,
                        self.lag_ms_max,
                    ));
            if !counts {
                continue;
            }
            let Some(written) = follower.end(self.written_means) else {
                return;
            };
            end = end.min(written);
        }
        // A member that no replica list has any more cannot be counted, so nothing can be committed.
        if self.isr.len() > 1
            && self
                .isr
                .iter()
                .any(|node| *node != self.node && !self.followers.contains_key(node))
        {
            return;
        }
        self.high_watermark = self.high_watermark.max(end);
    }

    fn check(&self) {
        debug_assert!(self.high_watermark <= self.log_end, "{self:?}");
        debug_assert!(self.durable_end <= self.log_end, "{self:?}");
    }
}
