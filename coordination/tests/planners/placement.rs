//! Where new partitions go.

use highwater_coordination::placement::{candidates, place};
use proptest::prelude::*;

use crate::cluster::*;

#[test]
fn too_few_candidates_or_no_replicas_is_no_placement() {
    let cluster = Cluster::without_racks(2);
    let place = |candidates: &[u32], replicas| {
        place(
            &cluster.image,
            &cluster.loads,
            &nodes(candidates),
            1,
            replicas,
        )
    };
    assert_eq!(place(&[1, 2], 3), None);
    assert_eq!(place(&[1, 2], 0), None);
    assert_eq!(place(&[], 1), None);
    // Named twice, or not of this cluster.
    assert_eq!(place(&[1, 1], 2), None);
    assert_eq!(place(&[1, 9], 2), None);
    assert!(place(&[1, 2], 2).is_some());
}

#[test]
fn only_active_brokers_that_are_not_drained_are_candidates() {
    let mut cluster = Cluster::without_racks(4);
    cluster.set(1, FENCED);
    cluster.set(2, DRAINING);
    cluster.set(
        3,
        Flags {
            shutting_down: true,
            ..UP
        },
    );
    assert_eq!(candidates(&cluster.image), nodes(&[4]));
}

#[test]
fn one_partition_after_another_goes_round() {
    let mut cluster = Cluster::without_racks(3);
    for topic in ["a", "b", "c"] {
        assert!(cluster.placed_topic(topic, 1, 1));
    }
    assert!(cluster.counts().values().all(|counts| *counts == (1, 1)));
}

#[test]
fn bytes_decide_between_equals() {
    let mut cluster = Cluster::without_racks(3);
    cluster.load(1).log_bytes = 2000;
    cluster.load(2).log_bytes = 1000;
    cluster.load(3).log_bytes = 3000;
    let open = candidates(&cluster.image);
    let placed = place(&cluster.image, &cluster.loads, &open, 3, 1).unwrap();
    assert_eq!(placed, [nodes(&[2]), nodes(&[1]), nodes(&[3])]);
}

#[test]
fn a_rack_that_holds_less_comes_first() {
    let mut cluster = Cluster::of(&["a", "c", "a", "c", "b", "b"].map(Some));
    cluster.topic("old", &[nodes(&[1]), nodes(&[2])]);
    assert!(cluster.placed_topic("new", 2, 2));
    assert!(cluster.counts().values().all(|counts| counts.0 == 1));
}

#[test]
fn the_load_of_a_leader_that_fails_goes_to_all_others() {
    for (size, factor) in [(3, 2), (3, 3), (4, 3), (5, 3), (6, 2), (6, 3)] {
        let mut cluster = Cluster::without_racks(size as usize);
        assert!(cluster.placed_topic("a", 12 * size as usize, factor));
        for leader in 1..=size {
            let seconds: Vec<_> = cluster
                .partitions()
                .into_iter()
                .filter(|(_, _, partition)| partition.replicas[0] == node(leader))
                .map(|(_, _, partition)| partition.replicas[1])
                .collect();
            assert_eq!(seconds.len(), 12);
            for other in (1..=size).filter(|other| *other != leader) {
                let share = seconds.iter().filter(|one| **one == node(other)).count();
                // A quarter of an even share at least.
                assert!(
                    share as u32 * 4 * (size - 1) >= 12,
                    "{leader} of {size} is followed by {other} {share} times"
                );
            }
        }
    }
}

#[test]
fn a_topic_is_spread_even_when_a_node_is_empty() {
    let mut cluster = Cluster::without_racks(2);
    assert!(cluster.placed_topic("old", 40, 1));
    cluster.join(3, None);
    assert!(cluster.placed_topic("new", 6, 1));
    for id in 1..=3 {
        let led = (0..6).filter(|index| cluster.partition("new", *index).leader == Some(node(id)));
        assert_eq!(led.count(), 2);
    }
}

proptest! {
    #[test]
    fn replicas_are_distinct_and_spread_over_racks(
        racks in any_racks(),
        topics in any_topics(),
    ) {
        let mut cluster = Cluster::of(&racks);
        for (position, (count, factor)) in topics.iter().enumerate() {
            let placed = cluster.placed_topic(&format!("t{position}"), *count, *factor);
            prop_assert_eq!(placed, usize::from(*factor) <= racks.len());
        }
        for (_, _, partition) in cluster.partitions() {
            prop_assert!(is_distinct(&partition.replicas));
            prop_assert!(cluster.is_spread(&partition.replicas));
        }
        // No leader could hand a partition on and make leaders of the topic more even.
        for topic in cluster.image.topics() {
            let leads = |id| topic.partitions.iter().filter(|one| one.replicas[0] == id).count();
            for partition in &topic.partitions {
                let most = leads(partition.replicas[0]);
                prop_assert!(partition.replicas.iter().all(|id| leads(*id) + 1 >= most));
            }
        }
        // Within a rack all nodes are alike, whatever the sizes of racks.
        for id in candidates(&cluster.image) {
            let alike = cluster.counts();
            let alike = alike.iter().filter(|(other, _)| cluster.domain(**other) == cluster.domain(id));
            prop_assert!(gap(alike.map(|(_, counts)| counts.0)) <= 1);
        }
    }

    #[test]
    fn replicas_and_leaders_are_even(
        racks in even_racks(),
        topics in proptest::collection::vec(1..=15usize, 1..=5),
        factor in 1..=4u16,
    ) {
        let mut cluster = Cluster::of(&racks);
        let factor = factor.min(racks.len() as u16);
        for (position, count) in topics.iter().enumerate() {
            cluster.placed_topic(&format!("t{position}"), *count, factor);
            let counts = cluster.counts();
            prop_assert!(gap(counts.values().map(|counts| counts.0)) <= 1, "{:?}", counts);
            // Leaders of one topic are even, too. Those of several can only be so in turn.
            let most = if position == 0 { 1 } else { 2 };
            prop_assert!(gap(counts.values().map(|counts| counts.1)) <= most, "{:?}", counts);
        }
    }

    #[test]
    fn the_same_cluster_gives_the_same_placement(
        racks in any_racks(),
        topics in any_topics(),
        seeds in proptest::collection::vec(any::<u32>(), 1..20),
    ) {
        let cluster = scattered(&racks, &topics, &seeds);
        let mut open = candidates(&cluster.image);
        let one = place(&cluster.image, &cluster.loads, &open, 5, 1);
        open.reverse();
        prop_assert_eq!(one, place(&cluster.image, &cluster.loads, &open, 5, 1));
    }
}
