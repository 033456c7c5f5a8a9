//! Hello: the first request of every connection.

use crate::codec::wire_struct;
use crate::ids::{ClusterId, NodeId};

/// "HWP1": tells a Highwater client from anything else that found the port.
pub const HELLO_MAGIC: u32 = 0x4857_5031;

wire_struct! {
    /// Who the client is.
    pub struct HelloRequest {
        /// [`HELLO_MAGIC`].
        pub magic: u32;
        /// Name of the client for logs and metrics, at most 256 bytes are kept.
        pub client_name: String;
        /// Version of the client's software.
        pub client_version: String;
        /// The cluster that the client means; another one answers `WrongCluster`.
        pub cluster_id: Option<ClusterId>;
        /// The broker that connects, if it is one.
        pub node_id: Option<NodeId>;
    }
}

wire_struct! {
    /// Who the broker is and what it accepts.
    pub struct HelloResponse {
        /// The cluster.
        pub cluster_id: ClusterId;
        /// The broker.
        pub node_id: NodeId;
        /// Version of the broker's software.
        pub broker_version: String;
        /// What it speaks.
        pub apis: Vec<ApiRange>;
        /// Largest frame that it accepts, in bytes, the length field not counted.
        pub frame_bytes_max: u32;
        /// Most request bytes of one connection in flight; more are not read until some are answered.
        pub in_flight_bytes_max: u32;
        /// Most requests of one connection in flight.
        pub in_flight_requests_max: u32;
        /// How a client may authenticate; empty: it need not.
        pub auth_mechanisms: Vec<String>;
    }
}

wire_struct! {
    /// The versions of one API.
    pub struct ApiRange {
        /// Number of the API; may be one that this build does not know.
        pub api: u16;
        /// Lowest version.
        pub version_min: u16;
        /// Highest version.
        pub version_max: u16;
    }
}
