//! A broker from start to end.
//!
//! ```text
//! hw-control   owns everything below; its runtime accepts connections, serves the admin endpoint
//!   |          and keeps house
//!   +- hw-net-0..n    one runtime each: connections (connection.rs), requests (api)
//!   |    +- hw-net-i-block   short-lived: cold reads, changes of topics
//!   +- hw-cluster     one runtime: Raft, the controller, heartbeats, what images change here
//!   |                 (cluster_tasks.rs)
//!   +- hw-replica     one runtime: fetching from the leaders of followed partitions
//!   +- storage threads       group commit, segments prepared ahead (crate storage)
//! ```
//!
//! A start goes: addresses, data directory, cluster (formation.rs, joining.rs), Raft, then everything
//! that answers others, then recovery, registration, and the first heartbeat that says "ready".
//! Shutdown goes the other way round: hand leaderships over, stop accepting, let requests in flight
//! finish, end the cluster's tasks and the network threads, checkpoint, flush and mark the directory
//! clean, and only then let the lock go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use highwater_config::BrokerConfig;
use highwater_protocol::ids::{ClusterId, NodeId};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin;
use crate::admin_backend::Backend;
use crate::cluster_tasks::ClusterTasks;
use crate::formation::FormationError;
use crate::housekeeping::{self, Checkpoints, checkpoint_high_watermarks};
use crate::identity::IdentityError;
use crate::joining;
use crate::life::Wish;
use crate::listener;
use crate::metrics::Metrics;
use crate::network_thread::NetworkThread;
use crate::readiness::{Phase, Readiness};
use crate::scrubber;
use crate::shared::Shared;

/// Why a broker did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] highwater_config::ConfigErrors),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory cannot be created.
    #[error("cannot create the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory cannot be opened: locked by another broker, or damaged.
    #[error("data directory {}: {source}", path.display())]
    Storage {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: highwater_storage::OpenError,
    },
    /// It belongs to another node, or its identity is damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No cluster was formed or joined.
    #[error(transparent)]
    Formation(#[from] FormationError),
    /// The metadata quorum's files are unusable, or belong to another cluster.
    #[error("metadata: {0}")]
    Quorum(String),
    /// The cluster does not take this broker.
    #[error("the cluster does not take this broker: {0}")]
    Register(String),
    /// The other brokers could not reach this one.
    #[error(
        "cluster.seeds is set and listen is {listen}, an address that other brokers cannot connect to; \
         set advertised.listen"
    )]
    NotReachable {
        /// The address listened on.
        listen: String,
    },
    /// A thread or a runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The start was given up, because it panicked or its caller went away.
    #[error("the start ended early; the log has the details")]
    Aborted,
}

/// Why a broker did not stop cleanly. Everything acknowledged is safe all the same: the next start
/// recovers it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The data directory could not be flushed and marked clean.
    #[error("the data directory was not closed cleanly: {0}")]
    Storage(highwater_storage::StorageError),
    /// The broker's main thread panicked.
    #[error("the broker ended with a panic; the log has the details")]
    Panicked,
}

/// A stop waits for a new controller as long as so many elections may take.
const ELECTIONS_AWAITED: u32 = 4;

/// How a broker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Orderly,
    /// As if the process had been killed: nothing is finished, flushed or marked.
    Abrupt,
}

/// A broker to be started.
#[derive(Debug)]
pub struct Broker;

/// A broker that runs. Dropping it without [`RunningBroker::shutdown`] ends it as a crash would.
#[derive(Debug)]
pub struct RunningBroker {
    started: Started,
    ending: watch::Sender<Option<Ending>>,
    control: Option<JoinHandle<Result<(), ShutdownError>>>,
}

#[derive(Debug, Clone)]
struct Started {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    node_id: NodeId,
    cluster_id: ClusterId,
    shared: Arc<Shared>,
}

impl Broker {
    /// Starts a broker and returns once it serves clients. It runs on threads of its own, so any
    /// runtime may call this.
    ///
    /// # Errors
    /// [`StartError`] names what is in the way. Nothing keeps running then.
    ///
    /// # Cancel safety
    /// Dropping the future gives the start up; what was started ends by itself.
    pub async fn start(config: BrokerConfig) -> Result<RunningBroker, StartError> {
        config.validate()?;
        let (ending, ending_seen) = watch::channel(None);
        let (report, reported) = oneshot::channel();
        let control = std::thread::Builder::new()
            .name("hw-control".to_owned())
            .spawn(move || control_thread(config, report, ending_seen))
            .map_err(StartError::Thread)?;
        let started = reported.await.map_err(|_| StartError::Aborted)??;
        Ok(RunningBroker {
            started,
            ending,
            control: Some(control),
        })
    }
}

