//! The second half of a start, and what goes on afterwards: this broker as a member of its cluster.
//!
//! ```text
//! found the cluster (its first node only) -> open partitions -> register -> apply the metadata up to the
//! registration -> note the registration on disk -> follow the metadata, fetch, propose ISRs
//! -> heartbeats: "ready" -> the controller lets it lead
//! ```
//!
//! Everything here runs on a runtime of its own, so that neither clients nor the disk hold up what the
//! other brokers wait for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::cluster_image::{BrokerImage, ClusterImage};
use highwater_protocol::ids::{PartitionId, TopicId};
use highwater_protocol::messages::{PartitionsOfTopic, RegisterBrokerRequest};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::identity::{Identity, Stage};
use crate::life::{self, Wish};
use crate::opening::open_partitions;
use crate::reconcile::OpenedPartition;
use crate::replication::{self, Replication, follow_metadata};
use crate::server::StartError;
use crate::shared::Shared;

/// Threads of the cluster's runtime: Raft must not wait for an image that is being applied.
const THREADS: usize = 2;

/// How long tasks may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The runtime of a broker's cluster tasks.
#[derive(Debug)]
pub(crate) struct ClusterTasks {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    replication: Option<Replication>,
}

impl ClusterTasks {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(8)
            .enable_all()
            .thread_name("hw-cluster")
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            stop: CancellationToken::new(),
            replication: None,
        })
    }

    pub(crate) fn runtime(&self) -> Handle {
        self.runtime
            .as_ref()
            .expect("the runtime is there until the tasks are dropped")
            .handle()
            .clone()
    }

    /// Runs a future on the cluster's runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StartError> {
        self.runtime()
            .spawn(work)
            .await
            .map_err(|_| StartError::Aborted)
    }

    /// Takes this broker's place in the cluster. Returns once it may serve clients.
    pub(crate) async fn take_part(&mut self, shared: &Arc<Shared>) -> Result<(), StartError> {
        let watching = Arc::clone(shared);
        self.spawn(async move { watch_quorum(&watching).await });
        let upkeep = Arc::clone(&shared.controller);
        self.spawn(async move { upkeep.keep_up().await });
        if shared.identity.stage == Stage::Founding {
            shared.readiness.waits_for("its cluster is being formed");
            let founding = Arc::clone(shared);
            self.run(async move { found(&founding).await }).await??;
        }
        let opening = Arc::clone(shared);
        let opened = tokio::task::spawn_blocking(move || {
            let image = Arc::clone(&opening.quorum.applied().image);
            open_partitions(
                &opening.engine,
                &opening.topic_settings,
                &image,
                &opening.readiness,
            )
        });
        let opened = opened.await.map_err(|_| StartError::Aborted)?;
        self.register(shared, damaged(&opened)).await?;

        let reconcile = replication::reconcile(shared);
        let replication =
            Replication::start(shared, &reconcile, &self.runtime()).map_err(StartError::Thread)?;
        self.replication = Some(replication);
        let following = Arc::clone(shared);
        self.spawn(async move { follow_metadata(following, reconcile, opened).await });
        let beating = Arc::clone(shared);
        self.spawn(async move {
            let client = Arc::clone(&beating.controller_client);
            beating.heartbeats.run(Arc::clone(&beating), client).await;
        });
        shared.heartbeats.wish(Wish::Serve);
        shared.readiness.waits_for("the controller lets it serve");
        self.wait_until_active(shared).await
    }

    async fn register(
        &self,
        shared: &Arc<Shared>,
        damaged: Vec<PartitionsOfTopic>,
    ) -> Result<(), StartError> {
        shared
            .readiness
            .waits_for("it registers with the controller");
        let engine = Arc::clone(&shared.engine);
        // May sync every log that was recovered.
        let evidence = tokio::task::spawn_blocking(move || engine.session_evidence())
            .await
            .map_err(|_| StartError::Aborted)?;
        if let Some(doubt) = &evidence.doubt
            && evidence.last_broker_epoch.is_some()
        {
            warn!(%doubt, "it cannot be proved that the last life left everything that it acknowledged");
        }
        let (host, port) = shared.advertised.clone();
        let request = RegisterBrokerRequest {
            node_id: shared.node_id,
            directory: shared.directory,
            incarnation: shared.incarnation,
            host,
            port,
            rack: shared.config.rack.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            session_end: life::session_end(evidence.end),
            last_broker_epoch: evidence.last_broker_epoch,
            damaged,
        };
        let registering = Arc::clone(shared);
        let registered = self
            .run(async move {
                let registered = life::register(
                    &registering.controller_client,
                    &request,
                    &registering.readiness,
                )
                .await?;
                let mut applied = registering.quorum.watch_applied();
                // Fails only when the quorum ends, which ends the start as well.
                let _ = applied
                    .wait_for(|applied| applied.index >= registered.metadata_index)
                    .await;
                Ok::<_, crate::partitions::Refusal>(registered)
            })
            .await?
            .map_err(|refusal| StartError::Register(refusal.message))?;
        let engine = Arc::clone(&shared.engine);
        let epoch = registered.broker_epoch;
        // Before anything is appended: what a later start says of this life must be about this life.
        tokio::task::spawn_blocking(move || engine.begin_life(epoch))
            .await
            .map_err(|_| StartError::Aborted)?
            .map_err(|error| StartError::Register(error.to_string()))?;
        if shared.identity.stage != Stage::Member {
            let identity = Identity {
                stage: Stage::Member,
                ..shared.identity
            };
            identity.write(&shared.config.data_dir)?;
        }
        shared.broker_epoch.set(epoch);
        Ok(())
    }

    async fn wait_until_active(&self, shared: &Arc<Shared>) -> Result<(), StartError> {
        let me = shared.node_id;
        let mut standing = shared.heartbeats.standing();
        let is_active = |image: &ClusterImage| image.broker(me).is_some_and(BrokerImage::is_active);
        let active = async {
            let mut published = shared.metadata.watch();
            while !is_active(&shared.metadata.image()) {
                if published.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = active => Ok(()),
            over = standing.wait_for(|standing| standing.is_over) => {
                drop(over);
                Err(StartError::Register(
                    "another process registered under its id, or the node was removed".to_owned(),
                ))
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.runtime().spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Ends everything, the metadata quorum last.
    pub(crate) async fn stop(mut self, shared: &Arc<Shared>) {
        self.stop.cancel();
        if let Some(replication) = self.replication.take() {
            replication.stop().await;
        }
        let quorum = Arc::clone(&shared.quorum);
        let ended = self.run(async move { quorum.shutdown().await });
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            error!("the metadata quorum did not end in time");
        }
        if let Some(runtime) = self.runtime.take() {
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(STOP_TIMEOUT));
            if ended.await.is_err() {
                error!("the cluster's runtime did not end in order");
            }
        }
    }
}

impl Drop for ClusterTasks {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not wait for its threads where others are driven.
            runtime.shutdown_background();
        }
    }
}

