//! The cluster as the metadata log describes it.
//!
//! State changes only in [`ClusterImage::apply`], whether a record was just decided, is replayed at
//! start, or comes out of a snapshot. Applying a record twice leaves the same image, so that a replay
//! over a snapshot that already contains it is harmless; so is any part of a snapshot of the image.
//! Epochs make it so: what belongs to an earlier life of a broker, to a removed node or to an earlier
//! state of a partition is passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId,
    ProducerId, TopicId, TopicName,
};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_protocol::messages::ConfigEntry;
use highwater_protocol::metadata_record::MetadataRecord;
use thiserror::Error;

/// Everything that the metadata log says. Cheap to clone: topics are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterImage {
    cluster_id: Option<ClusterId>,
    topics: BTreeMap<TopicName, Arc<TopicImage>>,
    names: BTreeMap<TopicId, TopicName>,
    brokers: BTreeMap<NodeId, BrokerImage>,
    /// Nodes that were removed: their ids are never given out again.
    removed: BTreeSet<NodeId>,
    producer_id_next: ProducerId,
    deleted: Arc<DeletedTopics>,
}

/// Topics that were deleted last: a broker that was away meanwhile may remove what it has of them. What
/// is not known to be deleted is kept, so forgetting the oldest costs disk space and never data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct DeletedTopics {
    in_order: VecDeque<TopicId>,
    known: BTreeSet<TopicId>,
}

/// How many deleted topics are remembered.
const DELETED_TOPICS_MAX: usize = 10_000;

impl DeletedTopics {
    fn note(&mut self, id: TopicId) {
        if !self.known.insert(id) {
            return;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > DELETED_TOPICS_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id, never reused.
    pub id: TopicId,
    /// Its name, unique at any time.
    pub name: TopicName,
    /// Replicas of each partition.
    pub replicas: u16,
    /// Fewest in-sync replicas for anything to commit.
    pub isr_min: u16,
    /// Settings that differ from the brokers' defaults.
    pub configs: BTreeMap<String, String>,
    /// Its partitions in order.
    pub partitions: Vec<PartitionImage>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionImage {
    /// Counts every change of the partition.
    pub partition_epoch: u32,
    /// Who leads it, if anyone.
    pub leader: Option<NodeId>,
    /// Counts its leaders.
    pub leader_epoch: LeaderEpoch,
    /// Its leader came from an unclean election and nobody has joined it in the ISR yet: in this leader
    /// epoch followers may truncate below their high watermark.
    pub recovering: bool,
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Who is in sync.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas: not in sync, and yet with everything that is committed (KIP-966).
    pub elr: Vec<NodeId>,
    /// Replicas that were eligible before their brokers may have lost data.
    pub last_known_elr: Vec<NodeId>,
    /// Replicas that a move adds; among `replicas`.
    pub adding: Vec<NodeId>,
    /// Replicas that a move removes; among `replicas`.
    pub removing: Vec<NodeId>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its registration; `None` while it has joined and never started.
    pub registration: Option<Registration>,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Host that clients and brokers connect to.
    pub host: String,
    /// Port that clients and brokers connect to.
    pub port: u16,
    /// Kept from leading and from being in sync.
    pub fenced: bool,
    /// Stops in order.
    pub shutting_down: bool,
    /// Everything is moved off it.
    pub draining: bool,
}

/// One life of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Grows with every registration of any broker.
    pub epoch: BrokerEpoch,
    /// Drawn by the process at its start.
    pub incarnation: IncarnationId,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Version of its software.
    pub version: String,
}

impl BrokerImage {
    /// Its broker epoch, if it is registered.
    #[must_use]
    pub fn epoch(&self) -> Option<BrokerEpoch> {
        self.registration.as_ref().map(|life| life.epoch)
    }

    /// Its failure domain.
    #[must_use]
    pub fn rack(&self) -> Option<&str> {
        self.registration.as_ref()?.rack.as_deref()
    }

    /// Whether it may lead partitions and be in sync.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.registration.is_some() && !self.fenced && !self.shutting_down
    }
}

/// Why a record does not fit the image: the metadata log is damaged or from a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// A record about a topic that was never created.
    #[error("metadata record about unknown topic {id}")]
    UnknownTopic {
        /// The topic's id.
        id: TopicId,
    },
    /// A record about a partition that the topic does not have.
    #[error("metadata record about unknown partition {partition} of topic {topic}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
    },
    /// A record about a node that never joined, or was removed.
    #[error("metadata record about unknown node {node_id}")]
    UnknownNode {
        /// The node.
        node_id: NodeId,
    },
    /// Two live topics of one name.
    #[error("metadata record creates topic {name} a second time under another id")]
    NameTaken {
        /// The name.
        name: TopicName,
    },
    /// Fewer partitions than before, or more than there may be.
    #[error("metadata record gives topic {topic} {total} partitions; it has {now}")]
    Partitions {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        now: usize,
        /// How many the record says.
        total: u32,
    },
}

