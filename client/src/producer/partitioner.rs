//! Which partition a record goes to.

use std::fmt::Debug;

use highwater_protocol::ids::{PartitionId, TopicName};
use highwater_protocol::partitioner::partition_for_key;

/// Picks partitions for records that do not name theirs.
pub trait Partitioner: Debug + Send + Sync + 'static {
    /// The partition for a record of this key in a topic of `partitions` partitions (at least one).
    /// `None` leaves it to the producer, which stays with one partition until a batch of it is
    /// closed and then goes on to the next that works.
    fn pick(&self, topic: &TopicName, key: Option<&[u8]>, partitions: u32) -> Option<PartitionId>;
}

/// As Kafka's clients do it: records with a key by the murmur2 hash of the key, so that data keeps
/// its partition in a migration; records without one wherever the batch is that fills at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyHashPartitioner;

impl Partitioner for KeyHashPartitioner {
    fn pick(&self, _: &TopicName, key: Option<&[u8]>, partitions: u32) -> Option<PartitionId> {
        key.map(|key| partition_for_key(key, partitions))
    }
}
