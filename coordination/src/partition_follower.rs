//! A follower's view of its partition: what to ask the leader for, and what its answer means.
//!
//! The follower tells where its log ends and the last leader epoch in it. A leader whose log parts
//! from that before the end says where its own part of that epoch, or of the latest one before it,
//! ends; the follower cuts and asks again. Each round forgets at least one epoch or some records, so
//! that as many rounds are enough as there are epochs (KIP-320, KIP-595).
//!
//! The high watermark is touched only by an answer that found the logs in agreement: before that, what
//! the leader has committed may be other records than those that this log has at the same offsets.

use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset};
use highwater_protocol::messages::EpochEnd;

use crate::mutant::{self, Mutant};

/// A partition as one of its followers sees it.
#[derive(Debug, Clone)]
pub struct PartitionFollower {
    leader: NodeId,
    epoch: LeaderEpoch,
    /// The leader came from an unclean election: what was committed may be gone. Holds for the rest of
    /// the epoch once it was seen.
    is_unclean: bool,
    high_watermark: Offset,
    /// The leader's high watermark as of the last answer that agreed.
    told: Offset,
}

/// The local log at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// First offset.
    pub log_start: Offset,
    /// Next offset.
    pub log_end: Offset,
    /// The last epoch that the log knows.
    pub last_epoch: Option<LeaderEpoch>,
}

/// What is asked of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub leader: NodeId,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// The local log at the time of asking.
    pub position: LogPosition,
}

/// What a leader answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedAnswer {
    /// The logs agree up to where was asked; records may follow.
    Agrees,
    /// They part.
    Diverges(EpochEnd),
    /// The leader's log starts at `log_start`, and what was asked for is outside of it.
    OutOfRange {
        /// First offset of the leader.
        log_start: Offset,
    },
    /// The leader never heard of the last epoch of this log.
    EpochAhead,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerStep {
    /// The answer is not to what is asked now: forget it.
    Drop,
    /// Append the records that came, then [`PartitionFollower::on_appended`].
    Append,
    /// Cut the log here, then [`PartitionFollower::on_cut`], then ask again.
    Truncate {
        /// The new end.
        to: Offset,
    },
    /// Delete everything and begin at this offset, then [`PartitionFollower::on_restarted`].
    Restart {
        /// The new start and end.
        at: Offset,
    },
    /// This log cannot follow that leader without losing what was committed: it must not be used, and
    /// nothing of it must be deleted.
    Quarantine(Quarantine),
}

/// Why a log is put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Quarantine {
    /// The leader lacks what is committed here.
    #[error(
        "the leader's log parts from this one at offset {at}, below {high_watermark} up to which it was \
         committed; nothing was cut"
    )]
    CommittedRecordsDiffer {
        /// Where.
        at: Offset,
        /// Committed up to here.
        high_watermark: Offset,
    },
    /// The leader is from an earlier time than this log.
    #[error("the log has records of leader epoch {last_epoch}, of which its leader never heard")]
    EpochAhead {
        /// The last epoch here.
        last_epoch: LeaderEpoch,
    },
    /// A round of the comparison got nowhere.
    #[error("the leader says that the logs part at offset {at}, where nothing is left to cut")]
    NoProgress {
        /// Where.
        at: Offset,
    },
}

impl PartitionFollower {
    /// Begins to follow. `high_watermark` is what was known here: a lower bound of the true one.
    #[must_use]
    pub fn new(
        leader: NodeId,
        epoch: LeaderEpoch,
        is_unclean: bool,
        high_watermark: Offset,
    ) -> Self {
        Self {
            leader,
            epoch,
            is_unclean,
            high_watermark,
            told: Offset::ZERO,
        }
    }

    /// Whom it follows.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// In which epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Everything below is committed, as far as is known here.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The metadata says that the leader of this epoch came from an unclean election.
    pub fn on_unclean(&mut self) {
        self.is_unclean = true;
    }

    /// What to ask now.
    #[must_use]
    pub fn ask(&self, mut position: LogPosition) -> Ask {
        if mutant::is_on(Mutant::LastEpochForgotten) && position.last_epoch < Some(self.epoch) {
            position.last_epoch = None;
        }
        Ask {
            leader: self.leader,
            epoch: self.epoch,
            position,
        }
    }

    /// What an answer means. `epoch_end` says where an epoch ends in the local log.
    ///
    /// `told` is the leader's high watermark as the answer has it. It is taken note of only when the
    /// logs agree, and counts once the records that came with it are appended.
    #[must_use]
    pub fn on_answer(
        &mut self,
        asked: &Ask,
        answer: FollowedAnswer,
        told: Offset,
        now: LogPosition,
        epoch_end: impl FnOnce(LeaderEpoch) -> Option<EpochEnd>,
    ) -> FollowerStep {
        if *asked
            != self.ask(LogPosition {
                log_start: asked.position.log_start,
                ..now
            })
        {
            return FollowerStep::Drop;
        }
        if mutant::is_on(Mutant::WatermarkBeforeDivergence) {
            self.high_watermark = self.high_watermark.max(told.min(now.log_end));
        }
        match answer {
            FollowedAnswer::Agrees => {
                self.told = told;
                FollowerStep::Append
            }
            FollowedAnswer::Diverges(leaders) => {
                if mutant::is_on(Mutant::CutAtWatermark) && self.high_watermark < now.log_end {
                    return FollowerStep::Truncate {
                        to: self.high_watermark,
                    };
                }
                let own = epoch_end(leaders.epoch);
                let mut to = now.log_end;
                if let Some(own) = &own {
                    to = to.min(own.end);
                }
                if own.is_none_or(|own| own.epoch == leaders.epoch) {
                    to = to.min(leaders.end);
                }
                self.cut(to, leaders.epoch, now)
            }
            FollowedAnswer::OutOfRange { log_start } => {
                let lost = log_start.min(now.log_end);
                if now.log_end >= log_start && lost < self.high_watermark && !self.is_unclean {
                    // The leader ends before this log does, and that was committed.
                    return FollowerStep::Quarantine(Quarantine::CommittedRecordsDiffer {
                        at: lost,
                        high_watermark: self.high_watermark,
                    });
                }
                FollowerStep::Restart { at: log_start }
            }
            FollowedAnswer::EpochAhead => FollowerStep::Quarantine(Quarantine::EpochAhead {
                last_epoch: now.last_epoch.unwrap_or_default(),
            }),
        }
    }

    fn cut(&self, to: Offset, agreed: LeaderEpoch, now: LogPosition) -> FollowerStep {
        if to < self.high_watermark && !self.is_unclean {
            return FollowerStep::Quarantine(Quarantine::CommittedRecordsDiffer {
                at: to,
                high_watermark: self.high_watermark,
            });
        }
        if to < now.log_start {
            return FollowerStep::Restart { at: to };
        }
        // Either records go, or an epoch of its own that never got any.
        let forgets_epoch = now.last_epoch.is_some_and(|last| last > agreed);
        if to >= now.log_end && !forgets_epoch {
            return FollowerStep::Quarantine(Quarantine::NoProgress { at: to });
        }
        FollowerStep::Truncate { to }
    }

    /// The records of an answer that agreed are appended, or there were none to append.
    pub fn on_appended(&mut self, log_end: Offset) {
        self.high_watermark = self.high_watermark.max(self.told.min(log_end));
    }

    /// The log was cut, and ends here now.
    pub fn on_cut(&mut self, log_end: Offset) {
        self.high_watermark = self.high_watermark.min(log_end);
    }

    /// The log was emptied, and begins here now.
    pub fn on_restarted(&mut self, at: Offset) {
        self.high_watermark = at;
    }
}
