//! The metadata quorum: Raft over the brokers' connections, in a log of our own storage.
//!
//! - `types`, `wire`: what openraft is told about us, and our messages
//! - `log_store`, `log_writer`, `state_files`: the log, the vote
//! - `state_machine`, `snapshot_file`: the image that committed entries amount to
//! - `network`: messages to the other nodes; `incoming`: what is wrong with theirs
//! - `elections`: when this node stands
//! - `proposals`: changes; `leadership`: whether this node may decide; `members`: who votes and who learns
//!
//! Every broker runs a node: some vote, the others only learn. A single broker is a quorum of one.

mod elections;
mod error;
mod incoming;
mod leadership;
mod log_store;
mod log_writer;
mod members;
mod network;
mod proposals;
mod snapshot_file;
mod state_files;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{ClusterId, NodeId};
use highwater_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftAppendResponse, RaftBallot, RaftProbeRequest,
    RaftProbeResponse, RaftSnapshotRequest, RaftSnapshotResponse, RaftVoteRequest,
    RaftVoteResponse,
};
use highwater_storage::Engine;
use openraft::SnapshotPolicy;
use openraft::error::{InitializeError, RaftError};
use openraft::network::snapshot_transport::{Chunked, SnapshotTransport, Streaming};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::mutant::{Mutant, is_on};
use crate::partitions::Refusal;
use crate::peers::Peers;
use elections::{Elections, Heard};
pub(crate) use error::{ProposeError, QuorumError};
use incoming::{Known, Nonsense};
use leadership::{Watcher, in_contact};
use log_store::LogStore;
pub(crate) use log_store::{raft_log_options, raft_partition};
use network::Network;
use proposals::Doubts;
pub(crate) use state_machine::Applied;
use state_machine::StateMachine;
use types::{Member, Metrics, Raft, TypeConfig, node_id, raft_id};

/// Entries between two snapshots.
pub(crate) const SNAPSHOT_ENTRIES: u64 = 5_000;

/// Entries that are kept although the snapshot has them, for followers that are a little behind.
const KEPT_ENTRIES: u64 = 1_000;

/// Bytes of a snapshot that travel at a time.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;

/// Installing the last part of a snapshot builds the image.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// No snapshot is larger: what arrives behind it is refused.
const SNAPSHOT_BYTES_MAX: u64 = 16 << 30;

/// Messages with entries that are taken on at a time.
const APPENDS_MAX: usize = 8;

/// What the node of a quorum is made of.
#[derive(Debug)]
pub(crate) struct QuorumOptions {
    /// This node.
    pub(crate) node: NodeId,
    /// The cluster, for logs.
    pub(crate) cluster: ClusterId,
    /// Where the log is; its logs are open already.
    pub(crate) engine: Arc<Engine>,
    /// For the vote and snapshots; created when missing.
    pub(crate) dir: PathBuf,
    /// The ways to the other nodes.
    pub(crate) peers: Arc<Peers>,
    /// `cluster.election.timeout`
    pub(crate) election_timeout: Duration,
    /// Entries between two snapshots: [`SNAPSHOT_ENTRIES`].
    pub(crate) snapshot_entries: u64,
}

