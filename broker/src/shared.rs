//! What every task of a broker shares.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use highwater_config::BrokerConfig;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, PartitionId, TopicId,
};
use highwater_storage::Engine;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::admission::Budget;
use crate::api::FetchSessions;
use crate::clock::Clock;
use crate::controller::Controller;
use crate::controller_client::ControllerClient;
use crate::disk_space::DiskSpace;
use crate::foreign::ForeignPeers;
use crate::identity::Identity;
use crate::lease::Lease;
use crate::life::{BrokerEpochCell, Heartbeats};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::{Known, Partitions, Refusal};
use crate::peers::Peers;
use crate::producer_ids::ProducerIds;
use crate::quorum::Quorum;
use crate::readiness::{Phase, Readiness};
use crate::topic_settings::TopicSettings;

/// A running broker, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) cluster_id: ClusterId,
    pub(crate) node_id: NodeId,
    pub(crate) directory: DirectoryId,
    pub(crate) incarnation: IncarnationId,
    pub(crate) broker_epoch: Arc<BrokerEpochCell>,
    /// Host and port at which clients and other brokers reach this one.
    pub(crate) advertised: (String, u16),
    /// As it was when this life began.
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<Clock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) controller_client: Arc<ControllerClient>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) topic_settings: Arc<TopicSettings>,
    pub(crate) producer_ids: ProducerIds,
    /// What followers asked of the partitions that are led here.
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) lease: Arc<Lease>,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Budget,
    pub(crate) connections: AtomicUsize,
    pub(crate) foreign: ForeignPeers,
    pub(crate) disk: DiskSpace,
    pub(crate) readiness: Arc<Readiness>,
    /// Cancelled when shutdown begins: long polls answer, connections finish and close.
    pub(crate) draining: CancellationToken,
}

impl Shared {
    pub(crate) fn is_disk_low(&self) -> bool {
        self.disk.is_low()
    }

    /// The registration of this life; zero before there is one.
    pub(crate) fn broker_epoch(&self) -> BrokerEpoch {
        self.broker_epoch.get()
    }

    /// Whether clients are served yet; they try again until then.
    pub(crate) fn check_serves_clients(&self) -> Result<(), Refusal> {
        let reason = match self.readiness.phase() {
            Phase::Serving | Phase::Stopping => return Ok(()),
            Phase::Starting => "the broker is starting".to_owned(),
            Phase::Recovering { .. } => "the broker is reading its partitions back".to_owned(),
            Phase::Joining { waits_for } => format!("the broker is starting: {waits_for}"),
        };
        Err(Refusal {
            code: ErrorCode::Busy,
            message: reason,
        })
    }

    /// The partition led here, or why it cannot be served.
    pub(crate) fn leader(
        &self,
        (topic_id, partition): (TopicId, PartitionId),
        epoch: Option<LeaderEpoch>,
    ) -> Result<Arc<Partition>, Refusal> {
        let known_as = || match self.metadata.image().topic_by_id(topic_id) {
            None => Known::No,
            Some(topic) => match topic.partition(partition) {
                Some(image) if !image.replicas.contains(&self.node_id) => Known::Elsewhere,
                Some(_) | None => Known::TopicOnly,
            },
        };
        self.partitions
            .leader((topic_id, partition), epoch, known_as)
    }

    /// Makes connections of their own to the other brokers, on another runtime than the cluster's: what
    /// carries records must not hold up what carries heartbeats.
    pub(crate) fn bulk_peers(&self) -> impl FnOnce(&Handle) -> Arc<Peers> + use<> {
        let (me, cluster) = (self.node_id, self.cluster_id);
        let addresses = self.addresses.book();
        let frame_bytes_max = self.config.network.frame_bytes_max;
        move |runtime| {
            Peers::with_frame_limit(me, cluster, addresses, runtime.clone(), frame_bytes_max)
        }
    }

    /// Bytes of all logs.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.partitions
            .online()
            .iter()
            .map(|p| p.log().size_bytes())
            .sum()
    }
}
