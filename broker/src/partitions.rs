//! The partitions of this broker, found by topic id and number.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, PartitionId, TopicId};
use parking_lot::RwLock;

use crate::partition::Partition;

type Key = (TopicId, PartitionId);

/// A partition on this broker.
#[derive(Debug, Clone)]
pub(crate) enum Hosted {
    /// It is led here.
    Online(Arc<Partition>),
    /// Its storage could not be opened: damaged, or the disk failed. The reason is for people.
    Offline(Arc<str>),
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

    /// All that are online, in no order.
    pub(crate) fn online(&self) -> Vec<Arc<Partition>> {
        let hosted = self.hosted.read();
        let online = hosted.values().filter_map(|hosted| match hosted {
            Hosted::Online(partition) => Some(Arc::clone(partition)),
            Hosted::Offline(_) => None,
        });
        online.collect()
    }

    /// How many are offline.
    pub(crate) fn offline_count(&self) -> usize {
        self.hosted
            .read()
            .values()
            .filter(|hosted| matches!(hosted, Hosted::Offline(_)))
            .count()
    }

    /// The partition that leads `key`, in the epoch that the client knows if it says one.
    pub(crate) fn leader(
        &self,
        key: Key,
        epoch: Option<LeaderEpoch>,
        topic_exists: impl FnOnce() -> bool,
    ) -> Result<Arc<Partition>, Refusal> {
        let (topic_id, partition) = key;
        // Cloned, so that the map is not locked while the partition is: an append that waits for the
        // disk holds up its own partition only.
        match self.get(key) {
            Some(Hosted::Online(found)) => {
                let Some(known) = epoch else {
                    return Ok(found);
                };
                let now = found.leader_epoch();
                let code = match known.cmp(&now) {
                    std::cmp::Ordering::Equal => return Ok(found),
                    std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
                    std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
                };
                let message = format!("leader epoch is {now}, the request says {known}");
                Err(Refusal { code, message })
            }
            Some(Hosted::Offline(reason)) => Err(Refusal {
                code: ErrorCode::PartitionOffline,
                message: format!("partition {partition} of topic {topic_id} is offline: {reason}"),
            }),
            None if topic_exists() => Err(Refusal {
                code: ErrorCode::UnknownTopicOrPartition,
                message: format!("topic {topic_id} has no partition {partition} here"),
            }),
            None => Err(Refusal {
                code: ErrorCode::UnknownTopicId,
                message: format!("there is no topic with id {topic_id}"),
            }),
        }
    }
}
