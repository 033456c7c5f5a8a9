//! Changes of the in-sync replicas: the leader proposes, the controller decides (KIP-497, KIP-903).
//!
//! At most one proposal of a partition is in flight. From the moment at which it is made until it is
//! resolved, everybody in it counts as in sync together with the committed ones (`maximal`): whatever
//! the controller decides, nobody whom it believes in sync was ignored by the high watermark.
//!
//! An answer that was not heard decides nothing: the same proposal is sent again. It is given up only
//! on a definite "not applied", or when the metadata shows a later state of the partition.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId};
use highwater_protocol::messages::{IsrDecision, IsrMember, IsrProposal};

use super::{PartitionLeader, PartitionView};
use crate::moment::Moment;
use crate::mutant::{self, Mutant};

/// A proposal that is not resolved.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    isr: BTreeMap<NodeId, BrokerEpoch>,
    recovered: bool,
    step: Step,
    /// An answer was lost: the proposal may be applied yet, or may have been.
    is_in_doubt: bool,
    /// Everybody of an earlier proposal that is in doubt.
    doubted: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To be sent, perhaps again.
    ToSend,
    /// An answer is awaited.
    Sent,
    /// Refused because the sender is behind: newer metadata will say what holds. Sent again at the next
    /// tick, in case that nothing newer comes.
    AwaitMetadata,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterOutcome {
    /// Decided.
    Changed {
        /// In this leader epoch.
        leader_epoch: LeaderEpoch,
        /// The partition's new epoch.
        partition_epoch: u32,
        /// Who is in sync now.
        isr: BTreeSet<NodeId>,
    },
    /// Not applied, and never will be: a member may not be in sync.
    Ineligible,
    /// Not applied because this leader is behind the controller.
    Behind,
    /// Nobody knows.
    Unknown,
}

impl AlterOutcome {
    /// What a decision of the controller means.
    #[must_use]
    pub fn of(decision: &IsrDecision) -> Self {
        match decision.error {
            ErrorCode::None => Self::Changed {
                leader_epoch: decision.leader_epoch,
                partition_epoch: decision.partition_epoch,
                isr: decision.isr.iter().copied().collect(),
            },
            ErrorCode::IneligibleReplica => Self::Ineligible,
            ErrorCode::StalePartitionEpoch
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::NotLeader
            | ErrorCode::InvalidRequest
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::StaleBrokerEpoch => Self::Behind,
            _ => Self::Unknown,
        }
    }
}

