//! A partition on this broker: its log, and the decisions about it as leader or follower.
//!
//! Every method is synchronous: a check and the write that it guards are never parted by an await.
//! Waiting happens in `api` and in the replica fetchers, on what these methods return.
//!
//! Two locks, taken in this order: `transition`, for whoever changes the role or cuts the log, which
//! may wait for the disk; `state`, for every decision, which never does. The log must not be flushed,
//! trimmed or cut under `state`: it tells of its durable end through [`Partition::on_durable`].
//!
//! - `follow` what a follower does with its leader's answers

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use highwater_config::TopicConfig;
use highwater_coordination::moment::Moment;
use highwater_coordination::partition_follower::PartitionFollower;
use highwater_coordination::partition_leader::{
    AckState, AckWhen, AlterOutcome, FetchAnswer, FetchRefusal, FollowerFetch, FollowerProgress,
    NotEnoughReplicas, PartitionLeader, PartitionView, TakeOver, WrittenMeans,
};
use highwater_protocol::ids::{
    LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId, TopicName,
};
use highwater_protocol::messages::{Acks, EpochEnd, IsrProposal};
use highwater_storage::{
    AppendError, Durability, Log, LogHealth, LogOptions, OfflineReason, StorageError,
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;

use crate::dirty_keys::DirtyKeys;
use crate::mutant::{Mutant, is_on};
use crate::partitions::Key;
use crate::progress::{Progress, Watch};

#[cfg(test)]
mod duplicate_tests;
mod follow;
#[cfg(test)]
pub(crate) mod test_replica;
#[cfg(test)]
mod tests;

pub(crate) use follow::Followed;

/// A partition that this broker holds.
#[derive(Debug)]
pub(crate) struct Partition {
    topic: TopicName,
    topic_id: TopicId,
    partition: PartitionId,
    log: Arc<Log>,
    config: ArcSwap<TopicConfig>,
    transition: Mutex<()>,
    state: Mutex<State>,
    /// The high watermark, published for readers; written under the state's lock.
    high_watermark: AtomicU64,
    /// Who waits for the high watermark, the durable end or the role to change.
    progress: Progress,
    /// Who waits for the log to grow: followers.
    appended: Progress,
    /// Where proposals for the in-sync replicas are announced.
    proposals: Arc<DirtyKeys>,
    /// The topic was deleted, or the replica moved away: who still holds this must let it go.
    retired: AtomicBool,
    /// Why the log must not be used although it is whole.
    quarantine: OnceLock<Arc<str>>,
}

#[derive(Debug)]
struct State {
    role: Role,
    /// The latest leader epoch that this broker was told of.
    epoch: LeaderEpoch,
    /// Where a follower's durable end is announced when it moved.
    reports: Option<Arc<DirtyKeys>>,
}

#[derive(Debug)]
enum Role {
    /// Neither: nobody leads it, or the log is not ready.
    Idle,
    Leader(Box<PartitionLeader>),
    Follower(PartitionFollower),
}

/// What a partition begins with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) topic: TopicName,
    pub(crate) config: TopicConfig,
    pub(crate) log: Arc<Log>,
    pub(crate) proposals: Arc<DirtyKeys>,
}

/// What a leader begins with.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) node: NodeId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) view: PartitionView,
    pub(crate) isr_min: usize,
    pub(crate) lag_ms_max: u64,
}

/// Whom to follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follow {
    pub(crate) leader: NodeId,
    pub(crate) epoch: LeaderEpoch,
    /// The leader came from an unclean election.
    pub(crate) is_unclean: bool,
}

/// An append that is in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    /// `None`: it was in the log before, so long ago that its offset is not known any more.
    pub(crate) base_offset: Option<Offset>,
    /// It was in the log before; nothing was appended.
    pub(crate) is_duplicate: bool,
    pub(crate) log_start: Offset,
    pub(crate) ack: AckWhen,
    /// The leader epoch in which it was appended: what is waited for counts only in that one.
    pub(crate) epoch: LeaderEpoch,
}

