//! The partitions of this broker, found by topic id and number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    PartitionsOfTopic, ReplicaLog, ReplicaLogsRequest, ReplicaLogsResponse, ReplicaToRebuild,
};
use parking_lot::RwLock;

use crate::dirty_keys::DirtyKeys;
use crate::partition::Partition;

/// Names a partition.
pub(crate) type Key = (TopicId, PartitionId);

/// A partition on this broker.
#[derive(Debug, Clone)]
pub(crate) enum Hosted {
    /// Its log is open; it is led or followed here.
    Online(Arc<Partition>),
    /// Its storage could not be opened: damaged, or the disk failed. The reason is for people.
    Offline(Arc<str>),
}

impl Hosted {
    fn is_offline(&self) -> bool {
        match self {
            Self::Online(partition) => partition.offline_reason().is_some(),
            Self::Offline(_) => true,
        }
    }
}

/// A request that cannot be served by a partition here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// All partitions of this broker.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    hosted: RwLock<HashMap<Key, Hosted>>,
    /// Partitions whose leaders, here, propose other in-sync replicas.
    proposals: Arc<DirtyKeys>,
    /// Replicas that cannot be used, each with the leader epoch in which that was noticed: what was told
    /// of their logs was told in it or before.
    unused: RwLock<BTreeMap<Key, LeaderEpoch>>,
}

impl Partitions {
    pub(crate) fn insert(&self, key: Key, hosted: Hosted) {
        self.hosted.write().insert(key, hosted);
    }

