//! The first half of a start: the data directory, the cluster that it belongs to, and the metadata
//! quorum, up to the point from which other brokers are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use highwater_config::BrokerConfig;
use highwater_protocol::ids::{DirectoryId, IncarnationId, NodeId};
use highwater_protocol::messages::AllocateProducerIdsRequest;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::addresses::Addresses;
use crate::admission::Budget;
use crate::api::FetchSessions;
use crate::clock::Clock;
use crate::cluster_tasks::ClusterTasks;
use crate::controller::{Controller, ControllerSettings};
use crate::controller_client::ControllerClient;
use crate::disk_space::DiskSpace;
use crate::foreign::ForeignPeers;
use crate::formation::{Newcomer, check_seeds};
use crate::identity::{Identity, Stage};
use crate::lease::Lease;
use crate::life::{BrokerEpochCell, Heartbeats};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::opening::{Directory, advertised, notify_on_progress};
use crate::partitions::Partitions;
use crate::peers::Peers;
use crate::producer_ids::{ProducerIdBlock, ProducerIds};
use crate::quorum::{Quorum, QuorumOptions, SNAPSHOT_ENTRIES};
use crate::readiness::Readiness;
use crate::server::StartError;
use crate::shared::Shared;
use crate::topic_settings::TopicSettings;

/// How long the controller may take to give out producer ids.
const PRODUCER_IDS_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker that is about to take its place.
pub(crate) struct Joining {
    pub(crate) config: BrokerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A broker that belongs to a cluster and can answer the others.
pub(crate) struct Joined {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: ClusterTasks,
}

impl Joining {
    pub(crate) async fn join(self, listener: &TcpListener) -> Result<Joined, StartError> {
        let incarnation = IncarnationId::random();
        let (host, port) = advertised(&self.config, self.address);
        let opening = self.config.clone();
        let directory = tokio::task::spawn_blocking(move || Directory::open(&opening))
            .await
            .map_err(|_| StartError::Aborted)??;
        let directory_id = directory.engine.dir_id();
        let identity = match directory.identity {
            Some(identity) => {
                check_seeds(&self.config.seeds, identity.cluster_id, incarnation).await?;
                identity
            }
            None => {
                self.readiness.waits_for("it looks for its cluster");
                let newcomer = Newcomer {
                    seeds: self.config.seeds.clone(),
                    node_id: self.config.node_id,
                    directory: directory_id,
                    incarnation,
                    host: host.clone(),
                    port,
                };
                let identity = newcomer.settle(listener).await?;
                identity.write(&self.config.data_dir)?;
                info!(node = %identity.node_id, cluster = %identity.cluster_id, stage = ?identity.stage, "this broker belongs to a cluster");
                identity
            }
        };
        self.assemble(directory, directory_id, identity, incarnation, (host, port))
            .await
    }

    async fn assemble(
        self,
        directory: Directory,
        directory_id: DirectoryId,
        identity: Identity,
        incarnation: IncarnationId,
        (host, port): (String, u16),
    ) -> Result<Joined, StartError> {
        let Self {
            config,
            readiness,
            metrics,
            ..
        } = self;
        let engine = directory.engine;
        let tasks = ClusterTasks::start().map_err(StartError::Thread)?;
        let runtime = tasks.runtime();
        let addresses = Arc::new(Addresses::default());
        let peers = Peers::new(
            identity.node_id,
            identity.cluster_id,
            addresses.book(),
            runtime.clone(),
        );
        let options = QuorumOptions {
            node: identity.node_id,
            cluster: identity.cluster_id,
            engine: Arc::clone(&engine),
            dir: config.data_dir.join("raft"),
            peers: Arc::clone(&peers),
            election_timeout: config.cluster.election_timeout,
            snapshot_entries: SNAPSHOT_ENTRIES,
        };
        let quorum = tasks
            .run(Quorum::start(options))
            .await?
            .map_err(|error| StartError::Quorum(error.to_string()))?;
        addresses.follow(&runtime, quorum.watch_applied());
        if let Some(other) = quorum
            .applied()
            .image
            .cluster_id()
            .filter(|id| *id != identity.cluster_id)
        {
            return Err(StartError::Quorum(format!(
                "the data directory says cluster {}, its metadata log is of cluster {other}: the \
                 directory was put together from two",
                identity.cluster_id
            )));
        }
        if identity.stage == Stage::Founding {
            let (forming, at) = (Arc::clone(&quorum), host.clone());
            tasks
                .run(async move { forming.form(&at, port).await })
                .await?
                .map_err(|error| StartError::Quorum(error.to_string()))?;
        }
        let topic_settings = Arc::new(TopicSettings::new(&config));
        let controller = Controller::new(
            (identity.node_id, incarnation),
            Arc::clone(&quorum),
            Arc::clone(&peers),
            Arc::clone(&topic_settings),
            ControllerSettings {
                cluster: config.cluster.clone(),
                healing: config.healing.clone(),
            },
            runtime.clone(),
        );
        let controller_client = Arc::new(ControllerClient::new(
            identity.node_id,
            Arc::clone(&quorum),
            Arc::clone(&peers),
            Arc::clone(&controller),
        ));
        let broker_epoch = Arc::new(BrokerEpochCell::default());
        let producer_ids = producer_ids(
            identity.node_id,
            Arc::clone(&broker_epoch),
            Arc::clone(&controller_client),
        );
        let partitions = Arc::new(Partitions::default());
        notify_on_progress(&engine, &partitions);
        let shared = Arc::new(Shared {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            directory: directory_id,
            incarnation,
            broker_epoch,
            advertised: (host, port),
            identity,
            clock: Arc::new(Clock::default()),
            engine,
            quorum,
            addresses,
            controller,
            producer_ids,
            fetch_sessions: FetchSessions::default(),
            controller_client,
            metadata: Arc::new(Metadata::default()),
            partitions,
            topic_settings,
            lease: Arc::new(Lease::none()),
            heartbeats: Heartbeats::default(),
            metrics,
            budget: Budget::new(config.network.in_flight_bytes_max),
            connections: AtomicUsize::new(0),
            foreign: ForeignPeers::default(),
            disk: DiskSpace::default(),
            readiness,
            draining: CancellationToken::new(),
            config,
        });
        Ok(Joined { shared, tasks })
    }
}

/// Producer ids come from the controller, in blocks.
fn producer_ids(
    node_id: NodeId,
    broker_epoch: Arc<BrokerEpochCell>,
    client: Arc<ControllerClient>,
) -> ProducerIds {
    ProducerIds::new(Box::new(move || {
        let (client, broker_epoch) = (Arc::clone(&client), broker_epoch.get());
        Box::pin(async move {
            let request = AllocateProducerIdsRequest {
                node_id,
                broker_epoch,
            };
            let block = client.call(request, PRODUCER_IDS_TIMEOUT).await?;
            Ok(ProducerIdBlock {
                first: block.first,
                count: block.count,
            })
        })
    }))
}