/// Why an append was refused; nothing was written.
#[derive(Debug, Error)]
pub(crate) enum PartitionAppendError {
    #[error("{needed} in-sync replicas are demanded (min.insync.replicas), {in_sync} are there")]
    NotEnoughReplicas { in_sync: usize, needed: usize },
    #[error("the topic was deleted")]
    Deleted,
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error(transparent)]
    Storage(#[from] AppendError),
}

/// How an acknowledgement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    Waiting,
    Done,
    NotEnoughReplicas,
    /// Another leader decides now.
    NotLeader,
}

/// What a follower may read.
#[derive(Debug)]
pub(crate) struct ForFollower {
    pub(crate) answer: FetchAnswer,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
}

/// Why a follower gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowerRefusal {
    NotLeader,
    Fetch(FetchRefusal),
}

impl Partition {
    /// A partition that nobody leads yet, as far as this broker knows.
    pub(crate) fn open(opened: Opened) -> Arc<Self> {
        let log = opened.log;
        let meta = log.meta();
        let (topic_id, partition) = (meta.topic_id, meta.partition);
        let known = log.high_watermark_checkpoint().max(log.log_start());
        Arc::new(Self {
            topic: opened.topic,
            topic_id,
            partition,
            log,
            config: ArcSwap::from_pointee(opened.config),
            transition: Mutex::new(()),
            state: Mutex::new(State {
                role: Role::Idle,
                epoch: LeaderEpoch::ZERO,
                reports: None,
            }),
            high_watermark: AtomicU64::new(known.get()),
            progress: Progress::default(),
            appended: Progress::default(),
            proposals: opened.proposals,
            retired: AtomicBool::new(false),
            quarantine: OnceLock::new(),
        })
    }

    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(crate) fn key(&self) -> Key {
        (self.topic_id, self.partition)
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The latest leader epoch that this broker was told of.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.state.lock().epoch
    }

