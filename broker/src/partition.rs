//! A partition on this broker: its log and the leader's decisions about it.
//!
//! Every method is synchronous and short: a check and the write that it guards are never parted by an
//! await. Waiting happens in `api`, on what these methods return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use highwater_config::TopicConfig;
use highwater_coordination::partition_leader::{
    AckWhen, NotEnoughReplicas, PartitionLeader, TakeOver, WrittenMeans,
};
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::messages::Acks;
use highwater_storage::{AppendError, Durability, Log, LogHealth, LogOptions};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;

use crate::progress::{Progress, Watch};

/// A partition that this broker leads.
#[derive(Debug)]
pub(crate) struct Partition {
    topic: TopicName,
    topic_id: TopicId,
    partition: PartitionId,
    log: Arc<Log>,
    config: ArcSwap<TopicConfig>,
    leader: Mutex<PartitionLeader>,
    /// The leader's high watermark, published for readers; written under the leader's lock.
    high_watermark: AtomicU64,
    progress: Progress,
    /// The topic was deleted: who still holds this partition must let it go.
    retired: AtomicBool,
}

/// An append that is in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    /// `None`: it was in the log before, so long ago that its offset is not known any more.
    pub(crate) base_offset: Option<Offset>,
    /// It was in the log before; nothing was appended.
    pub(crate) is_duplicate: bool,
    pub(crate) log_start: Offset,
    pub(crate) ack: AckWhen,
}

/// Why an append was refused; nothing was written.
#[derive(Debug, Error)]
pub(crate) enum PartitionAppendError {
    #[error("{needed} in-sync replicas are demanded (min.insync.replicas), {in_sync} are there")]
    NotEnoughReplicas { in_sync: usize, needed: usize },
    #[error("the topic was deleted")]
    Deleted,
    #[error(transparent)]
    Storage(#[from] AppendError),
}

impl Partition {
    pub(crate) fn lead(
        topic: TopicName,
        config: TopicConfig,
        log: Arc<Log>,
        take_over: TakeOver,
    ) -> Arc<Self> {
        let meta = log.meta();
        let (topic_id, partition) = (meta.topic_id, meta.partition);
        let leader = PartitionLeader::new(take_over);
        let high_watermark = AtomicU64::new(leader.high_watermark().get());
        Arc::new(Self {
            topic,
            topic_id,
            partition,
            log,
            config: ArcSwap::from_pointee(config),
            retired: AtomicBool::new(false),
            leader: Mutex::new(leader),
            high_watermark,
            progress: Progress::default(),
        })
    }

    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leader.lock().epoch()
    }

    /// Everything below is committed.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    /// Whether the high watermark may be told as the partition's end.
    pub(crate) fn high_watermark_is_known(&self) -> bool {
        self.leader.lock().high_watermark_is_known()
    }

    /// Appends verified batches, all or none.
    pub(crate) fn append_as_leader(
        &self,
        batches: &[u8],
        acks: Acks,
        now: Timestamp,
    ) -> Result<Appended, PartitionAppendError> {
        let mut leader = self.leader.lock();
        if self.is_retired() {
            return Err(PartitionAppendError::Deleted);
        }
        leader
            .admit(acks)
            .map_err(|NotEnoughReplicas { in_sync, needed }| {
                PartitionAppendError::NotEnoughReplicas { in_sync, needed }
            })?;
        let appended = self.log.append_idempotent(batches, leader.epoch(), now)?;
        // A duplicate waits for what its first attempt waits for: an answer says that it is safe.
        let ack = leader.on_appended(appended.end_offset(), acks);
        let moved = self.publish(&leader);
        // With acks = 0 nobody waits for an answer, but readers do.
        let wants_sync = ack != AckWhen::Now || leader.waits_for_disk();
        drop(leader);
        if moved {
            self.progress.moved();
        }
        if wants_sync {
            self.log.request_flush();
        }
        Ok(Appended {
            base_offset: appended.base_offset(),
            is_duplicate: appended.is_duplicate(),
            log_start: self.log.log_start(),
            ack,
        })
    }

    /// The log is on disk up to here.
    pub(crate) fn on_durable(&self, end: Offset) {
        let mut leader = self.leader.lock();
        leader.on_durable(end);
        self.publish(&leader);
        drop(leader);
        self.progress.moved();
    }

    /// Whether what an append waited for has happened.
    pub(crate) fn is_reached(&self, when: AckWhen) -> bool {
        when == AckWhen::Now || self.leader.lock().is_reached(when)
    }

    /// The topic's settings in force.
    pub(crate) fn config(&self) -> Guard<Arc<TopicConfig>> {
        self.config.load()
    }

    /// New settings of the topic.
    pub(crate) fn reconfigure(&self, config: TopicConfig, options: LogOptions, isr_min: usize) {
        let written_means = written_means(options.durability);
        self.log.set_options(options);
        self.config.store(Arc::new(config));
        let mut leader = self.leader.lock();
        leader.on_settings(written_means, isr_min);
        self.publish(&leader);
        drop(leader);
        self.progress.moved();
    }

    /// The topic was deleted: appends are over, and whoever waits is woken.
    pub(crate) fn retire(&self) {
        let leader = self.leader.lock();
        self.retired.store(true, Ordering::Release);
        drop(leader);
        self.progress.moved();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Why the log is offline, if it is.
    pub(crate) fn offline_reason(&self) -> Option<String> {
        match self.log.health() {
            LogHealth::Offline(reason) => Some(reason.to_string()),
            _ => None,
        }
    }

    /// Registers a waiter.
    pub(crate) fn watch(&self, notify: &Arc<Notify>) -> Watch {
        self.progress.watch(notify)
    }

    fn publish(&self, leader: &PartitionLeader) -> bool {
        let now = leader.high_watermark().get();
        self.high_watermark.swap(now, Ordering::AcqRel) != now
    }
}

/// What of a replica counts as written, by the topic's durability.
pub(crate) fn written_means(durability: Durability) -> WrittenMeans {
    match durability {
        Durability::Synced => WrittenMeans::Durable,
        Durability::Replicated => WrittenMeans::Appended,
    }
}
