//! Rebuilding replicas elsewhere: of nodes that are gone for too long or were removed, and of nodes that
//! are drained.
//!
//! A target names the new replicas only; the old one stays in the partition until the new one is in
//! sync. A node that lives and whose log of a partition is damaged does not concern this: that log is
//! rebuilt in its place.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::{NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{AbsentNode, MoveReason};

use crate::cluster_image::{ClusterImage, PartitionImage, TopicImage};
use crate::node_loads::NodeLoads;
use crate::outage::outage;
use crate::placement::{Spread, candidates};
use crate::reassignment::{
    LeaderTarget, MovesBegun, ReplicaTarget, moves_in_flight, origin_of, partitions_of,
};
use crate::replica_sizes::ReplicaSizes;

/// Leaderships that one plan moves at most.
pub const LEADERS_PER_PLAN_MAX: usize = 1000;

/// What is rebuilt, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealingSettings {
    /// How long a node is absent before it counts as lost, in ms; `None`: it never does.
    pub after_ms: Option<u64>,
    /// Partitions that are rebuilt or moved at a time.
    pub moves_max: usize,
    /// No replica goes to a disk that is, or would become, fuller than this.
    pub disk_percent_max: u32,
}

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealingPlan {
    /// Moves to begin, for the reasons `Heal` and `Drain`. One may replace a move that is under way to
    /// or beside a node that is gone, and so could not end well.
    pub begin: Vec<ReplicaTarget>,
    /// Moves to give up: what they were to replace is back.
    pub cancel: BTreeSet<(TopicId, PartitionId)>,
    /// Leaderships to take from nodes that are drained.
    pub leaders: Vec<LeaderTarget>,
    /// Partitions that need a move which is not among `begin`: it is not their turn, their leadership
    /// moves first, they have no leader, or no node can take them.
    pub waiting: usize,
    /// Why nothing is begun although something is wrong.
    pub paused: Option<String>,
    /// Nodes that are gone, with the time until they count as lost.
    pub absent: Vec<AbsentNode>,
}

/// Decides what to rebuild or move off at `now_ms`. `held` says why nothing may be moved at present,
/// if so: safe mode, or no quorum.
#[must_use]
pub fn plan_healing(
    image: &ClusterImage,
    loads: &NodeLoads,
    begun: &MovesBegun,
    settings: &HealingSettings,
    now_ms: u64,
    held: Option<&str>,
) -> HealingPlan {
    let lost = lost_nodes(image, loads, settings, now_ms);
    let mut plan = HealingPlan {
        absent: absent_nodes(image, loads, settings, now_ms),
        ..HealingPlan::default()
    };
    if let Some(reason) = held {
        plan.paused = Some(reason.to_owned());
        return plan;
    }
    plan.cancel = no_longer_needed(image, begun, &lost);
    if let Some(reason) = outage(image, &lost) {
        plan.paused = Some(reason);
        return plan;
    }
    let mut needs = Vec::new();
    for (topic, partition, now) in partitions_of(image) {
        let Some(need) = Need::of(image, &lost, topic, partition, now) else {
            continue;
        };
        if plan.cancel.contains(&(topic.id, partition)) {
            continue;
        }
        if now.leader.is_none() {
            plan.waiting += 1;
            continue;
        }
        if let Some(target) = need.leader_target(image) {
            if plan.leaders.len() < LEADERS_PER_PLAN_MAX {
                plan.leaders.push(target);
            }
            if need.reason == MoveReason::Drain {
                plan.waiting += 1;
                continue;
            }
        }
        needs.push(need);
    }
    if !needs.is_empty() {
        // The fewer copies there are beyond the fewest allowed, the sooner.
        needs.sort_by_key(Need::urgency);
        begin_moves(image, loads, settings, &needs, &mut plan);
    }
    plan
}