/// This broker's node of the metadata quorum.
pub(crate) struct Quorum {
    me: NodeId,
    raft: Raft,
    log: LogStore,
    applied: watch::Receiver<Arc<Applied>>,
    leadership: watch::Receiver<Option<u64>>,
    failure: watch::Receiver<Option<Arc<str>>>,
    heard: Arc<Heard>,
    doubts: Doubts,
    /// Bounds what waits for the disk: a leader sends anew what is not answered in time.
    appends: Arc<Semaphore>,
    /// The snapshot of which parts have come.
    receiving: tokio::sync::Mutex<Option<Streaming<TypeConfig>>>,
    /// One change of members at a time.
    changing: tokio::sync::Mutex<()>,
    election_timeout: Duration,
    /// The one that it was started on.
    runtime: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quorum")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Quorum {
    /// Opens what is there and starts to take part. Its tasks run on the runtime that this is called
    /// on; the other functions may be called from any.
    ///
    /// # Errors
    /// The log, the vote or the snapshot is damaged or missing; the disk fails.
    pub(crate) async fn start(options: QuorumOptions) -> Result<Arc<Self>, QuorumError> {
        let config = raft_config(&options)?;
        let me = options.node;
        let (engine, dir) = (Arc::clone(&options.engine), options.dir.clone());
        let opened = tokio::task::spawn_blocking(move || open(&engine, &dir, me));
        let (log, machine) = opened.await.map_err(std::io::Error::other)??;
        let applied = machine.watch();
        let network = Network {
            peers: Arc::clone(&options.peers),
        };
        let raft = Raft::new(raft_id(me), Arc::new(config), network, log.clone(), machine);
        let raft = raft.await.map_err(stopped)?;
        let (leadership, leads) = watch::channel(None);
        let (failure, failed) = watch::channel(None);
        let quorum = Arc::new(Self {
            me,
            raft: raft.clone(),
            log: log.clone(),
            applied,
            leadership: leads,
            failure: failed,
            heard: Arc::default(),
            doubts: Doubts::default(),
            appends: Arc::new(Semaphore::new(APPENDS_MAX)),
            receiving: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            election_timeout: options.election_timeout,
            runtime: Handle::current(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        quorum.tasks.spawn(
            Watcher {
                me,
                raft: raft.clone(),
                log,
                election_timeout: options.election_timeout,
                doubts: quorum.doubts.watch(),
                leadership,
                failure,
                stop: quorum.stop.clone(),
            }
            .run(),
        );
        let elections = Elections {
            me,
            raft: raft.clone(),
            peers: options.peers,
            heard: Arc::clone(&quorum.heard),
            timeout: options.election_timeout,
            stop: quorum.stop.clone(),
        };
        // Nobody has to be asked, and nobody else can lead: a single broker is ready at once.
        let membership = raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            effective.voter_ids().collect::<Vec<_>>()
        });
        if membership.await.map_err(stopped)? == [raft_id(me)] {
            raft.trigger().elect().await.map_err(stopped)?;
        }
        quorum.tasks.spawn(elections.run());
        let finish = Self::finish_changes(Arc::downgrade(&quorum), quorum.stop.clone());
        quorum.tasks.spawn(finish);
        quorum.tasks.close();
        Ok(quorum)
    }

    /// Begins a new quorum with this node as its only voter. Does nothing when it is a member of one
    /// already.
    ///
    /// # Errors
    /// [`QuorumError::Raft`] when openraft has stopped.
    pub(crate) async fn form(&self, host: &str, port: u16) -> Result<(), QuorumError> {
        if self.raft.is_initialized().await.map_err(stopped)? {
            return Ok(());
        }
        let member = Member {
            host: host.to_owned(),
            port,
        };
        let members = std::collections::BTreeMap::from([(raft_id(self.me), member)]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(QuorumError::Raft(error.to_string())),
        }
    }

    /// What is applied on this node now.
    pub(crate) fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied.borrow())
    }

    /// Follows what is applied.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<Arc<Applied>> {
        self.applied.clone()
    }

    /// The term that this node knows of.
    pub(crate) fn term(&self) -> u64 {
        self.metrics(|metrics| metrics.current_term)
    }

    /// The leader, if it was heard of lately; this node, if it leads and a quorum was. openraft goes on
    /// to call a leader one that is cut off.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let lately = self.election_timeout * 2;
        let (leader, in_contact) =
            self.metrics(|metrics| (metrics.current_leader, in_contact(metrics, lately)));
        let leader = leader.map(node_id)?;
        let is_heard = match leader == self.me {
            true => in_contact,
            false => self.heard.within(lately) == Some(leader),
        };
        is_heard.then_some(leader)
    }

    /// Some(term) while this node leads and may decide: it has applied the first entry of its own term,
    /// has had an answer of a quorum lately, and knows what became of everything that it proposed.
    pub(crate) fn watch_leadership(&self) -> watch::Receiver<Option<u64>> {
        self.leadership.clone()
    }

    /// Why the node stopped by itself, if it did: the broker must not serve metadata any more.
    pub(crate) fn watch_failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.failure.clone()
    }

    /// Entries or a heartbeat of the leader.
    pub(crate) async fn on_append(
        &self,
        request: RaftAppendRequest,
    ) -> Result<RaftAppendResponse, Refusal> {
        self.check_target(request.target)?;
        let known = self.known();
        sensible(incoming::check_leader(&known, &request))?;
        let ballot = request.ballot.clone();
        let leader = ballot.node;
        let request = wire::append_in(request).map_err(|error| Refusal {
            code: ErrorCode::MalformedRequest,
            message: error.to_string(),
        })?;
        sensible(incoming::check_entries(&known, &request))?;
        // Before the entries are stored: a slow disk must not look like a silent leader.
        self.note_leader(&ballot);
        let Ok(turn) = Arc::clone(&self.appends).try_acquire_owned() else {
            return Err(Refusal {
                code: ErrorCode::Busy,
                message: "entries that came before still wait for the disk".to_owned(),
            });
        };
        // The turn is over when the entries are stored, even when nobody waits for the answer.
        let raft = self.raft.clone();
        let append = self.runtime.spawn(async move {
            let _turn = turn;
            raft.append_entries(request).await
        });
        let answer = append.await.map_err(refusal)?.map_err(refusal)?;
        let response = wire::append_answer_out(&answer);
        if response.outcome != RaftAppendOutcome::HigherBallot {
            self.heard.note(leader);
        }
        Ok(response)
    }

    /// A candidate asks for a vote.
    pub(crate) async fn on_vote(
        &self,
        request: RaftVoteRequest,
    ) -> Result<RaftVoteResponse, Refusal> {
        self.check_target(request.target)?;
        sensible(incoming::check_vote(&self.known(), &request))?;
        let answer = self.raft.vote(wire::vote_in(&request)).await;
        Ok(wire::vote_answer_out(&answer.map_err(refusal)?))
    }

    /// A part of a snapshot.
    pub(crate) async fn on_snapshot(
        &self,
        request: RaftSnapshotRequest,
    ) -> Result<RaftSnapshotResponse, Refusal> {
        self.check_target(request.target)?;
        if request.offset > SNAPSHOT_BYTES_MAX {
            return Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message: "no snapshot is that large".to_owned(),
            });
        }
        sensible(incoming::check_snapshot(&self.known(), &request))?;
        self.note_leader(&request.ballot);
        let leader = request.ballot.clone();
        let own = self.metrics(|metrics| metrics.vote);
        if wire::ballot_in(&leader) < own {
            let ballot = wire::ballot_out(&own);
            return Ok(RaftSnapshotResponse { ballot });
        }
        let mut receiving = self.receiving.lock().await;
        let part = wire::snapshot_in(request);
        let received = Chunked::receive_snapshot(&mut *receiving, &self.raft, part).await;
        drop(receiving);
        let vote = match received {
            Ok(None) => own,
            Ok(Some(snapshot)) => {
                // openraft would stop for good over one that is damaged.
                let snapshot = state_machine::verified(snapshot).await.map_err(|error| {
                    warn!(%error, from = %leader.node, "a snapshot that was received is not used");
                    precondition(&error)
                })?;
                let vote = wire::ballot_in(&leader);
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                installed.map_err(refusal)?.vote
            }
            // The sender begins anew.
            Err(RaftError::APIError(error)) => return Err(precondition(&error)),
            Err(error) => return Err(refusal(error)),
        };
        self.note_leader(&leader);
        Ok(RaftSnapshotResponse {
            ballot: wire::ballot_out(&vote),
        })
    }

    /// A voter asks what is known of a leader.
    pub(crate) async fn on_probe(
        &self,
        request: RaftProbeRequest,
    ) -> Result<RaftProbeResponse, Refusal> {
        self.check_target(request.target)?;
        let leads = self.leadership.borrow().map(|_| self.me);
        Ok(RaftProbeResponse {
            term: self.term(),
            leader: leads.or_else(|| self.heard.within(self.election_timeout)),
        })
    }

    /// Takes part no more. What was asked for before is answered or fails; the log is closed.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.log.stop_waiting();
        // An error says that openraft's task panicked; it has stopped as well.
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the metadata quorum did not stop in order");
        }
        self.tasks.wait().await;
        self.log.close().await;
    }

    fn metrics<T>(&self, look: impl FnOnce(&Metrics) -> T) -> T {
        look(&self.raft.metrics().borrow())
    }

    fn known(&self) -> Known {
        self.metrics(|metrics| Known {
            me: self.me,
            vote: metrics.vote,
            applied: metrics.last_applied,
        })
    }

    fn not_leader(&self) -> ProposeError {
        ProposeError::NotLeader {
            leader: self.leader(),
        }
    }

    /// Takes note of a leader, unless a newer leader or candidate is known.
    fn note_leader(&self, ballot: &RaftBallot) {
        if wire::ballot_in(ballot) >= self.metrics(|metrics| metrics.vote) {
            self.heard.note(ballot.node);
        }
    }

    /// A message for another node, which had this address before, must not count here.
    fn check_target(&self, target: NodeId) -> Result<(), Refusal> {
        if target == self.me {
            return Ok(());
        }
        Err(Refusal {
            code: ErrorCode::NodeRefused,
            message: format!("this is node {}, the message is for node {target}", self.me),
        })
    }
}

