//! What every task of a broker shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use highwater_config::BrokerConfig;
use highwater_protocol::ids::{ClusterId, LeaderEpoch, NodeId, PartitionId, TopicId};
use highwater_storage::Engine;
use tokio_util::sync::CancellationToken;

use crate::admission::Budget;
use crate::clock::Clock;
use crate::controller::Controller;
use crate::foreign::ForeignPeers;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::Refusal;
use crate::producer_ids::ProducerIds;

/// A running broker, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) cluster_id: ClusterId,
    pub(crate) node_id: NodeId,
    pub(crate) clock: Arc<Clock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) controller: Controller,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Budget,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) connections: AtomicUsize,
    pub(crate) foreign: ForeignPeers,
    /// Set by housekeeping while the disk has less free space than `storage.min.free.bytes`.
    pub(crate) disk_is_low: AtomicBool,
    /// Cancelled when shutdown begins: long polls answer, connections finish and close.
    pub(crate) draining: CancellationToken,
}

impl Shared {
    pub(crate) fn is_disk_low(&self) -> bool {
        self.disk_is_low.load(Ordering::Relaxed)
    }

    /// The partition led here, or why it cannot be served.
    pub(crate) fn leader(
        &self,
        (topic_id, partition): (TopicId, PartitionId),
        epoch: Option<LeaderEpoch>,
    ) -> Result<Arc<Partition>, Refusal> {
        let exists = || self.controller.image().topic_by_id(topic_id).is_some();
        self.controller
            .partitions()
            .leader((topic_id, partition), epoch, exists)
    }

    /// Bytes of all logs.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.controller
            .partitions()
            .online()
            .iter()
            .map(|p| p.log().size_bytes())
            .sum()
    }
}
