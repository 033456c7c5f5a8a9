//! RegisterBroker: a broker starts a life. The answer is its broker epoch.

use crate::codec::{wire_enum, wire_struct};
use crate::ids::{BrokerEpoch, DirectoryId, IncarnationId, NodeId};

use super::PartitionsOfTopic;

wire_enum! {
    /// How a broker's last life ended, as far as it can prove.
    pub enum SessionEnd {
        /// Everything may have happened to what was not synced.
        Unclean = 0,
        /// The process died, the machine did not: what was in the page cache is still there.
        ProcessCrash = 1,
        /// Closed in order, everything on disk.
        Clean = 2,
    }
}

wire_struct! {
    /// A broker that starts.
    pub struct RegisterBrokerRequest {
        /// The broker.
        pub node_id: NodeId;
        /// Its data directory.
        pub directory: DirectoryId;
        /// This life.
        pub incarnation: IncarnationId;
        /// Host that clients and brokers connect to.
        pub host: String;
        /// Port that clients and brokers connect to.
        pub port: u16;
        /// Failure domain.
        pub rack: Option<String>;
        /// Version of its software.
        pub version: String;
        /// How its last life ended.
        pub session_end: SessionEnd;
        /// The registration of the life that `session_end` is about; `None`: there was none.
        pub last_broker_epoch: Option<BrokerEpoch>;
        /// Partitions whose logs it found damaged or missing.
        pub damaged: Vec<PartitionsOfTopic>;
    }
}

wire_struct! {
    /// It is registered, and fenced until its heartbeats say that it is ready.
    pub struct RegisterBrokerResponse {
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
        /// Position of the registration in the metadata log.
        pub metadata_index: u64;
    }
}
