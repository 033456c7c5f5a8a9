//! Blocks of producer ids, which brokers give out one by one.

use highwater_protocol::ids::ProducerId;
use highwater_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::ClusterImage;

use super::{ControllerError, Decision, broker_in_life};

/// Ids of one block. A broker that dies wastes the rest of its block; there are enough.
pub const PRODUCER_IDS_PER_BLOCK: u32 = 1000;

/// Decides about a block that nobody else gets, not even after the controller has moved.
///
/// # Errors
/// [`ControllerError::UnknownNode`], [`ControllerError::StaleBrokerEpoch`],
/// [`ControllerError::ProducerIdsExhausted`].
pub fn allocate_producer_ids(
    image: &ClusterImage,
    request: &AllocateProducerIdsRequest,
) -> Result<Decision<AllocateProducerIdsResponse>, ControllerError> {
    broker_in_life(image, request.node_id, request.broker_epoch)?;
    let first = image.producer_id_next();
    let next = first
        .get()
        .checked_add(u64::from(PRODUCER_IDS_PER_BLOCK))
        // A batch stores the id signed.
        .filter(|next| i64::try_from(*next).is_ok())
        .map(ProducerId::new)
        .ok_or(ControllerError::ProducerIdsExhausted)?;
    Ok(Decision {
        records: vec![MetadataRecord::ProducerIdsAllocated { next }],
        reply: AllocateProducerIdsResponse {
            first,
            count: PRODUCER_IDS_PER_BLOCK,
        },
    })
}

#[cfg(test)]
#[path = "producer_ids_tests.rs"]
mod tests;
