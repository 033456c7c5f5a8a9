//! A broker speaks for itself: what it says of itself is taken only from the node that Hello named. There
//! is no authentication yet; this keeps out what is mistaken, delayed or replayed on another connection.

use highwater_protocol::api_key::Request;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages as m;

use crate::mutant::{Mutant, is_on};
use crate::partitions::Refusal;

/// A request that only brokers send, and that says which.
pub(super) trait OfBroker: Request {
    /// The broker from which it must come.
    fn broker(&self) -> NodeId;
}

impl OfBroker for m::RaftAppendRequest {
    fn broker(&self) -> NodeId {
        self.ballot.node
    }
}

impl OfBroker for m::RaftVoteRequest {
    fn broker(&self) -> NodeId {
        self.ballot.node
    }
}

impl OfBroker for m::RaftSnapshotRequest {
    fn broker(&self) -> NodeId {
        self.ballot.node
    }
}

impl OfBroker for m::RaftProbeRequest {
    fn broker(&self) -> NodeId {
        self.from
    }
}

impl OfBroker for m::RegisterBrokerRequest {
    fn broker(&self) -> NodeId {
        self.node_id
    }
}

impl OfBroker for m::BrokerHeartbeatRequest {
    fn broker(&self) -> NodeId {
        self.node_id
    }
}

impl OfBroker for m::AlterPartitionRequest {
    fn broker(&self) -> NodeId {
        self.node_id
    }
}

impl OfBroker for m::AllocateProducerIdsRequest {
    fn broker(&self) -> NodeId {
        self.node_id
    }
}

/// Whether a request comes from the broker of which it speaks; `sender` is what Hello named.
pub(super) fn check(sender: Option<NodeId>, broker: NodeId) -> Result<(), Refusal> {
    match sender {
        Some(sender) if sender == broker || is_on(Mutant::SenderNotChecked) => Ok(()),
        Some(sender) => Err(refused(format!(
            "this connection is node {sender}'s, and the request is of node {broker}"
        ))),
        None => Err(refused(
            "only brokers of the cluster may ask this: Hello named no node".to_owned(),
        )),
    }
}

fn refused(message: String) -> Refusal {
    Refusal {
        code: ErrorCode::InvalidRequest,
        message,
    }
}
