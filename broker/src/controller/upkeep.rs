//! What the active controller does by itself: ending sessions, keeping the quorum's members, healing,
//! draining, balancing.
//!
//! ```text
//! activated: every broker gets a full session, safe mode
//!   tick:  sessions that ended          fence, one broker a decision
//!          members of the quorum        every node learns; as many vote as wanted
//!          moves                        heal, drain, balance, as far as safe mode lets
//!          leaders                      back to the first replica now and then
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_config::Switch;
use highwater_coordination::balance::{BalancePlan, next_wave, plan_balance, preferred_leaders};
use highwater_coordination::cluster_image::{BrokerImage, ClusterImage};
use highwater_coordination::controller as decide;
use highwater_coordination::healing::{HealingPlan, HealingSettings, plan_healing};
use highwater_coordination::node_loads::{NodeLoad, NodeLoads};
use highwater_coordination::quorum_members::{MembersPlan, plan_members};
use highwater_coordination::reassignment::{LeaderTarget, MovesBegun, ReplicaTarget, forget_ended};
use highwater_coordination::safe_mode::SafeMode;
use highwater_protocol::ids::NodeId;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::{ChangeError, Controller, millis, now_ms};

/// Ticks of a session: how exactly its end is noticed.
const TICKS_PER_SESSION: u32 = 12;

/// Bounds of a tick.
const TICK_MIN: Duration = Duration::from_millis(20);
const TICK_MAX: Duration = Duration::from_millis(500);

/// A broker that came back gets its leaderships again after it has been there for this long.
const SETTLED: Duration = Duration::from_secs(60);

/// How often it is looked at whether a broker has nothing yet, in ms.
const EMPTY_LOOK_MS: u64 = 1000;

/// Leaderships that are given back at a time.
const LEADERS_MAX: usize = 50;

/// What the controller remembers of its own doing. Begins anew with every term.
#[derive(Debug, Default)]
pub(super) struct UpkeepState {
    /// Why moves under way were begun.
    pub(super) begun: MovesBegun,
    /// Balancing that was asked for, and is made in waves.
    pub(super) balancing: Option<BalancePlan>,
    safe_mode: Option<SafeMode>,
    /// Since when brokers are active without a break.
    active_since: BTreeMap<NodeId, u64>,
    /// Since when brokers are fenced and silent.
    absent_since: BTreeMap<NodeId, u64>,
    /// When it was last looked at whether a broker has nothing yet.
    empty_looked_at_ms: u64,
    /// Who was told not to vote by hand, and is not taken again to fill the quorum up.
    pub(super) kept_from_voting: BTreeSet<NodeId>,
    last_healing: HealingPlan,
    leaders_balanced_ms: u64,
}

