//! Every node gets its share.

use std::collections::BTreeSet;

use highwater_coordination::balance::{
    BalancePlan, BalanceWave, next_wave, plan_balance, preferred_leaders,
};
use highwater_coordination::placement::candidates;
use highwater_coordination::reassignment::{ReplicaTarget, moves_in_flight};
use highwater_protocol::ids::{NodeId, PartitionId};
use highwater_protocol::messages::MoveReason;
use proptest::prelude::*;

use crate::cluster::*;

fn plan(cluster: &Cluster) -> BalancePlan {
    plan_balance(&cluster.image, &cluster.loads, 85)
}

/// Carries a plan out in waves; how many there were.
fn carry_out(cluster: &mut Cluster, plan: &BalancePlan, moves_max: usize) -> usize {
    for waves in 0.. {
        let wave = next_wave(plan, &cluster.image, moves_max);
        assert!(wave.begin.len() <= moves_max + plan.moves.iter().filter(|m| !m.copies()).count());
        if wave.begin.is_empty() && wave.waiting == 0 && wave.under_way == 0 {
            return waves;
        }
        for target in &wave.begin {
            cluster.begin(target);
        }
        assert!(moves_in_flight(&cluster.image) <= moves_max);
        cluster.catch_up();
        assert!(waves <= plan.moves.len(), "a plan that does not end");
    }
    0
}

#[test]
fn a_new_node_gets_its_share_of_replicas_and_leaders() {
    let mut cluster = Cluster::without_racks(3);
    assert!(cluster.placed_topic("a", 30, 2));
    assert!(cluster.placed_topic("b", 10, 2));
    assert!(plan(&cluster).moves.is_empty());
    cluster.join(4, None);
    let plan = plan(&cluster);
    // 80 replicas on 4 nodes: 20 go to the new one, and no other moves.
    let copies: Vec<_> = plan.moves.iter().filter(|one| one.copies()).collect();
    assert_eq!(copies.len(), 20);
    for one in &copies {
        assert_eq!(one.target.reason, MoveReason::Balance);
        let added: Vec<NodeId> = one
            .target
            .replicas
            .iter()
            .copied()
            .filter(|node| !one.from.contains(node))
            .collect();
        assert_eq!(added, nodes(&[4]));
    }
    carry_out(&mut cluster, &plan, 3);
    assert!(cluster.counts().values().all(|counts| *counts == (20, 10)));
    // Of each topic as well.
    let of_a = (0..30).filter(|i| cluster.partition("a", *i).replicas.contains(&node(4)));
    assert_eq!(of_a.count(), 15);
}

#[test]
fn another_order_is_enough_where_only_leaders_are_uneven() {
    let mut cluster = Cluster::without_racks(3);
    let sets = [[1, 2, 3]; 9].map(|set| nodes(&set));
    cluster.topic("a", &sets);
    let plan = plan(&cluster);
    assert_eq!(plan.moves.len(), 6);
    assert!(plan.moves.iter().all(|one| !one.copies()));
    // Nothing is copied: no turn is needed.
    let wave = next_wave(&plan, &cluster.image, 0);
    assert_eq!((wave.begin.len(), wave.waiting), (6, 0));
    for target in &wave.begin {
        cluster.begin(target);
    }
    assert!(cluster.counts().values().all(|counts| *counts == (9, 3)));
}

#[test]
fn replicas_leave_a_crowded_rack() {
    let mut cluster = Cluster::of(&["a", "a", "b", "b"].map(Some));
    cluster.topic("t", &[nodes(&[1, 2]), nodes(&[3, 4])]);
    let plan = plan(&cluster);
    carry_out(&mut cluster, &plan, 1);
    for index in 0..2 {
        let replicas = cluster.partition("t", index).replicas;
        assert!(cluster.is_spread(&replicas), "{replicas:?}");
    }
    assert!(cluster.counts().values().all(|counts| counts.0 == 1));
}

#[test]
fn where_racks_forbid_the_direct_way_replicas_go_over_another_node() {
    let mut cluster = Cluster::of(&["a", "b", "c", "c"].map(Some));
    cluster.topic("two", &[nodes(&[1, 3]), nodes(&[1, 3]), nodes(&[1, 4])]);
    cluster.topic("one", &[nodes(&[2]), nodes(&[2])]);
    // Node 1 has 3 replicas and node 4 has 1; yet all of node 1 have a replica in the rack of node 4.
    let plan = plan(&cluster);
    carry_out(&mut cluster, &plan, 5);
    assert!(cluster.counts().values().all(|counts| counts.0 == 2));
    for (_, _, partition) in cluster.partitions() {
        assert!(cluster.is_spread(&partition.replicas));
    }
}

#[test]
fn bytes_decide_who_of_equals_gives_and_who_takes() {
    let mut cluster = Cluster::without_racks(4);
    cluster.topic("a", &[nodes(&[1]), nodes(&[1]), nodes(&[2]), nodes(&[2])]);
    cluster.load(1).log_bytes = 10;
    cluster.load(2).log_bytes = 1000;
    cluster.load(3).log_bytes = 7;
    let plan = plan(&cluster);
    let moves: Vec<_> = plan
        .moves
        .iter()
        .map(|one| (one.from.clone(), one.target.replicas.clone()))
        .collect();
    assert_eq!(
        moves,
        [(nodes(&[1]), nodes(&[3])), (nodes(&[2]), nodes(&[4]))]
    );
}