/// The first records of a new cluster; done already if a start was cut off after them.
async fn found(shared: &Arc<Shared>) -> Result<(), StartError> {
    let mut leadership = shared.quorum.watch_leadership();
    loop {
        if shared.quorum.applied().image.cluster_id().is_some() {
            return Ok(());
        }
        if leadership.borrow_and_update().is_some() {
            match shared.controller.found(shared).await {
                Ok(()) => return Ok(()),
                Err(crate::controller::ChangeError::NotController) => {}
                Err(error) => return Err(StartError::Quorum(error.to_string())),
            }
        }
        if leadership.changed().await.is_err() {
            return Err(StartError::Aborted);
        }
    }
}

/// Partitions whose logs were found damaged.
fn damaged(opened: &[OpenedPartition]) -> Vec<PartitionsOfTopic> {
    let mut by_topic: BTreeMap<TopicId, Vec<PartitionId>> = BTreeMap::new();
    for found in opened.iter().filter(|found| found.log.is_err()) {
        by_topic
            .entry(found.meta.topic_id)
            .or_default()
            .push(found.meta.partition);
    }
    by_topic
        .into_iter()
        .map(|(topic_id, partitions)| PartitionsOfTopic {
            topic_id,
            partitions,
        })
        .collect()
}

/// Without its metadata log a broker neither learns what it may not do any more nor keeps a lease.
async fn watch_quorum(shared: &Arc<Shared>) {
    let mut failure = shared.quorum.watch_failure();
    let reason = match failure.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone(),
        Err(_) => return,
    };
    error!(
        reason = reason.as_deref(),
        "the metadata log failed: this broker serves nothing from now on; repair its disk and restart it"
    );
    shared.lease.end();
    shared
        .readiness
        .waits_for("its metadata log failed; the broker's log has the reason");
    shared.heartbeats.end();
}
