//! What is rebuilt when nodes go, and what is moved off nodes that are drained.

use highwater_coordination::healing::{HealingPlan, HealingSettings, plan_healing, replicas_left};
use highwater_coordination::reassignment::{MovesBegun, ReplicaTarget, moves_in_flight};
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::MoveReason;
use highwater_protocol::metadata_record::MetadataRecord;
use proptest::prelude::*;

use crate::cluster::*;

const AFTER_MS: u64 = 600_000;

const SETTINGS: HealingSettings = HealingSettings {
    after_ms: Some(AFTER_MS),
    moves_max: 20,
    disk_percent_max: 85,
};

fn plan(cluster: &Cluster, settings: &HealingSettings, now_ms: u64) -> HealingPlan {
    let none = MovesBegun::new();
    plan_healing(
        &cluster.image,
        &cluster.loads,
        &none,
        settings,
        now_ms,
        None,
    )
}

fn targets(plan: &HealingPlan) -> Vec<Vec<NodeId>> {
    plan.begin.iter().map(|one| one.replicas.clone()).collect()
}

/// Nodes 1 to 4, and a partition on 1, 2 and 3.
fn four_nodes() -> Cluster {
    let mut cluster = Cluster::without_racks(4);
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    cluster
}

#[test]
fn a_node_is_replaced_when_it_is_absent_for_long_enough_and_not_before() {
    let mut cluster = four_nodes();
    assert_eq!(plan(&cluster, &SETTINGS, 0), HealingPlan::default());
    cluster.lose(1, 1_000);
    let early = plan(&cluster, &SETTINGS, AFTER_MS + 999);
    assert!(early.begin.is_empty());
    assert_eq!(early.absent.len(), 1);
    assert_eq!(early.absent[0].node_id, node(1));
    assert_eq!(early.absent[0].replicas, 1);
    assert_eq!(early.absent[0].heals_in_ms, Some(1));

    let due = plan(&cluster, &SETTINGS, AFTER_MS + 1_000);
    assert_eq!(targets(&due), [nodes(&[4, 2, 3])]);
    assert_eq!(due.begin[0].reason, MoveReason::Heal);
    assert_eq!(due.absent[0].heals_in_ms, Some(0));

    let never = HealingSettings {
        after_ms: None,
        ..SETTINGS
    };
    let never = plan(&cluster, &never, u64::MAX);
    assert!(never.begin.is_empty());
    assert_eq!(never.absent[0].heals_in_ms, None);
}

#[test]
fn nothing_happens_while_it_is_held() {
    let mut cluster = four_nodes();
    cluster.topic("b", &[nodes(&[3, 2])]);
    cluster.lose(1, 0);
    cluster.set(3, DRAINING);
    let held = plan_healing(
        &cluster.image,
        &cluster.loads,
        &MovesBegun::new(),
        &SETTINGS,
        AFTER_MS,
        Some("safe mode"),
    );
    assert_eq!(held.paused.as_deref(), Some("safe mode"));
    assert!(held.begin.is_empty() && held.cancel.is_empty() && held.leaders.is_empty());
    assert_eq!(held.absent.len(), 1);
}

#[test]
fn many_lost_nodes_are_an_outage() {
    let mut cluster = Cluster::without_racks(5);
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    cluster.lose(1, 0);
    assert_eq!(plan(&cluster, &SETTINGS, AFTER_MS).begin.len(), 1);
    cluster.lose(2, 0);
    let paused = plan(&cluster, &SETTINGS, AFTER_MS);
    assert!(paused.begin.is_empty());
    assert_eq!(
        paused.paused.as_deref(),
        Some("2 of 5 nodes are gone: an outage, not a loss; nothing is rebuilt")
    );

    // Who drains a node has said that it goes.
    let mut drained = Cluster::without_racks(5);
    drained.topic("a", &[nodes(&[1, 2, 3])]);
    drained.lose(1, 0);
    drained.lose(2, 0);
    drained.set(
        2,
        Flags {
            draining: true,
            ..FENCED
        },
    );
    assert_eq!(
        targets(&plan(&drained, &SETTINGS, AFTER_MS)),
        [nodes(&[4, 5, 3])]
    );

    let racks = ["a", "a", "b", "b", "c", "c"].map(Some);
    let two_lost = |lost: [u32; 2]| {
        let mut cluster = Cluster::of(&racks);
        cluster.topic("a", &[nodes(&[1, 3, 5])]);
        cluster.lose(lost[0], 0);
        cluster.lose(lost[1], 0);
        plan(&cluster, &SETTINGS, AFTER_MS)
    };
    assert_eq!(targets(&two_lost([1, 3])), [nodes(&[2, 4, 5])]);
    assert_eq!(
        two_lost([1, 2]).paused.as_deref(),
        Some("2 nodes of rack a are gone: an outage, not a loss; nothing is rebuilt")
    );
}