impl RunningBroker {
    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.started.address
    }

    /// Where the admin endpoint listens, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.started.admin_address
    }

    /// This broker.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.started.node_id
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.started.cluster_id
    }

    /// How many nodes vote in the metadata quorum, as far as this broker knows; `None` while that changes.
    pub(crate) fn settled_voters(&self) -> Option<usize> {
        self.started.shared.quorum.settled_voters()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.started.shared
    }

    /// Turns the broker's wall clock, to show in tests that nothing but timestamps minds.
    pub fn jump_clock(&self, by_ms: i64) {
        self.started.shared.clock.jump(by_ms);
    }

    /// Stops the broker in order: requests in flight are finished, everything is flushed, and the
    /// data directory is marked clean.
    ///
    /// # Errors
    /// [`ShutdownError`]; the broker has ended all the same.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the shutdown.
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        self.end(Ending::Orderly).await
    }

    /// Ends the broker as `kill -9` would: no flush, no checkpoint, no marker. For tests of recovery.
    ///
    /// # Errors
    /// [`ShutdownError::Panicked`].
    pub async fn kill(mut self) -> Result<(), ShutdownError> {
        self.end(Ending::Abrupt).await
    }

    async fn end(&mut self, ending: Ending) -> Result<(), ShutdownError> {
        self.ending.send_replace(Some(ending));
        let Some(control) = self.control.take() else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || control.join())
            .await
            .map_or(Err(ShutdownError::Panicked), |joined| {
                joined.unwrap_or(Err(ShutdownError::Panicked))
            })
    }
}

type Report = oneshot::Sender<Result<Started, StartError>>;

fn control_thread(
    config: BrokerConfig,
    report: Report,
    ending: watch::Receiver<Option<Ending>>,
) -> Result<(), ShutdownError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_name("hw-control-block")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // A caller that went away needs no report.
            let _ = report.send(Err(StartError::Thread(error)));
            return Ok(());
        }
    };
    let outcome = runtime.block_on(live(config, report, ending));
    // Blocking work that hangs on a sick disk must not keep a process from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// From the start to the end. A start that nobody waits for any more, or that waits for a cluster which
/// does not come, can be ended as well.
async fn live(
    config: BrokerConfig,
    report: Report,
    mut ending: watch::Receiver<Option<Ending>>,
) -> Result<(), ShutdownError> {
    let mut control = None;
    let started = tokio::select! {
        started = Control::start(config, &mut control) => started,
        _ = wanted_ending(&mut ending) => Err(StartError::Aborted),
    };
    match (started, control) {
        (Ok(started), Some(control)) => {
            // A caller that went away has dropped the other end of `ending` as well.
            let _ = report.send(Ok(started));
            let ending = wanted_ending(&mut ending).await;
            control.end(ending).await
        }
        (started, control) => {
            if let Some(control) = control {
                control.end(Ending::Abrupt).await?;
            }
            let _ = report.send(Err(started.err().unwrap_or(StartError::Aborted)));
            Ok(())
        }
    }
}

async fn wanted_ending(ending: &mut watch::Receiver<Option<Ending>>) -> Ending {
    match ending.wait_for(Option::is_some).await {
        Ok(ending) => ending.unwrap_or(Ending::Abrupt),
        // The handle was dropped.
        Err(_) => Ending::Abrupt,
    }
}

/// Everything that a running broker consists of.
struct Control {
    shared: Arc<Shared>,
    stop_network: CancellationToken,
    acceptor: tokio::task::JoinHandle<Vec<NetworkThread>>,
    /// Housekeeping and scrubbing.
    chores: Vec<tokio::task::JoinHandle<()>>,
    cluster: ClusterTasks,
    admin: Option<admin::AdminServer>,
}

