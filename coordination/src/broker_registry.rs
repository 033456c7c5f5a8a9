//! What the active controller knows of the brokers and nobody writes down: when each was heard of last,
//! and how it is.
//!
//! All times are milliseconds of one monotonic clock of the controller's process, which counts the time
//! that the machine was suspended. A controller that becomes active gives every broker a full session
//! from then on: it cannot know how much of the old one is left, and fencing too early would let the
//! lease of an old leader overlap a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_protocol::ids::{IncarnationId, NodeId};
use highwater_protocol::messages::BrokerHeartbeatRequest;

use crate::cluster_image::ClusterImage;

/// Of how many brokers, as a fraction, more must be lost within one session timeout for a mass outage.
const MASS_OUTAGE_FRACTION: usize = 3;

/// How a broker is, by its last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerVitals {
    /// When it was heard of last, or its session was given; ms.
    pub last_seen_ms: u64,
    /// When it was unfenced or has been unfenced since at least; ms. `None` while it is fenced.
    pub unfenced_since_ms: Option<u64>,
    /// Whether it was heard of since this controller became active.
    pub was_heard: bool,
    /// How far it has applied the metadata log.
    pub metadata_index: u64,
    /// Bytes of its record data.
    pub log_bytes: u64,
    /// Free bytes of its disk; `None` before its first heartbeat.
    pub disk_free: Option<u64>,
    /// Size of its disk in bytes; `None` before its first heartbeat.
    pub disk_total: Option<u64>,
    /// It wants nothing to lead.
    pub wants_fence: bool,
    /// It wants to stop.
    pub wants_shutdown: bool,
    /// Whether its session goes on.
    has_session: bool,
    /// Position in the metadata log of what it was last relieved of, while it shuts down.
    left_at: u64,
}

/// The sessions of all brokers.
#[derive(Debug, Clone, Default)]
pub struct BrokerRegistry {
    brokers: BTreeMap<NodeId, BrokerVitals>,
    /// When brokers lost their sessions, the oldest first.
    lost_ms: VecDeque<(u64, NodeId)>,
    mass_outage_until_ms: Option<u64>,
    activated_ms: u64,
    /// How far brokers that were heard of while they were fenced must apply the metadata log before
    /// they are unfenced.
    to_apply: BTreeMap<NodeId, u64>,
    /// Brokers whose fencing is decided and not yet made durable.
    being_fenced: BTreeSet<NodeId>,
}

impl BrokerRegistry {
    /// Begins anew: this node became the active controller. Every broker that is registered gets a full
    /// session, except an earlier life of `me`: it held the data directory that this process
    /// (`incarnation`) holds now.
    pub fn activate(
        &mut self,
        image: &ClusterImage,
        me: NodeId,
        incarnation: IncarnationId,
        now_ms: u64,
    ) {
        *self = Self {
            activated_ms: now_ms,
            ..Self::default()
        };
        for (id, broker) in image.brokers() {
            if let Some(life) = &broker.registration {
                let vitals = BrokerVitals {
                    has_session: id != me || life.incarnation == incarnation,
                    unfenced_since_ms: (!broker.fenced).then_some(now_ms),
                    ..BrokerVitals::unknown(now_ms)
                };
                self.brokers.insert(id, vitals);
            }
        }
    }

    /// This controller stood still for a while: what it did not hear in that time means nothing, and
    /// everybody who had a session gets a full one from now on. Later fencing is always safe.
    pub fn stood_still(&mut self, now_ms: u64) {
        self.activated_ms = self.activated_ms.max(now_ms);
        for vitals in self.brokers.values_mut().filter(|one| one.has_session) {
            vitals.last_seen_ms = vitals.last_seen_ms.max(now_ms);
        }
    }

    /// A broker was registered: its session begins.
    pub fn registered(&mut self, node: NodeId, now_ms: u64) {
        let vitals = BrokerVitals {
            was_heard: true,
            wants_fence: true,
            ..BrokerVitals::unknown(now_ms)
        };
        self.brokers.insert(node, vitals);
        self.to_apply.remove(&node);
        self.being_fenced.remove(&node);
    }

    /// A broker is about to be fenced for its silence: that is decided, and not yet made durable.
    pub fn fencing(&mut self, node: NodeId) {
        self.being_fenced.insert(node);
    }