fn open(
    engine: &Arc<Engine>,
    dir: &std::path::Path,
    me: NodeId,
) -> Result<(LogStore, StateMachine), QuorumError> {
    let disk = engine.disk();
    disk.create_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    let log = LogStore::open(engine, dir, me)?;
    let machine = StateMachine::open(dir, log.purged())?;
    Ok((log, machine))
}

fn raft_config(options: &QuorumOptions) -> Result<openraft::Config, QuorumError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let timeout = millis(options.election_timeout).max(10);
    let config = openraft::Config {
        cluster_name: options.cluster.to_string(),
        // openraft looks every one and a half intervals whether a heartbeat is due: the leader is
        // heard of five times in an election timeout.
        heartbeat_interval: (timeout * 2 / 15).max(1),
        election_timeout_min: timeout / 2,
        election_timeout_max: timeout,
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // More than a snapshot is apart from the next, or a follower gets one again and again.
        replication_lag_threshold: options.snapshot_entries.saturating_mul(2),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        max_in_snapshot_log_to_keep: KEPT_ENTRIES.min(options.snapshot_entries / 5),
        purge_batch_size: 64.min(options.snapshot_entries / 5).max(1),
        // `elections` decides.
        enable_elect: false,
        ..openraft::Config::default()
    };
    config
        .validate()
        .map_err(|error| QuorumError::Raft(error.to_string()))
}

fn stopped(error: impl fmt::Display) -> QuorumError {
    QuorumError::Raft(error.to_string())
}

/// Refuses a message that no honest node sends.
fn sensible(checked: Result<(), Nonsense>) -> Result<(), Refusal> {
    let Err(error) = checked else {
        return Ok(());
    };
    if is_on(Mutant::PeersBelieved) {
        return Ok(());
    }
    warn!(%error, "a message of the metadata quorum makes no sense and is refused");
    Err(Refusal {
        code: ErrorCode::InvalidRequest,
        message: format!("the message makes no sense here: {error}"),
    })
}

fn precondition(error: &impl fmt::Display) -> Refusal {
    Refusal {
        code: ErrorCode::PreconditionFailed,
        message: error.to_string(),
    }
}

/// openraft has stopped on this node.
fn refusal(error: impl fmt::Display) -> Refusal {
    Refusal {
        code: ErrorCode::ShuttingDown,
        message: format!("the metadata quorum does not run here: {error}"),
    }
}
