//! Clusters to plan for, and moves carried out by the controller's rules.

use std::collections::{BTreeMap, BTreeSet};

use highwater_coordination::cluster_image::{ClusterImage, PartitionImage};
use highwater_coordination::controller::{cancel_move, set_replicas};
use highwater_coordination::node_loads::{NodeLoad, NodeLoads};
use highwater_coordination::partition_change::{Election, PartitionChange, Standings};
use highwater_coordination::placement::{candidates, place};
use highwater_coordination::reassignment::{LeaderTarget, ReplicaTarget};
use highwater_protocol::ids::{
    BrokerEpoch, DirectoryId, IncarnationId, NodeId, PartitionId, TopicId, TopicName,
};
use highwater_protocol::metadata_record::MetadataRecord;
use proptest::prelude::*;

pub(crate) fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

pub(crate) fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(node).collect()
}

/// Flags of a broker.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) fenced: bool,
    pub(crate) shutting_down: bool,
    pub(crate) draining: bool,
}

pub(crate) const UP: Flags = Flags {
    fenced: false,
    shutting_down: false,
    draining: false,
};
pub(crate) const FENCED: Flags = Flags { fenced: true, ..UP };
pub(crate) const DRAINING: Flags = Flags {
    draining: true,
    ..UP
};

pub(crate) struct Cluster {
    pub(crate) image: ClusterImage,
    pub(crate) loads: NodeLoads,
}

impl Cluster {
    /// Nodes 1, 2, ... that are up, in these racks.
    pub(crate) fn of(racks: &[Option<&str>]) -> Self {
        let mut cluster = Self {
            image: ClusterImage::default(),
            loads: NodeLoads::new(),
        };
        for (rack, id) in racks.iter().zip(1..) {
            cluster.join(id, *rack);
        }
        cluster
    }

    pub(crate) fn without_racks(nodes: usize) -> Self {
        Self::of(&vec![None; nodes])
    }

    pub(crate) fn join(&mut self, id: u32, rack: Option<&str>) {
        self.apply(&MetadataRecord::BrokerRegistered {
            node_id: node(id),
            broker_epoch: BrokerEpoch::new(u64::from(id)),
            directory: DirectoryId::from_bytes([id as u8; 16]),
            incarnation: IncarnationId::from_bytes([id as u8; 16]),
            host: "127.0.0.1".to_owned(),
            port: 7000,
            rack: rack.map(str::to_owned),
            version: "0".to_owned(),
        });
        self.set(id, UP);
        self.loads.insert(
            node(id),
            NodeLoad {
                log_bytes: 0,
                disk_free: 1 << 40,
                disk_total: 1 << 41,
                silent_ms: Some(0),
                absent_since_ms: None,
            },
        );
    }

    pub(crate) fn apply(&mut self, record: &MetadataRecord) {
        self.image.apply(record).unwrap();
    }

    pub(crate) fn set(&mut self, id: u32, flags: Flags) {
        self.apply(&MetadataRecord::BrokerChanged {
            node_id: node(id),
            broker_epoch: BrokerEpoch::new(u64::from(id)),
            fenced: flags.fenced,
            shutting_down: flags.shutting_down,
            draining: flags.draining,
        });
    }

    pub(crate) fn load(&mut self, id: u32) -> &mut NodeLoad {
        self.loads.entry(node(id)).or_default()
    }

    /// The node goes: fenced, out of every ISR, and its leaderships to others in sync.
    pub(crate) fn lose(&mut self, id: u32, now_ms: u64) {
        self.set(id, FENCED);
        self.load(id).absent_since_ms = Some(now_ms);
        for (topic, index, _) in self.partitions() {
            self.change(&topic, index, |change, _| change.out_of_sync(node(id)));
        }
    }

