//! The life of a broker: registration, heartbeats, fencing, controlled shutdown.
//!
//! Each decision here is about one broker, so that it sees what the decisions before it did to the
//! others.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{
    BrokerHeartbeatRequest, PartitionsOfTopic, RegisterBrokerRequest, SessionEnd,
};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
use crate::mutant::{self, Mutant};
use crate::partition_change::{PartitionChange, Standings};

use super::{ControllerError, Decision, broker_in_life, changes_of};

/// Whether a broker that registers proves how the life ended that the image knows: it found what that
/// very life left behind, so nothing of it runs any more and nothing that it acknowledged is lost.
///
/// A proof about another registration proves nothing: the disk may have been rolled back.
#[must_use]
pub fn proves_end_of_last_life(image: &ClusterImage, request: &RegisterBrokerRequest) -> bool {
    let stored = image.broker(request.node_id).and_then(BrokerImage::epoch);
    matches!(
        request.session_end,
        SessionEnd::Clean | SessionEnd::ProcessCrash
    ) && stored.is_some()
        && request.last_broker_epoch == stored
}

/// Decides about a broker that starts. The reply is its broker epoch: `new_epoch`, or for a retry the
/// one that it has.
///
/// One decision ends the old life and begins the new one: the broker is fenced, and out of every ISR
/// and leadership. Whether it stays eligible (in the ELR) depends on what its last life left:
/// - after an end that it [proves](proves_end_of_last_life) it does, everywhere;
/// - otherwise it does in topics for which `synced` says so (acknowledged there means on disk), and not
///   in the others: what was acknowledged from memory may be gone;
/// - a partition that it lists as damaged is never eligible.
///
/// The only copy of a partition is the exception: when all that was known to be complete is this
/// replica, it stays eligible after an unproven end as well. There is nobody better to wait for, and a
/// broker that is alone has to come back by itself. Its leader epoch is a new one, so that offsets
/// which are given out again can be told apart. The same goes for the only replica of a partition that
/// was damaged and is not any more.
///
/// `has_live_session`: another incarnation of the node was heard of within the session timeout.
/// `new_epoch` is larger than every epoch before.
///
/// # Errors
/// [`ControllerError`] when the node is unknown, was removed, comes with another directory, or another
/// process of it is alive.
pub fn register_broker(
    image: &ClusterImage,
    request: &RegisterBrokerRequest,
    new_epoch: BrokerEpoch,
    has_live_session: bool,
    synced: &dyn Fn(&TopicImage) -> bool,
) -> Result<Decision<BrokerEpoch>, ControllerError> {
    let node_id = request.node_id;
    if image.was_removed(node_id) {
        return Err(ControllerError::NodeWasRemoved { node_id });
    }
    let broker = image
        .broker(node_id)
        .ok_or(ControllerError::NotMember { node_id })?;
    if broker.directory != request.directory {
        return Err(ControllerError::WrongDirectory {
            node_id,
            expected: broker.directory,
            given: request.directory,
        });
    }
    if let Some(life) = &broker.registration {
        if life.incarnation == request.incarnation {
            return Ok(Decision::nothing(life.epoch));
        }
        if has_live_session {
            return Err(ControllerError::DuplicateBroker { node_id });
        }
    }
    let highest = image
        .brokers()
        .filter_map(|(_, broker)| broker.epoch())
        .max();
    if highest >= Some(new_epoch) {
        return Err(ControllerError::BrokerEpochUsed { epoch: new_epoch });
    }

    let is_proven = proves_end_of_last_life(image, request);
    let damaged = partition_set(&request.damaged);
    let standings = Standings::of(image).without(node_id);
    let mut records = vec![MetadataRecord::BrokerRegistered {
        node_id,
        broker_epoch: new_epoch,
        directory: request.directory,
        incarnation: request.incarnation,
        host: request.host.clone(),
        port: request.port,
        rack: request.rack.clone(),
        version: request.version.clone(),
    }];
    records.extend(changes_of(image, |topic, index, partition| {
        if !partition.replicas.contains(&node_id) {
            return None;
        }
        let is_damaged = damaged.contains(&(topic.id, index));
        let change = PartitionChange::new(partition, topic.isr_min, &standings);
        if partition.isr.contains(&node_id) || partition.elr.contains(&node_id) {
            let change = change.out_of_sync(node_id);
            let is_kept = is_proven
                || is_only_copy(partition, node_id)
                || synced(topic)
                || mutant::is_on(Mutant::LostStaysEligible);
            if is_damaged || !is_kept {
                change.lost(node_id).build()
            } else {
                change.build()
            }
        } else if partition.replicas == [node_id] && !is_damaged {
            change.readmitted(node_id).build()
        } else {
            None
        }
    }));
    Ok(Decision {
        records,
        reply: new_epoch,
    })
}

