//! A controller of one partition: as much of it as leaders and followers can tell apart.

use std::collections::{BTreeMap, BTreeSet};

use highwater_coordination::partition_leader::{PartitionView, ReplicaView};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId};
use highwater_protocol::messages::{IsrDecision, IsrProposal};

#[derive(Debug, Clone)]
pub(crate) struct ModelController {
    pub(crate) leader: Option<NodeId>,
    pub(crate) leader_epoch: u32,
    pub(crate) partition_epoch: u32,
    pub(crate) isr: BTreeSet<NodeId>,
    pub(crate) elr: BTreeSet<NodeId>,
    pub(crate) brokers: BTreeMap<NodeId, ReplicaView>,
    next_broker_epoch: u64,
    isr_min: usize,
}

impl ModelController {
    pub(crate) fn new(nodes: &[NodeId], isr_min: usize) -> Self {
        let brokers = nodes.iter().zip(1..).map(|(node, epoch)| {
            let view = ReplicaView {
                epoch: Some(BrokerEpoch::new(epoch)),
                is_active: true,
            };
            (*node, view)
        });
        Self {
            leader: Some(nodes[0]),
            leader_epoch: 1,
            partition_epoch: 1,
            isr: nodes.iter().copied().collect(),
            elr: BTreeSet::new(),
            brokers: brokers.collect(),
            next_broker_epoch: 100,
            isr_min,
        }
    }

    pub(crate) fn view(&self) -> PartitionView {
        PartitionView {
            partition_epoch: self.partition_epoch,
            recovering: false,
            isr: self.isr.clone(),
            replicas: self.brokers.clone(),
        }
    }

    /// As KIP-966 says: whoever leaves while there are fewer than the topic demands keeps everything
    /// that is committed, because nothing more is.
    fn set_isr(&mut self, isr: BTreeSet<NodeId>) {
        if isr.len() >= self.isr_min {
            self.elr.clear();
        } else {
            let left = self.elr.union(&self.isr).copied();
            self.elr = left.filter(|node| !isr.contains(node)).collect();
        }
        self.isr = isr;
        self.partition_epoch += 1;
    }

    pub(crate) fn fence(&mut self, node: NodeId) {
        self.brokers.get_mut(&node).unwrap().is_active = false;
        if self.isr.contains(&node) {
            let mut isr = self.isr.clone();
            isr.remove(&node);
            self.set_isr(isr);
        }
        if self.leader == Some(node) {
            self.leader = None;
        }
        self.elect();
    }

    /// A new life of a broker. Its disk kept what was synced, so it stays eligible.
    pub(crate) fn register(&mut self, node: NodeId) -> BrokerEpoch {
        self.fence(node);
        self.next_broker_epoch += 1;
        let epoch = BrokerEpoch::new(self.next_broker_epoch);
        let view = ReplicaView {
            epoch: Some(epoch),
            is_active: true,
        };
        self.brokers.insert(node, view);
        self.elect();
        epoch
    }

    /// Whoever may lead, in sync or eligible, when nobody does.
    pub(crate) fn elect(&mut self) {
        if self.leader.is_some() {
            return;
        }
        let is_active = |node: &&NodeId| self.brokers[*node].is_active;
        let in_sync = self.isr.iter().find(is_active).copied();
        let eligible = || self.elr.iter().find(is_active).copied();
        let chosen = match in_sync {
            Some(node) => Some(node),
            None if self.isr.is_empty() => eligible(),
            None => None,
        };
        let Some(node) = chosen else {
            return;
        };
        self.leader = Some(node);
        self.leader_epoch += 1;
        self.partition_epoch += 1;
        if !self.isr.contains(&node) {
            self.elr.remove(&node);
            let mut isr = self.isr.clone();
            isr.insert(node);
            self.set_isr(isr);
        }
    }

    /// Moves the lead to another member that is in sync.
    pub(crate) fn move_lead(&mut self, node: NodeId) {
        if self.isr.contains(&node) && self.brokers[&node].is_active && self.leader != Some(node) {
            self.leader = Some(node);
            self.leader_epoch += 1;
            self.partition_epoch += 1;
        }
    }

    pub(crate) fn alter(
        &mut self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        asked: &IsrProposal,
    ) -> IsrDecision {
        let error = self.decide(from, broker_epoch, asked);
        IsrDecision {
            partition: asked.partition,
            error,
            leader: self.leader,
            leader_epoch: LeaderEpoch::new(self.leader_epoch),
            partition_epoch: self.partition_epoch,
            isr: self.isr.iter().copied().collect(),
        }
    }

    fn decide(
        &mut self,
        from: NodeId,
        broker_epoch: BrokerEpoch,
        asked: &IsrProposal,
    ) -> ErrorCode {
        if self.brokers[&from].epoch != Some(broker_epoch) {
            return ErrorCode::StaleBrokerEpoch;
        }
        if asked.leader_epoch.get() < self.leader_epoch {
            return ErrorCode::FencedLeaderEpoch;
        }
        if self.leader != Some(from) {
            return ErrorCode::InvalidRequest;
        }
        if asked.partition_epoch < self.partition_epoch {
            return ErrorCode::StalePartitionEpoch;
        }
        let is_eligible = asked.isr.iter().all(|member| {
            let broker = self.brokers[&member.node_id];
            broker.is_active && broker.epoch == Some(member.broker_epoch)
        });
        if !is_eligible {
            return ErrorCode::IneligibleReplica;
        }
        self.set_isr(asked.isr.iter().map(|member| member.node_id).collect());
        ErrorCode::None
    }
}