    /// Whether a broker is about to be fenced. A heartbeat of it must not be answered before that is
    /// done: on what is known now the answer would renew a lease, and others lead a moment later.
    #[must_use]
    pub fn is_being_fenced(&self, node: NodeId) -> bool {
        self.being_fenced.contains(&node)
    }

    /// Whether a broker that is fenced has applied what was taken from it, so that it may be unfenced:
    /// with its lease it would otherwise go on answering for partitions that others lead by now. Asked
    /// with each of its heartbeats; `applied_index` is the position of an image in which it is fenced.
    /// The first such position counts, so that a broker that is always a little behind a busy log is
    /// not kept out for ever.
    pub fn has_applied_fence(
        &mut self,
        node: NodeId,
        metadata_index: u64,
        applied_index: u64,
    ) -> bool {
        metadata_index >= *self.to_apply.entry(node).or_insert(applied_index)
    }

    /// A broker was heard of in its present life: the session is renewed. To be called when the
    /// heartbeat arrives, before it waits for its turn: a controller that has too much to do must not
    /// fence everybody for it.
    pub fn touch(&mut self, heartbeat: &BrokerHeartbeatRequest, now_ms: u64) {
        let vitals = self
            .brokers
            .entry(heartbeat.node_id)
            .or_insert_with(|| BrokerVitals::unknown(now_ms));
        vitals.last_seen_ms = vitals.last_seen_ms.max(now_ms);
        // What was told that it may stop is as good as gone, even if it beats until its exit.
        vitals.has_session |= !heartbeat.wants_shutdown;
        vitals.was_heard = true;
        vitals.metadata_index = vitals.metadata_index.max(heartbeat.metadata_index);
        vitals.log_bytes = heartbeat.log_bytes;
        vitals.disk_free = Some(heartbeat.disk_free);
        vitals.disk_total = Some(heartbeat.disk_total);
        vitals.wants_fence = heartbeat.wants_fence;
        vitals.wants_shutdown = heartbeat.wants_shutdown;
    }

    /// A broker was unfenced.
    pub fn unfenced(&mut self, node: NodeId, now_ms: u64) {
        self.to_apply.remove(&node);
        if let Some(vitals) = self.brokers.get_mut(&node) {
            vitals.unfenced_since_ms.get_or_insert(now_ms);
        }
    }

    /// Brokers that are unfenced and were not heard of for a whole session, by id: to be fenced one by
    /// one, each followed by [`lost`](Self::lost).
    #[must_use]
    pub fn expired(
        &self,
        image: &ClusterImage,
        now_ms: u64,
        session_timeout_ms: u64,
    ) -> Vec<NodeId> {
        self.unfenced_brokers(image)
            .filter(|(_, seen_ms)| now_ms.saturating_sub(*seen_ms) >= session_timeout_ms)
            .map(|(id, _)| id)
            .collect()
    }

    /// The earliest time at which [`expired`](Self::expired) has something to say; ms.
    #[must_use]
    pub fn next_expiry_ms(&self, image: &ClusterImage, session_timeout_ms: u64) -> Option<u64> {
        self.unfenced_brokers(image)
            .map(|(_, seen_ms)| seen_ms.saturating_add(session_timeout_ms))
            .min()
    }

