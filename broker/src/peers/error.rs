//! Why a call to another broker has no answer.

use highwater_protocol::codec::DecodeError;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use thiserror::Error;

/// Why a call to another broker has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PeerError {
    /// Nobody knows where the node is.
    #[error("the address of node {node} is not known")]
    NoAddress {
        /// The node.
        node: NodeId,
    },
    /// There is no connection; nothing was sent.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What went wrong at the last attempt.
        reason: String,
    },
    /// Somebody else answers at the address; nothing but Hello was sent.
    #[error("{address} is {found}, not {expected}")]
    WrongPeer {
        /// Where it should be.
        address: String,
        /// Who is there.
        found: String,
        /// Who should be there.
        expected: String,
    },
    /// The connection broke while the answer was outstanding.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// The other end.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The time was up before the request could be sent.
    #[error("no time was left to send the request to {address}")]
    NotSent {
        /// The other end.
        address: String,
    },
    /// The request was sent, and its answer did not come in time.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// The other end.
        address: String,
    },
    /// The other broker answered that it refuses the request as a whole.
    #[error("{code}: {message}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// The same for people.
        message: String,
    },
    /// The answer is not what its API says.
    #[error("the answer of {address} cannot be read: {source}")]
    Malformed {
        /// The other end.
        address: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// The request is larger than what the other broker takes; nothing was sent.
    #[error("a request of {bytes} bytes is too large for {address}, which takes {bytes_max}")]
    TooLarge {
        /// The other end.
        address: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: u32,
    },
}

impl PeerError {
    /// Whether the other broker may have carried the request out all the same.
    #[must_use]
    pub(crate) const fn may_be_done(&self) -> bool {
        match self {
            Self::NoAddress { .. }
            | Self::Unreachable { .. }
            | Self::WrongPeer { .. }
            | Self::NotSent { .. }
            | Self::TooLarge { .. } => false,
            // A request can be refused after a part of it was done; the code has to tell.
            Self::Refused { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Malformed { .. } => true,
        }
    }
}