    pub(crate) fn remove(&self, key: Key) -> Option<Hosted> {
        self.hosted.write().remove(&key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<Hosted> {
        self.hosted.read().get(&key).cloned()
    }

    /// The partition whose log is open here, whatever its role.
    pub(crate) fn online_one(&self, key: Key) -> Option<Arc<Partition>> {
        match self.get(key) {
            Some(Hosted::Online(partition)) => Some(partition),
            Some(Hosted::Offline(_)) | None => None,
        }
    }

    /// Where leaders announce proposals for the in-sync replicas.
    pub(crate) fn proposals(&self) -> &Arc<DirtyKeys> {
        &self.proposals
    }

    /// All that cannot be used here: the log could not be opened, is missing, went offline, or was put
    /// aside. In order.
    pub(crate) fn offline(&self) -> Vec<PartitionsOfTopic> {
        let hosted = self.hosted.read();
        let offline = hosted.iter().filter(|(_, hosted)| hosted.is_offline());
        let mut topics: BTreeMap<TopicId, Vec<PartitionId>> = BTreeMap::new();
        for ((topic_id, partition), _) in offline {
            topics.entry(*topic_id).or_default().push(*partition);
        }
        let sorted = topics.into_iter().map(|(topic_id, mut partitions)| {
            partitions.sort_unstable();
            PartitionsOfTopic {
                topic_id,
                partitions,
            }
        });
        sorted.collect()
    }

    /// Takes note of those that cannot be used. `epoch_of` says in which leader epoch a partition is,
    /// by metadata whose roles are taken here; `None`: it is not known.
    pub(crate) fn note_unused(&self, epoch_of: impl Fn(Key) -> Option<LeaderEpoch>) {
        let hosted = self.hosted.read();
        let mut unused = self.unused.write();
        let before = std::mem::take(&mut *unused);
        for (key, _) in hosted.iter().filter(|(_, hosted)| hosted.is_offline()) {
            let epoch = before.get(key).copied().or_else(|| epoch_of(*key));
            unused.extend(epoch.map(|epoch| (*key, epoch)));
        }
    }

    /// What [`Self::note_unused`] took note of.
    pub(crate) fn unused(&self) -> BTreeMap<Key, LeaderEpoch> {
        self.unused.read().clone()
    }

    /// A replica was begun anew: what it tells from now on is of another log. While that cannot be made
    /// nothing more is told, and no further epoch needed.
    pub(crate) fn begun_anew(&self, key: Key) {
        self.unused.write().remove(&key);
    }

    /// For the controller: what can be begun anew in a later leader epoch than these.
    pub(crate) fn to_rebuild(&self) -> Vec<ReplicaToRebuild> {
        let unused = self.unused.read();
        let replicas = unused.iter().map(|(key, leader_epoch)| ReplicaToRebuild {
            topic_id: key.0,
            partition: key.1,
            leader_epoch: *leader_epoch,
        });
        replicas.collect()
    }

    /// How far logs go, for the controller before an unclean election.
    pub(crate) fn replica_logs(
        &self,
        request: &ReplicaLogsRequest,
        broker_epoch: BrokerEpoch,
    ) -> ReplicaLogsResponse {
        let asked = request.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.topic_id, *partition))
        });
        let logs = asked.map(|key| {
            let found = self.online_one(key);
            let usable = found.filter(|partition| partition.offline_reason().is_none());
            match usable {
                Some(partition) => ReplicaLog {
                    topic_id: key.0,
                    partition: key.1,
                    error: ErrorCode::None,
                    last_epoch: partition.log().latest_epoch(),
                    end: partition.log().end(),
                    high_watermark: partition.high_watermark(),
                },
                None => ReplicaLog {
                    topic_id: key.0,
                    partition: key.1,
                    error: ErrorCode::PartitionOffline,
                    last_epoch: None,
                    end: Offset::ZERO,
                    high_watermark: Offset::ZERO,
                },
            }
        });
        ReplicaLogsResponse {
            broker_epoch,
            logs: logs.collect(),
        }
    }

    /// All that are online, in no order.
    pub(crate) fn online(&self) -> Vec<Arc<Partition>> {
        let hosted = self.hosted.read();
        let online = hosted.values().filter_map(|hosted| match hosted {
            Hosted::Online(partition) => Some(Arc::clone(partition)),
            Hosted::Offline(_) => None,
        });
        online.collect()
    }

    /// Whether any is offline.
    pub(crate) fn has_offline(&self) -> bool {
        !self.offline().is_empty()
    }

    /// How many are offline: as many as [`Self::offline`] names.
    pub(crate) fn offline_count(&self) -> usize {
        let hosted = self.hosted.read();
        let offline = hosted.values().filter(|hosted| hosted.is_offline());
        offline.count()
    }

    /// The partition that leads `key`, in the epoch that the client knows if it says one.
    pub(crate) fn leader(
        &self,
        key: Key,
        epoch: Option<LeaderEpoch>,
        known_as: impl FnOnce() -> Known,
    ) -> Result<Arc<Partition>, Refusal> {
        let (topic_id, partition) = key;
        // Cloned, so that the map is not locked while the partition is: an append that waits for the
        // disk holds up its own partition only.
        match self.get(key) {
            Some(Hosted::Online(found)) => {
                let Some(now) = found.leads_in() else {
                    return Err(match found.offline_reason() {
                        Some(reason) => offline(key, &reason),
                        None => not_leader(&found),
                    });
                };
                let Some(known) = epoch else {
                    return Ok(found);
                };
                let code = match known.cmp(&now) {
                    std::cmp::Ordering::Equal => return Ok(found),
                    std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
                    std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
                };
                let message = format!("leader epoch is {now}, the request says {known}");
                Err(Refusal { code, message })
            }
            Some(Hosted::Offline(reason)) => Err(offline(key, &reason)),
            None => match known_as() {
                Known::No => Err(Refusal {
                    code: ErrorCode::UnknownTopicId,
                    message: format!("there is no topic with id {topic_id}"),
                }),
                Known::TopicOnly => Err(Refusal {
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: format!("topic {topic_id} has no partition {partition}"),
                }),
                Known::Elsewhere => Err(Refusal {
                    code: ErrorCode::NotLeader,
                    message: format!(
                        "partition {partition} of topic {topic_id} is led by another broker"
                    ),
                }),
            },
        }
    }
}

/// What the metadata says of a partition that is not held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// There is no such topic.
    No,
    /// The topic has no such partition.
    TopicOnly,
    /// Others hold it.
    Elsewhere,
}

fn offline((topic_id, partition): Key, reason: &str) -> Refusal {
    Refusal {
        code: ErrorCode::PartitionOffline,
        message: format!("partition {partition} of topic {topic_id} is offline: {reason}"),
    }
}

/// This broker does not lead the partition, or may not answer for it any more.
pub(crate) fn not_leader(partition: &Partition) -> Refusal {
    Refusal {
        code: ErrorCode::NotLeader,
        message: format!(
            "this broker does not lead partition {} of topic {}",
            partition.partition(),
            partition.topic()
        ),
    }
}
