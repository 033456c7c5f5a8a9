//! A partition on a broker: its log, and the decisions about it as leader or follower. What
//! `broker/src/partition.rs` and `broker/src/partition/follow.rs` do, in the same order and without
//! tasks and locks.

use std::sync::Arc;

use bytes::Bytes;
use highwater_coordination::moment::Moment;
use highwater_coordination::partition_follower::{
    Ask, FollowedAnswer, FollowerStep, LogPosition, PartitionFollower,
};
use highwater_coordination::partition_leader::{
    AckState, AckWhen, FetchAnswer, FetchRefusal, FollowerFetch, PartitionLeader, PartitionView,
    TakeOver, WrittenMeans,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionId, Timestamp};
use highwater_protocol::messages::{Acks, EpochEnd, FetchPartitionResult};
use highwater_protocol::record_batch::verify_batch;
use highwater_storage::{AppendError, Durability, IdempotentAppend, Log, LogHealth};

/// What a broker is to a partition.
#[derive(Debug)]
pub(crate) enum Role {
    Idle,
    Leader(Box<PartitionLeader>),
    Follower(PartitionFollower),
}

/// An append that waits to be acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) client: usize,
    pub(crate) call: u64,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) when: AckWhen,
    pub(crate) base_offset: Option<Offset>,
    pub(crate) end_offset: Offset,
    pub(crate) acks: Acks,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) log: Arc<Log>,
    pub(crate) high_watermark: Offset,
    pub(crate) role: Role,
    epoch: LeaderEpoch,
    /// Why it must not be used although the log is whole.
    pub(crate) put_aside: Option<String>,
    pub(crate) waiting: Vec<Waiting>,
    durable_seen: Offset,
    /// The log was emptied since this was last looked at.
    pub(crate) was_restarted: bool,
    /// What was appended as a follower since this was last looked at.
    pub(crate) taken_in: Bytes,
}

/// What a leader begins with.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) node: NodeId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) view: PartitionView,
    pub(crate) isr_min: usize,
    pub(crate) lag_ms: u64,
}

/// What became of a leader's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    Took { records: bool },
    Cut,
    Dropped,
    Refused,
    PutAside,
    Failed,
}

impl Replica {
    pub(crate) fn open(log: Arc<Log>) -> Self {
        let known = log.high_watermark_checkpoint().max(log.log_start());
        let durable_seen = log.durable_end();
        Self {
            log,
            high_watermark: known,
            role: Role::Idle,
            epoch: LeaderEpoch::ZERO,
            put_aside: None,
            waiting: Vec::new(),
            durable_seen,
            was_restarted: false,
            taken_in: Bytes::new(),
        }
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.put_aside.is_some() || matches!(self.log.health(), LogHealth::Offline(_))
    }

    pub(crate) fn leader(&self) -> Option<&PartitionLeader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut PartitionLeader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    // ---- roles ----

    /// Says whether a new leadership began.
    pub(crate) fn become_leader(&mut self, lead: Lead, now: Moment) -> bool {
        if lead.epoch < self.epoch || self.put_aside.is_some() {
            return false;
        }
        if let Role::Leader(leader) = &mut self.role
            && leader.epoch() == lead.epoch
        {
            leader.on_image(&lead.view, now);
            self.publish();
            return false;
        }
        self.epoch = lead.epoch;
        self.role = Role::Idle;
        if let Err(error) = self.log.assign_epoch(lead.epoch) {
            self.put_aside = Some(error.to_string());
            return false;
        }
        let leader = PartitionLeader::new(TakeOver {
            node: lead.node,
            epoch: lead.epoch,
            view: lead.view,
            isr_min: lead.isr_min,
            written_means: self.written_means(),
            lag_ms_max: lead.lag_ms,
            log_end: self.log.end(),
            durable_end: self.log.durable_end(),
            high_watermark: self.high_watermark,
            now,
        });
        if leader.waits_for_disk() {
            self.log.request_flush();
        }
        self.role = Role::Leader(Box::new(leader));
        self.publish();
        true
    }

    pub(crate) fn become_follower(&mut self, leader: NodeId, epoch: LeaderEpoch, is_unclean: bool) {
        if epoch < self.epoch || self.put_aside.is_some() {
            return;
        }
        if let Role::Follower(follower) = &mut self.role
            && follower.epoch() == epoch
            && follower.leader() == leader
        {
            if is_unclean {
                follower.on_unclean();
            }
            return;
        }
        self.epoch = epoch;
        self.role = Role::Follower(PartitionFollower::new(
            leader,
            epoch,
            is_unclean,
            self.high_watermark,
        ));
    }