impl ClusterImage {
    /// The cluster, once it exists.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// The first producer id that was not given out.
    #[must_use]
    pub fn producer_id_next(&self) -> ProducerId {
        self.producer_id_next
    }

    /// Whether a topic of this id was deleted, not too long ago.
    #[must_use]
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.known.contains(&id)
    }

    /// Whether a node of this id was removed.
    #[must_use]
    pub fn was_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    /// A node id that no node has or ever had: the one after the highest.
    #[must_use]
    pub fn node_id_next(&self) -> NodeId {
        let is_used = |id: &NodeId| self.brokers.contains_key(id) || self.removed.contains(id);
        let highest = self.brokers.keys().chain(&self.removed).max();
        let after = highest.map_or(Some(1), |id| id.get().checked_add(1));
        after.map_or_else(
            // Somebody chose the largest number there is.
            || {
                (1..=u32::MAX)
                    .map(NodeId::new)
                    .find(|id| !is_used(id))
                    .unwrap_or_default()
            },
            NodeId::new,
        )
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// All topics by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// All nodes by id, registered or not.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = (NodeId, &BrokerImage)> {
        self.brokers.iter().map(|(id, broker)| (*id, broker))
    }

    /// A node of the cluster.
    #[must_use]
    pub fn broker(&self, id: NodeId) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    /// Number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// Takes one record in. On an error the image is unchanged.
    ///
    /// # Errors
    /// [`ApplyError`] when the record contradicts what came before it.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::TopicCreated {
                id,
                name,
                partitions,
                replicas,
                isr_min,
                configs,
            } => self.apply_created(*id, name, *partitions, *replicas, *isr_min, configs),
            MetadataRecord::TopicDeleted { id } => {
                if let Some(name) = self.names.remove(id) {
                    self.topics.remove(&name);
                }
                if !self.deleted.known.contains(id) {
                    Arc::make_mut(&mut self.deleted).note(*id);
                }
                Ok(())
            }
            MetadataRecord::PartitionsAdded { id, total } => self.apply_added(*id, *total),
            MetadataRecord::TopicConfigChanged {
                id,
                isr_min,
                changes,
            } => {
                let topic = self.topic_mut(*id)?;
                topic.isr_min = *isr_min;
                for change in changes {
                    match &change.value {
                        Some(value) => topic.configs.insert(change.key.clone(), value.clone()),
                        None => topic.configs.remove(&change.key),
                    };
                }
                Ok(())
            }
            MetadataRecord::BrokerRegistered {
                node_id,
                broker_epoch,
                directory,
                incarnation,
                host,
                port,
                rack,
                version,
            } => {
                if self.removed.contains(node_id) {
                    return Ok(());
                }
                let old = self.brokers.get(node_id);
                // The marks belong to the life: the same registration again leaves them alone.
                if old.is_some_and(|old| old.epoch() >= Some(*broker_epoch)) {
                    return Ok(());
                }
                let draining = old.is_some_and(|old| old.draining);
                let broker = BrokerImage {
                    registration: Some(Registration {
                        epoch: *broker_epoch,
                        incarnation: *incarnation,
                        rack: rack.clone(),
                        version: version.clone(),
                    }),
                    directory: *directory,
                    host: host.clone(),
                    port: *port,
                    fenced: true,
                    shutting_down: false,
                    draining,
                };
                self.brokers.insert(*node_id, broker);
                Ok(())
            }
            MetadataRecord::PartitionChanged { .. } => self.apply_partition(record),
            MetadataRecord::ClusterCreated { cluster_id } => {
                self.cluster_id = Some(*cluster_id);
                Ok(())
            }
            MetadataRecord::NodeJoined {
                node_id,
                directory,
                host,
                port,
            } => {
                if self.removed.contains(node_id) {
                    return Ok(());
                }
                self.brokers.entry(*node_id).or_insert_with(|| BrokerImage {
                    registration: None,
                    directory: *directory,
                    host: host.clone(),
                    port: *port,
                    fenced: true,
                    shutting_down: false,
                    draining: false,
                });
                Ok(())
            }
            MetadataRecord::NodeRemoved { node_id } => {
                self.brokers.remove(node_id);
                self.removed.insert(*node_id);
                Ok(())
            }
            MetadataRecord::BrokerChanged {
                node_id,
                broker_epoch,
                fenced,
                shutting_down,
                draining,
            } => {
                if self.removed.contains(node_id) {
                    return Ok(());
                }
                let node = self
                    .brokers
                    .get_mut(node_id)
                    .ok_or(ApplyError::UnknownNode { node_id: *node_id })?;
                if node.epoch() > Some(*broker_epoch) {
                    return Ok(());
                }
                node.fenced = *fenced;
                node.shutting_down = *shutting_down;
                node.draining = *draining;
                Ok(())
            }
            MetadataRecord::ProducerIdsAllocated { next } => {
                self.producer_id_next = self.producer_id_next.max(*next);
                Ok(())
            }
        }
    }

    /// Records that build this image from nothing.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let cluster = self
            .cluster_id
            .map(|cluster_id| MetadataRecord::ClusterCreated { cluster_id });
        let ids = MetadataRecord::ProducerIdsAllocated {
            next: self.producer_id_next,
        };
        let removed = self
            .removed
            .iter()
            .map(|node_id| MetadataRecord::NodeRemoved { node_id: *node_id });
        let brokers = self
            .brokers
            .iter()
            .flat_map(|(node_id, broker)| broker.records(*node_id));
        let topics = self.topics.values().flat_map(|topic| {
            let created = MetadataRecord::TopicCreated {
                id: topic.id,
                name: topic.name.clone(),
                // Cannot truncate: no record makes more than PARTITIONS_PER_TOPIC_MAX.
                partitions: topic.partitions.len() as u32,
                replicas: topic.replicas,
                isr_min: topic.isr_min,
                configs: topic
                    .configs
                    .iter()
                    .map(|(key, value)| ConfigEntry {
                        key: key.clone(),
                        value: value.clone(),
                    })
                    .collect(),
            };
            std::iter::once(created).chain(topic.partition_records())
        });
        let deleted = self
            .deleted
            .in_order
            .iter()
            .map(|id| MetadataRecord::TopicDeleted { id: *id });
        cluster
            .into_iter()
            .chain(std::iter::once(ids))
            .chain(deleted)
            .chain(removed)
            .chain(brokers)
            .chain(topics)
            .collect()
    }

    fn apply_created(
        &mut self,
        id: TopicId,
        name: &TopicName,
        partitions: u32,
        replicas: u16,
        isr_min: u16,
        configs: &[ConfigEntry],
    ) -> Result<(), ApplyError> {
        let name = name.clone();
        if self.topics.get(&name).is_some_and(|topic| topic.id != id) {
            return Err(ApplyError::NameTaken { name });
        }
        if partitions > PARTITIONS_PER_TOPIC_MAX {
            return Err(ApplyError::Partitions {
                topic: name,
                now: 0,
                total: partitions,
            });
        }
        // A snapshot that a crash cut off between this record and those of the partitions must leave
        // them as they were before it, not without a leader.
        let mut placed = self
            .topics
            .get(&name)
            .map(|topic| topic.partitions.clone())
            .unwrap_or_default();
        if placed.len() < partitions as usize {
            placed.resize(partitions as usize, PartitionImage::default());
        }
        let topic = TopicImage {
            id,
            name: name.clone(),
            replicas,
            isr_min,
            configs: configs
                .iter()
                .map(|c| (c.key.clone(), c.value.clone()))
                .collect(),
            partitions: placed,
        };
        self.names.insert(id, name.clone());
        self.topics.insert(name, Arc::new(topic));
        Ok(())
    }

    fn apply_added(&mut self, id: TopicId, total: u32) -> Result<(), ApplyError> {
        let topic = self.topic_mut(id)?;
        let now = topic.partitions.len();
        if (total as usize) < now || total > PARTITIONS_PER_TOPIC_MAX {
            return Err(ApplyError::Partitions {
                topic: topic.name.clone(),
                now,
                total,
            });
        }
        topic
            .partitions
            .resize(total as usize, PartitionImage::default());
        Ok(())
    }

    fn apply_partition(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        let MetadataRecord::PartitionChanged {
            topic_id,
            partition,
            partition_epoch,
            leader,
            leader_epoch,
            recovering,
            replicas,
            isr,
            elr,
            last_known_elr,
            adding,
            removing,
        } = record
        else {
            return Ok(());
        };
        let topic = self.topic_mut(*topic_id)?;
        let name = topic.name.clone();
        let slot = topic.partitions.get_mut(partition.get() as usize).ok_or(
            ApplyError::UnknownPartition {
                topic: name,
                partition: *partition,
            },
        )?;
        if slot.partition_epoch > *partition_epoch {
            return Ok(());
        }
        *slot = PartitionImage {
            partition_epoch: *partition_epoch,
            leader: *leader,
            leader_epoch: *leader_epoch,
            recovering: *recovering,
            replicas: replicas.clone(),
            isr: isr.clone(),
            elr: elr.clone(),
            last_known_elr: last_known_elr.clone(),
            adding: adding.clone(),
            removing: removing.clone(),
        };
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ApplyError> {
        self.names
            .get(&id)
            .and_then(|name| self.topics.get_mut(name))
            .map(Arc::make_mut)
            .ok_or(ApplyError::UnknownTopic { id })
    }
}

