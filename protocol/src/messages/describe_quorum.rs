//! DescribeQuorum.

use crate::codec::wire_struct;
use crate::ids::NodeId;

wire_struct! {
    /// Asks about the metadata quorum.
    pub struct DescribeQuorumRequest {
        /// Reserved, false.
        pub reserved: bool;
    }
}

wire_struct! {
    /// The metadata quorum, as its leader sees it.
    pub struct DescribeQuorumResponse {
        /// The leader: the active controller.
        pub leader: NodeId;
        /// Its term.
        pub term: u64;
        /// Last entry of its log.
        pub last_index: u64;
        /// Last committed entry.
        pub commit_index: u64;
        /// Last entry that the newest snapshot contains.
        pub snapshot_index: Option<u64>;
        /// Voters first, then learners, by id.
        pub members: Vec<QuorumMember>;
    }
}

wire_struct! {
    /// A node that keeps the metadata log.
    pub struct QuorumMember {
        /// The node.
        pub node_id: NodeId;
        /// Host.
        pub host: String;
        /// Port.
        pub port: u16;
        /// Whether it votes.
        pub voter: bool;
        /// How far its log is known to match the leader's.
        pub matched_index: Option<u64>;
    }
}