#[test]
fn no_disk_is_overfilled_and_what_is_not_settled_stays() {
    let mut cluster = Cluster::without_racks(2);
    assert!(cluster.placed_topic("a", 12, 1));
    cluster.load(1).log_bytes = 600;
    cluster.load(2).log_bytes = 600;
    cluster.join(3, None);
    // Replicas have 100 bytes, and there is room for 250.
    cluster.load(3).disk_total = 1000;
    cluster.load(3).disk_free = 400;
    assert_eq!(plan(&cluster).moves.len(), 2);
    cluster.load(3).disk_total = 0;
    assert!(plan(&cluster).moves.is_empty());

    let mut cluster = Cluster::without_racks(2);
    cluster.topic("a", &[nodes(&[1]), nodes(&[1]), nodes(&[1]), nodes(&[1])]);
    let mut leaderless = cluster.partition("a", 0);
    leaderless.leader = None;
    cluster.put("a", 0, leaderless);
    let one = plan(&cluster).moves;
    assert_eq!(one.len(), 2);
    assert!(one.iter().all(|one| one.target.partition.get() != 0));
    cluster.begin(&one[0].target);
    let again = plan(&cluster).moves;
    assert_eq!(again, [one[1].clone()]);
    cluster.set(2, DRAINING);
    assert!(plan(&cluster).moves.is_empty());

    // What is on its way is left to arrive, even if all of it goes to one node.
    let mut cluster = Cluster::without_racks(2);
    cluster.topic("a", &[nodes(&[1]), nodes(&[1]), nodes(&[1]), nodes(&[1])]);
    let template = plan(&cluster).moves[0].target.clone();
    for partition in 0..4 {
        cluster.begin(&ReplicaTarget {
            partition: PartitionId::new(partition),
            ..template.clone()
        });
    }
    assert_eq!(plan(&cluster), BalancePlan::default());
}

#[test]
fn a_plan_drops_what_has_become_impossible() {
    let mut cluster = Cluster::without_racks(1);
    assert!(cluster.placed_topic("a", 8, 1));
    cluster.join(2, None);
    let plan = plan(&cluster);
    assert_eq!(plan.moves.len(), 4);
    let wave = next_wave(&plan, &cluster.image, 1);
    assert_eq!((wave.begin.len(), wave.waiting, wave.under_way), (1, 3, 0));
    cluster.begin(&wave.begin[0]);
    let wave = next_wave(&plan, &cluster.image, 1);
    assert_eq!((wave.begin.len(), wave.waiting, wave.under_way), (0, 3, 1));
    cluster.catch_up();
    assert_eq!(next_wave(&plan, &cluster.image, 9).begin.len(), 3);
    // One has got other replicas, one has lost its leader.
    cluster.join(3, None);
    cluster.begin(&ReplicaTarget {
        replicas: nodes(&[3]),
        ..plan.moves[1].target.clone()
    });
    cluster.catch_up();
    let index = plan.moves[2].target.partition.get();
    let mut leaderless = cluster.partition("a", index);
    leaderless.leader = None;
    cluster.put("a", index, leaderless);
    let wave = next_wave(&plan, &cluster.image, 9);
    assert_eq!(wave.begin, [plan.moves[3].target.clone()]);
    assert_eq!((wave.waiting, wave.under_way), (0, 0));
    cluster.lose(2, 0);
    assert_eq!(next_wave(&plan, &cluster.image, 9), BalanceWave::default());
}

#[test]
fn leaderships_go_back_to_first_replicas_that_are_settled() {
    let mut cluster = Cluster::without_racks(3);
    cluster.topic("a", &[nodes(&[1, 2]), nodes(&[1, 3]), nodes(&[2, 1])]);
    cluster.lose(1, 0);
    let preferred = |cluster: &Cluster, max| {
        preferred_leaders(&cluster.image, |id| id != node(3), max)
            .into_iter()
            .map(|target| (target.partition.get(), target.from, target.to))
            .collect::<Vec<_>>()
    };
    assert!(preferred(&cluster, 9).is_empty());
    cluster.comes_back(1);
    // Not in sync yet.
    assert!(preferred(&cluster, 9).is_empty());
    cluster.catch_up();
    let both = [(0, Some(node(2)), node(1)), (1, Some(node(3)), node(1))];
    assert_eq!(preferred(&cluster, 9), both);
    assert_eq!(preferred(&cluster, 1), both[..1]);
    assert!(preferred_leaders(&cluster.image, |id| id != node(1), 9).is_empty());
    let mut moving = cluster.partition("a", 0);
    moving.removing = nodes(&[2]);
    cluster.put("a", 0, moving);
    assert_eq!(preferred(&cluster, 9), both[1..]);
    cluster.set(1, DRAINING);
    assert!(preferred(&cluster, 9).is_empty());
}

