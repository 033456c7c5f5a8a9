//! JoinCluster: a new node becomes part of the cluster. The same directory gets the same id again.

use crate::codec::wire_struct;
use crate::ids::{ClusterId, DirectoryId, NodeId};

wire_struct! {
    /// A node that belongs to no cluster yet.
    pub struct JoinClusterRequest {
        /// Its data directory.
        pub directory: DirectoryId;
        /// The id that it was configured with; `None`: the cluster chooses.
        pub node_id: Option<NodeId>;
        /// Host at which the other brokers reach it.
        pub host: String;
        /// Port at which the other brokers reach it.
        pub port: u16;
    }
}

wire_struct! {
    /// It is part of the cluster now.
    pub struct JoinClusterResponse {
        /// The cluster.
        pub cluster_id: ClusterId;
        /// Its id for ever.
        pub node_id: NodeId;
    }
}
