//! When this node stands for election.
//!
//! openraft's own timer is off: it stands as soon as it hears nothing of a leader, and with that the
//! term of a node that was merely cut off deposes a healthy leader when it comes back. Here a voter
//! first asks the others; it stands only when a majority hears nothing of a leader either.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use highwater_protocol::ids::{IncarnationId, NodeId};
use highwater_protocol::messages::RaftProbeRequest;
use openraft::ServerState;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::types::{Metrics, Raft, node_id, raft_id};
use crate::peers::Peers;

/// What this node has last heard of a leader.
#[derive(Debug, Default)]
pub(super) struct Heard {
    last: Mutex<Option<(Instant, NodeId)>>,
}

impl Heard {
    /// A message of this leader arrived.
    pub(super) fn note(&self, leader: NodeId) {
        *self.last.lock() = Some((Instant::now(), leader));
    }

    /// The leader of which something was heard within this time.
    pub(super) fn within(&self, time: Duration) -> Option<NodeId> {
        let last = *self.last.lock();
        last.filter(|(at, _)| at.elapsed() < time)
            .map(|(_, leader)| leader)
    }
}

/// The task that decides.
pub(super) struct Elections {
    pub(super) me: NodeId,
    pub(super) raft: Raft,
    pub(super) peers: Arc<Peers>,
    pub(super) heard: Arc<Heard>,
    pub(super) timeout: Duration,
    pub(super) stop: CancellationToken,
}

impl Elections {
    pub(super) async fn run(self) {
        let pause = (self.timeout / 20).max(Duration::from_millis(1));
        let mut stand_at = self.arm();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.running_state.is_err() {
                return;
            }
            let configs = metrics.membership_config.membership().get_joint_config();
            let is_voter = configs
                .iter()
                .any(|voters| voters.contains(&raft_id(self.me)));
            if metrics.state == ServerState::Leader || !is_voter {
                stand_at = self.arm();
                continue;
            }
            let is_alone = is_alone(&metrics, self.me);
            if !is_alone && self.heard.within(self.timeout).is_some() {
                stand_at = Instant::now() + jitter(self.timeout / 2);
                continue;
            }
            if Instant::now() < stand_at {
                continue;
            }
            // Not while openraft waits for the disk: it may be storing what the leader sent.
            if self.raft.with_raft_state(|_| ()).await.is_err() {
                return;
            }
            if !is_alone && !self.may_stand(configs).await {
                stand_at = self.arm();
                continue;
            }
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.state == ServerState::Leader {
                // The votes of an earlier term came while the others were asked.
                stand_at = self.arm();
                continue;
            }
            tracing::info!(term = metrics.current_term + 1, "standing for election");
            if self.raft.trigger().elect().await.is_err() {
                return;
            }
            stand_at = self.arm();
        }
    }

    /// When to stand next: not at the same time as others.
    fn arm(&self) -> Instant {
        Instant::now() + self.timeout / 2 + jitter(self.timeout)
    }

    /// Whether a majority hears nothing of a leader.
    async fn may_stand(&self, configs: &[BTreeSet<u64>]) -> bool {
        let others = configs.iter().flatten().collect::<BTreeSet<_>>();
        let mut answers: FuturesUnordered<_> = others
            .into_iter()
            .map(|id| node_id(*id))
            .filter(|node| *node != self.me)
            .map(|node| self.probe(node))
            .collect();
        let mut leaderless = BTreeSet::from([raft_id(self.me)]);
        loop {
            if configs
                .iter()
                .all(|voters| is_majority(&leaderless, voters))
            {
                // While the others were asked, the leader may have been heard of after all.
                return self.heard.within(self.timeout).is_none();
            }
            match answers.next().await {
                Some(Some(node)) => {
                    leaderless.insert(raft_id(node));
                }
                Some(None) => {}
                None => return false,
            }
        }
    }

    /// The node itself, if it answers that it hears nothing of a leader.
    async fn probe(&self, node: NodeId) -> Option<NodeId> {
        let request = RaftProbeRequest {
            target: node,
            from: self.me,
        };
        let answer = self.peers.call(node, &request, self.timeout / 2).await;
        answer
            .is_ok_and(|answer| answer.leader.is_none())
            .then_some(node)
    }
}

/// Whether this node is the only voter: then there is nobody to ask.
pub(super) fn is_alone(metrics: &Metrics, me: NodeId) -> bool {
    let mut voters = metrics.membership_config.membership().voter_ids();
    voters.next() == Some(raft_id(me)) && voters.next().is_none()
}

fn is_majority(nodes: &BTreeSet<u64>, voters: &BTreeSet<u64>) -> bool {
    nodes.intersection(voters).count() * 2 > voters.len()
}

/// A random time below `limit`.
fn jitter(limit: Duration) -> Duration {
    let random = IncarnationId::random().into_bytes();
    let [a, b, ..] = random;
    limit * u32::from(u16::from_be_bytes([a, b])) / (u32::from(u16::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert!(is_majority(&set(&[1]), &set(&[1])));
        assert!(!is_majority(&set(&[1]), &set(&[1, 2])));
        assert!(is_majority(&set(&[1, 3]), &set(&[1, 2, 3])));
        assert!(!is_majority(&set(&[1, 4, 5]), &set(&[1, 2, 3])));
        assert!(!is_majority(&set(&[1, 2]), &set(&[1, 2, 3, 4])));
    }

    #[test]
    fn jitter_stays_below_its_limit() {
        for _ in 0..1000 {
            assert!(jitter(Duration::from_millis(10)) < Duration::from_millis(10));
        }
    }
}