impl PartitionLeader {
    /// Everybody who is in sync, or would be if the proposal in flight were accepted.
    pub fn maximal_isr(&self) -> impl Iterator<Item = NodeId> + '_ {
        let proposed = self.pending.iter().flat_map(|pending| {
            pending
                .isr
                .keys()
                .chain(&pending.doubted)
                .filter(|node| !self.isr.contains(node))
        });
        let mut seen = BTreeSet::new();
        self.isr
            .iter()
            .chain(proposed)
            .copied()
            .filter(move |node| seen.insert(*node))
    }

    pub(super) fn is_in_maximal(&self, node: NodeId) -> bool {
        self.isr.contains(&node)
            || self.pending.as_ref().is_some_and(|pending| {
                pending.isr.contains_key(&node) || pending.doubted.contains(&node)
            })
    }

    pub(super) fn maximal_count(&self) -> usize {
        match &self.pending {
            None => self.isr.len(),
            Some(_) => self.maximal_isr().count(),
        }
    }

    /// Whether a proposal waits to be sent.
    #[must_use]
    pub fn has_proposal(&self) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.step == Step::ToSend)
    }

    /// The proposal to be sent now, if there is one. Until [`PartitionLeader::on_alter_outcome`] says
    /// what became of it, it is not given out again.
    pub fn take_proposal(&mut self, partition: PartitionId) -> Option<IsrProposal> {
        let (leader_epoch, partition_epoch) = (self.epoch, self.partition_epoch);
        let pending = self.pending.as_mut()?;
        if pending.step != Step::ToSend {
            return None;
        }
        pending.step = Step::Sent;
        let isr = pending.isr.iter().map(|(node_id, broker_epoch)| IsrMember {
            node_id: *node_id,
            broker_epoch: *broker_epoch,
        });
        Some(IsrProposal {
            partition,
            leader_epoch,
            partition_epoch,
            isr: isr.collect(),
            recovered: pending.recovered,
        })
    }

    /// What became of a proposal that was taken. One that metadata has resolved meanwhile is ignored.
    pub fn on_alter_outcome(&mut self, asked: &IsrProposal, outcome: AlterOutcome, now: Moment) {
        let is_this = asked.leader_epoch == self.epoch
            && asked.partition_epoch == self.partition_epoch
            && self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.step == Step::Sent);
        if !is_this {
            return;
        }
        self.now = self.now.max(now);
        match outcome {
            AlterOutcome::Changed {
                leader_epoch,
                partition_epoch,
                isr,
            } if leader_epoch == self.epoch => {
                if partition_epoch > self.partition_epoch {
                    let recovered = self.pending.as_ref().is_some_and(|sent| sent.recovered);
                    self.recovering &= !recovered;
                    self.commit_isr(partition_epoch, isr);
                } else {
                    // There was nothing to change.
                    self.pending = None;
                }
            }
            AlterOutcome::Changed { .. } | AlterOutcome::Behind => {
                self.set_step(Step::AwaitMetadata);
            }
            AlterOutcome::Ineligible => {
                self.is_held = true;
                self.give_up();
            }
            AlterOutcome::Unknown if mutant::is_on(Mutant::RollBackWhenUnknown) => {
                self.is_held = true;
                self.pending = None;
            }
            AlterOutcome::Unknown => {
                if let Some(pending) = &mut self.pending {
                    pending.is_in_doubt = true;
                }
                self.set_step(Step::ToSend);
            }
        }
        self.advance();
        self.propose();
        self.check();
    }

    /// A newer state of the partition in the same leader epoch, or of its replicas' brokers. What is
    /// older than what an answer of the controller has told is ignored.
    pub fn on_image(&mut self, view: &PartitionView, now: Moment) {
        self.now = self.now.max(now);
        for (node, broker) in &view.replicas {
            if *node == self.node {
                self.own_broker = *broker;
            } else if let Some(follower) = self.followers.get_mut(node) {
                self.is_held &= follower.broker == *broker;
                follower.broker = *broker;
            }
        }
        if view.partition_epoch > self.partition_epoch {
            self.followers
                .retain(|node, _| view.replicas.contains_key(node));
            for (node, broker) in &view.replicas {
                if *node != self.node {
                    self.followers
                        .entry(*node)
                        .or_insert_with(|| super::Follower::new(*broker, None));
                }
            }
            self.recovering = view.recovering;
            self.is_held = false;
            self.commit_isr(view.partition_epoch, view.isr.clone());
        }
        self.advance();
        self.propose();
        self.check();
    }

    /// Time has passed. To be called several times within the longest lag.
    pub fn on_tick(&mut self, now: Moment) {
        let gap = now.millis_since(self.last_tick);
        self.last_tick = now;
        self.now = self.now.max(now);
        if gap > self.lag_ms_max / 2 {
            // This process was stopped, not its followers: it must not put them out for what it
            // did not hear, or a leader that wakes up would be alone.
            for follower in self.followers.values_mut() {
                follower.rebase(now);
            }
            return;
        }
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.step == Step::AwaitMetadata)
        {
            self.set_step(Step::ToSend);
        }
        self.is_held = false;
        self.shrink();
        self.advance();
        self.propose();
        self.check();
    }

    fn set_step(&mut self, step: Step) {
        if let Some(pending) = &mut self.pending {
            pending.step = step;
        }
    }

    fn commit_isr(&mut self, partition_epoch: u32, isr: BTreeSet<NodeId>) {
        for joined in isr.difference(&self.isr) {
            if let Some(follower) = self.followers.get_mut(joined) {
                follower.on_joined(self.now);
            }
        }
        // Whoever was put out proves itself anew, by a fetch: what it had before says nothing about a
        // replica that has stopped, and proposing it again at once would undo what was decided.
        for left in self.isr.difference(&isr) {
            if let Some(follower) = self.followers.get_mut(left) {
                follower.progress = None;
            }
        }
        self.partition_epoch = partition_epoch;
        self.isr = isr;
        self.pending = None;
    }

    /// The proposal was refused for good. If an earlier copy of it may still be under way, only another
    /// change of the partition makes sure that it comes too late: the present state is proposed, and
    /// until that is decided everybody goes on being counted.
    fn give_up(&mut self) {
        let Some(refused) = self.pending.take() else {
            return;
        };
        let mut doubted = refused.doubted;
        if refused.is_in_doubt {
            doubted.extend(refused.isr.into_keys());
        }
        if doubted.is_empty() {
            return;
        }
        let isr = self.isr.clone();
        self.start(isr, doubted);
    }

    pub(super) fn lags(&self, follower: &super::Follower) -> bool {
        !follower.is_caught_up(self.written_means, self.log_end, self.now, self.lag_ms_max)
    }

    /// Proposes to put out who has not been caught up for too long.
    fn shrink(&mut self) {
        if self.pending.is_some() || !self.isr.contains(&self.node) {
            return;
        }
        let lags = |node: &NodeId| {
            self.followers
                .get(node)
                .is_some_and(|follower| self.lags(follower))
        };
        if !self.isr.iter().any(lags) {
            return;
        }
        let kept = self.isr.iter().copied().filter(|node| !lags(node));
        let kept = kept.collect();
        self.start(kept, BTreeSet::new());
    }

    /// Proposes to take in everybody who may join.
    pub(super) fn propose(&mut self) {
        if self.pending.is_some() || self.is_held || !self.isr.contains(&self.node) {
            return;
        }
        let mut isr = None;
        for (node, follower) in &self.followers {
            if !self.isr.contains(node) && self.may_join(follower) {
                isr.get_or_insert_with(|| self.isr.clone()).insert(*node);
            }
        }
        if let Some(isr) = isr {
            self.start(isr, BTreeSet::new());
        }
    }

    /// Past the high watermark alone is not enough: that of a new leader may be behind the true one,
    /// which lies at the start of its epoch at most.
    fn may_join(&self, follower: &super::Follower) -> bool {
        follower.is_eligible()
            && follower.end(self.written_means).is_some_and(|end| {
                end >= self.high_watermark
                    && (end >= self.epoch_start || mutant::is_on(Mutant::JoinsBelowEpochStart))
            })
    }

    fn start(&mut self, isr: BTreeSet<NodeId>, doubted: BTreeSet<NodeId>) {
        let mut members = BTreeMap::new();
        for node in isr {
            let known = if node == self.node {
                self.own_broker.epoch
            } else {
                self.followers.get(&node).and_then(|follower| {
                    // One that joins does so with the registration under which it proved itself.
                    follower
                        .progress
                        .map(|progress| progress.broker_epoch)
                        .or(follower.broker.epoch)
                })
            };
            let Some(broker_epoch) = known else {
                // The metadata knows no such broker, so the controller would refuse.
                return;
            };
            members.insert(node, broker_epoch);
        }
        let recovered = !self.recovering || members.len() > 1;
        self.pending = Some(Pending {
            isr: members,
            recovered,
            step: Step::ToSend,
            is_in_doubt: false,
            doubted,
        });
    }
}
