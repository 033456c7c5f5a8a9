//! The controller: commands in, records for the metadata log and a reply out.
//!
//! A decision changes nothing by itself. Its records are made durable first and then applied to the
//! image, by the same [`ClusterImage::apply`] that replays them at the next start.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId, TopicId, TopicName,
    TopicNameError,
};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;
use thiserror::Error;

use crate::cluster_image::{ClusterImage, PartitionImage, TopicImage};
use crate::node_loads::NodeLoads;
use crate::placement::place;

/// What a command amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<R> {
    /// To be made durable, then applied, in this order.
    pub records: Vec<MetadataRecord>,
    /// What the caller is told once that is done.
    pub reply: R,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ControllerError {
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// There is one already.
    #[error("topic {name} exists already")]
    TopicExists {
        /// The topic.
        name: TopicName,
    },
    /// There is none.
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name asked for.
        name: String,
    },
    /// Zero or too many partitions.
    #[error("{count} partitions: a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}")]
    PartitionCount {
        /// How many were asked for.
        count: u32,
    },
    /// Partitions cannot be taken away.
    #[error("topic {name} has {now} partitions; it can only get more, not {total}")]
    FewerPartitions {
        /// The topic.
        name: TopicName,
        /// How many it has.
        now: usize,
        /// How many were asked for.
        total: u32,
    },
    /// There are not that many brokers.
    #[error("replication factor {replicas} needs {replicas} brokers; this cluster has {brokers}")]
    ReplicationFactor {
        /// What was asked for.
        replicas: u16,
        /// How many brokers there are.
        brokers: usize,
    },
}

impl ControllerError {
    /// The code that a client sees.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Name(_) => ErrorCode::InvalidTopic,
            Self::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::PartitionCount { .. } | Self::FewerPartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            Self::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        }
    }
}

/// A topic to create. Settings were checked by the caller, who knows them.
#[derive(Debug, Clone)]
pub struct CreateTopic<'a> {
    /// Its id, drawn by the caller: randomness is an input.
    pub id: TopicId,
    /// Its name.
    pub name: &'a str,
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replicas: u16,
    /// Fewest in-sync replicas for anything to commit.
    pub isr_min: u16,
    /// Settings that differ from the brokers' defaults.
    pub configs: Vec<ConfigEntry>,
}

/// A broker that starts.
#[derive(Debug, Clone)]
pub struct RegisterBroker {
    /// The broker.
    pub node_id: NodeId,
    /// Host that clients connect to.
    pub host: String,
    /// Port that clients connect to.
    pub port: u16,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Version of its software.
    pub version: String,
    /// Its data directory.
    pub directory: DirectoryId,
    /// This life, drawn by the process.
    pub incarnation: IncarnationId,
    /// The new registration: larger than every one before. The caller takes the position that the entry
    /// will have at least in the metadata log.
    pub epoch: BrokerEpoch,
    /// Whether its last life ended with everything on disk. If not, records that were acknowledged by
    /// memory alone may be gone and their offsets may be given out again: a new leader epoch tells
    /// those apart.
    pub clean: bool,
}

/// Decides about a new topic; the reply is its id.
///
/// # Errors
/// [`ControllerError`] says what is wrong with it.
pub fn create_topic(
    image: &ClusterImage,
    command: &CreateTopic<'_>,
) -> Result<Decision<TopicId>, ControllerError> {
    let name = TopicName::new(command.name)?;
    if image.topic(name.as_str()).is_some() {
        return Err(ControllerError::TopicExists { name });
    }
    if command.partitions == 0 || command.partitions > PARTITIONS_PER_TOPIC_MAX {
        return Err(ControllerError::PartitionCount {
            count: command.partitions,
        });
    }
    let created = MetadataRecord::TopicCreated {
        id: command.id,
        name: name.clone(),
        partitions: command.partitions,
        replicas: command.replicas,
        isr_min: command.isr_min,
        configs: command.configs.clone(),
    };
    let placed = placed_partitions(
        image,
        command.id,
        0,
        command.partitions as usize,
        command.replicas,
    )?;
    Ok(Decision {
        records: std::iter::once(created).chain(placed).collect(),
        reply: command.id,
    })
}