    /// Changes a partition by the controller's rules.
    fn change(
        &mut self,
        topic: &str,
        index: u32,
        change: impl for<'a> FnOnce(PartitionChange<'a>, &PartitionImage) -> PartitionChange<'a>,
    ) {
        let now = self.partition(topic, index);
        let standings = Standings::of(&self.image);
        let built = change(PartitionChange::new(&now, 1, &standings), &now).build();
        if let Some(after) = built {
            let id = self.image.topic(topic).unwrap().id;
            self.apply(&after.record(id, PartitionId::new(index)));
        }
    }

    /// The node is back, and not in sync yet.
    pub(crate) fn comes_back(&mut self, id: u32) {
        self.set(id, UP);
        self.load(id).absent_since_ms = None;
    }

    /// A topic with these replicas, all in sync.
    pub(crate) fn topic(&mut self, name: &str, replicas: &[Vec<NodeId>]) {
        let id = TopicId::from_bytes([(self.image.topics().len() + 1) as u8; 16]);
        self.apply(&MetadataRecord::TopicCreated {
            id,
            name: TopicName::new(name).unwrap(),
            partitions: replicas.len() as u32,
            replicas: replicas.first().map_or(1, Vec::len) as u16,
            isr_min: 1,
            configs: Vec::new(),
        });
        for (replicas, index) in replicas.iter().zip(0..) {
            let partition = PartitionImage {
                leader: replicas.first().copied(),
                isr: replicas.clone(),
                replicas: replicas.clone(),
                ..PartitionImage::default()
            };
            self.put(name, index, partition);
        }
    }

    pub(crate) fn placed_topic(&mut self, name: &str, count: usize, replicas: u16) -> bool {
        let open = candidates(&self.image);
        match place(&self.image, &self.loads, &open, count, replicas) {
            Some(placed) => {
                self.topic(name, &placed);
                true
            }
            None => false,
        }
    }

    pub(crate) fn partitions(&self) -> Vec<(String, u32, PartitionImage)> {
        self.image
            .topics()
            .flat_map(|topic| {
                let name = topic.name.as_str().to_owned();
                (0..)
                    .zip(&topic.partitions)
                    .map(move |(index, now)| (name.clone(), index, now.clone()))
            })
            .collect()
    }

    pub(crate) fn partition(&self, topic: &str, index: u32) -> PartitionImage {
        self.image.topic(topic).unwrap().partitions[index as usize].clone()
    }

    pub(crate) fn put(&mut self, topic: &str, index: u32, mut partition: PartitionImage) {
        partition.partition_epoch += 1;
        let id = self.image.topic(topic).unwrap().id;
        self.apply(&partition.record(id, PartitionId::new(index)));
    }

    pub(crate) fn begin(&mut self, target: &ReplicaTarget) {
        let (topic, partition) = (target.topic_id, target.partition);
        let decision = set_replicas(&self.image, topic, partition, &target.replicas).unwrap();
        for record in &decision.records {
            self.apply(record);
        }
    }

    pub(crate) fn cancel(&mut self, topic: &str, index: u32) {
        let id = self.image.topic(topic).unwrap().id;
        let decision = cancel_move(&self.image, id, PartitionId::new(index)).unwrap();
        for record in &decision.records {
            self.apply(record);
        }
    }

    /// Every replica on a node that is up catches up, and moves that can end do.
    pub(crate) fn catch_up(&mut self) {
        let up: BTreeSet<NodeId> = self
            .image
            .brokers()
            .filter(|(_, broker)| broker.is_active())
            .map(|(id, _)| id)
            .collect();
        for (topic, index, now) in self.partitions() {
            if now.leader.is_some() {
                self.change(&topic, index, |change, now| {
                    let in_sync = now.replicas.iter().filter(|node| up.contains(node));
                    change.isr(in_sync.copied().collect::<Vec<_>>())
                });
            }
        }
    }

    pub(crate) fn lead(&mut self, target: &LeaderTarget) {
        let (topic, index) = (target.topic.as_str(), target.partition.get());
        assert_eq!(self.partition(topic, index).leader, target.from);
        self.change(topic, index, |change, _| {
            change.election(Election::Node(target.to))
        });
        assert_eq!(self.partition(topic, index).leader, Some(target.to));
    }

    /// How many replicas each node that is up holds, and how many partitions it is first in.
    pub(crate) fn counts(&self) -> BTreeMap<NodeId, (u64, u64)> {
        let mut counts: BTreeMap<NodeId, (u64, u64)> = candidates(&self.image)
            .into_iter()
            .map(|node| (node, (0, 0)))
            .collect();
        for (_, _, partition) in self.partitions() {
            for (position, node) in partition.replicas.iter().enumerate() {
                if let Some(count) = counts.get_mut(node) {
                    count.0 += 1;
                    count.1 += u64::from(position == 0);
                }
            }
        }
        counts
    }

    /// The failure domain of a node: its rack, or itself.
    pub(crate) fn domain(&self, id: NodeId) -> String {
        match self.image.broker(id).and_then(|broker| broker.rack()) {
            Some(rack) => format!("rack {rack}"),
            None => format!("node {id}"),
        }
    }

    /// Whether no rack holds two or more replicas than another that could take one.
    pub(crate) fn is_spread(&self, replicas: &[NodeId]) -> bool {
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for id in replicas {
            *held.entry(self.domain(*id)).or_default() += 1;
        }
        let most = held.values().copied().max().unwrap_or(0);
        candidates(&self.image)
            .into_iter()
            .filter(|id| !replicas.contains(id))
            .all(|id| held.get(&self.domain(id)).copied().unwrap_or(0) + 2 > most)
    }
}