impl Control {
    /// Starts everything, and leaves what is started in `control` from the moment at which it has to be
    /// ended in order.
    async fn start(
        config: BrokerConfig,
        control: &mut Option<Self>,
    ) -> Result<Started, StartError> {
        let began = Instant::now();
        let readiness = Arc::new(Readiness::new());
        let metrics = Arc::new(Metrics::new());
        // Addresses first: a port that is taken is told before a long recovery, not after it.
        let listener = listener::bind(&config.listen, config.network.accept_backlog)
            .await
            .map_err(listen_error("listen", &config.listen))?;
        let address = local_address(&listener, "listen", &config.listen)?;
        if !config.seeds.is_empty()
            && config.advertised_listen.is_none()
            && address.ip().is_unspecified()
        {
            let listen = config.listen.clone();
            return Err(StartError::NotReachable { listen });
        }
        let backend = Arc::new(Backend::new(Arc::clone(&readiness), Arc::clone(&metrics)));
        let admin = start_admin(&config, &backend).await?;
        let admin_address = admin.as_ref().map(admin::AdminServer::address);

        let node = joining::Joining {
            config,
            address,
            readiness,
            metrics,
        };
        let joined = match node.join(&listener).await {
            Ok(joined) => joined,
            Err(error) => {
                if let Some(admin) = admin {
                    admin.shutdown().await;
                }
                return Err(error);
            }
        };
        let shared = Arc::clone(&joined.shared);
        backend.attach(&shared);

        // The other brokers are answered from here on: without that there is no quorum to register with.
        let stop_network = CancellationToken::new();
        let threads = shared.config.network.threads.unwrap_or_else(cores);
        let threads = (0..threads)
            .map(|index| NetworkThread::start(index, Arc::clone(&shared), stop_network.clone()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Thread)?;
        let acceptor = tokio::spawn(listener::accept(Arc::clone(&shared), listener, threads));
        let control = control.insert(Self {
            shared: Arc::clone(&shared),
            stop_network,
            acceptor,
            chores: Vec::new(),
            cluster: joined.tasks,
            admin,
        });
        control.cluster.take_part(&shared).await?;
        control.chores = vec![
            tokio::spawn(housekeeping::run(Arc::clone(&shared))),
            tokio::spawn(scrubber::run(Arc::clone(&shared))),
        ];
        shared.readiness.set(Phase::Serving);
        info!(
            node = %shared.node_id, cluster = %shared.cluster_id, %address,
            admin = ?admin_address, data_dir = %shared.config.data_dir.display(),
            start_ms = began.elapsed().as_millis() as u64, "broker serves clients"
        );
        Ok(Started {
            address,
            admin_address,
            node_id: shared.node_id,
            cluster_id: shared.cluster_id,
            shared,
        })
    }

    async fn end(self, ending: Ending) -> Result<(), ShutdownError> {
        let Self {
            shared,
            stop_network,
            acceptor,
            chores,
            cluster,
            admin,
        } = self;
        if ending == Ending::Orderly {
            hand_over(&shared).await;
        }
        shared.readiness.set(Phase::Stopping);
        shared.draining.cancel();
        if ending == Ending::Orderly {
            drain(&shared).await;
        }
        for chore in chores {
            chore.abort();
        }
        cluster.stop(&shared).await;
        stop_network.cancel();
        let threads = acceptor.await.unwrap_or_default();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.join();
            }
        });
        if joined.await.is_err() {
            error!("network threads did not end in order");
        }
        let closing = Arc::clone(&shared);
        let outcome = tokio::task::spawn_blocking(move || match ending {
            Ending::Orderly => {
                checkpoint_high_watermarks(&closing, &mut Checkpoints::default());
                closing.engine.close().map_err(ShutdownError::Storage)
            }
            // The engine ends as a killed process would when its last owner lets it go.
            Ending::Abrupt => Ok(()),
        });
        let outcome = outcome.await.unwrap_or(Err(ShutdownError::Panicked));
        if let Some(admin) = admin {
            admin.shutdown().await;
        }
        match &outcome {
            Ok(()) if ending == Ending::Orderly => {
                info!("broker stopped; the data directory is clean");
            }
            Ok(()) => {}
            Err(error) => error!(%error, "broker stopped; the next start recovers"),
        }
        outcome
    }
}

/// Lets others take over what this broker leads, up to the configured time. Without a controller nobody
/// can: once an election has had its time, this broker stops all the same.
async fn hand_over(shared: &Shared) {
    let nobody_answers = shared.config.cluster.election_timeout * ELECTIONS_AWAITED;
    shared.heartbeats.wish(Wish::Stop);
    let mut standing = shared.heartbeats.standing();
    let done = async {
        loop {
            let now = *standing.borrow_and_update();
            if now.may_shut_down || now.is_over {
                return true;
            }
            match tokio::time::timeout(nobody_answers, standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    };
    let done = tokio::time::timeout(shared.config.shutdown_timeout, done).await;
    if !matches!(done, Ok(true)) {
        warn!(
            "the controller did not give this broker's partitions to others in time; it does so when \
             this broker's session ends"
        );
    }
}

/// Lets connections finish what they have in flight, up to the configured time.
async fn drain(shared: &Shared) {
    let deadline = Instant::now() + shared.config.shutdown_timeout;
    info!(
        connections = shared.connections.load(Ordering::Acquire),
        "broker stops"
    );
    while shared.connections.load(Ordering::Acquire) > 0 {
        if Instant::now() >= deadline {
            let left = shared.connections.load(Ordering::Acquire);
            warn!(
                left,
                "connections did not finish in time (shutdown.timeout) and are closed"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn start_admin(
    config: &BrokerConfig,
    backend: &Arc<Backend>,
) -> Result<Option<admin::AdminServer>, StartError> {
    let Some(listen) = &config.admin.listen else {
        return Ok(None);
    };
    let listener = listener::bind(listen, config.network.accept_backlog)
        .await
        .map_err(listen_error("admin.listen", listen))?;
    let backend = Arc::clone(backend);
    let server = admin::AdminServer::start(listener, backend, &config.admin)
        .map_err(listen_error("admin.listen", listen))?;
    Ok(Some(server))
}

fn local_address(
    listener: &TcpListener,
    key: &'static str,
    listen: &str,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(listen_error(key, listen))
}

fn listen_error<'a>(
    key: &'static str,
    address: &'a str,
) -> impl FnOnce(std::io::Error) -> StartError + 'a {
    move |source| StartError::Listen {
        key,
        address: address.to_owned(),
        source,
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
