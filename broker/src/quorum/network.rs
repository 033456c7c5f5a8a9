//! Messages of Raft to the other nodes, over the broker's connections.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::api_key::Request;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use openraft::SnapshotSegmentId;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, SnapshotMismatch,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::types::{Member, TypeConfig, node_id, raft_id};
use super::{incoming, wire};
use crate::peers::{PeerError, Peers};

/// Pause before a node is tried again that cannot be reached: the peers fail at once meanwhile.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);

type Failed<E = RaftError<u64>> = RPCError<u64, Member, E>;

/// Makes ways to other nodes.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) peers: Arc<Peers>,
}

/// The way to one node.
#[derive(Debug)]
pub(super) struct Way {
    target: NodeId,
    peers: Arc<Peers>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _: &Member) -> Way {
        Way {
            target: node_id(target),
            peers: Arc::clone(&self.peers),
        }
    }
}

impl Way {
    /// Within what openraft allows, so that a lost answer never holds up the replication.
    async fn call<R: Request, E: std::error::Error>(
        &self,
        request: &R,
        option: &RPCOption,
    ) -> Result<R::Response, Failed<E>> {
        let answer = self.peers.call(self.target, request, option.hard_ttl());
        answer.await.map_err(|error| not_answered(&error))
    }
}

fn not_answered<E: std::error::Error>(error: &PeerError) -> Failed<E> {
    match error {
        PeerError::NoAddress { .. }
        | PeerError::Unreachable { .. }
        | PeerError::WrongPeer { .. }
        | PeerError::Refused { .. } => RPCError::Unreachable(Unreachable::new(error)),
        _ => RPCError::Network(NetworkError::new(error)),
    }
}

/// An answer that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("node {0} gives an answer that misses a part")]
struct Incomplete(NodeId);

impl RaftNetwork<TypeConfig> for Way {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed> {
        let message = wire::append_out(self.target, &request);
        let response = self.call(&message, &option).await?;
        let answer = wire::append_answer_in(&response)
            .ok_or_else(|| RPCError::Network(NetworkError::new(&Incomplete(self.target))))?;
        incoming::check_append_answer(&request, &answer)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<RaftError<u64, InstallSnapshotError>>> {
        let term = request.vote.leader_id.term;
        let request = wire::snapshot_out(self.target, request);
        let answer = self.peers.call(self.target, &request, option.hard_ttl());
        let response = answer.await.map_err(|error| match error {
            // The part does not follow what the other node has: openraft begins anew.
            PeerError::Refused {
                code: ErrorCode::PreconditionFailed,
                ..
            } => RPCError::RemoteError(RemoteError::new(
                raft_id(self.target),
                RaftError::APIError(InstallSnapshotError::SnapshotMismatch(SnapshotMismatch {
                    expect: SnapshotSegmentId::from((request.snapshot_id.clone(), 0)),
                    got: SnapshotSegmentId::from((request.snapshot_id.clone(), request.offset)),
                })),
            )),
            other => not_answered(&other),
        })?;
        incoming::check_term(term, response.ballot.term)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        Ok(InstallSnapshotResponse {
            vote: wire::ballot_in(&response.ballot),
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failed> {
        let term = request.vote.leader_id.term;
        let request = wire::vote_out(self.target, &request);
        let response = self.call(&request, &option).await?;
        incoming::check_term(term, response.ballot.term)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        Ok(wire::vote_answer_in(&response))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
