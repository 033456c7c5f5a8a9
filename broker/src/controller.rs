//! The active controller: the leader of the metadata quorum, deciding.
//!
//! ```text
//! request -> turn (one at a time) -> decide on the applied image (coordination) -> propose
//!         -> committed and applied here -> answer
//! ```
//!
//! A decision is made on an image that contains every earlier one, and its records are proposed for the
//! term in which it was made; in another term they do not count. A turn ends only when the fate of its
//! proposal is known, whether or not anybody still waits for it.

mod brokers;
mod description;
mod partitions;
mod topics;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::broker_registry::BrokerRegistry;
use highwater_coordination::cluster_image::ClusterImage;
use highwater_coordination::controller::{ControllerError, Decision};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, IncarnationId, NodeId};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::error;

use crate::lease;
use crate::partitions::Refusal;
use crate::peers::Peers;
use crate::quorum::{ProposeError, Quorum};
use crate::topic_settings::{TopicSettings, TopicSettingsError};

pub(crate) use description::describe_cluster;

/// Requests that may wait for their turn.
const WAITING_MAX: usize = 4096;

/// Why a change of the metadata was not made.
#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Refused(#[from] ControllerError),
    #[error(transparent)]
    Settings(#[from] TopicSettingsError),
    /// Nothing was changed.
    #[error("this broker is not the active controller")]
    NotController,
    #[error("the change may or may not have been made: {0}")]
    InDoubt(String),
    #[error("too many changes wait for the controller")]
    Busy,
}

impl ChangeError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Settings(_) => ErrorCode::InvalidConfig,
            Self::NotController => ErrorCode::NotController,
            Self::InDoubt(_) => ErrorCode::RequestTimedOut,
            Self::Busy => ErrorCode::Busy,
        }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
        }
    }
}

/// The settings by which the controller decides.
#[derive(Debug, Clone)]
pub(crate) struct ControllerSettings {
    pub(crate) cluster: highwater_config::ClusterConfig,
    pub(crate) healing: highwater_config::HealingConfig,
}

/// Decides while this broker leads the metadata quorum.
#[derive(Debug)]
pub(crate) struct Controller {
    me: NodeId,
    incarnation: IncarnationId,
    quorum: Arc<Quorum>,
    peers: Arc<Peers>,
    topic_settings: Arc<TopicSettings>,
    settings: ControllerSettings,
    runtime: tokio::runtime::Handle,
    /// One decision at a time.
    turn: tokio::sync::Mutex<()>,
    waiting: Arc<Semaphore>,
    /// What is known of brokers by their heartbeats, in the term in which it became known.
    registry: Mutex<BrokerRegistry>,
    upkeep: Mutex<upkeep::UpkeepState>,
    /// Wakes the upkeep before its next tick.
    wake: tokio::sync::Notify,
}

/// What a decision is based on.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) image: &'a ClusterImage,
    /// A broker epoch that is higher than any before: the position that the next entry has at least.
    pub(crate) next_epoch: BrokerEpoch,
    pub(crate) registry: &'a Mutex<BrokerRegistry>,
    pub(crate) now_ms: u64,
}

impl Controller {
    pub(crate) fn new(
        (me, incarnation): (NodeId, IncarnationId),
        quorum: Arc<Quorum>,
        peers: Arc<Peers>,
        topic_settings: Arc<TopicSettings>,
        settings: ControllerSettings,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            incarnation,
            quorum,
            peers,
            topic_settings,
            settings,
            runtime,
            turn: tokio::sync::Mutex::new(()),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            registry: Mutex::default(),
            upkeep: Mutex::default(),
            wake: tokio::sync::Notify::new(),
        })
    }

    /// The term in which this broker is the active controller.
    pub(crate) fn term(&self) -> Result<u64, ChangeError> {
        (*self.quorum.watch_leadership().borrow()).ok_or(ChangeError::NotController)
    }

    /// The image that the next decision is made on, at least.
    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        Arc::clone(&self.quorum.applied().image)
    }

    fn session_timeout_ms(&self) -> u64 {
        millis(self.settings.cluster.session_timeout)
    }

    /// Decides, makes the decision durable on a quorum and applies it; the reply, and the position in the
    /// metadata log up to which it is applied. Goes on to its end when the caller goes away.
    pub(crate) async fn change<R, D>(self: &Arc<Self>, decide: D) -> Result<(R, u64), ChangeError>
    where
        R: Send + 'static,
        D: FnOnce(&Situation<'_>) -> Result<Decision<R>, ChangeError> + Send + 'static,
    {
        let permit = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| ChangeError::Busy)?;
        let this = Arc::clone(self);
        let turn = self.runtime.spawn(async move {
            let _permit = permit;
            this.take_turn(decide).await
        });
        turn.await.unwrap_or_else(|error| {
            error!(%error, "a decision of the controller failed");
            Err(ChangeError::InDoubt(
                "the broker's log has the details".to_owned(),
            ))
        })
    }

    async fn take_turn<R, D>(&self, decide: D) -> Result<(R, u64), ChangeError>
    where
        D: FnOnce(&Situation<'_>) -> Result<Decision<R>, ChangeError>,
    {
        let _turn = self.turn.lock().await;
        let term = self.term()?;
        // Only after the term: the image then contains everything of earlier terms.
        let applied = self.quorum.applied();
        let decision = decide(&Situation {
            image: &applied.image,
            next_epoch: BrokerEpoch::new(applied.index + 1),
            registry: &self.registry,
            now_ms: now_ms(),
        })?;
        if decision.records.is_empty() {
            return Ok((decision.reply, applied.index));
        }
        match self.quorum.propose(term, &decision.records).await {
            Ok(index) => Ok((decision.reply, index)),
            Err(ProposeError::NotLeader { .. } | ProposeError::NotApplied) => {
                Err(ChangeError::NotController)
            }
            Err(error) => Err(ChangeError::InDoubt(error.to_string())),
        }
    }
}

/// Sessions are measured by a clock that nobody sets and that goes on while the machine sleeps.
fn now_ms() -> u64 {
    lease::now().millis()
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The error of a broker that has stopped to lead the quorum.
fn or_not_controller<T>(outcome: Result<T, ProposeError>) -> Result<T, ChangeError> {
    outcome.map_err(|_| ChangeError::NotController)
}
