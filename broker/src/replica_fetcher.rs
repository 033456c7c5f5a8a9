//! Replica fetchers: one task per broker that leads something which this broker follows.
//!
//! ```text
//! Following   which partitions are followed, by leader: written by reconcile, read by the tasks
//! source      one long-polling fetch with all partitions of a leader; takes the answer in
//!   +- session     while all is in order, the leader remembers what was asked: only changes are told
//!   +- report      tells the leader at once how far the logs are durable, beside the long poll
//! throttle    bytes a second for partitions that are not in sync
//! ```
//!
//! The tasks run on threads of their own: records of other brokers are checked and appended there,
//! and neither clients nor heartbeats wait for it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use highwater_config::ReplicationConfig;
use highwater_protocol::ids::{BrokerEpoch, NodeId};
use highwater_protocol::messages::{FetchRequest, FetchResponse};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::ReplicationCounters;
use crate::peers::PeerError;

mod following;
mod request;
mod session;
mod source;
#[cfg(test)]
mod tests;
mod throttle;

pub(crate) use following::Following;
use throttle::Throttle;

/// Threads on which records of other brokers are taken in.
const THREADS: usize = 2;

/// How long a stop waits for work that is on the disk.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a fetch brings.
pub(crate) type Fetching =
    Pin<Box<dyn Future<Output = Result<FetchResponse, PeerError>> + Send + 'static>>;

/// Sends a fetch to a broker and waits for the answer up to a time.
pub(crate) type FetchCall = Arc<dyn Fn(NodeId, FetchRequest, Duration) -> Fetching + Send + Sync>;

/// What the fetchers work with.
#[derive(Clone)]
pub(crate) struct FetcherDeps {
    pub(crate) node: NodeId,
    /// This broker's registration; `None` while it is not registered, and then nothing is fetched.
    pub(crate) broker_epoch: Arc<dyn Fn() -> Option<BrokerEpoch> + Send + Sync>,
    pub(crate) following: Arc<Following>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) counters: Arc<ReplicationCounters>,
    pub(crate) replication: ReplicationConfig,
}

impl std::fmt::Debug for FetcherDeps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetcherDeps")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// What the tasks share.
struct Shared {
    deps: FetcherDeps,
    call: FetchCall,
    throttle: Throttle,
    stop: CancellationToken,
}

/// The running fetchers.
#[derive(Debug)]
pub(crate) struct ReplicaFetchers {
    runtime: Option<Runtime>,
    stop: CancellationToken,
}

impl ReplicaFetchers {
    /// Starts the threads. `transport` makes the way to other brokers, on the fetchers' own runtime.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn start(
        deps: FetcherDeps,
        transport: impl FnOnce(&Handle) -> FetchCall,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(THREADS * 2)
            .thread_name("hw-replica")
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            call: transport(runtime.handle()),
            throttle: Throttle::new(deps.replication.catchup_rate),
            stop: stop.clone(),
            deps,
        });
        runtime.spawn(run(shared));
        Ok(Self {
            runtime: Some(runtime),
            stop,
        })
    }

    /// Ends the tasks; what is being appended is finished. Blocks for a moment: not for a thread that
    /// others wait for.
    pub(crate) fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOP_MAX);
        }
    }
}

impl Drop for ReplicaFetchers {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be dropped where others may wait for the thread.
            runtime.shutdown_background();
        }
    }
}

/// Starts a task for every leader that turns up. They stay: there are no more of them than brokers.
async fn run(shared: Arc<Shared>) {
    let mut known = std::collections::BTreeSet::new();
    loop {
        for source in shared.deps.following.sources() {
            if known.insert(source.leader()) {
                tokio::spawn(source::run(Arc::clone(&shared), Arc::clone(&source)));
                tokio::spawn(source::report(Arc::clone(&shared), source));
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.deps.following.new_leader() => {}
        }
    }
}
