//! One change of one partition: which replicas are in sync, eligible, leading.
//!
//! Everything that the controller does to a partition goes through [`PartitionChange`], so that the
//! rules stand in one place:
//!
//! - `partition_epoch` grows with every change; `leader_epoch` grows with every change of the leader,
//!   with every removal of a replica, with an unclean election, and before a replica is begun anew.
//! - While the in-sync replicas are fewer than `min.insync.replicas` nothing commits. Everybody who was
//!   in sync at that moment stays complete, and is kept in the ELR when it leaves the ISR (KIP-966).
//!   As soon as there are enough in-sync replicas again the ELR is emptied: from then on the others
//!   fall behind.
//! - Only a replica that is complete is elected. The one exception is an unclean election, which an
//!   operator asks for.

use std::collections::BTreeSet;

use highwater_protocol::ids::{LeaderEpoch, NodeId};

use crate::cluster_image::{ClusterImage, PartitionImage};

/// Which brokers may lead and be in sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    active: BTreeSet<NodeId>,
    leaving: BTreeSet<NodeId>,
}

impl Standings {
    /// As the image has it.
    #[must_use]
    pub fn of(image: &ClusterImage) -> Self {
        let mut standings = Self::default();
        for (id, broker) in image.brokers() {
            if broker.is_active() {
                standings.active.insert(id);
            } else if broker.registration.is_some() && !broker.fenced {
                standings.leaving.insert(id);
            }
        }
        standings
    }

    /// The same, with `node` fenced or gone.
    #[must_use]
    pub fn without(mut self, node: NodeId) -> Self {
        self.active.remove(&node);
        self.leaving.remove(&node);
        self
    }

    /// The same, with `node` active.
    #[must_use]
    pub fn with_active(mut self, node: NodeId) -> Self {
        self.leaving.remove(&node);
        self.active.insert(node);
        self
    }

    /// The same, with `node` shutting down.
    #[must_use]
    pub fn with_leaving(mut self, node: NodeId) -> Self {
        self.active.remove(&node);
        self.leaving.insert(node);
        self
    }

    /// Registered, unfenced and not shutting down: may be elected and join an ISR.
    #[must_use]
    pub fn is_active(&self, node: NodeId) -> bool {
        self.active.contains(&node)
    }

    /// Active, or shutting down and not yet gone: may go on leading while nobody else can.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.is_active(node) || self.leaving.contains(&node)
    }
}

/// Whom a change prefers as leader. Whatever it says, a leader is complete unless it is `Unclean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Election {
    /// The leader that there is as long as it is valid; otherwise the first active in-sync replica in
    /// replica order; with an empty ISR the first active member of the ELR.
    #[default]
    Keep,
    /// The first replica, if it is in sync and active; otherwise as `Keep`.
    Preferred,
    /// This node, if it is in sync and active; otherwise as `Keep`.
    Node(NodeId),
    /// This replica, in sync or not, if there is nobody who is complete. Committed records may be lost.
    Unclean(NodeId),
}

/// A change of a partition in the making.
#[derive(Debug, Clone)]
pub struct PartitionChange<'a> {
    before: &'a PartitionImage,
    isr_min: usize,
    standings: &'a Standings,
    isr: Vec<NodeId>,
    replicas: Vec<NodeId>,
    adding: Vec<NodeId>,
    removing: Vec<NodeId>,
    lost: BTreeSet<NodeId>,
    readmitted: Option<NodeId>,
    election: Election,
    is_recovered: bool,
    is_forced: bool,
    begins_epoch: bool,
}

impl<'a> PartitionChange<'a> {
    /// Nothing wanted yet. `isr_min` is the topic's, which counts for the whole cluster.
    #[must_use]
    pub fn new(before: &'a PartitionImage, isr_min: u16, standings: &'a Standings) -> Self {
        Self {
            before,
            // An empty ISR never commits anything.
            isr_min: usize::from(isr_min.max(1)),
            standings,
            isr: before.isr.clone(),
            replicas: before.replicas.clone(),
            adding: before.adding.clone(),
            removing: before.removing.clone(),
            lost: BTreeSet::new(),
            readmitted: None,
            election: Election::Keep,
            is_recovered: false,
            is_forced: false,
            begins_epoch: false,
        }
    }

    /// Wants these replicas in sync.
    #[must_use]
    pub fn isr(mut self, isr: impl IntoIterator<Item = NodeId>) -> Self {
        self.isr = isr.into_iter().collect();
        self
    }

    /// Wants `node` out of the ISR; it stays eligible if too few remain.
    #[must_use]
    pub fn out_of_sync(mut self, node: NodeId) -> Self {
        self.isr.retain(|member| *member != node);
        self
    }

    /// Says that `node` may have lost records: it is neither in sync nor eligible until it has caught up
    /// again.
    #[must_use]
    pub fn lost(mut self, node: NodeId) -> Self {
        self.lost.insert(node);
        self
    }