/// Decides about deleting a topic; the reply is its id.
///
/// # Errors
/// [`ControllerError::UnknownTopic`].
pub fn delete_topic(
    image: &ClusterImage,
    name: &str,
) -> Result<Decision<TopicId>, ControllerError> {
    let topic = topic(image, name)?;
    Ok(Decision {
        records: vec![MetadataRecord::TopicDeleted { id: topic.id }],
        reply: topic.id,
    })
}

/// Decides about giving a topic more partitions. The same number again is no change and no error, so
/// that a retry succeeds.
///
/// # Errors
/// [`ControllerError`] when there is no such topic or the number is out of range.
pub fn add_partitions(
    image: &ClusterImage,
    name: &str,
    total: u32,
) -> Result<Decision<()>, ControllerError> {
    let topic = topic(image, name)?;
    let now = topic.partitions.len();
    if total == 0 || total > PARTITIONS_PER_TOPIC_MAX {
        return Err(ControllerError::PartitionCount { count: total });
    }
    if (total as usize) < now {
        return Err(ControllerError::FewerPartitions {
            name: topic.name.clone(),
            now,
            total,
        });
    }
    if total as usize == now {
        return Ok(Decision {
            records: Vec::new(),
            reply: (),
        });
    }
    let added = MetadataRecord::PartitionsAdded {
        id: topic.id,
        total,
    };
    let placed = placed_partitions(image, topic.id, now, total as usize - now, topic.replicas)?;
    Ok(Decision {
        records: std::iter::once(added).chain(placed).collect(),
        reply: (),
    })
}

/// Decides about changing a topic's settings, which the caller has checked.
///
/// # Errors
/// [`ControllerError::UnknownTopic`].
pub fn alter_topic_config(
    image: &ClusterImage,
    name: &str,
    isr_min: u16,
    changes: Vec<ConfigChange>,
) -> Result<Decision<TopicId>, ControllerError> {
    let topic = topic(image, name)?;
    let records = if changes.is_empty() {
        Vec::new()
    } else {
        vec![MetadataRecord::TopicConfigChanged {
            id: topic.id,
            isr_min,
            changes,
        }]
    };
    Ok(Decision {
        records,
        reply: topic.id,
    })
}

/// Decides about a broker that starts: a new registration, and a new leader epoch for everything that
/// it leads when its last life did not end cleanly. The reply is its broker epoch.
#[must_use]
pub fn register_broker(image: &ClusterImage, command: &RegisterBroker) -> Decision<BrokerEpoch> {
    let epoch = command.epoch;
    let mut records = vec![MetadataRecord::BrokerRegistered {
        node_id: command.node_id,
        broker_epoch: epoch,
        directory: command.directory,
        incarnation: command.incarnation,
        host: command.host.clone(),
        port: command.port,
        rack: command.rack.clone(),
        version: command.version.clone(),
    }];
    if !command.clean {
        for topic in image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                if partition.leader == Some(command.node_id) {
                    records.push(next_epoch(topic, PartitionId::new(index), partition));
                }
            }
        }
    }
    Decision {
        records,
        reply: epoch,
    }
}

fn next_epoch(
    topic: &TopicImage,
    partition: PartitionId,
    image: &PartitionImage,
) -> MetadataRecord {
    PartitionImage {
        partition_epoch: image.partition_epoch + 1,
        leader_epoch: LeaderEpoch::new(image.leader_epoch.get() + 1),
        ..image.clone()
    }
    .record(topic.id, partition)
}

fn topic<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a TopicImage, ControllerError> {
    image
        .topic(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControllerError::UnknownTopic {
            name: name.to_owned(),
        })
}

fn placed_partitions(
    image: &ClusterImage,
    topic_id: TopicId,
    from: usize,
    count: usize,
    replicas: u16,
) -> Result<impl Iterator<Item = MetadataRecord>, ControllerError> {
    let brokers: Vec<NodeId> = image.brokers().map(|(id, _)| id).collect();
    let placed = place(image, &NodeLoads::new(), &brokers, count, replicas).ok_or(
        ControllerError::ReplicationFactor {
            replicas,
            brokers: brokers.len(),
        },
    )?;
    Ok(placed.into_iter().enumerate().map(move |(step, replicas)| {
        // Cannot truncate: at most PARTITIONS_PER_TOPIC_MAX.
        let partition = PartitionId::new((from + step) as u32);
        PartitionImage {
            leader: replicas.first().copied(),
            isr: replicas.clone(),
            replicas,
            ..PartitionImage::default()
        }
        .record(topic_id, partition)
    }))
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
