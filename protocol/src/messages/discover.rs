//! Discover: who answers at an address, before there is a cluster to speak of.

use crate::codec::wire_struct;
use crate::ids::{ClusterId, DirectoryId, IncarnationId, NodeId};

use super::BrokerEndpoint;

wire_struct! {
    /// Asks who is there.
    pub struct DiscoverRequest {
        /// The life of the broker that asks, so that it recognises itself.
        pub incarnation: IncarnationId;
    }
}

wire_struct! {
    /// Who is there.
    pub struct DiscoverResponse {
        /// The life of the broker that answers.
        pub incarnation: IncarnationId;
        /// Its data directory.
        pub directory: DirectoryId;
        /// Its cluster; `None` while it belongs to none.
        pub cluster_id: Option<ClusterId>;
        /// Its node id; `None` while it has none.
        pub node_id: Option<NodeId>;
        /// The active controller, as far as it knows.
        pub controller: Option<BrokerEndpoint>;
    }
}