    /// Brokers that are to be fenced some day, with the time they were heard of last.
    fn unfenced_brokers<'a>(
        &'a self,
        image: &'a ClusterImage,
    ) -> impl Iterator<Item = (NodeId, u64)> + 'a {
        image
            .brokers()
            .filter(|(_, broker)| broker.registration.is_some() && !broker.fenced)
            .map(|(id, _)| {
                let seen_ms = self.brokers.get(&id).map(|vitals| vitals.last_seen_ms);
                (id, seen_ms.unwrap_or(self.activated_ms))
            })
    }

    /// A broker was fenced because its session expired. More than a third of all brokers lost within one
    /// session timeout is a mass outage: whatever it was, the picture is not to be trusted for another
    /// session timeout from the last of them on. A broker that had been told that it may stop is not
    /// lost.
    pub fn lost(&mut self, node: NodeId, now_ms: u64, session_timeout_ms: u64) {
        let had_stopped = self
            .brokers
            .get(&node)
            .is_some_and(|vitals| vitals.wants_shutdown && !vitals.has_session);
        self.ended(node);
        self.being_fenced.remove(&node);
        if had_stopped {
            return;
        }
        while let Some((at, _)) = self.lost_ms.front() {
            let is_old = now_ms.saturating_sub(*at) > session_timeout_ms;
            if !is_old {
                break;
            }
            self.lost_ms.pop_front();
        }
        self.lost_ms.retain(|(_, id)| *id != node);
        self.lost_ms.push_back((now_ms, node));
        if self.lost_ms.len() * MASS_OUTAGE_FRACTION > self.brokers.len() {
            let until = now_ms.saturating_add(session_timeout_ms);
            self.mass_outage_until_ms = self.mass_outage_until_ms.max(Some(until));
        }
    }

    /// A broker's session ended: it was told that it may stop. Its next life need not wait.
    pub fn ended(&mut self, node: NodeId) {
        if let Some(vitals) = self.brokers.get_mut(&node) {
            vitals.has_session = false;
            vitals.unfenced_since_ms = None;
        }
    }

    /// A node was removed from the cluster.
    pub fn removed(&mut self, node: NodeId) {
        self.brokers.remove(&node);
        self.to_apply.remove(&node);
        self.being_fenced.remove(&node);
        self.lost_ms.retain(|(_, id)| *id != node);
    }

    /// Whether another life of this node may still run: its session has not expired. What
    /// `register_broker` wants to know.
    #[must_use]
    pub fn has_live_session_of_another(
        &self,
        image: &ClusterImage,
        node: NodeId,
        incarnation: IncarnationId,
        now_ms: u64,
        session_timeout_ms: u64,
    ) -> bool {
        let is_another = image
            .broker(node)
            .and_then(|broker| broker.registration.as_ref())
            .is_some_and(|life| life.incarnation != incarnation);
        is_another && self.is_alive(node, now_ms, session_timeout_ms)
    }

    /// Whether a broker's session has not expired.
    #[must_use]
    pub fn is_alive(&self, node: NodeId, now_ms: u64, session_timeout_ms: u64) -> bool {
        self.brokers.get(&node).is_some_and(|vitals| {
            vitals.has_session && now_ms.saturating_sub(vitals.last_seen_ms) < session_timeout_ms
        })
    }

    /// Time since a broker was last heard of, in ms; `None` if this controller never heard of it.
    #[must_use]
    pub fn silent_ms(&self, node: NodeId, now_ms: u64) -> Option<u64> {
        self.brokers
            .get(&node)
            .filter(|vitals| vitals.was_heard)
            .map(|vitals| now_ms.saturating_sub(vitals.last_seen_ms))
    }

    /// How a broker is.
    #[must_use]
    pub fn vitals(&self, node: NodeId) -> Option<&BrokerVitals> {
        self.brokers.get(&node)
    }

    /// How all brokers are, by id.
    pub fn all_vitals(&self) -> impl ExactSizeIterator<Item = (NodeId, &BrokerVitals)> {
        self.brokers.iter().map(|(id, vitals)| (*id, vitals))
    }

    /// Whether every active broker except `leaving` has applied everything that took something from it,
    /// as far as heartbeats say: then nobody looks for a partition there any more, and it may stop.
    /// `index`: position in the metadata log of what its last heartbeat changed; 0 if that was nothing.
    pub fn have_applied(&mut self, image: &ClusterImage, leaving: NodeId, index: u64) -> bool {
        let Some(vitals) = self.brokers.get_mut(&leaving) else {
            return false;
        };
        vitals.left_at = vitals.left_at.max(index);
        let left_at = vitals.left_at;
        image
            .brokers()
            .filter(|(id, broker)| *id != leaving && broker.is_active())
            .all(|(id, _)| {
                self.brokers
                    .get(&id)
                    .is_some_and(|vitals| vitals.metadata_index >= left_at)
            })
    }

    /// Until when a mass outage keeps the cluster in safe mode; ms. `None`: there is none.
    #[must_use]
    pub fn mass_outage_until(&self, now_ms: u64) -> Option<u64> {
        self.mass_outage_until_ms.filter(|until| now_ms < *until)
    }
}

impl BrokerVitals {
    fn unknown(now_ms: u64) -> Self {
        Self {
            last_seen_ms: now_ms,
            unfenced_since_ms: None,
            was_heard: false,
            metadata_index: 0,
            log_bytes: 0,
            disk_free: None,
            disk_total: None,
            wants_fence: false,
            wants_shutdown: false,
            has_session: true,
            left_at: 0,
        }
    }
}

#[cfg(test)]
#[path = "broker_registry_tests.rs"]
mod tests;