#[test]
fn a_partition_without_a_leader_waits() {
    let mut cluster = Cluster::without_racks(3);
    cluster.topic("a", &[nodes(&[1])]);
    cluster.lose(1, 0);
    let plan = plan(&cluster, &SETTINGS, AFTER_MS);
    assert!(plan.begin.is_empty());
    assert_eq!(plan.waiting, 1);
}

#[test]
fn without_another_node_it_is_said_why_nothing_happens() {
    let mut cluster = Cluster::without_racks(3);
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    cluster.lose(1, 0);
    let none = plan(&cluster, &SETTINGS, AFTER_MS);
    assert_eq!((none.begin.len(), none.waiting), (0, 1));
    assert_eq!(
        none.paused.as_deref(),
        Some("1 partitions have to move, and every broker that is up holds them already")
    );

    let mut cluster = four_nodes();
    cluster.lose(1, 0);
    // 86 of 100 bytes, then unknown.
    *cluster.load(4) = highwater_coordination::node_loads::NodeLoad {
        disk_total: 100,
        disk_free: 14,
        ..Default::default()
    };
    let full = plan(&cluster, &SETTINGS, AFTER_MS);
    assert!(full.begin.is_empty());
    assert!(full.paused.unwrap().contains("heal.disk.max.percent = 85"));
    cluster.load(4).disk_total = 0;
    assert!(plan(&cluster, &SETTINGS, AFTER_MS).begin.is_empty());
    cluster.load(4).disk_total = 100;
    cluster.load(4).disk_free = 16;
    assert_eq!(plan(&cluster, &SETTINGS, AFTER_MS).begin.len(), 1);
}

#[test]
fn no_disk_is_filled_by_what_comes_together() {
    let mut cluster = Cluster::without_racks(3);
    let replicas: Vec<_> = (0..10).map(|_| nodes(&[1, 2])).collect();
    cluster.topic("a", &replicas);
    cluster.lose(1, 0);
    // A replica of the leader has 100 bytes; the disk of node 3 takes 350 more.
    cluster.load(2).log_bytes = 1000;
    cluster.load(3).disk_total = 1000;
    cluster.load(3).disk_free = 500;
    let first = plan(&cluster, &SETTINGS, AFTER_MS);
    assert_eq!(first.begin.len(), 3);
    assert_eq!(first.waiting, 7);
    // What is under way still comes.
    for target in &first.begin {
        cluster.begin(target);
    }
    assert!(plan(&cluster, &SETTINGS, AFTER_MS).begin.is_empty());
}

#[test]
fn the_fewest_copies_come_first_and_a_wave_has_its_limit() {
    let mut cluster = Cluster::without_racks(5);
    cluster.topic(
        "a",
        &[nodes(&[2, 3, 4]), nodes(&[1, 3, 4]), nodes(&[1, 3, 4])],
    );
    cluster.topic("b", &[nodes(&[1, 2])]);
    cluster.lose(1, 0);
    let settings = HealingSettings {
        moves_max: 2,
        ..SETTINGS
    };
    let first = plan(&cluster, &settings, AFTER_MS);
    let named: Vec<_> = first
        .begin
        .iter()
        .map(|one| (one.topic.as_str(), one.partition.get()))
        .collect();
    assert_eq!(named, [("b", 0), ("a", 1)]);
    assert_eq!(first.waiting, 1);

    cluster.begin(&first.begin[0]);
    let second = plan(&cluster, &settings, AFTER_MS);
    assert_eq!(second.begin.len(), 1);
    cluster.begin(&second.begin[0]);
    assert!(plan(&cluster, &settings, AFTER_MS).begin.is_empty());
}

