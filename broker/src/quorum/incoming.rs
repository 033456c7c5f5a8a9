//! What other nodes send is looked at before openraft gets it.
//!
//! openraft trusts its peers: entries with a gap, a membership without voters or a snapshot that is none
//! end its task, and with it this node; a term at the end of its range ends all elections for good. An
//! honest node sends none of that. It comes from one that is broken, or is none.

use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{
    RaftAppendRequest, RaftBallot, RaftLogId, RaftMembership, RaftSnapshotRequest, RaftVoteRequest,
};
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use thiserror::Error;

use super::types::{LogId, TypeConfig, Vote};
use super::wire::{ballot_in, log_id_in, membership_out};

/// How far the term of a message may be ahead of what is known here. Elections count one by one: that many
/// take decades.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// Why a message cannot be one of an honest node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Nonsense {
    /// It comes from this node, by its own account.
    #[error("it says that it comes from this node; two processes have the same node id")]
    OwnMessage,
    /// Entries and snapshots come from leaders, and votes are for candidates.
    #[error("entries come from a leader and votes are for a candidate, and this is the reverse")]
    WrongRole,
    /// No number of elections leads there.
    #[error("its term {term} is far beyond {known}, the term that is known here")]
    TermTooFar {
        /// The term.
        term: u64,
        /// The term known here.
        known: u64,
    },
    /// An entry does not have the index that follows.
    #[error("entry {found} comes where entry {expected} has to be")]
    Gap {
        /// The index that follows.
        expected: u64,
        /// The index found.
        found: u64,
    },
    /// Terms and leaders of entries never go back, and none is later than who sends them.
    #[error("entry {index} is of term {term}, which cannot be at that place")]
    Order {
        /// Index of the entry.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// What is applied here is committed, and no leader has something else in its place.
    #[error("entry {index} is another one than the one that is committed here")]
    NotAsCommitted {
        /// Index of the entry.
        index: u64,
    },
    /// One or two sets of voters, none of them empty, each voter with an address.
    #[error("it has a membership without voters, or with voters without an address")]
    Membership,
    /// A snapshot ends with an entry.
    #[error("it is a snapshot of nothing")]
    EmptySnapshot,
    /// An answer tells of entries that were not sent.
    #[error("it has stored more entries than it was sent")]
    MoreThanSent,
}

/// What is known here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) me: NodeId,
    /// Whom this node has voted for, or follows.
    pub(super) vote: Vote,
    pub(super) applied: Option<LogId>,
}

/// Whether a term may be reached from another by elections.
pub(super) fn check_term(known: u64, term: u64) -> Result<(), Nonsense> {
    if term > known.saturating_add(TERMS_AHEAD_MAX) {
        return Err(Nonsense::TermTooFar { term, known });
    }
    Ok(())
}

fn check_ballot(known: &Known, ballot: &RaftBallot, of_leader: bool) -> Result<(), Nonsense> {
    if ballot.node == known.me {
        return Err(Nonsense::OwnMessage);
    }
    if ballot.committed != of_leader {
        return Err(Nonsense::WrongRole);
    }
    check_term(known.vote.leader_id.term, ballot.term)
}

/// Who sends entries, before they are decoded.
pub(super) fn check_leader(known: &Known, request: &RaftAppendRequest) -> Result<(), Nonsense> {
    check_ballot(known, &request.ballot, true)
}

/// The candidate, and its last entry.
pub(super) fn check_vote(known: &Known, request: &RaftVoteRequest) -> Result<(), Nonsense> {
    check_ballot(known, &request.ballot, false)?;
    not_later(&request.ballot, request.last.as_ref())
}

