//! Following and being followed: the tasks that fetch from leaders, propose who is in sync, and bring
//! what this broker holds into line with the metadata.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_coordination::partition_health::LeaderEvents;
use highwater_protocol::ids::BrokerEpoch;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::isr_proposer::IsrProposer;
use crate::quorum::Applied;
use crate::reconcile::{OpenedPartition, Reconcile, ReconcileDeps};
use crate::replica_fetcher::{FetcherDeps, Following, ReplicaFetchers};
use crate::shared::Shared;

/// How often replicas that cannot be used are looked at: whether they may be begun anew by now.
const REBUILD_INTERVAL: Duration = Duration::from_secs(1);

/// The running tasks.
#[derive(Debug)]
pub(crate) struct Replication {
    fetchers: Option<ReplicaFetchers>,
    stop: CancellationToken,
}

/// What brings this broker into line with the metadata.
pub(crate) fn reconcile(shared: &Arc<Shared>) -> Reconcile {
    Reconcile::new(ReconcileDeps {
        node: shared.node_id,
        incarnation: shared.incarnation,
        engine: Arc::clone(&shared.engine),
        partitions: Arc::clone(&shared.partitions),
        following: Arc::new(Following::default()),
        settings: Arc::clone(&shared.topic_settings),
        lag_time_max: shared.config.replication.lag_time_max,
    })
}

impl Replication {
    /// Starts the tasks: the fetchers on threads of their own, the proposer on `runtime`.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        reconcile: &Reconcile,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let cell = Arc::clone(&shared.broker_epoch);
        let broker_epoch: Arc<dyn Fn() -> Option<BrokerEpoch> + Send + Sync> =
            Arc::new(move || Some(cell.get()).filter(|epoch| *epoch != BrokerEpoch::ZERO));
        let client = Arc::clone(&shared.controller_client);
        let proposer = IsrProposer {
            node: shared.node_id,
            broker_epoch: Arc::clone(&broker_epoch),
            partitions: Arc::clone(&shared.partitions),
            lag_time_max: shared.config.replication.lag_time_max,
            call: Arc::new(move |request, timeout| {
                let client = Arc::clone(&client);
                Box::pin(async move { client.call(request, timeout).await })
            }),
            counters: Arc::clone(shared.metrics.replication()),
            stop: stop.clone(),
        };
        runtime.spawn(proposer.run());
        let deps = FetcherDeps {
            node: shared.node_id,
            broker_epoch,
            following: Arc::clone(reconcile.following()),
            clock: Arc::clone(&shared.clock),
            counters: Arc::clone(shared.metrics.replication()),
            replication: shared.config.replication.clone(),
        };
        let peers = shared.bulk_peers();
        let fetchers = ReplicaFetchers::start(deps, move |handle| {
            let peers = peers(handle);
            Arc::new(move |node, request, timeout| {
                let peers = Arc::clone(&peers);
                Box::pin(async move { peers.call(node, &request, timeout).await })
            })
        })?;
        Ok(Self {
            fetchers: Some(fetchers),
            stop,
        })
    }

    /// Ends the tasks; what is being appended is finished.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(fetchers) = self.fetchers.take() {
            let ended = tokio::task::spawn_blocking(move || fetchers.shutdown());
            if ended.await.is_err() {
                error!("the fetchers did not end in order");
            }
        }
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Takes in what was opened at the start, then does what every image means here, and publishes it.
pub(crate) async fn follow_metadata(
    shared: Arc<Shared>,
    reconcile: Reconcile,
    opened: Vec<OpenedPartition>,
) {
    let reconcile = Arc::new(reconcile);
    let mut applied = shared.quorum.watch_applied();
    let mut opened = Some(opened);
    let mut before = Arc::new(ClusterImage::default());
    loop {
        let now = Arc::clone(&applied.borrow_and_update());
        let step = Step {
            shared: Arc::clone(&shared),
            reconcile: Arc::clone(&reconcile),
            before: Arc::clone(&before),
            now: Arc::clone(&now),
            opened: opened.take(),
        };
        if let Err(error) = tokio::task::spawn_blocking(move || step.run()).await {
            error!(%error, "the metadata cannot be followed any more: this broker stops serving when its lease ends");
            shared.lease.end();
            return;
        }
        before = Arc::clone(&now.image);
        tokio::select! {
            changed = applied.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(REBUILD_INTERVAL), if shared.partitions.has_offline() => {}
        }
    }
}

/// One step from an image to the next. Touches the disk.
struct Step {
    shared: Arc<Shared>,
    reconcile: Arc<Reconcile>,
    before: Arc<ClusterImage>,
    now: Arc<Applied>,
    opened: Option<Vec<OpenedPartition>>,
}

impl Step {
    fn run(self) {
        let image = &self.now.image;
        let metadata = &self.shared.metadata;
        let publish = || metadata.publish(self.now.index, Arc::clone(image));
        match self.opened {
            Some(opened) => {
                self.reconcile.start(image, opened);
                publish();
            }
            None => self.reconcile.apply(&self.before, image, publish),
        }
        let events = LeaderEvents::between(&self.before, image, self.shared.node_id);
        self.shared.metrics.replication().leader_events(events);
        // The controller must know before anything is begun anew: until then it may count on it.
        self.reconcile.note_unused(image);
        let offline = self.shared.partitions.offline();
        let has_offline = !offline.is_empty();
        self.shared.heartbeats.nudge_about(offline);
        if has_offline {
            let begun = self.reconcile.rebuild_all(image);
            if begun > 0 {
                info!(
                    replicas = begun,
                    "replicas are filled anew from their leaders"
                );
            }
        }
        let me = image.broker(self.shared.node_id);
        if me.is_some_and(|own| own.fenced) {
            self.shared.heartbeats.nudge();
        }
    }
}
