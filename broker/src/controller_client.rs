//! Asking the controller, wherever it is.
//!
//! Any broker takes a request of an administrator; the active controller decides. While none is known,
//! or the one that was known is not any more, the request waits and is sent again, as long as the
//! caller has time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::api_key::Request;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use tokio::time::Instant;

use crate::controller::Controller;
use crate::partitions::Refusal;
use crate::peers::{PeerError, Peers};
use crate::quorum::Quorum;

/// Between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The longest that one attempt at another broker takes: it may have stopped to be the controller, or
/// be cut off, without anybody knowing yet.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A request that only the active controller answers.
pub(crate) trait ControllerRequest: Request + Clone + Send + Sync + 'static
where
    Self::Response: Send,
{
    /// Whether carrying it out twice does no harm, so that it may be sent again when nobody knows what
    /// became of it.
    const MAY_REPEAT: bool;

    /// Carries it out on the active controller.
    fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> impl Future<Output = Result<Self::Response, Refusal>> + Send;
}

/// Finds the controller.
#[derive(Debug)]
pub(crate) struct ControllerClient {
    me: NodeId,
    quorum: Arc<Quorum>,
    peers: Arc<Peers>,
    controller: Arc<Controller>,
}

impl ControllerClient {
    pub(crate) fn new(
        me: NodeId,
        quorum: Arc<Quorum>,
        peers: Arc<Peers>,
        controller: Arc<Controller>,
    ) -> Self {
        Self {
            me,
            quorum,
            peers,
            controller,
        }
    }

    /// Has the controller carry out a request.
    ///
    /// # Errors
    /// What the controller says, or `NotController` when none could be reached in time. With
    /// `RequestTimedOut` the request may have been carried out.
    pub(crate) async fn call<R: ControllerRequest>(
        &self,
        request: R,
        timeout: Duration,
    ) -> Result<R::Response, Refusal>
    where
        R::Response: Send,
    {
        let deadline = Instant::now() + timeout;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(last.unwrap_or_else(|| nobody("no controller is known")));
            }
            match self.attempt(&request, left).await {
                Attempt::Done(outcome) => return outcome,
                Attempt::Again(refusal) => last = Some(refusal),
            }
            tokio::time::sleep(RETRY_PAUSE.min(left)).await;
        }
    }

    /// Carries out a request that another broker passed on: here, or not at all.
    pub(crate) async fn here<R: ControllerRequest>(
        &self,
        request: R,
    ) -> Result<R::Response, Refusal>
    where
        R::Response: Send,
    {
        request.carry_out(&self.controller).await
    }

    async fn attempt<R: ControllerRequest>(
        &self,
        request: &R,
        left: Duration,
    ) -> Attempt<R::Response>
    where
        R::Response: Send,
    {
        let Some(leader) = self.quorum.leader() else {
            return Attempt::Again(nobody("no controller is known"));
        };
        if leader == self.me {
            let work = request.clone().carry_out(&self.controller);
            return match tokio::time::timeout(left, work).await {
                Ok(Err(refusal)) if refusal.code == ErrorCode::NotController => {
                    Attempt::Again(refusal)
                }
                Ok(outcome) => Attempt::Done(outcome),
                Err(_) => {
                    Attempt::Done(Err(in_doubt("the metadata quorum did not confirm in time")))
                }
            };
        }
        match self
            .peers
            .call(leader, request, left.min(ATTEMPT_MAX))
            .await
        {
            Ok(response) => Attempt::Done(Ok(response)),
            Err(PeerError::Refused { code, message }) => {
                let refusal = Refusal { code, message };
                if matches!(code, ErrorCode::NotController | ErrorCode::Busy) {
                    Attempt::Again(refusal)
                } else {
                    Attempt::Done(Err(refusal))
                }
            }
            Err(error) if !error.may_be_done() => Attempt::Again(nobody(&error.to_string())),
            Err(error) if R::MAY_REPEAT => Attempt::Again(in_doubt(&error.to_string())),
            Err(error) => Attempt::Done(Err(in_doubt(&error.to_string()))),
        }
    }
}

enum Attempt<T> {
    Done(Result<T, Refusal>),
    Again(Refusal),
}

fn nobody(message: &str) -> Refusal {
    Refusal {
        code: ErrorCode::NotController,
        message: message.to_owned(),
    }
}

fn in_doubt(message: &str) -> Refusal {
    Refusal {
        code: ErrorCode::RequestTimedOut,
        message: format!("{message}; the change may have been made all the same"),
    }
}