/// Whether nobody but `node` was ever known to be complete since the partition last had enough in-sync
/// replicas, and nobody else holds it except replicas that a move is still filling.
fn is_only_copy(partition: &PartitionImage, node: NodeId) -> bool {
    let is_other = |id: &NodeId| *id != node;
    !partition
        .replicas
        .iter()
        .filter(|id| is_other(id))
        .any(|id| !partition.adding.contains(id))
        && !partition
            .isr
            .iter()
            .chain(&partition.elr)
            .chain(&partition.last_known_elr)
            .any(is_other)
}

/// What a heartbeat amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatOutcome {
    /// Whether the broker is fenced now.
    pub fenced: bool,
    /// It asked to stop, and leads nothing that another active replica could take over, now or as soon
    /// as it has caught up. The caller may still have it wait until the other brokers have applied this
    /// decision.
    pub may_shut_down: bool,
    /// Partitions that it still leads; counted only while it shuts down.
    pub leads: u32,
}

/// Decides about everything that a heartbeat says, in one decision; for most heartbeats there is
/// nothing to decide. `metadata_index` counts as caught up with the registration when it has reached
/// the broker epoch, which is at most the position of the registration in the metadata log; a broker
/// also wants the fence itself until it has applied its registration.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`].
pub fn heartbeat(
    image: &ClusterImage,
    request: &BrokerHeartbeatRequest,
) -> Result<Decision<HeartbeatOutcome>, ControllerError> {
    let node_id = request.node_id;
    let broker = broker_in_life(image, node_id, request.broker_epoch)?;
    let shutting_down = broker.shutting_down || request.wants_shutdown;
    let is_ready = !request.wants_fence
        && !shutting_down
        && request.metadata_index >= request.broker_epoch.get();
    let fenced = if broker.fenced {
        !is_ready
    } else {
        request.wants_fence
    };
    let wanted = Marks {
        fenced,
        shutting_down,
    };
    let mut step = Step::new(image, node_id, broker, wanted, &request.offline);
    step.to_rebuild = request
        .to_rebuild
        .iter()
        .map(|replica| ((replica.topic_id, replica.partition), replica.leader_epoch))
        .collect();
    let records = step.records();
    let (leads, could_move) = if shutting_down {
        step.led_after(&records)
    } else {
        (0, 0)
    };
    Ok(Decision {
        records,
        reply: HeartbeatOutcome {
            fenced,
            may_shut_down: shutting_down && could_move == 0,
            leads,
        },
    })
}

/// Decides about a broker that is ready: it may lead, and does so at once where nobody else does and it
/// is complete.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`].
pub fn unfence_broker(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
) -> Result<Decision<()>, ControllerError> {
    marked(image, node_id, epoch, |marks| marks.fenced = false)
}

/// Decides about a broker that was not heard of for too long: it leaves every ISR and leadership. Its
/// life goes on; it is unfenced when it is heard of again.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`] when it has begun another
/// life meanwhile.
pub fn fence_broker(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
) -> Result<Decision<()>, ControllerError> {
    marked(image, node_id, epoch, |marks| marks.fenced = true)
}

/// Decides about a broker that wants to stop: it hands over what others can lead, and leaves the ISRs
/// of which others remain. To be repeated while it still leads something: [`heartbeat`] does.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`].
pub fn shut_down_broker(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
) -> Result<Decision<()>, ControllerError> {
    marked(image, node_id, epoch, |marks| marks.shutting_down = true)
}

/// Decides about logs that are damaged or cannot be reached on a running broker: it neither leads those
/// partitions nor is it in sync or eligible there.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`].
pub fn take_offline(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
    partitions: &[PartitionsOfTopic],
) -> Result<Decision<()>, ControllerError> {
    let broker = broker_in_life(image, node_id, epoch)?;
    let wanted = Marks::of(broker);
    Ok(Decision {
        records: Step::new(image, node_id, broker, wanted, partitions).records(),
        reply: (),
    })
}

fn marked(
    image: &ClusterImage,
    node_id: NodeId,
    epoch: BrokerEpoch,
    change: impl FnOnce(&mut Marks),
) -> Result<Decision<()>, ControllerError> {
    let broker = broker_in_life(image, node_id, epoch)?;
    let mut wanted = Marks::of(broker);
    change(&mut wanted);
    Ok(Decision {
        records: Step::new(image, node_id, broker, wanted, &[]).records(),
        reply: (),
    })
}

/// What a decision can change about a broker itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    fenced: bool,
    shutting_down: bool,
}

