//! A broker's life in its cluster: registered once, then alive by its heartbeats.
//!
//! The lease by which this broker serves ends before the controller would give its partitions to others:
//! it counts from the moment at which a heartbeat was *sent*, for less than the session that the
//! controller counts from the moment at which it *arrived*.

use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::BrokerEpoch;
use highwater_protocol::messages::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, PartitionsOfTopic, RegisterBrokerRequest,
    RegisterBrokerResponse, SessionEnd,
};
use highwater_storage::LifeEnd;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::controller::millis;
use crate::controller_client::ControllerClient;
use crate::lease::BootTime;
use crate::partitions::Refusal;
use crate::readiness::Readiness;
use crate::shared::Shared;

/// How long one attempt to register may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts to register.
const REGISTER_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines in the log that say what registering waits for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The part of a session for which a lease is good: the rest is for clocks that run at different rates
/// and for what passes between the check of a lease and the answer.
const LEASE_OF_SESSION: (u64, u64) = (5, 6);

/// Registers this life. Waits for a controller, and for the session of an earlier life to end.
///
/// # Errors
/// The cluster does not take this broker, and waiting does not help.
pub(crate) async fn register(
    client: &ControllerClient,
    request: &RegisterBrokerRequest,
    readiness: &Readiness,
) -> Result<RegisterBrokerResponse, Refusal> {
    let mut reported: Option<Instant> = None;
    loop {
        match client.call(request.clone(), REGISTER_TIMEOUT).await {
            Ok(response) => return Ok(response),
            Err(refusal) if refusal.code.is_retriable() => {
                readiness.waits_for(&refusal.message);
                if reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
                    reported = Some(Instant::now());
                    info!(
                        reason = refusal.message,
                        "waiting to register with the controller"
                    );
                }
                tokio::time::sleep(REGISTER_PAUSE).await;
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

/// What the heartbeats of a broker say about what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Not ready yet.
    Wait,
    /// Ready to lead.
    Serve,
    /// Stop, as soon as others have taken over.
    Stop,
}

/// What the controller last answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It has answered at all.
    pub(crate) known: bool,
    pub(crate) fenced: bool,
    pub(crate) may_shut_down: bool,
    /// The cluster has no place for this life any more.
    pub(crate) is_over: bool,
}

/// Sends heartbeats, and keeps the lease by them.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    wish: watch::Sender<Wish>,
    standing: watch::Sender<Standing>,
    /// When the last heartbeat that was answered was sent.
    answered: Mutex<Option<BootTime>>,
    nudge: Notify,
    /// Replicas that could not be used when the last heartbeat was sent ahead of time for that.
    offline: Mutex<Vec<PartitionsOfTopic>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self {
            wish: watch::channel(Wish::Wait).0,
            standing: watch::channel(Standing::default()).0,
            answered: Mutex::new(None),
            nudge: Notify::new(),
            offline: Mutex::default(),
        }
    }
}

impl Heartbeats {
    /// Says what this broker wants from now on, at once.
    pub(crate) fn wish(&self, wish: Wish) {
        self.wish.send_replace(wish);
        self.nudge.notify_one();
    }

    /// Sends the next heartbeat at once: something has changed that the controller should know.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// As [`Self::nudge`], when other replicas than before cannot be used.
    pub(crate) fn nudge_about(&self, offline: Vec<PartitionsOfTopic>) {
        let mut known = self.offline.lock();
        if *known != offline {
            *known = offline;
            self.nudge.notify_one();
        }
    }

    /// This life is over: no heartbeat is sent any more.
    pub(crate) fn end(&self) {
        self.standing
            .send_modify(|standing| standing.is_over = true);
        self.nudge.notify_one();
    }