impl Controller {
    /// Runs until the quorum ends; does its work while this broker is the active controller.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        let mut leadership = self.quorum.watch_leadership();
        loop {
            let term = *leadership.borrow_and_update();
            let Some(term) = term else {
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.activate(term);
            let every = (self.settings.cluster.session_timeout / TICKS_PER_SESSION)
                .clamp(TICK_MIN, TICK_MAX);
            let mut ticks = tokio::time::interval_at(Instant::now(), every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut idle_since = now_ms();
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.wake.notified() => {}
                    changed = leadership.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                }
                self.mind_the_gap(idle_since);
                self.tick().await;
                idle_since = now_ms();
            }
            info!(term, "this broker is no longer the active controller");
        }
    }

    /// A process that was stopped, or a machine that was suspended, finds everybody silent for as long
    /// as it did not listen. Only the time between two ticks counts: what a tick itself takes, for a
    /// quorum that is slow to answer, must not keep sessions alive for ever.
    fn mind_the_gap(&self, idle_since: u64) {
        let now_ms = now_ms();
        let gap = now_ms.saturating_sub(idle_since);
        if gap > self.session_timeout_ms() / 2 {
            warn!(
                gap_ms = gap,
                "this broker stood still: all sessions begin anew"
            );
            self.registry.lock().stood_still(now_ms);
        }
    }

    /// Has the upkeep run now instead of at its next tick.
    pub(super) fn upkeep_soon(&self) {
        self.wake.notify_one();
    }

    fn activate(&self, term: u64) {
        let now_ms = super::now_ms();
        let image = self.image();
        self.registry
            .lock()
            .activate(&image, self.me, self.incarnation, now_ms);
        *self.upkeep.lock() = UpkeepState {
            safe_mode: Some(SafeMode::at_activation(now_ms, self.session_timeout_ms())),
            leaders_balanced_ms: now_ms,
            ..UpkeepState::default()
        };
        info!(
            term,
            brokers = image.brokers().len(),
            "this broker is the active controller"
        );
    }

    async fn tick(self: &Arc<Self>) {
        let steps = async {
            self.end_sessions().await?;
            self.keep_members().await;
            self.observe();
            self.heal().await?;
            self.balance_wave().await?;
            self.give_leaders_back().await
        };
        match steps.await {
            // The next term, here or elsewhere, goes on.
            Ok(()) | Err(ChangeError::NotController) => {}
            Err(error) => warn!(%error, "the controller's upkeep is interrupted"),
        }
    }

    async fn end_sessions(self: &Arc<Self>) -> Result<(), ChangeError> {
        let session_ms = self.session_timeout_ms();
        let expired = self
            .registry
            .lock()
            .expired(&self.image(), now_ms(), session_ms);
        for node in expired {
            let (fenced, _) = self
                .change(move |situation| {
                    // It may have been heard of since, or have been fenced already.
                    let mut registry = situation.registry.lock();
                    let is_silent = !registry.is_alive(node, situation.now_ms, session_ms);
                    let broker = situation.image.broker(node).filter(|broker| !broker.fenced);
                    match broker.and_then(BrokerImage::epoch) {
                        Some(epoch) if is_silent => {
                            let decision = decide::fence_broker(situation.image, node, epoch)?;
                            registry.fencing(node);
                            Ok(decision.map(|()| true))
                        }
                        _ => Ok(decide::Decision::nothing(false)),
                    }
                })
                .await?;
            if fenced {
                warn!(%node, "broker fenced: it was not heard of for a whole session");
                self.registry.lock().lost(node, now_ms(), session_ms);
            }
        }
        Ok(())
    }

    /// Every node of the cluster learns the metadata log, nodes that were removed do not, and as many
    /// vote as `cluster.voters` says, always an odd number.
    async fn keep_members(self: &Arc<Self>) {
        let image = self.image();
        let members = self.members();
        let absent_too_long = |node: NodeId| {
            let upkeep = self.upkeep.lock();
            let since = upkeep.absent_since.get(&node);
            let after = self.settings.healing.after.map(millis);
            matches!((since, after), (Some(since), Some(after))
                if now_ms().saturating_sub(*since) >= after)
        };
        let kept_from_voting = self.upkeep.lock().kept_from_voting.clone();
        if self.quorum.is_changing_voters() {
            // The quorum brings it to its end by itself; `members` has the voters of both sets until then.
            return;
        }
        let plan = plan_members(
            &image,
            &members,
            self.settings.cluster.voters,
            &kept_from_voting,
            absent_too_long,
        );
        if let Err(error) = self.change_members(&image, plan).await {
            debug!(%error, "the members of the metadata quorum are not changed yet");
        }
    }

    async fn change_members(
        &self,
        image: &ClusterImage,
        plan: MembersPlan,
    ) -> Result<(), crate::quorum::ProposeError> {
        for node in plan.learn {
            if let Some(broker) = image.broker(node) {
                self.quorum
                    .add_learner(node, &broker.host, broker.port)
                    .await?;
            }
        }
        if let Some(voters) = plan.voters {
            info!(?voters, "the voters of the metadata quorum change");
            self.quorum.set_voters(&voters).await?;
        }
        for node in plan.remove {
            self.quorum.remove_node(node).await?;
        }
        Ok(())
    }

    /// Takes note of who is there.
    fn observe(&self) {
        let now_ms = super::now_ms();
        let image = self.image();
        let session_ms = self.session_timeout_ms();
        let loads = {
            let registry = self.registry.lock();
            let mut upkeep = self.upkeep.lock();
            for (node, broker) in image.brokers() {
                if broker.is_active() {
                    upkeep.active_since.entry(node).or_insert(now_ms);
                } else {
                    upkeep.active_since.remove(&node);
                }
                let is_absent = broker.registration.is_some()
                    && broker.fenced
                    && !registry.is_alive(node, now_ms, session_ms);
                if is_absent {
                    upkeep.absent_since.entry(node).or_insert(now_ms);
                } else {
                    upkeep.absent_since.remove(&node);
                }
            }
            upkeep
                .absent_since
                .retain(|node, _| image.broker(*node).is_some());
            forget_ended(&mut upkeep.begun, &image);
            loads(&image, &registry, &upkeep, now_ms)
        };
        let mut upkeep = self.upkeep.lock();
        if let Some(safe_mode) = &mut upkeep.safe_mode {
            let before = safe_mode.reason();
            safe_mode.observe(&image, &loads, now_ms);
            let after = safe_mode.reason();
            if before.is_some() != after.is_some() {
                match after {
                    Some(reason) => warn!(reason, "safe mode: nothing is moved"),
                    None => info!("safe mode is over"),
                }
            }
        }
    }

    /// Why nothing is moved until the picture has settled, if so.
    pub(super) fn safe_mode_reason(&self) -> Option<String> {
        let upkeep = self.upkeep.lock();
        upkeep.safe_mode.as_ref().and_then(SafeMode::reason)
    }

    /// What is known of the brokers' loads.
    pub(super) fn loads(&self, image: &ClusterImage) -> NodeLoads {
        let now_ms = super::now_ms();
        let registry = self.registry.lock();
        let upkeep = self.upkeep.lock();
        loads(image, &registry, &upkeep, now_ms)
    }

    /// What healing has to do now.
    pub(super) fn healing_plan(&self, image: &ClusterImage) -> HealingPlan {
        let loads = self.loads(image);
        let upkeep = self.upkeep.lock();
        let held = upkeep.safe_mode.as_ref().and_then(SafeMode::reason);
        plan_healing(
            image,
            &loads,
            &upkeep.begun,
            &HealingSettings {
                after_ms: self.settings.healing.after.map(millis),
                moves_max: self.settings.healing.moves_max,
                disk_percent_max: self.settings.healing.disk_percent_max,
            },
            now_ms(),
            held.as_deref(),
        )
    }

    async fn heal(self: &Arc<Self>) -> Result<(), ChangeError> {
        let image = self.image();
        let plan = self.healing_plan(&image);
        self.hand_leaderships(plan.leaders.clone()).await?;
        for (topic, partition) in plan.cancel.iter().copied() {
            let cancelled = self
                .change(move |situation| {
                    Ok(decide::cancel_move(situation.image, topic, partition)?)
                })
                .await;
            match cancelled {
                Ok(_) => info!(%topic, %partition, "a rebuild is given up: the broker is back"),
                // It has just ended, or what it added is needed by now.
                Err(ChangeError::Refused(error)) => {
                    debug!(%topic, %partition, %error, "a rebuild is not given up");
                }
                Err(error) => return Err(error),
            }
            self.note_move(topic, partition, None);
        }
        for target in plan.begin.iter().cloned() {
            self.begin_move(target).await?;
        }
        let mut upkeep = self.upkeep.lock();
        if plan.paused != upkeep.last_healing.paused
            && let Some(reason) = &plan.paused
        {
            info!(reason, "nothing is healed or moved");
        }
        upkeep.last_healing = plan;
        Ok(())
    }

    pub(super) async fn begin_move(
        self: &Arc<Self>,
        target: ReplicaTarget,
    ) -> Result<(), ChangeError> {
        let (topic, partition, reason) = (target.topic_id, target.partition, target.reason);
        let replicas = target.replicas.clone();
        let outcome = self
            .change(move |situation| {
                Ok(decide::set_replicas(
                    situation.image,
                    topic,
                    partition,
                    &replicas,
                )?)
            })
            .await;
        match outcome {
            Ok(_) => {
                self.note_move(topic, partition, Some(reason));
                info!(topic = %target.topic, %partition, to = ?target.replicas, ?reason, "replicas are moved");
                Ok(())
            }
            // The image has moved on since the plan was made; the next plan knows.
            Err(ChangeError::Refused(error)) => {
                debug!(topic = %target.topic, %partition, %error, "a planned move is not made");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn balance_wave(self: &Arc<Self>) -> Result<(), ChangeError> {
        let image = self.image();
        self.plan_for_added(&image);
        let wave = {
            let mut upkeep = self.upkeep.lock();
            let is_held = upkeep
                .safe_mode
                .as_ref()
                .is_some_and(|safe_mode| safe_mode.reason().is_some());
            let Some(plan) = upkeep.balancing.as_ref().filter(|_| !is_held) else {
                return Ok(());
            };
            let wave = next_wave(plan, &image, self.settings.healing.moves_max);
            if wave.begin.is_empty() && wave.waiting == 0 && wave.under_way == 0 {
                info!("balancing is done");
                upkeep.balancing = None;
                return Ok(());
            }
            wave
        };
        for target in wave.begin {
            self.begin_move(target).await?;
        }
        Ok(())
    }

    /// A broker that was added gets its share. Whoever has nothing counts as added: a controller that took
    /// over meanwhile could not tell otherwise.
    fn plan_for_added(&self, image: &ClusterImage) {
        if self.settings.healing.balance_on_add != Switch::On {
            return;
        }
        let added: Vec<NodeId> = image
            .brokers()
            .filter(|(node, broker)| {
                broker.is_active() && !broker.draining && decide::replicas_on(image, *node) == 0
            })
            .map(|(node, _)| node)
            .collect();
        {
            let mut upkeep = self.upkeep.lock();
            let is_held = upkeep
                .safe_mode
                .as_ref()
                .is_some_and(|safe_mode| safe_mode.reason().is_some());
            // With a broker missing, the shares of those that are there would not be the right ones.
            let is_incomplete = !upkeep.last_healing.absent.is_empty();
            let now_ms = now_ms();
            let is_soon = now_ms.saturating_sub(upkeep.empty_looked_at_ms) < EMPTY_LOOK_MS;
            if is_held || is_incomplete || is_soon || upkeep.balancing.is_some() {
                return;
            }
            upkeep.empty_looked_at_ms = now_ms;
        }
        if added.is_empty() {
            return;
        }
        let plan = plan_balance(
            image,
            &self.loads(image),
            self.settings.healing.disk_percent_max,
        );
        if !plan.moves.is_empty() {
            info!(
                ?added,
                moves = plan.moves.len(),
                "brokers were added: they get their share"
            );
            self.upkeep.lock().balancing = Some(plan);
        }
    }

    async fn give_leaders_back(self: &Arc<Self>) -> Result<(), ChangeError> {
        let Some(interval) = self.settings.healing.leader_balance_interval else {
            return Ok(());
        };
        let now_ms = super::now_ms();
        let image = self.image();
        let leaders = {
            let mut upkeep = self.upkeep.lock();
            let is_held = upkeep
                .safe_mode
                .as_ref()
                .is_some_and(|safe_mode| safe_mode.reason().is_some());
            if is_held || now_ms.saturating_sub(upkeep.leaders_balanced_ms) < millis(interval) {
                return Ok(());
            }
            upkeep.leaders_balanced_ms = now_ms;
            let settled_ms = millis(SETTLED.min(interval));
            let is_settled = |node: NodeId| {
                upkeep
                    .active_since
                    .get(&node)
                    .is_some_and(|since| now_ms.saturating_sub(*since) >= settled_ms)
            };
            preferred_leaders(&image, is_settled, LEADERS_MAX)
        };
        self.hand_leaderships(leaders).await
    }

    /// Moves leaderships, all of them in one decision; those that cannot be moved any more stay.
    async fn hand_leaderships(
        self: &Arc<Self>,
        targets: Vec<LeaderTarget>,
    ) -> Result<(), ChangeError> {
        if targets.is_empty() {
            return Ok(());
        }
        let wanted: BTreeMap<_, _> = targets
            .iter()
            .map(|target| ((target.topic_id, target.partition), target.to))
            .collect();
        let (moved, _) = self
            .change(move |situation| Ok(decide::elect_nodes(situation.image, &wanted)))
            .await?;
        if moved > 0 {
            info!(moved, "leaderships moved");
        }
        Ok(())
    }
}

fn loads(
    image: &ClusterImage,
    registry: &highwater_coordination::broker_registry::BrokerRegistry,
    upkeep: &UpkeepState,
    now_ms: u64,
) -> NodeLoads {
    let load = |node: NodeId| {
        let last = registry.vitals(node);
        NodeLoad {
            log_bytes: last.map_or(0, |vitals| vitals.log_bytes),
            disk_free: last.and_then(|vitals| vitals.disk_free).unwrap_or(0),
            disk_total: last.and_then(|vitals| vitals.disk_total).unwrap_or(0),
            silent_ms: registry.silent_ms(node, now_ms),
            absent_since_ms: upkeep.absent_since.get(&node).copied(),
        }
    };
    image
        .brokers()
        .map(|(node, _)| (node, load(node)))
        .collect()
}
