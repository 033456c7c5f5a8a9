//! Who is in sync or eligible, and why.
//!
//! - R2: every running member of isr ∪ elr has everything that is committed: written(r) >= the highest
//!   high watermark that any replica ever had, and the same batch there.
//! - R5: while the leader of the newest epoch counts enough in sync, those whom it counts include everybody
//!   whom the controller believes complete: |isr(l)| >= min => maximal(l) ⊇ isr ∪ elr.
//! - R10: what `partition_change::check_image` says, after every entry of the metadata log; and somebody is
//!   always remembered: isr = elr = ∅ => last_known_elr ≠ ∅.
//! - R11: a replica enters an ISR only under the registration under which its leader proposed it, and under
//!   which it has told, in this leader epoch, an end past the start of the epoch.
//! - R12: after a loss of power a replica of a `replicated` topic is neither in sync nor eligible when its
//!   next life is registered.

use std::collections::BTreeSet;

use highwater_coordination::cluster_image::{BrokerImage, ClusterImage, PartitionImage};
use highwater_coordination::partition_change::check_image;
use highwater_coordination::partition_leader::{FollowerFetch, PartitionLeader};
use highwater_protocol::ids::{BrokerEpoch, NodeId};
use highwater_protocol::messages::IsrProposal;
use highwater_storage::Durability;

use super::Oracle;
use crate::message::Key;
use crate::node::number_of;

impl Oracle {
    /// A follower tells of itself.
    pub(crate) fn on_told(&mut self, node: usize, key: Key, fetch: &FollowerFetch) {
        let written = match self.durability.get(&key) {
            Some(Durability::Replicated) => fetch.offset,
            _ => fetch.durable_end,
        };
        let epochs = self
            .truth(key)
            .told
            .entry((node, fetch.leader_epoch.get()))
            .or_default();
        let best = epochs.entry(fetch.broker_epoch).or_default();
        *best = (*best).max(written.get());
    }

    /// A leader proposes.
    pub(crate) fn on_proposed(&mut self, key: Key, proposal: &IsrProposal) {
        let basis = (proposal.leader_epoch.get(), proposal.partition_epoch);
        let proposals = self.truth(key).proposals.entry(basis).or_default();
        if !proposals.contains(proposal) {
            proposals.push(proposal.clone());
        }
    }

    /// What the metadata says of members, after an entry.
    pub(super) fn check_members(&mut self, before: &ClusterImage, after: &ClusterImage) {
        if let Err(rule) = check_image(after) {
            self.broken("R10", rule.to_string());
        }
        for (key, topic, index) in crate::cluster::partitions(after) {
            let now = &topic.partitions[index];
            let was = before
                .topic_by_id(key.0)
                .and_then(|topic| topic.partition(key.1));
            let Some(was) = was.filter(|was| *was != now) else {
                continue;
            };
            let nobody = now.isr.is_empty() && now.elr.is_empty();
            if nobody && now.last_known_elr.is_empty() {
                self.broken("R10", format!("nobody is remembered: {now:?}"));
            }
            self.check_joined(after, key, was, now);
        }
    }

    fn check_joined(
        &mut self,
        image: &ClusterImage,
        key: Key,
        was: &PartitionImage,
        now: &PartitionImage,
    ) {
        if now.recovering && now.leader_epoch != was.leader_epoch {
            return;
        }
        let epoch = was.leader_epoch.get();
        for node in now.isr.iter().filter(|node| !was.isr.contains(node)) {
            // Elected because nobody in sync was left.
            let was_eligible = was.elr.contains(node)
                && now.leader == Some(*node)
                && now.leader_epoch > was.leader_epoch;
            // The only copy that there is.
            let is_only = was.replicas == [*node];
            if was_eligible || is_only {
                continue;
            }
            let registration = image.broker(*node).and_then(BrokerImage::epoch);
            let truth = self.truth(key);
            let start = truth.epoch_starts.get(&epoch).copied().unwrap_or(0);
            let told = truth.told.get(&(number_of(*node), epoch));
            let proved = told
                .zip(registration)
                .and_then(|(told, registration)| told.get(&registration).copied());
            let basis = (epoch, was.partition_epoch);
            let proposals = truth.proposals.get(&basis).into_iter().flatten();
            let is_proposed = proposals
                .flat_map(|proposal| &proposal.isr)
                .any(|member| member.node_id == *node && Some(member.broker_epoch) == registration);
            if !is_proposed {
                self.broken(
                    "R11",
                    format!("{node} joins in epoch {epoch} as {registration:?}, under which nobody proposed it"),
                );
            } else if proved.is_none_or(|end| end < start) {
                self.broken(
                    "R11",
                    format!("{node} joins in epoch {epoch} that begins at {start}, with {proved:?} told under {registration:?}"),
                );
            }
        }
    }

    /// A life was registered.
    pub(super) fn check_registered(&mut self, image: &ClusterImage, node: NodeId, life: u64) {
        let number = number_of(node);
        let before = self.registered.insert(number, life).unwrap_or(0);
        let lost = self
            .power_losses
            .get(&number)
            .is_some_and(|lives| lives.iter().any(|ended| (before..life).contains(ended)));
        if !lost {
            return;
        }
        for (key, topic, index) in crate::cluster::partitions(image) {
            let partition = &topic.partitions[index];
            let counts = partition.isr.contains(&node) || partition.elr.contains(&node);
            if counts && self.durability.get(&key) == Some(&Durability::Replicated) {
                self.broken(
                    "R12",
                    format!("{node} lost its power and counts as complete: {partition:?}"),
                );
            }
        }
    }

    /// What a member has, that runs in the life that the metadata knows.
    pub(crate) fn check_complete(&mut self, key: Key, node: NodeId) {
        let durability = self
            .durability
            .get(&key)
            .copied()
            .unwrap_or(Durability::Synced);
        let Some(truth) = self.truths.get(&key) else {
            return;
        };
        let high_watermark = truth.high_watermark;
        let committed = truth.committed.values().next_back();
        if truth.is_unclean || high_watermark == 0 {
            return;
        }
        let shadow = self.shadows.get(&(number_of(node), key));
        let (written, start) =
            shadow.map_or((0, 0), |shadow| (shadow.written(durability), shadow.start));
        let has_last = shadow.is_some_and(|shadow| {
            start >= high_watermark
                || committed.is_none_or(|fact| shadow.ending_at(fact.next) == Some(fact))
        });
        if written < high_watermark || !has_last {
            self.broken(
                "R2",
                format!("{node} counts as complete with {written} of {high_watermark} (durability {durability:?})"),
            );
        }
    }

    /// Whom a leader of the newest epoch counts.
    pub(crate) fn check_superset(
        &mut self,
        leader: &PartitionLeader,
        now: &PartitionImage,
        isr_min: usize,
    ) {
        if leader.epoch() != now.leader_epoch || leader.isr().len() < isr_min {
            return;
        }
        let counted: BTreeSet<NodeId> = leader.maximal_isr().collect();
        let missing = now
            .isr
            .iter()
            .chain(&now.elr)
            .find(|node| !counted.contains(node));
        if let Some(node) = missing {
            self.broken(
                "R5",
                format!("the leader counts {counted:?} and not {node} of {now:?}"),
            );
        }
    }

    /// The registration that a broker has in the metadata.
    pub(crate) fn registration(image: &ClusterImage, node: NodeId) -> Option<BrokerEpoch> {
        image.broker(node).and_then(BrokerImage::epoch)
    }
}