#[test]
fn a_node_that_returns_keeps_its_replicas() {
    let mut cluster = four_nodes();
    cluster.lose(1, 0);
    let target = plan(&cluster, &SETTINGS, AFTER_MS).begin.remove(0);
    let key = (target.topic_id, target.partition);
    let begun = |reason| MovesBegun::from([(key, reason)]);
    let replan = |cluster: &Cluster, reason| {
        plan_healing(
            &cluster.image,
            &cluster.loads,
            &begun(reason),
            &SETTINGS,
            AFTER_MS,
            None,
        )
    };
    cluster.begin(&target);
    assert!(replan(&cluster, MoveReason::Heal).cancel.is_empty());

    cluster.comes_back(1);
    // An operator's move is an operator's.
    assert!(replan(&cluster, MoveReason::Operator).cancel.is_empty());
    let cancel = replan(&cluster, MoveReason::Heal).cancel;
    assert_eq!(cancel.into_iter().collect::<Vec<_>>(), [key]);

    // It must be there now, not only have been.
    let mut gone_again = Cluster {
        image: cluster.image.clone(),
        loads: cluster.loads.clone(),
    };
    gone_again.lose(1, AFTER_MS);
    assert!(replan(&gone_again, MoveReason::Heal).cancel.is_empty());

    // Once the new replica is in sync, the move ends sooner than it can be given up.
    let mut done = cluster.partition("a", 0);
    done.isr.push(node(4));
    cluster.put("a", 0, done);
    assert!(replan(&cluster, MoveReason::Heal).cancel.is_empty());

    cluster.cancel("a", 0);
    assert_eq!(replan(&cluster, MoveReason::Heal), HealingPlan::default());
}

#[test]
fn a_move_to_a_node_that_is_lost_goes_elsewhere() {
    let mut cluster = Cluster::without_racks(6);
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    cluster.lose(1, 0);
    let settings = HealingSettings {
        moves_max: 1,
        ..SETTINGS
    };
    let first = plan(&cluster, &settings, AFTER_MS).begin.remove(0);
    assert_eq!(first.replicas, nodes(&[4, 2, 3]));
    cluster.begin(&first);
    cluster.lose(4, AFTER_MS);
    assert!(plan(&cluster, &settings, AFTER_MS).begin.is_empty());
    // In flight already: it needs no further turn.
    let again = plan(&cluster, &settings, 2 * AFTER_MS).begin.remove(0);
    assert_eq!(again.replicas, nodes(&[5, 2, 3]));
    cluster.begin(&again);
    assert_eq!(moves_in_flight(&cluster.image), 1);
    assert!(plan(&cluster, &settings, 2 * AFTER_MS).begin.is_empty());
    cluster.catch_up();
    assert_eq!(cluster.partition("a", 0).replicas, nodes(&[5, 2, 3]));
}

#[test]
fn a_replica_that_a_move_was_to_remove_stays_when_the_new_one_is_lost() {
    let mut cluster = four_nodes();
    let target = ReplicaTarget {
        topic: cluster.image.topic("a").unwrap().name.clone(),
        topic_id: cluster.image.topic("a").unwrap().id,
        partition: highwater_protocol::ids::PartitionId::ZERO,
        replicas: nodes(&[1, 2, 4]),
        reason: MoveReason::Balance,
    };
    cluster.begin(&target);
    cluster.lose(4, 0);
    let plan = plan(&cluster, &SETTINGS, AFTER_MS);
    assert_eq!(targets(&plan), [nodes(&[1, 2, 3])]);
}

