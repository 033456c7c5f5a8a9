//! Giving every node its share of replicas and leaders.

use std::collections::BTreeSet;

use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::MoveReason;

use crate::balance_board::Board;
use crate::cluster_image::ClusterImage;
use crate::node_loads::NodeLoads;
use crate::placement::candidates;
use crate::reassignment::{LeaderTarget, ReplicaTarget, moves_in_flight, partitions_of};

/// Partitions whose replicas only change their order, begun in one wave at most: nothing is copied.
pub const REORDERS_PER_WAVE_MAX: usize = 1000;

/// Moves that balance the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalancePlan {
    /// At most one for a partition; those that copy data come first.
    pub moves: Vec<BalanceMove>,
}

/// A move of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceMove {
    /// Its replicas when the plan was made.
    pub from: Vec<NodeId>,
    /// What it shall have. The same replicas in another order: another preferred leader.
    pub target: ReplicaTarget,
}

impl BalanceMove {
    /// Whether a replica has to be copied.
    #[must_use]
    pub fn copies(&self) -> bool {
        self.target
            .replicas
            .iter()
            .any(|node| !self.from.contains(node))
    }
}

/// Plans the moves after which replicas and preferred leaders are spread evenly over the brokers that
/// are active and not drained: no broker could give one to another without breaking the rule about
/// racks, or with a difference of two or more remaining. Replicas that crowd a rack while another has
/// room move too. Bytes decide which of equals gives or takes.
///
/// Left alone are partitions that are being moved, have no leader, or have a replica on a broker that
/// is not active or drained. No disk is filled beyond `disk_percent_max`.
#[must_use]
pub fn plan_balance(image: &ClusterImage, loads: &NodeLoads, disk_percent_max: u32) -> BalancePlan {
    let mut board = Board::of(image, loads, disk_percent_max);
    board.balance();
    let mut moves: Vec<BalanceMove> = board
        .changes()
        .map(|change| BalanceMove {
            from: change.from,
            target: ReplicaTarget {
                topic: change.topic.name.clone(),
                topic_id: change.topic.id,
                partition: change.partition,
                replicas: change.to,
                reason: MoveReason::Balance,
            },
        })
        .collect();
    moves.sort_by_key(|one| !one.copies());
    BalancePlan { moves }
}

/// What of a plan is to be done now. When all of it is empty, the plan is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalanceWave {
    /// Moves to begin.
    pub begin: Vec<ReplicaTarget>,
    /// Moves that wait for their turn.
    pub waiting: usize,
    /// Moves of the plan that are under way.
    pub under_way: usize,
}

/// The next moves of a plan, so that with those of others no more than `moves_max` partitions are
/// copied at a time.
///
/// A move is dropped when its partition has meanwhile got other replicas, has no leader or is gone, or
/// when a broker that it goes to is not up: another plan can be made then.
#[must_use]
pub fn next_wave(plan: &BalancePlan, image: &ClusterImage, moves_max: usize) -> BalanceWave {
    let mut turns = moves_max.saturating_sub(moves_in_flight(image));
    let mut reorders = REORDERS_PER_WAVE_MAX;
    let open: BTreeSet<NodeId> = candidates(image).into_iter().collect();
    let mut wave = BalanceWave::default();
    for one in &plan.moves {
        let target = &one.target;
        let Some(now) = image
            .topic_by_id(target.topic_id)
            .and_then(|topic| topic.partition(target.partition))
        else {
            continue;
        };
        if now.is_moving() {
            wave.under_way += usize::from(now.target() == target.replicas);
            continue;
        }
        let can_go = |node: &NodeId| now.replicas.contains(node) || open.contains(node);
        if now.replicas == target.replicas
            || now.leader.is_none()
            || !is_same_set(&now.replicas, &one.from)
            || !target.replicas.iter().all(can_go)
        {
            continue;
        }
        let left = if one.copies() {
            &mut turns
        } else {
            &mut reorders
        };
        if *left == 0 {
            wave.waiting += 1;
        } else {
            *left -= 1;
            wave.begin.push(target.clone());
        }
    }
    wave
}

fn is_same_set(a: &[NodeId], b: &[NodeId]) -> bool {
    a.len() == b.len() && a.iter().all(|node| b.contains(node))
}

/// Leaderships to give back to the first replica of their partition: it is in sync, active, not
/// drained, and `is_settled`, which is to say active for a while. At most `leaders_max`; partitions
/// that are being moved are left alone.
#[must_use]
pub fn preferred_leaders(
    image: &ClusterImage,
    is_settled: impl Fn(NodeId) -> bool,
    leaders_max: usize,
) -> Vec<LeaderTarget> {
    let open: BTreeSet<NodeId> = candidates(image)
        .into_iter()
        .filter(|node| is_settled(*node))
        .collect();
    partitions_of(image)
        .filter_map(|(topic, partition, now)| {
            let to = *now.replicas.first()?;
            let from = now.leader?;
            let can_lead =
                from != to && now.isr.contains(&to) && open.contains(&to) && !now.is_moving();
            can_lead.then(|| LeaderTarget {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partition,
                from: Some(from),
                to,
            })
        })
        .take(leaders_max)
        .collect()
}
