//! Between openraft's types and the messages that travel and lie in the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use highwater_protocol::codec::{ApiVersion, DecodeError, Decoder, Encoder, Wire};
use highwater_protocol::frame::decode_body;
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftAppendResponse, RaftBallot, RaftEntry, RaftEntryKind,
    RaftLogId, RaftMembership, RaftNode, RaftSnapshotRequest, RaftVoteRequest, RaftVoteResponse,
    RaftVoters,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};
use openraft::{CommittedLeaderId, EntryPayload};

use super::types::{
    Entry, LogId, Member, Membership, SnapshotMeta, StoredMembership, TypeConfig, Vote, node_id,
    raft_id,
};

/// The version in which entries and snapshots are stored, and bodies inside of messages encoded.
pub(super) const STORED: ApiVersion = ApiVersion(1);

/// A value, encoded as it is stored.
pub(super) fn encoded<T: Wire>(value: &T) -> Bytes {
    let mut out = Encoder::new();
    value.encode(&mut out, STORED);
    out.into_bytes()
}

/// A stored value.
pub(super) fn decoded<T: Wire>(bytes: Bytes) -> Result<T, DecodeError> {
    decode_body(Decoder::new(bytes), STORED)
}

pub(super) fn log_id_out(id: LogId) -> RaftLogId {
    RaftLogId {
        term: id.leader_id.term,
        node: node_id(id.leader_id.node_id),
        index: id.index,
    }
}

pub(super) fn log_id_in(id: &RaftLogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, raft_id(id.node)), id.index)
}

pub(super) fn ballot_out(vote: &Vote) -> RaftBallot {
    RaftBallot {
        term: vote.leader_id.term,
        node: node_id(vote.leader_id.node_id),
        committed: vote.committed,
    }
}

pub(super) fn ballot_in(ballot: &RaftBallot) -> Vote {
    let node = raft_id(ballot.node);
    if ballot.committed {
        Vote::new_committed(ballot.term, node)
    } else {
        Vote::new(ballot.term, node)
    }
}

pub(super) fn membership_out(membership: &Membership) -> RaftMembership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|voters| RaftVoters {
            voters: voters.iter().map(|id| node_id(*id)).collect(),
        });
    let nodes = membership.nodes().map(|(id, member)| RaftNode {
        node_id: node_id(*id),
        host: member.host.clone(),
        port: member.port,
    });
    RaftMembership {
        configs: configs.collect(),
        nodes: nodes.collect(),
    }
}

pub(super) fn membership_in(membership: &RaftMembership) -> Membership {
    let configs = membership.configs.iter().map(|config| {
        let voters = config.voters.iter().map(|node| raft_id(*node));
        voters.collect::<BTreeSet<u64>>()
    });
    let nodes = membership.nodes.iter().map(|node| {
        let member = Member {
            host: node.host.clone(),
            port: node.port,
        };
        (raft_id(node.node_id), member)
    });
    Membership::new(configs.collect(), nodes.collect::<BTreeMap<u64, Member>>())
}

pub(super) fn entry_out(entry: &Entry) -> RaftEntry {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (RaftEntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(records) => (RaftEntryKind::Records, encoded(records)),
        EntryPayload::Membership(membership) => (
            RaftEntryKind::Membership,
            encoded(&membership_out(membership)),
        ),
    };
    RaftEntry {
        id: log_id_out(entry.log_id),
        kind,
        body,
    }
}

pub(super) fn entry_in(entry: RaftEntry) -> Result<Entry, DecodeError> {
    let payload = match entry.kind {
        RaftEntryKind::Blank => EntryPayload::Blank,
        RaftEntryKind::Records => EntryPayload::Normal(decoded(entry.body)?),
        RaftEntryKind::Membership => EntryPayload::Membership(membership_in(&decoded(entry.body)?)),
    };
    Ok(Entry {
        log_id: log_id_in(&entry.id),
        payload,
    })
}

pub(super) fn append_out(
    target: NodeId,
    request: &AppendEntriesRequest<TypeConfig>,
) -> RaftAppendRequest {
    RaftAppendRequest {
        target,
        ballot: ballot_out(&request.vote),
        previous: request.prev_log_id.map(log_id_out),
        entries: request.entries.iter().map(entry_out).collect(),
        commit: request.leader_commit.map(log_id_out),
    }
}