#[test]
fn replicas_of_a_removed_node_are_rebuilt_at_once() {
    let mut cluster = Cluster::of(&["a", "b", "c", "a", "b"].map(Some));
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    cluster.lose(1, 0);
    // Who removes it by force takes it out of the replicas.
    let mut without = cluster.partition("a", 0);
    without.replicas = nodes(&[2, 3]);
    cluster.put("a", 0, without);
    cluster.apply(&MetadataRecord::NodeRemoved { node_id: node(1) });
    cluster.loads.remove(&node(1));
    let never = HealingSettings {
        after_ms: None,
        ..SETTINGS
    };
    let plan = plan(&cluster, &never, 0);
    assert_eq!(targets(&plan), [nodes(&[2, 3, 4])]);
    assert_eq!(plan.begin[0].reason, MoveReason::Heal);
    cluster.begin(&plan.begin[0]);
    assert_eq!(self::plan(&cluster, &never, 0), HealingPlan::default());
}

#[test]
fn what_is_missing_is_added_as_far_as_there_are_nodes() {
    let mut cluster = Cluster::without_racks(4);
    cluster.topic("a", &[nodes(&[1, 2, 3])]);
    for id in [1, 2] {
        cluster.lose(id, 0);
        cluster.apply(&MetadataRecord::NodeRemoved { node_id: node(id) });
    }
    let mut left = cluster.partition("a", 0);
    left.replicas = nodes(&[3]);
    cluster.put("a", 0, left);
    // Two copies are better than one, and three are wanted still.
    let first = plan(&cluster, &SETTINGS, 0);
    assert_eq!(targets(&first), [nodes(&[3, 4])]);
    cluster.begin(&first.begin[0]);
    cluster.catch_up();
    let second = plan(&cluster, &SETTINGS, 0);
    assert_eq!((second.begin.len(), second.waiting), (0, 1));
    cluster.join(5, None);
    assert_eq!(targets(&plan(&cluster, &SETTINGS, 0)), [nodes(&[3, 4, 5])]);
}

#[test]
fn a_drained_node_gives_its_leaderships_away_and_then_its_replicas() {
    let mut cluster = Cluster::without_racks(3);
    cluster.topic("a", &[nodes(&[1, 2]), nodes(&[2, 1])]);
    cluster.topic("b", &[nodes(&[1])]);
    cluster.set(1, DRAINING);
    assert_eq!(replicas_left(&cluster.image, node(1)), 3);
    let first = plan(&cluster, &SETTINGS, 0);
    assert_eq!(first.leaders.len(), 1);
    assert_eq!(first.leaders[0].to, node(2));
    // Nobody can lead the last one before it is copied.
    assert_eq!(targets(&first), [nodes(&[3]), nodes(&[2, 3])]);
    assert!(
        first
            .begin
            .iter()
            .all(|one| one.reason == MoveReason::Drain)
    );
    assert_eq!(first.waiting, 1);
    cluster.lead(&first.leaders[0]);
    for target in &first.begin {
        cluster.begin(target);
    }
    let second = plan(&cluster, &SETTINGS, 0);
    assert!(second.leaders.is_empty());
    assert_eq!(targets(&second), [nodes(&[3, 2])]);
    cluster.begin(&second.begin[0]);
    cluster.catch_up();
    assert_eq!(replicas_left(&cluster.image, node(1)), 0);
    assert_eq!(plan(&cluster, &SETTINGS, 0), HealingPlan::default());
}

#[test]
fn a_drained_node_that_stops_is_still_emptied() {
    let mut cluster = four_nodes();
    cluster.lose(1, 0);
    let gone = Flags {
        fenced: true,
        draining: true,
        ..UP
    };
    cluster.set(1, gone);
    let plan = plan(&cluster, &SETTINGS, 0);
    assert_eq!(targets(&plan), [nodes(&[4, 2, 3])]);
    assert_eq!(plan.begin[0].reason, MoveReason::Drain);
}