/// Replicas that a node would have to give or take at least: half of the sum of distances to the share.
fn excess(cluster: &Cluster) -> u64 {
    let counts: Vec<u64> = cluster.counts().values().map(|counts| counts.0).collect();
    let share = counts.iter().sum::<u64>() / counts.len() as u64;
    counts.iter().map(|count| count.saturating_sub(share)).sum()
}

proptest! {
    #[test]
    fn balancing_ends_and_never_crowds_racks(
        racks in any_racks(),
        topics in any_topics(),
        seeds in proptest::collection::vec(any::<u32>(), 1..20),
        moves_max in 1..=5usize,
        stop_after in 0..40usize,
    ) {
        let mut cluster = scattered(&racks, &topics, &seeds);
        let first = plan(&cluster);
        let keys: BTreeSet<_> = first
            .moves
            .iter()
            .map(|one| (one.target.topic_id, one.target.partition))
            .collect();
        prop_assert_eq!(keys.len(), first.moves.len());
        for one in &first.moves {
            prop_assert!(is_distinct(&one.target.replicas));
            prop_assert_eq!(one.from.len(), one.target.replicas.len());
            prop_assert_ne!(&one.from, &one.target.replicas);
            prop_assert!(cluster.is_spread(&one.target.replicas));
        }
        // A part of a plan, then another one.
        let part = BalancePlan {
            moves: first.moves.iter().take(stop_after).cloned().collect(),
        };
        carry_out(&mut cluster, &part, moves_max);
        let second = plan(&cluster);
        carry_out(&mut cluster, &second, moves_max);
        prop_assert_eq!(plan(&cluster), BalancePlan::default());
        for (_, _, partition) in cluster.partitions() {
            prop_assert!(cluster.is_spread(&partition.replicas));
        }
        // No move that racks allow would make replicas more even.
        let counts = cluster.counts();
        for (_, _, partition) in cluster.partitions() {
            for from in &partition.replicas {
                for (to, (held, _)) in &counts {
                    if partition.replicas.contains(to) || counts[from].0 < held + 2 {
                        continue;
                    }
                    let moved: Vec<NodeId> = partition
                        .replicas
                        .iter()
                        .map(|id| if id == from { *to } else { *id })
                        .collect();
                    prop_assert!(!cluster.is_spread(&moved), "{from} to {to}: {counts:?}");
                }
            }
        }
        // Within a rack nothing stands in the way of evenness.
        for id in candidates(&cluster.image) {
            let counts = cluster.counts();
            let alike = counts.iter().filter(|(other, _)| cluster.domain(**other) == cluster.domain(id));
            prop_assert!(gap(alike.map(|(_, counts)| counts.0)) <= 1);
        }
    }

    #[test]
    fn shares_are_even_and_no_more_is_moved_than_needed(
        nodes in 1..=9usize,
        topics in any_topics(),
        seeds in proptest::collection::vec(any::<u32>(), 1..20),
    ) {
        let mut cluster = scattered(&vec![None; nodes], &topics, &seeds);
        let needed = excess(&cluster);
        let leaders: u64 = cluster.partitions().len() as u64;
        let plan = plan(&cluster);
        let copies: u64 = plan
            .moves
            .iter()
            .flat_map(|one| one.target.replicas.iter().filter(|id| !one.from.contains(id)))
            .count() as u64;
        // Leaders that no order evens out cost at most two copies each.
        prop_assert!(copies <= needed + 2 * leaders);
        carry_out(&mut cluster, &plan, 7);
        let counts = cluster.counts();
        prop_assert!(gap(counts.values().map(|counts| counts.0)) <= 1, "{:?}", counts);
        prop_assert!(gap(counts.values().map(|counts| counts.1)) <= 1, "{:?}", counts);
    }

    #[test]
    fn racks_of_one_size_get_even_shares(
        racks in even_racks(),
        topics in any_topics(),
        seeds in proptest::collection::vec(any::<u32>(), 1..20),
    ) {
        let mut cluster = scattered(&racks, &topics, &seeds);
        let plan = plan(&cluster);
        carry_out(&mut cluster, &plan, 7);
        let counts = cluster.counts();
        prop_assert!(gap(counts.values().map(|counts| counts.0)) <= 1, "{:?}", counts);
    }

    #[test]
    fn a_joining_node_is_filled_with_as_few_moves_as_possible(
        nodes in 1..=9usize,
        count in 1..=40usize,
        factor in 1..=3u16,
    ) {
        let factor = factor.min(nodes as u16);
        let mut cluster = Cluster::without_racks(nodes);
        cluster.placed_topic("a", count, factor);
        cluster.join(10, None);
        let share = count * usize::from(factor) / (nodes + 1);
        let plan = plan(&cluster);
        let copies = plan.moves.iter().filter(|one| one.copies()).count();
        prop_assert!(copies >= share && copies <= share + 1, "{} of {}", copies, share);
        carry_out(&mut cluster, &plan, 4);
        let counts = cluster.counts();
        prop_assert!(gap(counts.values().map(|counts| counts.1)) <= 1, "{:?}", counts);
    }
}
