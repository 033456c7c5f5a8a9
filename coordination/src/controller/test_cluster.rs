//! A cluster for tests: an image that grows by decisions alone, checked after each of them.

use std::collections::BTreeMap;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId, TopicId,
};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionTopic, BrokerHeartbeatRequest, IsrDecision, IsrMember,
    IsrProposal, JoinClusterRequest, PartitionsOfTopic, RegisterBrokerRequest, SessionEnd,
};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{ClusterImage, PartitionImage};
use crate::partition_change::check_image;

use super::*;

pub(super) fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

pub(super) fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

pub(super) fn directory(id: u32) -> DirectoryId {
    DirectoryId::from_bytes(u128::from(id).to_be_bytes())
}

pub(super) fn join(id: u32, wanted: Option<u32>) -> JoinClusterRequest {
    JoinClusterRequest {
        directory: directory(id),
        node_id: wanted.map(NodeId::new),
        host: format!("host{id}"),
        port: 7171,
    }
}

/// Everything that was decided, and what it amounts to.
#[derive(Debug)]
pub(super) struct TestCluster {
    pub(super) image: ClusterImage,
    pub(super) log: Vec<MetadataRecord>,
    next_epoch: u64,
    next_incarnation: u128,
    leaders: BTreeMap<(TopicId, PartitionId, LeaderEpoch), NodeId>,
}

impl TestCluster {
    /// Brokers `1..=count`, registered and unfenced.
    pub(super) fn of(count: u32) -> Self {
        let mut cluster = Self {
            image: ClusterImage::default(),
            log: Vec::new(),
            next_epoch: 1,
            next_incarnation: 1,
            leaders: BTreeMap::new(),
        };
        let id = ClusterId::from_bytes([1; 16]);
        cluster.apply(create_cluster(&cluster.image, id, &join(1, Some(1))));
        for id in 1..=count {
            cluster.apply(join_cluster(&cluster.image, &join(id, Some(id))));
            cluster.register(id, SessionEnd::Unclean, &[]);
            cluster.unfence(id);
        }
        cluster
    }

    /// Makes a decision happen, and checks what must hold after every one.
    pub(super) fn apply<R>(&mut self, decision: Result<Decision<R>, ControllerError>) -> R {
        let decision = decision.unwrap();
        let before = self.image.clone();
        for record in &decision.records {
            self.image.apply(record).unwrap();
            self.log.push(record.clone());
        }
        check_image(&self.image).unwrap();
        self.check_step(&before);
        decision.reply
    }

