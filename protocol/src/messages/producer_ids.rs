//! AllocateProducerIds: a block of producer ids for a broker to give out.

use crate::codec::wire_struct;
use crate::ids::{BrokerEpoch, NodeId, ProducerId};

wire_struct! {
    /// A broker asks for a block.
    pub struct AllocateProducerIdsRequest {
        /// The broker.
        pub node_id: NodeId;
        /// Its registration.
        pub broker_epoch: BrokerEpoch;
    }
}

wire_struct! {
    /// A block that nobody else gets.
    pub struct AllocateProducerIdsResponse {
        /// The first id.
        pub first: ProducerId;
        /// How many.
        pub count: u32;
    }
}
