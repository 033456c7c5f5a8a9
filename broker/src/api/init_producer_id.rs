//! InitProducerId: an identity for a producer whose retries are to be harmless.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::ProducerEpoch;
use highwater_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use tokio::time::timeout;

use crate::partitions::Refusal;
use crate::shared::Shared;

/// How long a producer waits for an id at most; it asks again then.
const WAIT_MAX: Duration = Duration::from_secs(20);

pub(crate) async fn handle(
    shared: Arc<Shared>,
    _request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Refusal> {
    let producer_id = timeout(WAIT_MAX, shared.producer_ids.next())
        .await
        .map_err(|_| Refusal {
            code: ErrorCode::RequestTimedOut,
            message: "the controller gave no producer ids in time".to_owned(),
        })??;
    Ok(InitProducerIdResponse {
        producer_id,
        producer_epoch: ProducerEpoch::ZERO,
    })
}