    /// The epoch in which this broker leads the partition, if it does.
    pub(crate) fn leads_in(&self) -> Option<LeaderEpoch> {
        match &self.state.lock().role {
            Role::Leader(leader) => Some(leader.epoch()),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// Everything below is committed, as far as this broker knows.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    /// Whether the high watermark may be told as the partition's end.
    pub(crate) fn high_watermark_is_known(&self) -> bool {
        match &self.state.lock().role {
            Role::Leader(leader) => leader.high_watermark_is_known(),
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// By how many records each follower is behind the log that is led here; as far as the log goes for
    /// one of whom nothing was heard in this leader epoch. Empty where this broker does not lead.
    pub(crate) fn follower_lags(&self) -> Vec<(NodeId, u64)> {
        let state = self.state.lock();
        let Role::Leader(leader) = &state.role else {
            return Vec::new();
        };
        let (start, end) = (self.log.log_start().get(), self.log.end().get());
        let lag = |progress: Option<FollowerProgress>| {
            let at = progress.map_or(start, |progress| progress.log_end.get());
            end.saturating_sub(at)
        };
        leader
            .followers()
            .map(|(node, progress)| (node, lag(progress)))
            .collect()
    }

    // ---- roles ----

    /// Leads the partition in this epoch, or goes on leading it with newer metadata. An epoch that is
    /// over is ignored. Durable when this returns.
    ///
    /// # Errors
    /// The log cannot take the epoch; the partition has no role then.
    pub(crate) fn become_leader(&self, lead: Lead, now: Moment) -> Result<(), StorageError> {
        let transition = self.transition.lock();
        {
            let mut state = self.state.lock();
            if lead.epoch < state.epoch || self.is_retired() || self.quarantine.get().is_some() {
                return Ok(());
            }
            if let Role::Leader(leader) = &mut state.role
                && leader.epoch() == lead.epoch
            {
                leader.on_image(&lead.view, now);
                self.after_leader_event(state);
                // Who waits learns also that too few are in sync now.
                self.progress.moved();
                return Ok(());
            }
            state.epoch = lead.epoch;
            state.role = Role::Idle;
            state.reports = None;
        }
        // Before the first append of the epoch: a follower that has records of a later, dead one is
        // told apart by it.
        self.log.assign_epoch(lead.epoch)?;
        let mut state = self.state.lock();
        let leader = PartitionLeader::new(TakeOver {
            node: lead.node,
            epoch: lead.epoch,
            view: lead.view,
            isr_min: lead.isr_min,
            written_means: written_means(self.log.options().durability),
            lag_ms_max: lead.lag_ms_max,
            log_end: self.log.end(),
            durable_end: self.log.durable_end(),
            high_watermark: self.high_watermark(),
            now,
        });
        let wants_sync = leader.waits_for_disk();
        state.role = Role::Leader(Box::new(leader));
        self.after_leader_event(state);
        drop(transition);
        self.progress.moved();
        self.appended.moved();
        if wants_sync {
            self.log.request_flush();
        }
        Ok(())
    }

    /// Follows this leader in this epoch. An epoch that is over is ignored.
    pub(crate) fn become_follower(&self, follow: Follow) {
        let transition = self.transition.lock();
        let mut state = self.state.lock();
        if follow.epoch < state.epoch || self.is_retired() || self.quarantine.get().is_some() {
            return;
        }
        if let Role::Follower(follower) = &mut state.role
            && follower.epoch() == follow.epoch
            && follower.leader() == follow.leader
        {
            if follow.is_unclean {
                follower.on_unclean();
            }
            return;
        }
        state.epoch = follow.epoch;
        state.role = Role::Follower(PartitionFollower::new(
            follow.leader,
            follow.epoch,
            follow.is_unclean,
            self.high_watermark(),
        ));
        drop(state);
        drop(transition);
        self.progress.moved();
        self.appended.moved();
    }

    /// Nobody leads it in this epoch.
    pub(crate) fn become_idle(&self, epoch: LeaderEpoch) {
        let transition = self.transition.lock();
        let mut state = self.state.lock();
        if epoch < state.epoch {
            return;
        }
        state.epoch = epoch;
        state.role = Role::Idle;
        drop(state);
        drop(transition);
        self.progress.moved();
        self.appended.moved();
    }

    /// Where a follower announces that more of its log is durable.
    pub(crate) fn report_to(&self, reports: Arc<DirtyKeys>) {
        self.state.lock().reports = Some(reports);
    }

    // ---- leading ----

    /// Appends verified batches, all or none.
    pub(crate) fn append_as_leader(
        &self,
        batches: &[u8],
        acks: Acks,
        now: Timestamp,
    ) -> Result<Appended, PartitionAppendError> {
        let mut state = self.state.lock();
        if self.is_retired() {
            return Err(PartitionAppendError::Deleted);
        }
        let Role::Leader(leader) = &mut state.role else {
            return Err(PartitionAppendError::NotLeader);
        };
        leader
            .admit(acks)
            .map_err(|NotEnoughReplicas { in_sync, needed }| {
                PartitionAppendError::NotEnoughReplicas { in_sync, needed }
            })?;
        let epoch = leader.epoch();
        let appended = self.log.append_idempotent(batches, epoch, now)?;
        // A duplicate waits for what its first attempt waits for: an answer says that it is safe.
        let mut ack = leader.on_appended(appended.end_offset(), acks);
        if appended.is_duplicate() && is_on(Mutant::DuplicateNotAwaited) {
            ack = AckWhen::Now;
        }
        let has_followers = leader.has_followers();
        // With acks = 0 nobody waits for an answer, but readers do.
        let wants_sync = ack != AckWhen::Now || leader.waits_for_disk();
        let moved = self.publish(leader.high_watermark());
        drop(state);
        if moved {
            self.progress.moved();
        }
        if has_followers {
            self.appended.moved();
        }
        if wants_sync {
            self.log.request_flush();
        }
        Ok(Appended {
            base_offset: appended.base_offset(),
            is_duplicate: appended.is_duplicate(),
            log_start: self.log.log_start(),
            ack,
            epoch,
        })
    }

    /// The log is on disk up to here, or went offline.
    pub(crate) fn on_durable(&self, end: Offset) {
        let mut state = self.state.lock();
        match &mut state.role {
            Role::Leader(leader) => {
                leader.on_durable(end);
                self.publish(leader.high_watermark());
            }
            Role::Follower(_) => {
                if let Some(reports) = &state.reports {
                    reports.mark(self.key());
                }
            }
            Role::Idle => {}
        }
        drop(state);
        self.progress.moved();
    }

    /// How what an append of this epoch waits for stands.
    pub(crate) fn acknowledgement(&self, epoch: LeaderEpoch, when: AckWhen) -> Acknowledgement {
        match &self.state.lock().role {
            Role::Leader(leader) if leader.epoch() == epoch => match leader.ack_state(when) {
                AckState::Done => Acknowledgement::Done,
                AckState::Waiting => Acknowledgement::Waiting,
                AckState::NotEnoughReplicas => Acknowledgement::NotEnoughReplicas,
            },
            // The same offset may hold another record in another epoch.
            _ => Acknowledgement::NotLeader,
        }
    }

    /// A follower fetches. What it says of itself counts when `is_new`; a fetch that has waited was
    /// noted when it came.
    pub(crate) fn on_follower_fetch(
        &self,
        fetch: &FollowerFetch,
        is_new: bool,
        now: Moment,
    ) -> Result<ForFollower, FollowerRefusal> {
        let mut state = self.state.lock();
        let Role::Leader(leader) = &mut state.role else {
            return Err(FollowerRefusal::NotLeader);
        };
        let epoch_end = |epoch| self.epoch_end(epoch);
        let log_start = self.log.log_start();
        let answer = if is_new {
            leader.on_fetch(fetch, log_start, epoch_end, now)
        } else {
            leader.check_fetch(fetch, log_start, epoch_end)
        };
        let answer = answer.map_err(FollowerRefusal::Fetch)?;
        let found = ForFollower {
            high_watermark: leader.told_with(&answer),
            answer,
            log_end: self.log.end(),
        };
        if is_new && self.after_leader_event(state) {
            self.progress.moved();
        }
        Ok(found)
    }

    /// Time has passed for the in-sync replicas.
    pub(crate) fn on_isr_tick(&self, now: Moment) {
        let mut state = self.state.lock();
        if let Role::Leader(leader) = &mut state.role
            && leader.has_followers()
        {
            let had_proposal = leader.has_proposal();
            leader.on_tick(now);
            if leader.has_proposal() && !had_proposal {
                for (node, progress, behind_ms) in leader.lagging() {
                    tracing::info!(
                        topic = %self.topic, partition = %self.partition, %node, ?progress, ?behind_ms,
                        log_end = %self.log.end(), "a follower lags behind"
                    );
                }
            }
            if self.after_leader_event(state) {
                self.progress.moved();
            }
        }
    }

    /// The proposal for the in-sync replicas that is to be sent now.
    pub(crate) fn take_proposal(&self) -> Option<IsrProposal> {
        match &mut self.state.lock().role {
            Role::Leader(leader) => leader.take_proposal(self.partition),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// What became of a proposal.
    pub(crate) fn on_alter_outcome(&self, asked: &IsrProposal, outcome: AlterOutcome, now: Moment) {
        let mut state = self.state.lock();
        if let Role::Leader(leader) = &mut state.role {
            leader.on_alter_outcome(asked, outcome, now);
            self.after_leader_event(state);
            // Whoever waits learns also that there are too few now.
            self.progress.moved();
        }
    }

    /// Publishes what the leader decided. Says whether the high watermark moved.
    fn after_leader_event(&self, state: parking_lot::MutexGuard<'_, State>) -> bool {
        let Role::Leader(leader) = &state.role else {
            return false;
        };
        let moved = self.publish(leader.high_watermark());
        let proposes = leader.has_proposal();
        drop(state);
        if proposes {
            self.proposals.mark(self.key());
        }
        moved
    }

    // ---- both ----

    /// The topic's settings in force.
    pub(crate) fn config(&self) -> Guard<Arc<TopicConfig>> {
        self.config.load()
    }

    /// New settings of the topic, by metadata in which the partition is in this leader epoch.
    pub(crate) fn reconfigure(
        &self,
        config: TopicConfig,
        options: LogOptions,
        epoch: LeaderEpoch,
        isr_min: usize,
    ) {
        let written_means = written_means(options.durability);
        self.log.set_options(options);
        self.config.store(Arc::new(config));
        let mut state = self.state.lock();
        let mut wants_sync = false;
        if let Role::Leader(leader) = &mut state.role {
            leader.on_settings(epoch, written_means, isr_min);
            wants_sync = leader.waits_for_disk();
        }
        self.after_leader_event(state);
        self.progress.moved();
        if wants_sync {
            self.log.request_flush();
        }
    }

    /// The topic was deleted, or the replica moved away: appends are over, and whoever waits is woken.
    pub(crate) fn retire(&self) {
        let transition = self.transition.lock();
        let mut state = self.state.lock();
        self.retired.store(true, Ordering::Release);
        state.role = Role::Idle;
        drop(state);
        drop(transition);
        self.progress.moved();
        self.appended.moved();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The log is whole and must not be used: nothing is deleted, and the replica is offline until
    /// somebody replaces it.
    pub(crate) fn put_aside(&self, reason: Arc<str>) {
        let mut state = self.state.lock();
        tracing::error!(
            topic = %self.topic, partition = %self.partition, %reason,
            "replica is put aside; its data is kept"
        );
        let _ = self.quarantine.set(reason);
        state.role = Role::Idle;
        drop(state);
        self.progress.moved();
        self.appended.moved();
    }

    /// Why the replica is offline, if it is.
    pub(crate) fn offline_reason(&self) -> Option<String> {
        if let Some(reason) = self.quarantine.get() {
            return Some(reason.to_string());
        }
        match self.log.health() {
            LogHealth::Offline(reason) => Some(reason.to_string()),
            LogHealth::Online | LogHealth::DiskFull => None,
        }
    }

    /// Whether the log is offline only because the storage engine was closed.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.log.health(), LogHealth::Offline(reason) if matches!(*reason, OfflineReason::Closed))
    }

    /// Registers a waiter for the high watermark, the durable end or the role.
    pub(crate) fn watch(&self, notify: &Arc<Notify>) -> Watch {
        self.progress.watch(notify)
    }

    /// Registers a waiter for the log to grow.
    pub(crate) fn watch_log_end(&self, notify: &Arc<Notify>) -> Watch {
        self.appended.watch(notify)
    }

    /// Has the partition marked whenever its log grows or its role changes.
    pub(crate) fn mark_log_end(&self, marks: &Arc<DirtyKeys>) -> Watch {
        self.appended.mark(marks, self.key())
    }

    fn publish(&self, high_watermark: Offset) -> bool {
        let now = high_watermark.get();
        self.high_watermark.swap(now, Ordering::AcqRel) != now
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.log.end_offset_for(epoch).map(|found| EpochEnd {
            epoch: found.epoch,
            end: found.end_offset,
        })
    }
}

/// What of a replica counts as written, by the topic's durability.
fn written_means(durability: Durability) -> WrittenMeans {
    match durability {
        Durability::Synced => WrittenMeans::Durable,
        Durability::Replicated => WrittenMeans::Appended,
    }
}