/// A part of a snapshot, except for the bytes.
pub(super) fn check_snapshot(known: &Known, request: &RaftSnapshotRequest) -> Result<(), Nonsense> {
    check_ballot(known, &request.ballot, true)?;
    let last = request.last.as_ref().ok_or(Nonsense::EmptySnapshot)?;
    not_later(&request.ballot, Some(last))?;
    if let Some(set_by) = &request.membership_id
        && !precedes(log_id_in(set_by), log_id_in(last))
    {
        return Err(order(log_id_in(set_by)));
    }
    check_membership(&request.membership)
}

/// Entries and what is said to be committed.
pub(super) fn check_entries(
    known: &Known,
    request: &AppendEntriesRequest<TypeConfig>,
) -> Result<(), Nonsense> {
    if request.vote < known.vote {
        // Late, from a leader that was replaced: it is told of the newer one, and its entries do not count.
        return Ok(());
    }
    let leader = request.vote.leader_id;
    let mut before = request.prev_log_id;
    let ids = request.entries.iter().map(|entry| entry.log_id);
    for id in request.prev_log_id.into_iter().chain(ids.clone()) {
        if (id.leader_id.term, id.leader_id.node_id) > (leader.term, leader.node_id) {
            return Err(order(id));
        }
        if known
            .applied
            .is_some_and(|applied| !precedes(id, applied) && !precedes(applied, id))
        {
            return Err(Nonsense::NotAsCommitted { index: id.index });
        }
    }
    for id in ids {
        let expected = before.map_or(0, |before| before.index.saturating_add(1));
        if id.index != expected {
            let found = id.index;
            return Err(Nonsense::Gap { expected, found });
        }
        if before.is_some_and(|before| !precedes(before, id)) {
            return Err(order(id));
        }
        before = Some(id);
    }
    if let (Some(last), Some(commit)) = (before, request.leader_commit)
        && !precedes(last, commit)
        && !precedes(commit, last)
    {
        return Err(order(commit));
    }
    for entry in &request.entries {
        if let EntryPayload::Membership(membership) = &entry.payload {
            check_membership(&membership_out(membership))?;
        }
    }
    Ok(())
}

/// What another node says that it did with entries.
pub(super) fn check_append_answer(
    request: &AppendEntriesRequest<TypeConfig>,
    answer: &AppendEntriesResponse<u64>,
) -> Result<(), Nonsense> {
    match answer {
        AppendEntriesResponse::HigherVote(vote) => {
            check_term(request.vote.leader_id.term, vote.leader_id.term)
        }
        AppendEntriesResponse::PartialSuccess(matched) => {
            let last = request.entries.last().map(|entry| entry.log_id);
            if *matched > last.or(request.prev_log_id) {
                return Err(Nonsense::MoreThanSent);
            }
            Ok(())
        }
        AppendEntriesResponse::Success | AppendEntriesResponse::Conflict => Ok(()),
    }
}

/// Whether two entries can be of one log, `one` at or before `other`.
fn precedes(one: LogId, other: LogId) -> bool {
    one == other || (one.index < other.index && one.leader_id <= other.leader_id)
}

fn order(id: LogId) -> Nonsense {
    Nonsense::Order {
        index: id.index,
        term: id.leader_id.term,
    }
}

fn not_later(ballot: &RaftBallot, last: Option<&RaftLogId>) -> Result<(), Nonsense> {
    let leader = ballot_in(ballot).leader_id;
    match last.map(log_id_in) {
        Some(id) if (id.leader_id.term, id.leader_id.node_id) > (leader.term, leader.node_id) => {
            Err(order(id))
        }
        _ => Ok(()),
    }
}

fn check_membership(membership: &RaftMembership) -> Result<(), Nonsense> {
    let has_address = |voter: &NodeId| {
        let mut nodes = membership.nodes.iter();
        nodes.any(|node| node.node_id == *voter && !node.host.is_empty())
    };
    let is_valid = (1..=2).contains(&membership.configs.len())
        && membership
            .configs
            .iter()
            .all(|config| !config.voters.is_empty() && config.voters.iter().all(has_address));
    if is_valid {
        Ok(())
    } else {
        Err(Nonsense::Membership)
    }
}
