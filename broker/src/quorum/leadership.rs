//! What follows from openraft's state: whether this node may decide as the controller, whether it
//! failed, and when a snapshot is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::ids::NodeId;
use openraft::ServerState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::log_store::LogStore;
use super::types::{Metrics, Raft, raft_id};

/// A snapshot is made when the log has grown by this much since the last one.
const SNAPSHOT_BYTES: u64 = 16 << 20;

/// The task that watches.
pub(super) struct Watcher {
    pub(super) me: NodeId,
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) election_timeout: Duration,
    pub(super) doubts: watch::Receiver<BTreeMap<u64, usize>>,
    pub(super) leadership: watch::Sender<Option<u64>>,
    pub(super) failure: watch::Sender<Option<Arc<str>>>,
    pub(super) stop: CancellationToken,
}

impl Watcher {
    pub(super) async fn run(mut self) {
        let mut metrics = self.raft.metrics();
        let mut snapshot = SnapshotBySize::default();
        loop {
            let now = metrics.borrow_and_update().clone();
            if let Err(error) = &now.running_state {
                return self.end(&error.to_string());
            }
            let is_retiring = self.is_retiring(&now);
            // Without heartbeats the voters elect one of them.
            self.raft.runtime_config().heartbeat(!is_retiring);
            let doubts = self.doubts.borrow_and_update().clone();
            let term = self.term_to_lead(&now);
            self.lead(term.filter(|term| !is_retiring && !doubts.contains_key(term)));
            if snapshot.is_due(&now, self.log.size_bytes()) {
                // It fails only when openraft has stopped, which the next turn sees.
                let _ = self.raft.trigger().snapshot().await;
            }
            tokio::select! {
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return self.end("its task is gone");
                    }
                }
                // The sender lives as long as the quorum does.
                _ = self.doubts.changed() => {}
                () = self.stop.cancelled() => return self.end("shutdown"),
            }
        }
    }

    /// openraft stopped: asked to, or by itself, and then the broker must not go on.
    fn end(&self, reason: &str) {
        self.lead(None);
        if !self.stop.is_cancelled() {
            tracing::error!(reason, "the metadata quorum stopped on this node");
            self.failure.send_replace(Some(reason.into()));
        }
    }

    /// The term, while this node leads, has applied an entry of it, and so everything before it, and
    /// has an answer of a quorum that is not too old: a leader that is cut off gives up deciding.
    fn term_to_lead(&self, now: &Metrics) -> Option<u64> {
        let applied = now.last_applied?.leader_id;
        let in_contact = in_contact(now, self.election_timeout * 2);
        let leads = now.state == ServerState::Leader
            && applied.term == now.current_term
            && applied.node_id == raft_id(self.me);
        (leads && in_contact).then_some(now.current_term)
    }

    /// Whether this node leads and does not vote any more: openraft lets it go on for ever.
    fn is_retiring(&self, now: &Metrics) -> bool {
        let configs = now.membership_config.membership().get_joint_config();
        now.state == ServerState::Leader
            && now.last_applied >= *now.membership_config.log_id()
            && !configs
                .iter()
                .any(|voters| voters.contains(&raft_id(self.me)))
    }

    fn lead(&self, term: Option<u64>) {
        self.leadership.send_if_modified(|current| {
            let changed = *current != term;
            *current = term;
            changed
        });
    }
}

/// Whether a quorum answered the leader, which this node is, within this time.
pub(super) fn in_contact(now: &Metrics, time: Duration) -> bool {
    now.millis_since_quorum_ack
        .is_some_and(|age| Duration::from_millis(age) < time)
}

/// Asks for a snapshot when the log has grown much, however few its entries are.
#[derive(Debug, Default)]
struct SnapshotBySize {
    snapshot_index: Option<u64>,
    bytes: u64,
}

impl SnapshotBySize {
    fn is_due(&mut self, now: &Metrics, log_bytes: u64) -> bool {
        let newest = now.snapshot.map(|id| id.index);
        if newest != self.snapshot_index || log_bytes < self.bytes {
            self.snapshot_index = newest;
            self.bytes = log_bytes;
        }
        let due = log_bytes - self.bytes >= SNAPSHOT_BYTES;
        if due {
            // Not again before it has grown as much once more.
            self.bytes = log_bytes;
        }
        due
    }
}