    /// How long ago the last heartbeat was sent that was answered, if any was.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.answered.lock().map(BootTime::elapsed)
    }

    /// What the controller last answered.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Sends heartbeats until it is cancelled.
    pub(crate) async fn run(&self, shared: Arc<Shared>, client: Arc<ControllerClient>) {
        let interval = shared.config.cluster.heartbeat_interval;
        let mut was_fenced = None;
        let mut reported: Option<Instant> = None;
        while !self.standing.borrow().is_over {
            let sent = BootTime::now();
            let request = self.request(&shared);
            // An answer that comes later than this renews nothing worth having.
            let timeout = shared.config.cluster.session_timeout / 3;
            match client.call(request, timeout).await {
                Ok(answer) => {
                    self.renew(&shared, sent, &answer, timeout).await;
                    reported = None;
                    if was_fenced != Some(answer.fenced) {
                        was_fenced = Some(answer.fenced);
                        info!(
                            fenced = answer.fenced,
                            "the controller has heard of this broker"
                        );
                    }
                }
                Err(refusal) => {
                    if self.is_over(&refusal) {
                        return;
                    }
                    if reported.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
                        reported = Some(Instant::now());
                        warn!(code = %refusal.code, reason = refusal.message, "no heartbeat was answered");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    fn request(&self, shared: &Shared) -> BrokerHeartbeatRequest {
        let wish = *self.wish.borrow();
        BrokerHeartbeatRequest {
            node_id: shared.node_id,
            broker_epoch: shared.broker_epoch(),
            metadata_index: shared.metadata.index(),
            wants_fence: wish == Wish::Wait,
            wants_shutdown: wish == Wish::Stop,
            offline: shared.partitions.offline(),
            to_rebuild: shared.partitions.to_rebuild(),
            log_bytes: shared.log_bytes(),
            disk_free: shared.disk.free_bytes(),
            disk_total: shared.disk.total_bytes(),
        }
    }

    async fn renew(
        &self,
        shared: &Shared,
        sent: BootTime,
        answer: &BrokerHeartbeatResponse,
        within: Duration,
    ) {
        let session =
            u64::from(answer.session_timeout_ms).min(millis(shared.config.cluster.session_timeout));
        let good_for = session.saturating_mul(LEASE_OF_SESSION.0) / LEASE_OF_SESSION.1;
        // A broker that stood still, or was cut off, is answered at once when it is back. What it leads by
        // its own account may be led by others for long: first it has to hear of that.
        let mut applied = shared.metadata.watch();
        let is_known = applied.wait_for(|index| *index >= answer.metadata_index);
        let is_known = tokio::time::timeout(within, is_known).await.is_ok();
        if !is_known {
            debug!("the metadata is too far behind for a lease");
        } else if answer.fenced {
            // Others lead now what this broker led: there is nothing left to answer for.
            shared.lease.end();
        } else {
            shared
                .lease
                .renew(sent.plus(Duration::from_millis(good_for)));
        }
        *self.answered.lock() = Some(sent);
        self.standing.send_replace(Standing {
            known: true,
            fenced: answer.fenced,
            may_shut_down: answer.may_shut_down,
            is_over: false,
        });
    }

    /// Whether there is no point in going on.
    fn is_over(&self, refusal: &Refusal) -> bool {
        let is_over = matches!(
            refusal.code,
            ErrorCode::StaleBrokerEpoch | ErrorCode::UnknownNode | ErrorCode::NodeRefused
        );
        if is_over {
            error!(
                reason = refusal.message,
                "the cluster has no place for this broker any more: another process has registered under \
                 its id, or the node was removed; it serves nothing from now on"
            );
            self.standing
                .send_modify(|standing| standing.is_over = true);
        }
        is_over
    }
}

/// The registration of this life, once there is one.
#[derive(Debug, Default)]
pub(crate) struct BrokerEpochCell(std::sync::atomic::AtomicU64);

impl BrokerEpochCell {
    pub(crate) fn get(&self) -> BrokerEpoch {
        BrokerEpoch::new(self.0.load(std::sync::atomic::Ordering::Acquire))
    }

    pub(crate) fn set(&self, epoch: BrokerEpoch) {
        self.0
            .store(epoch.get(), std::sync::atomic::Ordering::Release);
    }
}

/// What the storage can prove, as the controller asks for it.
pub(crate) fn session_end(end: LifeEnd) -> SessionEnd {
    match end {
        LifeEnd::Clean => SessionEnd::Clean,
        LifeEnd::ProcessCrash => SessionEnd::ProcessCrash,
        LifeEnd::Unclean => SessionEnd::Unclean,
    }
}
