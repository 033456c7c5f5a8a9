//! RemoveNode.

use crate::codec::wire_struct;
use crate::ids::NodeId;

wire_struct! {
    /// Takes a node out of the cluster. Its id is never given out again.
    pub struct RemoveNodeRequest {
        /// The node. It must be stopped, and hold no replicas unless `force`.
        pub node_id: NodeId;
        /// Also when it still holds replicas: they count as lost, and are rebuilt elsewhere.
        pub force: bool;
    }
}

wire_struct! {
    /// It is gone.
    pub struct RemoveNodeResponse {
        /// Replicas that it held.
        pub replicas_lost: u32;
    }
}
