//! InitProducerId.

use crate::codec::wire_struct;
use crate::ids::{ProducerEpoch, ProducerId};

wire_struct! {
    /// Asks for a producer id that nobody else has.
    pub struct InitProducerIdRequest {
        /// Reserved, false.
        pub reserved: bool;
    }
}

wire_struct! {
    /// A producer id.
    pub struct InitProducerIdResponse {
        /// The id, never given out before.
        pub producer_id: ProducerId;
        /// The epoch to begin with.
        pub producer_epoch: ProducerEpoch;
    }
}