proptest! {
    /// Some nodes are lost, drained or full; waves are begun and end until nothing is left to do.
    #[test]
    fn healing_ends_and_every_wave_is_safe(
        racks in any_racks(),
        topics in any_topics(),
        seeds in proptest::collection::vec(any::<u32>(), 1..20),
        lost in 1..=9u32,
        drained in proptest::option::of(1..=9u32),
        full in proptest::option::of(1..=9u32),
        moves_max in 1..=6usize,
        overlapping in any::<bool>(),
    ) {
        let mut cluster = scattered(&racks, &topics, &seeds);
        let there = |id: &u32| *id <= racks.len() as u32;
        let drained = drained.filter(there).filter(|id| *id != lost);
        let full = full.filter(there);
        if there(&lost) {
            cluster.lose(lost, 0);
        }
        if let Some(id) = drained {
            cluster.set(id, DRAINING);
        }
        if let Some(id) = full {
            cluster.load(id).disk_free = 0;
        }
        let settings = HealingSettings { moves_max, ..SETTINGS };
        let total: usize = topics.iter().map(|(count, factor)| count * usize::from(*factor)).sum();
        let mut waves = 0;
        loop {
            let plan = plan(&cluster, &settings, AFTER_MS);
            for target in &plan.leaders {
                prop_assert_eq!(target.from, drained.map(node));
                cluster.lead(target);
            }
            for target in &plan.begin {
                let now = cluster.partition(target.topic.as_str(), target.partition.get());
                prop_assert!(now.leader.is_some());
                prop_assert_eq!(now.replicas.len(), target.replicas.len());
                prop_assert!(is_distinct(&target.replicas));
                let mut added = 0;
                for id in target.replicas.iter().filter(|id| !now.replicas.contains(id)) {
                    let broker = cluster.image.broker(*id).unwrap();
                    prop_assert!(broker.is_active() && !broker.draining);
                    prop_assert_ne!(Some(*id), full.map(node));
                    added += 1;
                }
                prop_assert!(added > 0);
                // Only what must go goes.
                for id in now.replicas.iter().filter(|id| !target.replicas.contains(id)) {
                    prop_assert!(*id == node(lost) || Some(*id) == drained.map(node));
                }
                cluster.begin(target);
                let begun = cluster.partition(target.topic.as_str(), target.partition.get());
                prop_assert!(now.replicas.iter().all(|id| begun.replicas.contains(id)));
            }
            prop_assert!(moves_in_flight(&cluster.image) <= moves_max);
            // With the moves begun, none of them is planned again.
            let again = self::plan(&cluster, &settings, AFTER_MS);
            prop_assert!(again.begin.len() + moves_in_flight(&cluster.image) <= moves_max);
            for target in &again.begin {
                let is_same = |one: &ReplicaTarget| {
                    (one.topic_id, one.partition) == (target.topic_id, target.partition)
                };
                prop_assert!(!plan.begin.iter().any(is_same));
            }
            if plan.begin.is_empty() && plan.leaders.is_empty() {
                break;
            }
            // Waves end one by one, or the next is planned while this one is under way.
            if !overlapping || again.begin.is_empty() && again.leaders.is_empty() {
                cluster.catch_up();
            }
            waves += 1;
            prop_assert!(waves <= 4 * total + 4);
        }
        // What is left could not go anywhere.
        for (_, _, partition) in cluster.partitions() {
            let gone = |id: &NodeId| *id == node(lost) || Some(*id) == drained.map(node);
            if partition.leader.is_none() || !partition.replicas.iter().any(gone) {
                continue;
            }
            for (id, broker) in cluster.image.brokers() {
                prop_assert!(
                    partition.replicas.contains(&id)
                        || !broker.is_active()
                        || broker.draining
                        || Some(id) == full.map(node)
                );
            }
        }
    }

    /// What is spread over racks stays so when a node of a rack with others is lost.
    #[test]
    fn healing_keeps_the_rule_about_racks(
        racks in any_racks(),
        topics in any_topics(),
        lost in 1..=9u32,
    ) {
        let mut cluster = Cluster::of(&racks);
        let lost = (lost - 1) % racks.len() as u32 + 1;
        for (position, (count, factor)) in topics.iter().enumerate() {
            cluster.placed_topic(&format!("t{position}"), *count, *factor);
        }
        cluster.lose(lost, 0);
        let settings = HealingSettings { moves_max: 1000, ..SETTINGS };
        let plan = plan(&cluster, &settings, AFTER_MS);
        for target in &plan.begin {
            prop_assert!(!target.replicas.contains(&node(lost)));
            prop_assert!(cluster.is_spread(&target.replicas));
        }
    }
}
