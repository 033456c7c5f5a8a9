//! What openraft is told about our entries, nodes and snapshots.

use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::RaftRecords;

openraft::declare_raft_types!(
    /// The metadata quorum, as openraft wants it described.
    pub(crate) TypeConfig:
        D = RaftRecords,
        R = Outcome,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = tokio::fs::File,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Member>;

/// Where a node was when it became a member. Messages go to where it is now, which the peers' address
/// book knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its records, if it has any, are part of the image.
    Applied,
    /// Its records were decided in this other term, and do not count.
    OtherTerm(u64),
    /// Its records contradict the image; none of them counts.
    Contradiction(String),
}

/// An id as openraft holds it.
pub(crate) fn raft_id(node: NodeId) -> u64 {
    node.get().into()
}

/// The node behind an id that openraft holds.
pub(crate) fn node_id(id: u64) -> NodeId {
    debug_assert!(u32::try_from(id).is_ok());
    // Cannot truncate: every id that openraft knows was made by `raft_id`.
    NodeId::new(id as u32)
}