pub(super) fn append_in(
    request: RaftAppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    let entries: Result<Vec<_>, _> = request.entries.into_iter().map(entry_in).collect();
    Ok(AppendEntriesRequest {
        vote: ballot_in(&request.ballot),
        prev_log_id: request.previous.as_ref().map(log_id_in),
        entries: entries?,
        leader_commit: request.commit.as_ref().map(log_id_in),
    })
}

pub(super) fn append_answer_out(answer: &AppendEntriesResponse<u64>) -> RaftAppendResponse {
    let mut response = RaftAppendResponse {
        outcome: RaftAppendOutcome::Success,
        matched: None,
        ballot: None,
    };
    match answer {
        AppendEntriesResponse::Success => {}
        AppendEntriesResponse::PartialSuccess(matched) => {
            response.outcome = RaftAppendOutcome::Partial;
            response.matched = matched.map(log_id_out);
        }
        AppendEntriesResponse::Conflict => response.outcome = RaftAppendOutcome::Conflict,
        AppendEntriesResponse::HigherVote(vote) => {
            response.outcome = RaftAppendOutcome::HigherBallot;
            response.ballot = Some(ballot_out(vote));
        }
    }
    response
}

/// `None` when the answer misses what its outcome needs.
pub(super) fn append_answer_in(
    response: &RaftAppendResponse,
) -> Option<AppendEntriesResponse<u64>> {
    Some(match response.outcome {
        RaftAppendOutcome::Success => AppendEntriesResponse::Success,
        RaftAppendOutcome::Partial => {
            AppendEntriesResponse::PartialSuccess(response.matched.as_ref().map(log_id_in))
        }
        RaftAppendOutcome::Conflict => AppendEntriesResponse::Conflict,
        RaftAppendOutcome::HigherBallot => {
            AppendEntriesResponse::HigherVote(ballot_in(response.ballot.as_ref()?))
        }
    })
}

pub(super) fn vote_out(target: NodeId, request: &VoteRequest<u64>) -> RaftVoteRequest {
    RaftVoteRequest {
        target,
        ballot: ballot_out(&request.vote),
        last: request.last_log_id.map(log_id_out),
    }
}

pub(super) fn vote_in(request: &RaftVoteRequest) -> VoteRequest<u64> {
    VoteRequest {
        vote: ballot_in(&request.ballot),
        last_log_id: request.last.as_ref().map(log_id_in),
    }
}

pub(super) fn vote_answer_out(answer: &VoteResponse<u64>) -> RaftVoteResponse {
    RaftVoteResponse {
        ballot: ballot_out(&answer.vote),
        granted: answer.vote_granted,
        last: answer.last_log_id.map(log_id_out),
    }
}

pub(super) fn vote_answer_in(response: &RaftVoteResponse) -> VoteResponse<u64> {
    VoteResponse {
        vote: ballot_in(&response.ballot),
        vote_granted: response.granted,
        last_log_id: response.last.as_ref().map(log_id_in),
    }
}

pub(super) fn snapshot_out(
    target: NodeId,
    request: InstallSnapshotRequest<TypeConfig>,
) -> RaftSnapshotRequest {
    RaftSnapshotRequest {
        target,
        ballot: ballot_out(&request.vote),
        snapshot_id: request.meta.snapshot_id.clone(),
        last: request.meta.last_log_id.map(log_id_out),
        membership_id: request.meta.last_membership.log_id().map(log_id_out),
        membership: membership_out(request.meta.last_membership.membership()),
        offset: request.offset,
        data: Bytes::from(request.data),
        done: request.done,
    }
}

pub(super) fn snapshot_in(request: RaftSnapshotRequest) -> InstallSnapshotRequest<TypeConfig> {
    InstallSnapshotRequest {
        vote: ballot_in(&request.ballot),
        meta: SnapshotMeta {
            last_log_id: request.last.as_ref().map(log_id_in),
            last_membership: StoredMembership::new(
                request.membership_id.as_ref().map(log_id_in),
                membership_in(&request.membership),
            ),
            snapshot_id: request.snapshot_id,
        },
        offset: request.offset,
        data: request.data.into(),
        done: request.done,
    }
}
