//! Creating, deleting and enlarging topics, and their settings.

use highwater_protocol::ids::{PartitionId, TopicId, TopicName};
use highwater_protocol::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{ClusterImage, PartitionImage};
use crate::mutant::{self, Mutant};
use crate::node_loads::NodeLoads;
use crate::partition_change::{PartitionChange, Standings};
use crate::placement::{candidates, place};

use super::{ControllerError, Decision, topic};

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
    /// Fewest in-sync replicas for anything to commit: 1 to `replicas`.
    pub isr_min: u16,
    /// Settings that differ from the brokers' defaults.
    pub configs: Vec<ConfigEntry>,
}

/// Decides about a new topic; the reply is its id. Its replicas go to brokers that are active and not
/// drained, and are all in sync: there is nothing that they could lack.
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
    if command.replicas == 0 {
        return Err(ControllerError::NoReplicas);
    }
    let placed = placed_partitions(
        image,
        command.id,
        0,
        command.partitions as usize,
        command.replicas,
    )?;
    if command.isr_min == 0 || command.isr_min > command.replicas {
        return Err(ControllerError::InSyncMin {
            isr_min: command.isr_min,
            replicas: command.replicas,
        });
    }
    let created = MetadataRecord::TopicCreated {
        id: command.id,
        name,
        partitions: command.partitions,
        replicas: command.replicas,
        isr_min: command.isr_min,
        configs: command.configs.clone(),
    };
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
/// [`ControllerError`] when there is no such topic, the number is out of range, or there are too few
/// brokers.
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
        return Ok(Decision::nothing(()));
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
/// Another `min.insync.replicas` changes who is eligible, in the same decision (KAFKA-16540): with
/// enough in-sync replicas under the new number the ELR is emptied, because from now on its members
/// fall behind. With too few, everything that was committed is still on all of them, and they stay:
/// a partition that waits for one of them must not need an unclean election because of a setting.
/// Every partition gets a new partition epoch, so that a leader that does not know the new number yet
/// cannot have in-sync replicas accepted on the basis of the old one.
///
/// # Errors
/// [`ControllerError::UnknownTopic`]; [`ControllerError::InSyncMin`] when `isr_min` does not fit the
/// topic's replicas.
pub fn alter_topic_config(
    image: &ClusterImage,
    name: &str,
    isr_min: u16,
    changes: Vec<ConfigChange>,
) -> Result<Decision<TopicId>, ControllerError> {
    let topic = topic(image, name)?;
    if isr_min == 0 || isr_min > topic.replicas {
        return Err(ControllerError::InSyncMin {
            isr_min,
            replicas: topic.replicas,
        });
    }
    let is_other_min = isr_min != topic.isr_min;
    if changes.is_empty() && !is_other_min {
        return Ok(Decision::nothing(topic.id));
    }
    let mut records = vec![MetadataRecord::TopicConfigChanged {
        id: topic.id,
        isr_min,
        changes,
    }];
    if is_other_min && !mutant::is_on(Mutant::MinimumKeepsEligible) {
        let standings = Standings::of(image);
        for (partition, index) in topic.partitions.iter().zip(0u32..) {
            let after = PartitionChange::new(partition, isr_min, &standings)
                .forced()
                .build();
            records.extend(after.map(|after| after.record(topic.id, PartitionId::new(index))));
        }
    }
    Ok(Decision {
        records,
        reply: topic.id,
    })
}

fn placed_partitions(
    image: &ClusterImage,
    topic_id: TopicId,
    from: usize,
    count: usize,
    replicas: u16,
) -> Result<impl Iterator<Item = MetadataRecord>, ControllerError> {
    let candidates = candidates(image);
    let placed = place(image, &NodeLoads::new(), &candidates, count, replicas).ok_or(
        ControllerError::ReplicationFactor {
            replicas,
            brokers: candidates.len(),
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
#[path = "topics_tests.rs"]
mod tests;