impl Marks {
    const fn of(broker: &BrokerImage) -> Self {
        Self {
            fenced: broker.fenced,
            shutting_down: broker.shutting_down,
        }
    }
}

/// The step of one broker from its marks to others.
struct Step<'a> {
    image: &'a ClusterImage,
    node: NodeId,
    broker: &'a BrokerImage,
    wanted: Marks,
    standings: Standings,
    offline: BTreeSet<(TopicId, PartitionId)>,
    /// Of these, those that are to be begun anew, and the leader epoch that must be over before.
    to_rebuild: BTreeMap<(TopicId, PartitionId), LeaderEpoch>,
}

impl<'a> Step<'a> {
    fn new(
        image: &'a ClusterImage,
        node: NodeId,
        broker: &'a BrokerImage,
        wanted: Marks,
        offline: &[PartitionsOfTopic],
    ) -> Self {
        let now = Standings::of(image);
        let standings = if wanted.fenced {
            now.without(node)
        } else if wanted.shutting_down {
            now.with_leaving(node)
        } else {
            now.with_active(node)
        };
        Self {
            image,
            node,
            broker,
            wanted,
            standings,
            offline: partition_set(offline),
            to_rebuild: BTreeMap::new(),
        }
    }

    fn records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if self.wanted != Marks::of(self.broker) {
            records.push(self.broker.changed(self.node, |broker| {
                broker.fenced = self.wanted.fenced;
                broker.shutting_down = self.wanted.shutting_down;
            }));
        }
        // While it shuts down, others may become able to take over at any time.
        if !records.is_empty() || self.wanted.shutting_down {
            records.extend(changes_of(self.image, |topic, index, partition| {
                self.changed(topic, index, partition)
            }));
            return records;
        }
        for (topic_id, index) in &self.offline {
            let Some(topic) = self.image.topic_by_id(*topic_id) else {
                continue;
            };
            let after = topic
                .partition(*index)
                .and_then(|partition| self.changed(topic, *index, partition));
            records.extend(after.map(|after| after.record(*topic_id, *index)));
        }
        records
    }

    fn changed(
        &self,
        topic: &TopicImage,
        index: PartitionId,
        partition: &PartitionImage,
    ) -> Option<PartitionImage> {
        let node = self.node;
        if !partition.replicas.contains(&node) {
            return None;
        }
        let is_in_sync = partition.isr.contains(&node);
        let change = PartitionChange::new(partition, topic.isr_min, &self.standings);
        if self.offline.contains(&(topic.id, index)) {
            let counts = is_in_sync || partition.elr.contains(&node);
            let told = self.to_rebuild.get(&(topic.id, index));
            if told.is_some_and(|told| partition.leader_epoch <= *told) {
                return change.lost(node).new_leader_epoch().build();
            }
            return counts.then(|| change.lost(node).build()).flatten();
        }
        if self.wanted.fenced {
            return is_in_sync
                .then(|| change.out_of_sync(node).build())
                .flatten();
        }
        if self.wanted.shutting_down {
            return is_in_sync
                .then(|| change.out_of_sync(node).build())
                .flatten()
                .filter(|after| after.leader.is_some());
        }
        let is_leaderless = partition.leader.is_none();
        is_leaderless.then(|| change.build()).flatten()
    }

    /// How many partitions the broker leads after `records`, and how many of them another replica could
    /// lead once it is in sync.
    fn led_after(&self, records: &[MetadataRecord]) -> (u32, u32) {
        let handed_over: BTreeSet<(TopicId, PartitionId)> = records
            .iter()
            .filter_map(|record| match record {
                MetadataRecord::PartitionChanged {
                    topic_id,
                    partition,
                    leader,
                    ..
                } if *leader != Some(self.node) => Some((*topic_id, *partition)),
                _ => None,
            })
            .collect();
        let (mut leads, mut could_move) = (0, 0);
        for topic in self.image.topics() {
            for (partition, index) in topic.partitions.iter().zip(0u32..) {
                let is_led = partition.leader == Some(self.node)
                    && !handed_over.contains(&(topic.id, PartitionId::new(index)));
                if !is_led {
                    continue;
                }
                leads += 1;
                let has_heir = partition
                    .replicas
                    .iter()
                    .any(|id| *id != self.node && self.standings.is_active(*id));
                could_move += u32::from(has_heir);
            }
        }
        (leads, could_move)
    }
}

fn partition_set(topics: &[PartitionsOfTopic]) -> BTreeSet<(TopicId, PartitionId)> {
    topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|index| (topic.topic_id, *index))
        })
        .collect()
}

#[cfg(test)]
#[path = "brokers_tests.rs"]
mod tests;
