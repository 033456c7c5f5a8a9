//! The messages of Raft: handed to this broker's node of the metadata quorum.
//!
//! Each waits for a disk or for a turn, so each is answered later; a network thread never waits.

use std::future::Future;
use std::sync::Arc;

use highwater_protocol::codec::Wire;
use highwater_protocol::messages::{
    RaftAppendRequest, RaftProbeRequest, RaftSnapshotRequest, RaftVoteRequest,
};

use super::{Answer, Reply};
use crate::partitions::Refusal;
use crate::quorum::Quorum;
use crate::shared::Shared;

/// What a small request is reckoned to hold while it waits, in bytes.
const SMALL_BYTES: usize = 512;

/// Entries or a heartbeat of the leader.
pub(crate) fn append(
    shared: &Arc<Shared>,
    quorum: &Arc<Quorum>,
    request: RaftAppendRequest,
    reply: Reply,
) -> Answer {
    let held = request.entries.iter().map(|entry| entry.body.len()).sum();
    later(shared, quorum, reply, held, |quorum| async move {
        quorum.on_append(request).await
    })
}

/// A candidate asks for a vote.
pub(crate) fn vote(
    shared: &Arc<Shared>,
    quorum: &Arc<Quorum>,
    request: RaftVoteRequest,
    reply: Reply,
) -> Answer {
    later(shared, quorum, reply, 0, |quorum| async move {
        quorum.on_vote(request).await
    })
}

/// A part of a snapshot.
pub(crate) fn snapshot(
    shared: &Arc<Shared>,
    quorum: &Arc<Quorum>,
    request: RaftSnapshotRequest,
    reply: Reply,
) -> Answer {
    let held = request.data.len();
    later(shared, quorum, reply, held, |quorum| async move {
        quorum.on_snapshot(request).await
    })
}

/// A voter asks what is known of a leader.
pub(crate) fn probe(
    shared: &Arc<Shared>,
    quorum: &Arc<Quorum>,
    request: RaftProbeRequest,
    reply: Reply,
) -> Answer {
    later(shared, quorum, reply, 0, |quorum| async move {
        quorum.on_probe(request).await
    })
}

fn later<B, F>(
    shared: &Arc<Shared>,
    quorum: &Arc<Quorum>,
    reply: Reply,
    held: usize,
    handle: impl FnOnce(Arc<Quorum>) -> F,
) -> Answer
where
    B: Wire,
    F: Future<Output = Result<B, Refusal>> + Send + 'static,
{
    let shared = Arc::clone(shared);
    let handling = handle(Arc::clone(quorum));
    let answer = async move {
        match handling.await {
            Ok(response) => reply.ok(&shared, &response),
            Err(Refusal { code, message }) => reply.error(&shared, code, &message),
        }
    };
    Answer::Later(Box::pin(answer), held + SMALL_BYTES)
}
