//! What the client knows about topics: where partitions live, under which topic id.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, NodeId, PartitionId, TopicId, TopicName};
use highwater_protocol::messages::{
    MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata,
};
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::error::RequestError;

/// A topic as of the last metadata.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
    /// Indexed by partition number.
    pub(crate) partitions: Vec<Leader>,
    /// Rises with every answer, so that waiters know whether somebody else has refreshed already.
    pub(crate) generation: u64,
    pub(crate) known_since: Instant,
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node: Option<NodeId>,
    pub(crate) epoch: LeaderEpoch,
}

impl Topic {
    pub(crate) fn leader(&self, partition: PartitionId) -> Option<Leader> {
        self.partitions.get(partition.get() as usize).copied()
    }

    pub(crate) fn partition_count(&self) -> u32 {
        // A broker never has more than PARTITIONS_PER_TOPIC_MAX, which fits.
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }
}

/// Why a topic is not in the metadata.
#[derive(Debug, Clone)]
pub(crate) enum LookupError {
    Unknown,
    Request(RequestError),
}

impl From<RequestError> for LookupError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    topics: RwLock<HashMap<TopicName, Arc<Topic>>>,
    generation: AtomicU64,
    /// Held while asking, so that everyone waits for the same answer.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

impl Metadata {
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    pub(crate) fn request(name: &str) -> MetadataRequest {
        MetadataRequest {
            topics: Some(vec![name.to_owned()]),
        }
    }

    /// Takes over an answer.
    pub(crate) fn apply(&self, answer: &MetadataResponse) {
        let mut topics = self.topics.write();
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        for topic in &answer.topics {
            let Ok(name) = TopicName::new(&topic.name) else {
                continue;
            };
            match (topic.error, topic.topic_id) {
                (ErrorCode::None, Some(id)) => {
                    let known = topics.get(&name).filter(|known| known.id == id);
                    let partitions = leaders(topic, known.map(AsRef::as_ref));
                    let topic = Topic {
                        name: name.clone(),
                        id,
                        partitions,
                        generation,
                        known_since: Instant::now(),
                    };
                    topics.insert(name, Arc::new(topic));
                }
                _ => {
                    topics.remove(&name);
                }
            }
        }
        self.generation.store(generation, Ordering::Release);
    }
}

/// The leaders that an answer names; where it is behind what is known already, those. A broker may
/// lag behind the others, and going back to an earlier leader would help nobody.
fn leaders(topic: &TopicMetadata, known: Option<&Topic>) -> Vec<Leader> {
    let newest = |p: &PartitionMetadata| {
        let told = Leader {
            node: p.leader,
            epoch: p.leader_epoch,
        };
        let known = known.and_then(|known| known.leader(p.partition));
        known
            .filter(|known| known.epoch > told.epoch)
            .unwrap_or(told)
    };
    topic.partitions.iter().map(newest).collect()
}
