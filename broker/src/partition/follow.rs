//! Following: asking the leader, and doing what its answer means to the local log.

use std::sync::Arc;

use highwater_coordination::partition_follower::{
    Ask, FollowedAnswer, FollowerStep, LogPosition, PartitionFollower,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::messages::FetchPartitionResult;
use highwater_protocol::record_batch::{BatchError, verify_batch};
use highwater_storage::{AppendError, Durability, StorageError};
use thiserror::Error;

use super::{Partition, Role};

/// Batches are verified and appended in runs of this size: what was verified is still in the processor's
/// cache when it is copied.
const RUN_BYTES: usize = 512 << 10;

/// What became of a leader's answer.
#[derive(Debug)]
pub(crate) enum Followed {
    /// Taken in.
    Took,
    /// The local log was cut to fit; ask again at once.
    Cut,
    /// The answer was not to what is asked now.
    Dropped,
    /// The leader does not serve this; its metadata or ours is behind.
    Refused(ErrorCode),
    /// The replica was put aside.
    Quarantined,
    /// It could not be taken in; later, perhaps.
    Failed(FollowError),
}

/// Why an answer could not be taken in.
#[derive(Debug, Error)]
pub(crate) enum FollowError {
    #[error("the leader sent a batch that does not verify: {0}")]
    Batch(#[from] BatchError),
    #[error("the leader sent a batch of leader epoch {found:?}, it leads in {epoch}")]
    Epoch {
        found: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Partition {
    /// What to ask of whom, and the durable end of the log; `None` when nobody is followed.
    pub(crate) fn ask(&self) -> Option<(Ask, Offset)> {
        if self.is_retired() || self.offline_reason().is_some() {
            return None;
        }
        let state = self.state.lock();
        match &state.role {
            Role::Follower(follower) => {
                Some((follower.ask(self.position()), self.log.durable_end()))
            }
            Role::Idle | Role::Leader(_) => None,
        }
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            log_start: self.log.log_start(),
            log_end: self.log.end(),
            last_epoch: self.log.latest_epoch(),
        }
    }

    /// Whether taking an answer in may wait for the disk: it cuts or trims the log.
    pub(crate) fn waits_for_disk(&self, result: &FetchPartitionResult) -> bool {
        result.diverging.is_some()
            || result.error == ErrorCode::OffsetOutOfRange
            || (result.error == ErrorCode::None && result.log_start > self.log.log_start())
    }

    /// The leader answered.
    pub(crate) fn on_followed(
        &self,
        asked: &Ask,
        result: &FetchPartitionResult,
        now: Timestamp,
    ) -> Followed {
        let _transition = self.transition.lock();
        if self.is_retired() || self.offline_reason().is_some() {
            return Followed::Dropped;
        }
        let answer = match (result.error, &result.diverging) {
            (ErrorCode::None, None) => FollowedAnswer::Agrees,
            (ErrorCode::None, Some(end)) => FollowedAnswer::Diverges(end.clone()),
            (ErrorCode::OffsetOutOfRange, _) => FollowedAnswer::OutOfRange {
                log_start: result.log_start,
            },
            (ErrorCode::EpochAhead, _) => FollowedAnswer::EpochAhead,
            (other, _) => return Followed::Refused(other),
        };
        let step = {
            let mut state = self.state.lock();
            let Role::Follower(follower) = &mut state.role else {
                return Followed::Dropped;
            };
            let told = result.high_watermark;
            follower.on_answer(asked, answer, told, self.position(), |epoch| {
                self.epoch_end(epoch)
            })
        };
        let done = match step {
            FollowerStep::Drop => return Followed::Dropped,
            FollowerStep::Append => {
                return match self.take_in(asked, result, now) {
                    Ok(()) => Followed::Took,
                    Err(error) => Followed::Failed(error),
                };
            }
            FollowerStep::Truncate { to } => self.truncate(to, asked.epoch),
            FollowerStep::Restart { at } => self.restart(at),
            FollowerStep::Quarantine(why) => {
                self.put_aside(Arc::from(why.to_string()));
                return Followed::Quarantined;
            }
        };
        match done {
            Ok(()) => Followed::Cut,
            Err(error) => Followed::Failed(error.into()),
        }
    }

    fn truncate(&self, to: Offset, epoch: LeaderEpoch) -> Result<(), StorageError> {
        let before = self.log.end();
        let end = self.log.truncate_suffix(to)?;
        tracing::info!(
            topic = %self.topic, partition = %self.partition, leader_epoch = %epoch,
            from = %before, to = %end, "log cut to agree with the leader's"
        );
        self.on_follower(|follower| follower.on_cut(end));
        Ok(())
    }

    fn restart(&self, at: Offset) -> Result<(), StorageError> {
        tracing::info!(
            topic = %self.topic, partition = %self.partition,
            end = %self.log.end(), %at, "log begins anew where the leader's begins"
        );
        self.log.restart_at(at)?;
        self.on_follower(|follower| follower.on_restarted(at));
        Ok(())
    }

    /// Appends what came, and only then believes the leader's high watermark.
    fn take_in(
        &self,
        asked: &Ask,
        result: &FetchPartitionResult,
        now: Timestamp,
    ) -> Result<(), FollowError> {
        let mut rest = &result.records[..];
        while !rest.is_empty() {
            let (first, run) = verified_run(rest, asked.epoch)?;
            let start = self.log.log_start();
            if start == self.log.end() && first < start {
                // The leader's log starts in the middle of a batch, which comes whole.
                self.restart(first)?;
            }
            self.log.append_replicated(run, now)?;
            rest = &rest[run.len()..];
        }
        let end = self.log.end();
        self.on_follower(|follower| follower.on_appended(end));
        if !result.records.is_empty() && self.log.options().durability == Durability::Synced {
            self.log.request_flush();
        }
        let start = result.log_start.min(self.high_watermark());
        if start > self.log.log_start() {
            self.log.trim_prefix(start)?;
        }
        Ok(())
    }

    /// Changes the follower's state and publishes its high watermark. The role cannot have changed
    /// since the answer was found to be current: the caller holds `transition`.
    fn on_follower(&self, change: impl FnOnce(&mut PartitionFollower)) {
        let mut state = self.state.lock();
        if let Role::Follower(follower) = &mut state.role {
            change(follower);
            self.publish(follower.high_watermark());
        }
    }
}

/// The verified batches at the start of `records`, up to about [`RUN_BYTES`], and the first offset of them.
fn verified_run(records: &[u8], epoch: LeaderEpoch) -> Result<(Offset, &[u8]), FollowError> {
    let mut first = None;
    let mut bytes = 0;
    loop {
        let header = verify_batch(&records[bytes..])?;
        if header.leader_epoch.is_none_or(|found| found > epoch) {
            return Err(FollowError::Epoch {
                found: header.leader_epoch,
                epoch,
            });
        }
        let first = *first.get_or_insert(header.base_offset);
        bytes += header.batch_bytes as usize;
        if bytes >= RUN_BYTES || bytes >= records.len() {
            return Ok((first, &records[..bytes]));
        }
    }
}
