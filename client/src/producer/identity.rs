//! The producer id that a producer has from the cluster.

use std::sync::Arc;

use highwater_protocol::ids::ProducerId;
use highwater_protocol::messages::InitProducerIdRequest;
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::core::ProducerCore;
use super::sequences::Identity;
use super::upkeep;
use crate::error::RequestError;

/// The id that partitions begin with, once there is one.
#[derive(Debug, Default)]
pub(super) struct IdentityCell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Identity>,
    asking: bool,
}

impl IdentityCell {
    /// The id, unless it is the one that is used up.
    pub(super) fn current(&self, used_up: Option<ProducerId>) -> Option<Identity> {
        let mut state = self.state.lock();
        if used_up.is_some() && state.current.map(|identity| identity.id) == used_up {
            state.current = None;
        }
        state.current
    }
}

/// Has a producer id asked for, once at a time, unless there is one.
pub(super) fn ask(core: &Arc<ProducerCore>) {
    {
        let mut state = core.identity.state.lock();
        if state.current.is_some() || std::mem::replace(&mut state.asking, true) {
            return;
        }
    }
    let runtime = core.client.runtime.clone();
    let core = Arc::clone(core);
    runtime.spawn(async move {
        let answer = core
            .client
            .ask_any(&InitProducerIdRequest { reserved: false })
            .await;
        match answer {
            Ok(answer) => {
                debug!(producer = %answer.producer_id, "has a producer id");
                core.identity.state.lock().current = Some(Identity {
                    id: answer.producer_id,
                    epoch: answer.producer_epoch,
                });
            }
            Err(error) => failed(&core, &error).await,
        }
        core.identity.state.lock().asking = false;
        core.upkeep.wake();
    });
}

async fn failed(core: &Arc<ProducerCore>, error: &RequestError) {
    if error.is_retriable() {
        debug!(%error, "no producer id yet");
        tokio::time::sleep(core.options.backoff.wait(2)).await;
    } else {
        // Never without the id: records could be stored twice that must not be.
        warn!(%error, "no producer id");
        upkeep::fail_without_identity(core, error);
    }
}
