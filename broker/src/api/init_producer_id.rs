//! InitProducerId: an identity for a producer whose retries are to be harmless.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::ProducerEpoch;
use highwater_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use tokio::time::timeout;

use super::{Answer, Reply};
use crate::partitions::Refusal;
use crate::shared::Shared;

/// How long a producer waits for an id at most; it asks again then.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What a waiting request holds.
const HELD_BYTES: usize = 512;

pub(crate) fn handle(
    shared: &Arc<Shared>,
    _request: &InitProducerIdRequest,
    reply: Reply,
) -> Answer {
    let shared = Arc::clone(shared);
    let answer = async move {
        let id = match timeout(WAIT_MAX, shared.producer_ids.next()).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal {
                code: ErrorCode::RequestTimedOut,
                message: "the controller gave no producer ids in time".to_owned(),
            }),
        };
        match id {
            Ok(producer_id) => {
                let response = InitProducerIdResponse {
                    producer_id,
                    producer_epoch: ProducerEpoch::ZERO,
                };
                reply.ok(&shared, &response)
            }
            Err(Refusal { code, message }) => reply.error(&shared, code, &message),
        }
    };
    Answer::Later(Box::pin(answer), HELD_BYTES)
}