    /// Says that `node` is as good as any replica that is left: see
    /// [`register_broker`](crate::controller::register_broker) for the only copy of a partition.
    #[must_use]
    pub fn readmitted(mut self, node: NodeId) -> Self {
        self.readmitted = Some(node);
        self
    }

    /// Wants these replicas, of which `adding` are on their way in and `removing` on their way out.
    #[must_use]
    pub fn replicas(
        mut self,
        replicas: Vec<NodeId>,
        adding: Vec<NodeId>,
        removing: Vec<NodeId>,
    ) -> Self {
        self.replicas = replicas;
        self.adding = adding;
        self.removing = removing;
        self
    }

    /// Wants this election.
    #[must_use]
    pub fn election(mut self, election: Election) -> Self {
        self.election = election;
        self
    }

    /// Says that the leader has recovered from an unclean election.
    #[must_use]
    pub fn recovered(mut self) -> Self {
        self.is_recovered = true;
        self
    }

    /// Counts as a change even if everything stays: whoever proposes something on the old basis is
    /// told that it is stale.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.is_forced = true;
        self
    }

    /// Begins a leader epoch, whoever leads: nothing that a replica proved before counts any more.
    #[must_use]
    pub fn new_leader_epoch(mut self) -> Self {
        self.begins_epoch = true;
        self
    }

    /// The partition afterwards; `None` if nothing changes.
    #[must_use]
    pub fn build(mut self) -> Option<PartitionImage> {
        let lost = std::mem::take(&mut self.lost);
        self.isr.retain(|node| !lost.contains(node));
        self.isr = in_order(&self.replicas, |node| self.isr.contains(&node));
        self.complete_move();

        let before = self.before;
        let was_complete = |node: NodeId| before.isr.contains(&node) || before.elr.contains(&node);
        let complete: BTreeSet<NodeId> = self
            .replicas
            .iter()
            .copied()
            .filter(|node| was_complete(*node) && !lost.contains(node))
            .chain(self.readmitted)
            .collect();
        let elected = self.elect(&complete, &lost);
        let isr = elected.isr;
        let (elr, last_known_elr) = if isr.len() >= self.isr_min || elected.is_unclean {
            // After an unclean election nobody else is complete: the new leader's log is the truth.
            (Vec::new(), Vec::new())
        } else {
            let elr = in_order(&self.replicas, |node| {
                complete.contains(&node) && !isr.contains(&node)
            });
            let last_known = in_order(&self.replicas, |node| {
                (before.last_known_elr.contains(&node) || was_complete(node))
                    && !isr.contains(&node)
                    && !elr.contains(&node)
            });
            (elr, last_known)
        };
        let loses_replica = before
            .replicas
            .iter()
            .any(|node| !self.replicas.contains(node));
        let new_leader_epoch = elected.leader != before.leader
            || loses_replica
            || elected.is_unclean
            || self.begins_epoch;
        let mut after = PartitionImage {
            partition_epoch: before.partition_epoch,
            leader: elected.leader,
            leader_epoch: before.leader_epoch,
            recovering: elected.is_unclean || (before.recovering && !self.is_recovered),
            replicas: self.replicas,
            isr,
            elr,
            last_known_elr,
            adding: self.adding,
            removing: self.removing,
        };
        if after == *before && !self.is_forced && !new_leader_epoch {
            return None;
        }
        after.partition_epoch = before.partition_epoch.saturating_add(1);
        if new_leader_epoch {
            after.leader_epoch = LeaderEpoch::new(before.leader_epoch.get().saturating_add(1));
        }
        debug_assert_eq!(check(&after, self.isr_min), Ok(()));
        Some(after)
    }

    /// Ends a move when the replicas that it adds are in sync and enough of those that stay are, among
    /// them one that can lead: never before, so that no move takes away a copy that is needed.
    fn complete_move(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let target = in_order(&self.replicas, |node| !self.removing.contains(&node));
        let in_sync = in_order(&target, |node| self.isr.contains(&node));
        let is_complete = self.adding.iter().all(|node| in_sync.contains(node))
            && in_sync.len() >= self.isr_min
            && in_sync.iter().any(|node| self.standings.is_active(*node));
        if is_complete {
            self.replicas = target;
            self.isr = in_sync;
            self.adding = Vec::new();
            self.removing = Vec::new();
        }
    }

    fn elect(&self, complete: &BTreeSet<NodeId>, lost: &BTreeSet<NodeId>) -> Elected {
        let can_lead = |node: NodeId| self.isr.contains(&node) && self.standings.is_active(node);
        let wanted = match self.election {
            Election::Preferred => self.replicas.first().copied(),
            Election::Node(node) => Some(node),
            Election::Keep | Election::Unclean(_) => None,
        };
        let leader = self.before.leader;
        let in_sync = wanted
            .filter(|node| can_lead(*node))
            .or_else(|| leader.filter(|node| can_lead(*node)))
            .or_else(|| self.isr.iter().copied().find(|node| can_lead(*node)))
            // Stops as soon as another can take over.
            .or_else(|| {
                leader.filter(|node| self.isr.contains(node) && self.standings.is_up(*node))
            });
        if in_sync.is_some() || !self.isr.is_empty() {
            return Elected {
                leader: in_sync,
                isr: self.isr.clone(),
                is_unclean: false,
            };
        }
        let eligible = self
            .replicas
            .iter()
            .copied()
            .find(|node| complete.contains(node) && self.standings.is_active(*node));
        if let Some(node) = eligible {
            return Elected {
                leader: Some(node),
                isr: vec![node],
                is_unclean: false,
            };
        }
        match self.election {
            Election::Unclean(node)
                if self.replicas.contains(&node)
                    && self.standings.is_active(node)
                    && !lost.contains(&node) =>
            {
                Elected {
                    leader: Some(node),
                    isr: vec![node],
                    is_unclean: true,
                }
            }
            _ => Elected {
                leader: None,
                isr: Vec::new(),
                is_unclean: false,
            },
        }
    }
}

