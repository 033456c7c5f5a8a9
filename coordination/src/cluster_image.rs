//! The cluster as the metadata log describes it.
//!
//! State changes only in [`ClusterImage::apply`], whether a record was just decided, is replayed at
//! start, or comes out of a snapshot. Applying a record twice leaves the same image, so that a replay
//! over a snapshot that already contains it is harmless; so is any part of a snapshot of the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId, TopicId, TopicName};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_protocol::messages::ConfigEntry;
use highwater_protocol::metadata_record::MetadataRecord;
use thiserror::Error;

/// Everything that the metadata log says. Cheap to clone: topics are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterImage {
    topics: BTreeMap<TopicName, Arc<TopicImage>>,
    names: BTreeMap<TopicId, TopicName>,
    brokers: BTreeMap<NodeId, BrokerImage>,
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
    /// Settings that differ from the brokers' defaults.
    pub configs: BTreeMap<String, String>,
    /// Its partitions in order.
    pub partitions: Vec<PartitionImage>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionImage {
    /// Who leads it, if anyone.
    pub leader: Option<NodeId>,
    /// Counts its leaders.
    pub leader_epoch: LeaderEpoch,
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Who is in sync.
    pub isr: Vec<NodeId>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Counts its registrations.
    pub epoch: BrokerEpoch,
    /// Host that clients connect to.
    pub host: String,
    /// Port that clients connect to.
    pub port: u16,
    /// Its failure domain.
    pub rack: Option<String>,
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

    /// All registered brokers by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = (NodeId, &BrokerImage)> {
        self.brokers.iter().map(|(id, broker)| (*id, broker))
    }

    /// A registered broker.
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
                configs,
            } => self.apply_created(*id, name, *partitions, *replicas, configs),
            MetadataRecord::TopicDeleted { id } => {
                if let Some(name) = self.names.remove(id) {
                    self.topics.remove(&name);
                }
                Ok(())
            }
            MetadataRecord::PartitionsAdded { id, total } => {
                let topic = self.topic_mut(*id)?;
                let now = topic.partitions.len();
                if (*total as usize) < now || *total > PARTITIONS_PER_TOPIC_MAX {
                    return Err(ApplyError::Partitions {
                        topic: topic.name.clone(),
                        now,
                        total: *total,
                    });
                }
                topic
                    .partitions
                    .resize(*total as usize, PartitionImage::default());
                Ok(())
            }
            MetadataRecord::TopicConfigChanged { id, changes } => {
                let topic = self.topic_mut(*id)?;
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
                host,
                port,
                rack,
            } => {
                let broker = BrokerImage {
                    epoch: *broker_epoch,
                    host: host.clone(),
                    port: *port,
                    rack: rack.clone(),
                };
                self.brokers.insert(*node_id, broker);
                Ok(())
            }
            MetadataRecord::PartitionChanged {
                topic_id,
                partition,
                leader,
                leader_epoch,
                replicas,
                isr,
            } => {
                let topic = self.topic_mut(*topic_id)?;
                let name = topic.name.clone();
                let slot = topic.partitions.get_mut(partition.get() as usize).ok_or(
                    ApplyError::UnknownPartition {
                        topic: name,
                        partition: *partition,
                    },
                )?;
                *slot = PartitionImage {
                    leader: *leader,
                    leader_epoch: *leader_epoch,
                    replicas: replicas.clone(),
                    isr: isr.clone(),
                };
                Ok(())
            }
        }
    }

    /// Records that build this image from nothing.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let brokers = self
            .brokers
            .iter()
            .map(|(id, broker)| MetadataRecord::BrokerRegistered {
                node_id: *id,
                broker_epoch: broker.epoch,
                host: broker.host.clone(),
                port: broker.port,
                rack: broker.rack.clone(),
            });
        let topics = self.topics.values().flat_map(|topic| {
            let created = MetadataRecord::TopicCreated {
                id: topic.id,
                name: topic.name.clone(),
                // Cannot truncate: no record makes more than PARTITIONS_PER_TOPIC_MAX.
                partitions: topic.partitions.len() as u32,
                replicas: topic.replicas,
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
        brokers.chain(topics).collect()
    }

    fn apply_created(
        &mut self,
        id: TopicId,
        name: &TopicName,
        partitions: u32,
        replicas: u16,
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

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ApplyError> {
        self.names
            .get(&id)
            .and_then(|name| self.topics.get_mut(name))
            .map(Arc::make_mut)
            .ok_or(ApplyError::UnknownTopic { id })
    }
}

impl TopicImage {
    fn partition_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.partitions
            .iter()
            .zip(0u32..)
            .map(|(partition, index)| MetadataRecord::PartitionChanged {
                topic_id: self.id,
                partition: PartitionId::new(index),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
            })
    }
}