    pub(crate) fn become_idle(&mut self, epoch: LeaderEpoch) {
        if epoch >= self.epoch {
            self.epoch = epoch;
            self.role = Role::Idle;
        }
    }

    pub(crate) fn on_settings(&mut self, epoch: LeaderEpoch, isr_min: usize) {
        let means = self.written_means();
        if let Role::Leader(leader) = &mut self.role {
            leader.on_settings(epoch, means, isr_min);
        }
        self.publish();
    }

    // ---- leading ----

    /// Appends a batch of a client. Says what the acknowledgement waits for.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        acks: Acks,
        now: Timestamp,
    ) -> Result<(IdempotentAppend, AckWhen, LeaderEpoch), ErrorCode> {
        let Role::Leader(leader) = &mut self.role else {
            return Err(ErrorCode::NotLeader);
        };
        if leader.admit(acks).is_err() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        let epoch = leader.epoch();
        let appended = match self.log.append_idempotent(batch, epoch, now) {
            Ok(appended) => appended,
            Err(AppendError::Sequence(_)) => return Err(ErrorCode::OutOfOrderSequence),
            Err(_) => return Err(ErrorCode::PartitionOffline),
        };
        let when = leader.on_appended(appended.end_offset(), acks);
        let wants_sync = when != AckWhen::Now || leader.waits_for_disk();
        self.publish();
        if wants_sync {
            self.log.request_flush();
        }
        Ok((appended, when, epoch))
    }

    /// How what an append of this epoch waits for stands; `None`: another leads.
    pub(crate) fn ack_state(&self, epoch: LeaderEpoch, when: AckWhen) -> Option<AckState> {
        self.leader()
            .filter(|leader| leader.epoch() == epoch)
            .map(|leader| leader.ack_state(when))
    }

    /// Answers a follower. What it says of itself counts when `is_new`.
    pub(crate) fn on_fetch(
        &mut self,
        partition: PartitionId,
        fetch: &FollowerFetch,
        is_new: bool,
        bytes_max: usize,
        now: Moment,
    ) -> FetchPartitionResult {
        let mut result = FetchPartitionResult {
            partition,
            error: ErrorCode::None,
            message: None,
            high_watermark: Offset::ZERO,
            last_stable: Offset::ZERO,
            log_start: self.log.log_start(),
            diverging: None,
            records: Bytes::new(),
        };
        let log = Arc::clone(&self.log);
        let epoch_end = |epoch| epoch_end(&log, epoch);
        let Role::Leader(leader) = &mut self.role else {
            result.error = ErrorCode::NotLeader;
            return result;
        };
        let answer = if is_new {
            leader.on_fetch(fetch, log.log_start(), epoch_end, now)
        } else {
            leader.check_fetch(fetch, log.log_start(), epoch_end)
        };
        match answer {
            Err(refusal) => result.error = code_of(refusal),
            Ok(answer) => {
                result.high_watermark = leader.told_with(&answer);
                match answer {
                    FetchAnswer::Diverging(end) => result.diverging = Some(end),
                    FetchAnswer::Records if fetch.is_report => {}
                    FetchAnswer::Records => match log.read(fetch.offset, log.end(), bytes_max) {
                        Ok(slice) => result.records = Bytes::copy_from_slice(&slice.records),
                        Err(_) => result.error = ErrorCode::PartitionOffline,
                    },
                }
            }
        }
        self.publish();
        result
    }

    // ---- following ----

    /// What to ask of whom.
    pub(crate) fn ask(&self) -> Option<(Ask, Offset)> {
        match &self.role {
            Role::Follower(follower) if !self.is_offline() => {
                Some((follower.ask(self.position()), self.log.durable_end()))
            }
            _ => None,
        }
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            log_start: self.log.log_start(),
            log_end: self.log.end(),
            last_epoch: self.log.latest_epoch(),
        }
    }

    /// The leader answered.
    pub(crate) fn on_followed(
        &mut self,
        asked: &Ask,
        result: &FetchPartitionResult,
        now: Timestamp,
    ) -> Followed {
        if self.is_offline() {
            return Followed::Dropped;
        }
        let answer = match (result.error, &result.diverging) {
            (ErrorCode::None, None) => FollowedAnswer::Agrees,
            (ErrorCode::None, Some(end)) => FollowedAnswer::Diverges(end.clone()),
            (ErrorCode::OffsetOutOfRange, _) => FollowedAnswer::OutOfRange {
                log_start: result.log_start,
            },
            (ErrorCode::EpochAhead, _) => FollowedAnswer::EpochAhead,
            _ => return Followed::Refused,
        };
        let position = self.position();
        let log = Arc::clone(&self.log);
        let Role::Follower(follower) = &mut self.role else {
            return Followed::Dropped;
        };
        let told = result.high_watermark;
        let step = follower.on_answer(asked, answer, told, position, |epoch| {
            epoch_end(&log, epoch)
        });
        self.publish();
        match step {
            FollowerStep::Drop => Followed::Dropped,
            FollowerStep::Append => self.take_in(asked, result, now),
            FollowerStep::Truncate { to } => match self.log.truncate_suffix(to) {
                Ok(end) => {
                    self.on_follower(|follower| follower.on_cut(end));
                    Followed::Cut
                }
                Err(_) => Followed::Failed,
            },
            FollowerStep::Restart { at } => {
                if self.restart(at) {
                    Followed::Cut
                } else {
                    Followed::Failed
                }
            }
            FollowerStep::Quarantine(why) => {
                self.put_aside = Some(why.to_string());
                self.role = Role::Idle;
                Followed::PutAside
            }
        }
    }

    fn restart(&mut self, at: Offset) -> bool {
        if self.log.restart_at(at).is_err() {
            return false;
        }
        self.was_restarted = true;
        self.on_follower(|follower| follower.on_restarted(at));
        true
    }

    fn take_in(&mut self, asked: &Ask, result: &FetchPartitionResult, now: Timestamp) -> Followed {
        let records = &result.records;
        let mut first = None;
        let mut rest = &records[..];
        while !rest.is_empty() {
            let Ok(header) = verify_batch(rest) else {
                return Followed::Failed;
            };
            if header.leader_epoch.is_none_or(|found| found > asked.epoch) {
                return Followed::Failed;
            }
            first.get_or_insert(header.base_offset);
            rest = &rest[header.batch_bytes as usize..];
        }
        if let Some(first) = first {
            let start = self.log.log_start();
            if start == self.log.end() && first < start && !self.restart(first) {
                return Followed::Failed;
            }
            if self.log.append_replicated(records, now).is_err() {
                return Followed::Failed;
            }
            self.taken_in = records.clone();
        }
        let end = self.log.end();
        self.on_follower(|follower| follower.on_appended(end));
        if first.is_some() && self.written_means() == WrittenMeans::Durable {
            self.log.request_flush();
        }
        let start = result.log_start.min(self.high_watermark);
        if start > self.log.log_start() && self.log.trim_prefix(start).is_err() {
            return Followed::Failed;
        }
        Followed::Took {
            records: first.is_some(),
        }
    }

    fn on_follower(&mut self, change: impl FnOnce(&mut PartitionFollower)) {
        if let Role::Follower(follower) = &mut self.role {
            change(follower);
        }
        self.publish();
    }

    // ---- both ----

    /// More of the log may be durable. Says whether a follower has something to report.
    pub(crate) fn look_at_disk(&mut self) -> bool {
        let end = self.log.durable_end();
        if end == self.durable_seen {
            return false;
        }
        self.durable_seen = end;
        if let Role::Leader(leader) = &mut self.role {
            leader.on_durable(end);
        }
        self.publish();
        matches!(self.role, Role::Follower(_))
    }

    /// Publishes the high watermark.
    pub(crate) fn publish(&mut self) {
        match &self.role {
            Role::Leader(leader) => self.high_watermark = leader.high_watermark(),
            Role::Follower(follower) => self.high_watermark = follower.high_watermark(),
            Role::Idle => {}
        }
    }

    fn written_means(&self) -> WrittenMeans {
        match self.log.options().durability {
            Durability::Synced => WrittenMeans::Durable,
            Durability::Replicated => WrittenMeans::Appended,
        }
    }
}

fn epoch_end(log: &Log, epoch: LeaderEpoch) -> Option<EpochEnd> {
    log.end_offset_for(epoch).map(|found| EpochEnd {
        epoch: found.epoch,
        end: found.end_offset,
    })
}

fn code_of(refusal: FetchRefusal) -> ErrorCode {
    match refusal {
        FetchRefusal::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        FetchRefusal::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
        FetchRefusal::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
        FetchRefusal::OutOfRange => ErrorCode::OffsetOutOfRange,
        FetchRefusal::EpochAhead => ErrorCode::EpochAhead,
    }
}
