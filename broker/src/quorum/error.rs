//! Why the quorum did not do what was asked.

use highwater_protocol::ids::NodeId;
use thiserror::Error;

use super::log_store::LogStoreError;
use super::snapshot_file::SnapshotError;

/// The quorum cannot run on this node.
#[derive(Debug, Error)]
pub(crate) enum QuorumError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogStoreError),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The directory cannot be made.
    #[error("directory of the metadata quorum: {0}")]
    Io(#[from] std::io::Error),
    /// openraft refuses the settings, or does not start.
    #[error("metadata quorum: {0}")]
    Raft(String),
}

/// A change was not made, or it is not known whether it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ProposeError {
    /// This node does not lead in that term. Nothing was proposed.
    #[error("this node does not lead the metadata quorum in that term")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The change was committed under another term than it was decided in, and does not count.
    #[error("the change was overtaken by a change of the leader and does not count")]
    NotApplied,
    /// The change contradicts the image, and does not count.
    #[error("the change contradicts the metadata: {0}")]
    Contradiction(String),
    /// The change is larger than what one entry may be. Nothing was proposed.
    #[error("a change of {bytes} bytes is more than the {bytes_max} that one entry may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The members cannot be changed like this, or not now. Nothing was changed.
    #[error("the members of the metadata quorum cannot be changed: {0}")]
    Members(String),
    /// It is not known whether the change was, or will be, made.
    #[error("it is not known whether the change was made: {0}")]
    Unknown(String),
}