    /// Epochs never go back and count every change, an epoch has one leader, a registration is newer
    /// than all before and fenced, and whoever can lead does.
    fn check_step(&mut self, before: &ClusterImage) {
        for topic in self.image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                let index = PartitionId::new(index);
                if let Some(leader) = partition.leader {
                    let key = (topic.id, index, partition.leader_epoch);
                    assert_eq!(*self.leaders.entry(key).or_insert(leader), leader);
                } else {
                    let candidates = if partition.isr.is_empty() {
                        &partition.elr
                    } else {
                        &partition.isr
                    };
                    let can_lead = |id: &NodeId| self.image.broker(*id).unwrap().is_active();
                    let known = candidates
                        .iter()
                        .filter(|id| self.image.broker(**id).is_some());
                    assert!(!known.clone().any(can_lead), "{partition:?} could be led");
                }
                let Some(old) = before
                    .topic_by_id(topic.id)
                    .and_then(|old| old.partition(index))
                else {
                    continue;
                };
                assert!(partition == old || partition.partition_epoch == old.partition_epoch + 1);
                assert!(partition.leader_epoch >= old.leader_epoch);
                let is_same = partition.leader_epoch == old.leader_epoch;
                assert!(!is_same || partition.leader == old.leader);
                let shrinks = old
                    .replicas
                    .iter()
                    .any(|id| !partition.replicas.contains(id));
                assert!(!(is_same && shrinks), "a removal begins a leader epoch");
            }
        }
        let highest = before.brokers().filter_map(|(_, old)| old.epoch()).max();
        for (id, broker) in self.image.brokers() {
            let old = before.broker(id).and_then(BrokerImage::epoch);
            if broker.epoch() != old {
                assert!(broker.epoch() > highest && broker.fenced, "{broker:?}");
            }
        }
        assert!(self.image.producer_id_next() >= before.producer_id_next());
    }

    pub(super) fn register_request(
        &mut self,
        id: u32,
        session_end: SessionEnd,
        damaged: &[(&str, u32)],
    ) -> RegisterBrokerRequest {
        self.next_incarnation += 1;
        RegisterBrokerRequest {
            node_id: node(id),
            directory: directory(id),
            incarnation: IncarnationId::from_bytes(self.next_incarnation.to_be_bytes()),
            host: format!("host{id}"),
            port: 7171,
            rack: None,
            version: "1".to_owned(),
            session_end,
            last_broker_epoch: self.image.broker(node(id)).and_then(BrokerImage::epoch),
            damaged: self.partitions(damaged),
        }
    }

    pub(super) fn new_epoch(&mut self) -> BrokerEpoch {
        self.next_epoch += 1;
        BrokerEpoch::new(self.next_epoch)
    }

    /// A new life of a broker. Topics whose name begins with `synced` are synced.
    pub(super) fn register(&mut self, id: u32, end: SessionEnd, damaged: &[(&str, u32)]) {
        let request = self.register_request(id, end, damaged);
        let epoch = self.new_epoch();
        let decision = register_broker(&self.image, &request, epoch, false, &is_synced);
        self.apply(decision);
    }

    pub(super) fn epoch(&self, id: u32) -> BrokerEpoch {
        self.image.broker(node(id)).unwrap().epoch().unwrap()
    }

    pub(super) fn unfence(&mut self, id: u32) {
        self.apply(unfence_broker(&self.image, node(id), self.epoch(id)));
    }

    pub(super) fn fence(&mut self, id: u32) {
        self.apply(fence_broker(&self.image, node(id), self.epoch(id)));
    }

    /// A heartbeat of a broker that is ready and wants nothing.
    pub(super) fn beat(&self, id: u32) -> BrokerHeartbeatRequest {
        BrokerHeartbeatRequest {
            node_id: node(id),
            broker_epoch: self.epoch(id),
            metadata_index: u64::MAX,
            wants_fence: false,
            wants_shutdown: false,
            offline: Vec::new(),
            to_rebuild: Vec::new(),
            log_bytes: 0,
            disk_free: 0,
            disk_total: 0,
        }
    }

    /// A topic of one partition with these replicas in this order, all in sync.
    pub(super) fn topic(&mut self, name: &str, replicas: &[u32], isr_min: u16) -> TopicId {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let id = TopicId::from_bytes(bytes);
        let command = CreateTopic {
            id,
            name,
            partitions: 1,
            replicas: replicas.len() as u16,
            isr_min,
            configs: Vec::new(),
        };
        let mut decision = create_topic(&self.image, &command).unwrap();
        decision.records.truncate(1);
        let placed = PartitionImage {
            leader: Some(node(replicas[0])),
            replicas: nodes(replicas),
            isr: nodes(replicas),
            ..PartitionImage::default()
        };
        decision.records.push(placed.record(id, PartitionId::ZERO));
        self.apply(Ok(decision));
        id
    }

    pub(super) fn id(&self, topic: &str) -> TopicId {
        self.image.topic(topic).unwrap().id
    }

    /// Partition 0 of a topic.
    pub(super) fn partition(&self, topic: &str) -> &PartitionImage {
        &self.image.topic(topic).unwrap().partitions[0]
    }

    pub(super) fn partitions(&self, of: &[(&str, u32)]) -> Vec<PartitionsOfTopic> {
        of.iter()
            .map(|(topic, index)| PartitionsOfTopic {
                topic_id: self.id(topic),
                partitions: vec![PartitionId::new(*index)],
            })
            .collect()
    }

    /// What the leader of partition 0 would propose now.
    pub(super) fn proposal(&self, topic: &str, isr: &[u32]) -> AlterPartitionRequest {
        let partition = self.partition(topic);
        let leader = partition.leader.unwrap();
        let member = |id: &u32| IsrMember {
            node_id: node(*id),
            broker_epoch: self
                .image
                .broker(node(*id))
                .and_then(BrokerImage::epoch)
                .unwrap_or_default(),
        };
        AlterPartitionRequest {
            node_id: leader,
            broker_epoch: self.epoch(leader.get()),
            topics: vec![AlterPartitionTopic {
                topic_id: self.id(topic),
                partitions: vec![IsrProposal {
                    partition: PartitionId::ZERO,
                    leader_epoch: partition.leader_epoch,
                    partition_epoch: partition.partition_epoch,
                    isr: isr.iter().map(member).collect(),
                    recovered: true,
                }],
            }],
        }
    }

    pub(super) fn send(&mut self, proposal: &AlterPartitionRequest) -> IsrDecision {
        let reply = self.apply(alter_partition(&self.image, proposal));
        reply.topics[0].partitions[0].clone()
    }

    /// The leader of partition 0 proposes an ISR, and it is taken.
    pub(super) fn alter(&mut self, topic: &str, isr: &[u32]) {
        let proposal = self.proposal(topic, isr);
        assert_eq!(self.send(&proposal).error, ErrorCode::None);
    }
}

pub(super) fn is_synced(topic: &TopicImage) -> bool {
    topic.name.as_str().starts_with("synced")
}
