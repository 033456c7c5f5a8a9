//! Safe mode: nothing is moved until the picture has settled.
//!
//! A controller that just became active does not know yet who is there, and when many brokers went at
//! once it is more likely that they come back than that they are lost. Data that is moved then is moved
//! in vain, and burdens those that are left.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{BrokerEpoch, NodeId};

use crate::cluster_image::ClusterImage;
use crate::node_loads::NodeLoads;

/// Whether nothing may be moved, and why. One for each time that a controller is active.
#[derive(Debug, Clone)]
pub struct SafeMode {
    session_timeout_ms: u64,
    active_reason: Option<Entered>,
    /// Brokers as they were observed last.
    brokers: BTreeMap<NodeId, Seen>,
    changed_ms: u64,
    /// When brokers were fenced that did not stop in order; only of the last session timeout.
    fenced: BTreeMap<NodeId, u64>,
    /// Why it is not over yet, when nothing has changed for long enough.
    awaited: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entered {
    Activation,
    MassFencing { fenced: usize, of: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    epoch: Option<BrokerEpoch>,
    active: bool,
    shutting_down: bool,
}

impl SafeMode {
    /// Safe mode of a controller that became active at `now_ms` (monotonic).
    #[must_use]
    pub fn at_activation(now_ms: u64, session_timeout_ms: u64) -> Self {
        Self {
            session_timeout_ms,
            active_reason: Some(Entered::Activation),
            brokers: BTreeMap::new(),
            changed_ms: now_ms,
            fenced: BTreeMap::new(),
            awaited: BTreeSet::new(),
        }
    }

    /// Takes in how the brokers are at `now_ms`. Called often: once in each tick of the controller and
    /// after every broker that was fenced or came.
    ///
    /// Safe mode begins when more than a third of the brokers were fenced within one session timeout.
    /// It ends when for one session timeout no broker came, went or changed, and every broker is either
    /// active or absent for longer than that.
    pub fn observe(&mut self, image: &ClusterImage, loads: &NodeLoads, now_ms: u64) {
        let brokers: BTreeMap<NodeId, Seen> = image
            .brokers()
            .filter(|(_, broker)| broker.registration.is_some())
            .map(|(id, broker)| {
                let seen = Seen {
                    epoch: broker.epoch(),
                    active: broker.is_active(),
                    shutting_down: broker.shutting_down,
                };
                (id, seen)
            })
            .collect();
        for (id, seen) in &brokers {
            let was_active = self.brokers.get(id).is_some_and(|before| before.active);
            if was_active && !seen.active && !seen.shutting_down {
                self.fenced.insert(*id, now_ms);
            }
        }
        let timeout_ms = self.session_timeout_ms;
        self.fenced
            .retain(|_, at_ms| now_ms.saturating_sub(*at_ms) <= timeout_ms);
        if self.brokers != brokers {
            self.brokers = brokers;
            self.changed_ms = now_ms;
        }
        if self.fenced.len() * 3 > self.brokers.len() {
            self.active_reason = Some(Entered::MassFencing {
                fenced: self.fenced.len(),
                of: self.brokers.len(),
            });
        }
        if self.active_reason.is_some() {
            self.awaited = self
                .brokers
                .iter()
                .filter(|(_, seen)| !seen.active)
                .filter(|(id, _)| {
                    let absent_ms = loads.get(id).and_then(|load| load.absent_ms(now_ms));
                    absent_ms.is_none_or(|absent_ms| absent_ms <= timeout_ms)
                })
                .map(|(id, _)| *id)
                .collect();
            let is_settled = now_ms.saturating_sub(self.changed_ms) >= timeout_ms;
            if is_settled && self.awaited.is_empty() && self.fenced.is_empty() {
                self.active_reason = None;
            }
        }
    }

    /// Why nothing may be moved; `None`: it may.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let why = match self.active_reason? {
            Entered::Activation => "the controller became active a short while ago".to_owned(),
            Entered::MassFencing { fenced, of } => {
                format!("{fenced} of {of} brokers were lost at once")
            }
        };
        let awaited: Vec<String> = self.awaited.iter().map(ToString::to_string).collect();
        Some(if awaited.is_empty() {
            format!("safe mode: {why}")
        } else {
            format!("safe mode: {why}; waiting for node {}", awaited.join(", "))
        })
    }
}