/// Largest minus smallest.
pub(crate) fn gap(counts: impl IntoIterator<Item = u64>) -> u64 {
    let counts: Vec<u64> = counts.into_iter().collect();
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

pub(crate) fn is_distinct(replicas: &[NodeId]) -> bool {
    replicas
        .iter()
        .enumerate()
        .all(|(position, node)| !replicas[..position].contains(node))
}

const RACKS: [&str; 3] = ["a", "b", "c"];

/// Racks of 1 to 9 nodes: none at all, or one to three of any sizes.
pub(crate) fn any_racks() -> impl Strategy<Value = Vec<Option<&'static str>>> {
    prop_oneof![
        (1..=9usize).prop_map(|nodes| vec![None; nodes]),
        (1..=3usize).prop_flat_map(|racks| {
            proptest::collection::vec((0..racks).prop_map(|rack| Some(RACKS[rack])), 1..=9)
        }),
    ]
}

/// Racks of one size each, or none: where everything can be even.
pub(crate) fn even_racks() -> impl Strategy<Value = Vec<Option<&'static str>>> {
    prop_oneof![
        (1..=9usize).prop_map(|nodes| vec![None; nodes]),
        (1..=3usize, 1..=3usize).prop_map(|(racks, size)| {
            (0..racks * size)
                .map(|node| Some(RACKS[node % racks]))
                .collect()
        }),
    ]
}

/// Partitions and replication factors of some topics.
pub(crate) fn any_topics() -> impl Strategy<Value = Vec<(usize, u16)>> {
    proptest::collection::vec((1..=12usize, 1..=4u16), 1..=4)
}

/// A cluster whose replicas are anywhere: each seed picks a set of nodes.
pub(crate) fn scattered(
    racks: &[Option<&'static str>],
    topics: &[(usize, u16)],
    seeds: &[u32],
) -> Cluster {
    let mut cluster = Cluster::of(racks);
    let mut seed = seeds.iter().copied().cycle();
    for (position, (count, factor)) in topics.iter().enumerate() {
        let factor = usize::from(*factor).min(racks.len());
        let replicas: Vec<Vec<NodeId>> = (0..*count)
            .map(|_| {
                let mut ids: Vec<u32> = (1..=racks.len() as u32).collect();
                let mut set = Vec::new();
                while set.len() < factor {
                    let at = seed.next().unwrap_or(0) as usize % ids.len();
                    set.push(node(ids.remove(at)));
                }
                set
            })
            .collect();
        cluster.topic(&format!("t{position}"), &replicas);
    }
    cluster
}
