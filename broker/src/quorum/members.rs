//! Who votes in the metadata quorum and who only learns.

use std::collections::BTreeSet;
use std::sync::Weak;

use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{DescribeQuorumResponse, QuorumMember};
use openraft::ChangeMembers;
use openraft::ServerState;
use openraft::error::{ClientWriteError, RaftError};
use tokio_util::sync::CancellationToken;

use super::types::{Member, node_id, raft_id};
use super::{ProposeError, Quorum};

/// A change of members that is not committed after so many election timeouts is in doubt.
const CHANGE_TIMEOUTS: u32 = 30;

impl Quorum {
    /// A node that gets the log and does not vote. Does not wait until it has it. Does nothing when
    /// the node is a member already.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::Members`], [`ProposeError::Unknown`]
    pub(crate) async fn add_learner(
        &self,
        node: NodeId,
        host: &str,
        port: u16,
    ) -> Result<(), ProposeError> {
        if self.is_member(node) {
            return Ok(());
        }
        let member = Member {
            host: host.to_owned(),
            port,
        };
        let nodes = std::collections::BTreeMap::from([(raft_id(node), member)]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Changes who votes to exactly these, which must be members. Who voted before and does no more
    /// learns from then on. Two entries, through a joint configuration; when the leader is lost in
    /// between, the next leader brings it to its end.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::Members`], [`ProposeError::Unknown`]
    pub(crate) async fn set_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), ProposeError> {
        let wanted: BTreeSet<u64> = voters.iter().map(|node| raft_id(*node)).collect();
        let is_so = self.metrics(|metrics| {
            metrics.membership_config.membership().get_joint_config()[..] == [wanted.clone()]
        });
        if is_so && self.leadership.borrow().is_some() {
            return Ok(());
        }
        self.change(ChangeMembers::ReplaceAllVoters(wanted)).await
    }

    /// Takes a node out that does not vote. Does nothing when it is no member.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::Members`], [`ProposeError::Unknown`]
    pub(crate) async fn remove_node(&self, node: NodeId) -> Result<(), ProposeError> {
        let votes = self.metrics(|metrics| {
            let mut voters = metrics.membership_config.membership().voter_ids();
            voters.any(|id| id == raft_id(node))
        });
        if votes {
            return Err(ProposeError::Members(format!("node {node} votes")));
        }
        if !self.is_member(node) {
            return Ok(());
        }
        let nodes = BTreeSet::from([raft_id(node)]);
        self.change(ChangeMembers::RemoveNodes(nodes)).await
    }

    /// How many vote, as far as this node knows; `None` while that changes.
    pub(crate) fn settled_voters(&self) -> Option<usize> {
        self.metrics(
            |metrics| match &metrics.membership_config.membership().get_joint_config()[..] {
                [voters] => Some(voters.len()),
                _ => None,
            },
        )
    }

    /// Who votes and who learns, as far as this node knows: voters of either set while they change.
    pub(crate) fn members(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        self.metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let voters = membership.voter_ids().map(node_id).collect();
            let learners = membership.learner_ids().map(node_id).collect();
            (voters, learners)
        })
    }

    /// Whether the voters are being changed, or were and the change was cut off.
    pub(crate) fn is_changing_voters(&self) -> bool {
        self.voters_to_come().is_some()
    }

    /// The voters that a change goes to, or would if it had not been cut off; `None` when there is none.
    pub(super) fn voters_to_come(&self) -> Option<BTreeSet<u64>> {
        self.metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            match &membership.get_joint_config()[..] {
                [_, .., last] => Some(last.clone()),
                _ => None,
            }
        })
    }

    /// Brings a change of voters to its end that lost its leader, or whoever asked for it, half-way:
    /// until then majorities of both sets are needed for everything.
    pub(super) async fn finish_changes(quorum: Weak<Self>, stop: CancellationToken) {
        loop {
            let Some(quorum) = quorum.upgrade() else {
                return;
            };
            let pause = quorum.election_timeout;
            let is_ours =
                quorum.leadership.borrow().is_some() && quorum.changing.try_lock().is_ok();
            if is_ours && let Some(voters) = quorum.voters_to_come() {
                let outcome = quorum.change(ChangeMembers::ReplaceAllVoters(voters)).await;
                tracing::info!(?outcome, "a change of voters that was cut off goes on");
            }
            drop(quorum);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The quorum as its leader sees it; `None` on any other node.
    pub(crate) fn describe(&self) -> Option<DescribeQuorumResponse> {
        self.metrics(|metrics| {
            if metrics.state != ServerState::Leader {
                return None;
            }
            let membership = metrics.membership_config.membership();
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            let matched = |id: u64| {
                let replication = metrics.replication.as_ref()?;
                replication.get(&id)?.map(|id| id.index)
            };
            let mut members: Vec<_> = membership
                .nodes()
                .map(|(id, member)| QuorumMember {
                    node_id: node_id(*id),
                    host: member.host.clone(),
                    port: member.port,
                    voter: voters.contains(id),
                    matched_index: if *id == raft_id(self.me) {
                        metrics.last_log_index
                    } else {
                        matched(*id)
                    },
                })
                .collect();
            members.sort_by_key(|member| (!member.voter, member.node_id));
            Some(DescribeQuorumResponse {
                leader: self.me,
                term: metrics.current_term,
                last_index: metrics.last_log_index.unwrap_or_default(),
                commit_index: metrics.last_applied.map_or(0, |id| id.index),
                snapshot_index: metrics.snapshot.map(|id| id.index),
                members,
            })
        })
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            membership.get_node(&raft_id(node)).is_some()
        })
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), ProposeError> {
        if self.leadership.borrow().is_none() {
            return Err(self.not_leader());
        }
        let changed = async {
            let _turn = self.changing.lock().await;
            self.raft.change_membership(change, true).await
        };
        let limit = self.election_timeout * CHANGE_TIMEOUTS;
        match tokio::time::timeout(limit, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(ProposeError::Members(error.to_string()))
            }
            Ok(Err(error)) => Err(ProposeError::Unknown(error.to_string())),
            Err(_) => Err(ProposeError::Unknown("it took too long".to_owned())),
        }
    }
}