impl BrokerImage {
    fn records(&self, node_id: NodeId) -> Vec<MetadataRecord> {
        let joined = MetadataRecord::NodeJoined {
            node_id,
            directory: self.directory,
            host: self.host.clone(),
            port: self.port,
        };
        let changed = self.changed(node_id, |_| {});
        let Some(life) = &self.registration else {
            return vec![joined, changed];
        };
        let registered = MetadataRecord::BrokerRegistered {
            node_id,
            broker_epoch: life.epoch,
            directory: self.directory,
            incarnation: life.incarnation,
            host: self.host.clone(),
            port: self.port,
            rack: life.rack.clone(),
            version: life.version.clone(),
        };
        vec![joined, registered, changed]
    }

    /// The record that changes its marks (fenced, shutting down, draining) as `change` does.
    #[must_use]
    pub fn changed(&self, node_id: NodeId, change: impl FnOnce(&mut Self)) -> MetadataRecord {
        let mut after = self.clone();
        change(&mut after);
        MetadataRecord::BrokerChanged {
            node_id,
            broker_epoch: self.epoch().unwrap_or_default(),
            fenced: after.fenced,
            shutting_down: after.shutting_down,
            draining: after.draining,
        }
    }
}

impl TopicImage {
    /// A partition of it.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        self.partitions.get(partition.get() as usize)
    }

    fn partition_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.partitions
            .iter()
            .zip(0u32..)
            .map(|(partition, index)| partition.record(self.id, PartitionId::new(index)))
    }
}

impl PartitionImage {
    /// Whether replicas of the partition are being moved.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas that the partition has once the move under way, if any, has ended.
    #[must_use]
    pub fn target(&self) -> Vec<NodeId> {
        let stays = |node: &&NodeId| !self.removing.contains(node);
        self.replicas.iter().filter(stays).copied().collect()
    }

    /// The record that makes the partition what it is here.
    #[must_use]
    pub fn record(&self, topic_id: TopicId, partition: PartitionId) -> MetadataRecord {
        MetadataRecord::PartitionChanged {
            topic_id,
            partition,
            partition_epoch: self.partition_epoch,
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            recovering: self.recovering,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            elr: self.elr.clone(),
            last_known_elr: self.last_known_elr.clone(),
            adding: self.adding.clone(),
            removing: self.removing.clone(),
        }
    }
}