#[derive(Debug)]
struct Elected {
    leader: Option<NodeId>,
    isr: Vec<NodeId>,
    is_unclean: bool,
}

/// The replicas that `keep` wants, in replica order: the one order that every list of a partition has.
fn in_order(replicas: &[NodeId], keep: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    replicas
        .iter()
        .copied()
        .filter(|node| keep(*node))
        .collect()
}

/// Which rule about a partition's replicas is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenRule {
    /// A list names a node twice.
    #[error("a node is listed twice")]
    Twice,
    /// A list names a node that is no replica.
    #[error("a node is listed that is no replica")]
    NoReplica,
    /// Two lists that exclude each other share a node.
    #[error("a node is in two of ISR, ELR and last known ELR, or both added and removed")]
    Overlap,
    /// There are enough in-sync replicas and an ELR.
    #[error("the ELR is not empty though enough replicas are in sync")]
    NeedlessElr,
    /// The leader is not in sync.
    #[error("the leader is not in the ISR")]
    LeaderNotInSync,
    /// An unclean leader with company.
    #[error("several replicas are in sync while the partition recovers from an unclean election")]
    RecoveringTogether,
    /// A fenced or unknown broker is in sync.
    #[error("a broker that is fenced or gone is in the ISR")]
    FencedInSync,
}

/// Checks what must hold for every partition at any time: ISR and ELR are replicas, and disjoint; with
/// `isr_min` in-sync replicas the ELR is empty; the leader is in sync.
///
/// # Errors
/// The rule that is broken.
pub fn check(partition: &PartitionImage, isr_min: usize) -> Result<(), BrokenRule> {
    let lists = [
        &partition.replicas,
        &partition.isr,
        &partition.elr,
        &partition.last_known_elr,
        &partition.adding,
        &partition.removing,
    ];
    for list in lists {
        let distinct: BTreeSet<_> = list.iter().collect();
        if distinct.len() != list.len() {
            return Err(BrokenRule::Twice);
        }
        if list.iter().any(|node| !partition.replicas.contains(node)) {
            return Err(BrokenRule::NoReplica);
        }
    }
    let overlap = |one: &[NodeId], other: &[NodeId]| one.iter().any(|node| other.contains(node));
    if overlap(&partition.isr, &partition.elr)
        || overlap(&partition.isr, &partition.last_known_elr)
        || overlap(&partition.elr, &partition.last_known_elr)
        || overlap(&partition.adding, &partition.removing)
    {
        return Err(BrokenRule::Overlap);
    }
    if partition.isr.len() >= isr_min.max(1) && !partition.elr.is_empty() {
        return Err(BrokenRule::NeedlessElr);
    }
    if partition
        .leader
        .is_some_and(|leader| !partition.isr.contains(&leader))
    {
        return Err(BrokenRule::LeaderNotInSync);
    }
    if partition.recovering && partition.isr.len() > 1 {
        return Err(BrokenRule::RecoveringTogether);
    }
    Ok(())
}

/// [`check`] for every partition, and that no broker which is fenced or gone is in an ISR.
///
/// # Errors
/// The rule that is broken.
pub fn check_image(image: &ClusterImage) -> Result<(), BrokenRule> {
    let standings = Standings::of(image);
    for topic in image.topics() {
        for partition in &topic.partitions {
            check(partition, usize::from(topic.isr_min))?;
            if partition.isr.iter().any(|node| !standings.is_up(*node)) {
                return Err(BrokenRule::FencedInSync);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "partition_change_tests.rs"]
mod tests;