/// Replicas that the node still has.
#[must_use]
pub fn replicas_left(image: &ClusterImage, node: NodeId) -> u32 {
    let left = partitions_of(image)
        .filter(|(_, _, now)| now.replicas.contains(&node))
        .count();
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// Nodes that are absent for too long. One that is drained is emptied anyway and does not count.
fn lost_nodes(
    image: &ClusterImage,
    loads: &NodeLoads,
    settings: &HealingSettings,
    now_ms: u64,
) -> BTreeSet<NodeId> {
    let Some(after_ms) = settings.after_ms else {
        return BTreeSet::new();
    };
    image
        .brokers()
        .filter(|(id, broker)| {
            let absent_ms = loads.get(id).and_then(|load| load.absent_ms(now_ms));
            broker.registration.is_some()
                && broker.fenced
                && !broker.draining
                && absent_ms.is_some_and(|absent_ms| absent_ms >= after_ms)
        })
        .map(|(id, _)| id)
        .collect()
}

fn absent_nodes(
    image: &ClusterImage,
    loads: &NodeLoads,
    settings: &HealingSettings,
    now_ms: u64,
) -> Vec<AbsentNode> {
    image
        .brokers()
        .filter(|(_, broker)| broker.registration.is_some() && broker.fenced)
        .filter_map(|(node_id, _)| {
            let absent_ms = loads.get(&node_id)?.absent_ms(now_ms)?;
            Some(AbsentNode {
                node_id,
                replicas: replicas_left(image, node_id),
                heals_in_ms: settings
                    .after_ms
                    .map(|after_ms| after_ms.saturating_sub(absent_ms)),
            })
        })
        .collect()
}

/// Moves that healing began, whose old replicas are all back while no new one is in sync, and that
/// would leave the partition with nothing else to heal.
fn no_longer_needed(
    image: &ClusterImage,
    begun: &MovesBegun,
    lost: &BTreeSet<NodeId>,
) -> BTreeSet<(TopicId, PartitionId)> {
    begun
        .iter()
        .filter(|(_, reason)| **reason == MoveReason::Heal)
        .filter(|((topic, partition), _)| {
            image
                .topic_by_id(*topic)
                .and_then(|topic| topic.partition(*partition))
                .is_some_and(|now| {
                    !now.removing.is_empty()
                        && !now.adding.is_empty()
                        && now.removing.iter().all(|node| can_hold(image, *node))
                        && !now.adding.iter().any(|node| now.isr.contains(node))
                        && !origin_of(now).any(|node| must_leave(image, lost, node).is_some())
                })
        })
        .map(|(key, _)| *key)
        .collect()
}

/// Whether a replica on the node can serve for good.
fn can_hold(image: &ClusterImage, node: NodeId) -> bool {
    image
        .broker(node)
        .is_some_and(|broker| broker.is_active() && !broker.draining)
}

/// Why no replica shall stay on the node, if so. Who removed a node by force has said that its
/// replicas are lost.
fn must_leave(image: &ClusterImage, lost: &BTreeSet<NodeId>, node: NodeId) -> Option<MoveReason> {
    match image.broker(node) {
        None => Some(MoveReason::Heal),
        Some(broker) if broker.draining => Some(MoveReason::Drain),
        Some(_) => lost.contains(&node).then_some(MoveReason::Heal),
    }
}

/// A partition that shall leave nodes, or has too few.
struct Need<'a> {
    topic: &'a TopicImage,
    partition: PartitionId,
    now: &'a PartitionImage,
    /// What it shall have as things stand, nodes to leave included.
    target: Vec<NodeId>,
    /// Nodes to leave.
    leaving: Vec<NodeId>,
    /// How many fewer replicas it has than its topic wants.
    missing: usize,
    reason: MoveReason,
}

impl<'a> Need<'a> {
    fn of(
        image: &ClusterImage,
        lost: &BTreeSet<NodeId>,
        topic: &'a TopicImage,
        partition: PartitionId,
        now: &'a PartitionImage,
    ) -> Option<Self> {
        let target = now.target();
        let missing = usize::from(topic.replicas).saturating_sub(target.len());
        let mut reason = if missing > 0 {
            MoveReason::Heal
        } else {
            MoveReason::Drain
        };
        let mut leaving = Vec::new();
        for node in &target {
            if let Some(why) = must_leave(image, lost, *node) {
                leaving.push(*node);
                if why == MoveReason::Heal {
                    reason = why;
                }
            }
        }
        (missing > 0 || !leaving.is_empty()).then_some(Self {
            topic,
            partition,
            now,
            target,
            leaving,
            missing,
            reason,
        })
    }

    fn urgency(&self) -> (bool, i64) {
        let spare = self.now.isr.len() as i64 - i64::from(self.topic.isr_min);
        (self.reason == MoveReason::Drain, spare)
    }

    /// Who can lead instead of a leader that is drained.
    fn leader_target(&self, image: &ClusterImage) -> Option<LeaderTarget> {
        let from = self.now.leader?;
        if !image.broker(from)?.draining {
            return None;
        }
        let can_lead = |node: &NodeId| self.now.isr.contains(node) && can_hold(image, *node);
        let to = self.target.iter().copied().find(can_lead)?;
        Some(LeaderTarget {
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partition: self.partition,
            from: Some(from),
            to,
        })
    }
}

