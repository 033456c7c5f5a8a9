//! DrainNode.

use crate::codec::wire_struct;
use crate::ids::NodeId;

wire_struct! {
    /// Moves leaderships and replicas off a node, and keeps new ones away, until that is ended.
    pub struct DrainNodeRequest {
        /// The node.
        pub node_id: NodeId;
        /// Begin, or end.
        pub drain: bool;
    }
}

wire_struct! {
    /// It is under way; DescribeCluster and Metadata show how far.
    pub struct DrainNodeResponse {
        /// Replicas that are still on the node.
        pub replicas_left: u32;
    }
}
