//! The partitions of one topic as the producer sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use highwater_protocol::ids::{PartitionId, TopicName};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::partitioner::Partitioner;
use super::queue::PartitionQueue;
use crate::error::SendError;

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: TopicName,
    pub(super) id: PartitionId,
    pub(super) queue: Mutex<PartitionQueue>,
    /// Told when the partition gives back a part of the buffer.
    pub(super) room: Notify,
    /// Batches wait for something to be mended: records that may go elsewhere do.
    pub(super) unwell: AtomicBool,
}

/// One topic.
#[derive(Debug)]
pub(super) struct ProducerTopic {
    pub(super) name: TopicName,
    idempotent: bool,
    partitions: RwLock<Vec<Arc<Partition>>>,
    /// How many of them the topic has now: fewer than before when it was made anew.
    count: AtomicU32,
    /// Where records without a key go at the moment.
    sticky: AtomicU32,
}

impl ProducerTopic {
    pub(super) fn new(name: TopicName, idempotent: bool) -> Self {
        Self {
            name,
            idempotent,
            partitions: RwLock::default(),
            count: AtomicU32::new(0),
            sticky: AtomicU32::new(0),
        }
    }

    /// Takes over how many partitions there are. Those that are gone stay until what was given to
    /// them is resolved, but nothing new goes there.
    pub(super) fn set_count(&self, count: u32) {
        let mut partitions = self.partitions.write();
        for id in partitions.len() as u32..count {
            let id = PartitionId::new(id);
            let queue = PartitionQueue::new(self.name.clone(), id, self.idempotent);
            partitions.push(Arc::new(Partition {
                topic: self.name.clone(),
                id,
                queue: Mutex::new(queue),
                room: Notify::new(),
                unwell: AtomicBool::new(false),
            }));
        }
        self.count.store(count, Ordering::Release);
    }

    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Where a record goes.
    pub(super) fn choose(
        &self,
        asked: Option<PartitionId>,
        key: Option<&[u8]>,
        partitioner: &dyn Partitioner,
    ) -> Result<Arc<Partition>, SendError> {
        let count = self.count();
        let id = self.pick(asked, key, count, partitioner);
        let partitions = self.partitions.read();
        // Those beyond the count are gone.
        let found = partitions
            .get(id.get() as usize)
            .filter(|partition| partition.id.get() < count);
        let found = found.ok_or_else(|| SendError::UnknownPartition {
            topic: self.name.clone(),
            partition: id,
            partitions: count,
        });
        found.map(Arc::clone)
    }

    /// The number of the partition that a record goes to.
    #[inline]
    pub(super) fn pick(
        &self,
        asked: Option<PartitionId>,
        key: Option<&[u8]>,
        count: u32,
        partitioner: &dyn Partitioner,
    ) -> PartitionId {
        let picked = match asked {
            Some(id) => Some(id),
            None if count <= 1 => None,
            None => partitioner.pick(&self.name, key, count),
        };
        picked
            .unwrap_or_else(|| PartitionId::new(self.sticky.load(Ordering::Relaxed) % count.max(1)))
    }

    /// A batch of this partition was closed, or the partition is stuck: records without a key go on
    /// to another one, if they went to it.
    pub(super) fn move_on(&self, from: PartitionId) {
        let count = self.count();
        if count < 2 || self.sticky.load(Ordering::Relaxed) % count != from.get() {
            return;
        }
        let partitions = self.partitions.read();
        let well = |id: &u32| {
            let partition = partitions.get(*id as usize);
            partition.is_some_and(|partition| !partition.unwell.load(Ordering::Relaxed))
        };
        let others = (1..count).map(|step| (from.get() + step) % count);
        let next = others
            .clone()
            .find(well)
            .unwrap_or((from.get() + 1) % count);
        self.sticky.store(next, Ordering::Relaxed);
    }
}