/// Why a partition got no other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NoPlace {
    /// All that could take it hold it already.
    Nodes,
    /// Some would take it if their disks had room.
    Disks,
}

struct Search<'a> {
    image: &'a ClusterImage,
    loads: &'a NodeLoads,
    settings: &'a HealingSettings,
    spread: Spread,
    sizes: ReplicaSizes,
    /// Bytes that moves under way and planned ones will still bring to a node.
    coming: BTreeMap<NodeId, u64>,
}

fn begin_moves(
    image: &ClusterImage,
    loads: &NodeLoads,
    settings: &HealingSettings,
    needs: &[Need<'_>],
    plan: &mut HealingPlan,
) {
    let sizes = ReplicaSizes::of(image, loads);
    let mut search = Search {
        image,
        loads,
        settings,
        spread: Spread::of(image, loads, &candidates(image)),
        coming: sizes.coming(image),
        sizes,
    };
    let in_flight = moves_in_flight(image);
    let mut turns = settings.moves_max.saturating_sub(in_flight);
    let mut blocked = Vec::new();
    for need in needs {
        // A move that is changed takes no further turn: it is in flight already.
        let takes_turn = need.now.adding.is_empty();
        if takes_turn && turns == 0 {
            plan.waiting += 1;
            continue;
        }
        match search.replacement(need) {
            Ok(replicas) => {
                turns -= usize::from(takes_turn);
                plan.begin.push(ReplicaTarget {
                    topic: need.topic.name.clone(),
                    topic_id: need.topic.id,
                    partition: need.partition,
                    replicas,
                    reason: need.reason,
                });
            }
            Err(no_place) => {
                plan.waiting += 1;
                blocked.push(no_place);
            }
        }
    }
    if plan.begin.is_empty() && in_flight == 0 {
        let partitions = blocked.len();
        plan.paused = blocked.into_iter().max().map(|worst| match worst {
            NoPlace::Nodes => format!(
                "{partitions} partitions have to move, and every broker that is up holds them already"
            ),
            NoPlace::Disks => format!(
                "{partitions} partitions have to move, and the disks of the brokers that could take \
                 them are too full (heal.disk.max.percent = {})",
                settings.disk_percent_max
            ),
        });
    }
}

impl Search<'_> {
    /// The partition's replicas with another node in the place of each that it shall leave, and with
    /// those that are missing; or of these as many as there are other nodes for.
    fn replacement(&mut self, need: &Need<'_>) -> Result<Vec<NodeId>, NoPlace> {
        let size = self.sizes.of_partition(need.now);
        let mut replicas = need.target.clone();
        let mut no_place = NoPlace::Nodes;
        let mut found = 0;
        for position in 0..need.target.len() + need.missing {
            let replaces = need.target.get(position);
            if replaces.is_some_and(|node| !need.leaving.contains(node)) {
                continue;
            }
            // A replica that is to be left does not hold its place in its rack.
            let others: Vec<NodeId> = replicas
                .iter()
                .copied()
                .filter(|node| !need.leaving.contains(node))
                .collect();
            let Some(node) = self
                .still_held(need, &others)
                .or_else(|| self.other_node(need, &others, size, &mut no_place))
            else {
                break;
            };
            match replicas.get_mut(position) {
                Some(replaced) => *replaced = node,
                None => replicas.push(node),
            }
            found += 1;
            self.spread.take(node);
            if position == 0 {
                self.spread.take_lead(node);
            }
            if !need.now.replicas.contains(&node) {
                *self.coming.entry(node).or_default() += size;
            }
        }
        if found > 0 {
            Ok(replicas)
        } else {
            Err(no_place)
        }
    }

    /// A node that a move under way was to remove, and that is in sync: it can just stay.
    fn still_held(&self, need: &Need<'_>, others: &[NodeId]) -> Option<NodeId> {
        need.now.removing.iter().copied().find(|node| {
            !others.contains(node) && need.now.isr.contains(node) && can_hold(self.image, *node)
        })
    }

    fn other_node(
        &self,
        need: &Need<'_>,
        others: &[NodeId],
        size: u64,
        no_place: &mut NoPlace,
    ) -> Option<NodeId> {
        let found = self.spread.choose(others, |node| {
            let coming = self.coming.get(&node).copied().unwrap_or(0);
            let more = if need.now.replicas.contains(&node) {
                coming
            } else {
                coming.saturating_add(size)
            };
            self.loads
                .get(&node)
                .is_some_and(|load| load.has_room(more, self.settings.disk_percent_max))
        });
        if found.is_none() && self.spread.choose(others, |_| true).is_some() {
            *no_place = NoPlace::Disks;
        }
        found
    }
}
