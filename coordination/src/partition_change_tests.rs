use proptest::prelude::*;

use super::*;

fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

fn active(ids: &[u32]) -> Standings {
    ids.iter()
        .fold(Standings::default(), |all, id| all.with_active(node(*id)))
}

/// Led by the first member of the ISR, in leader epoch 5 and partition epoch 7.
fn partition(replicas: &[u32], isr: &[u32], elr: &[u32]) -> PartitionImage {
    PartitionImage {
        partition_epoch: 7,
        leader: isr.first().copied().map(NodeId::new),
        leader_epoch: LeaderEpoch::new(5),
        replicas: nodes(replicas),
        isr: nodes(isr),
        elr: nodes(elr),
        ..PartitionImage::default()
    }
}

fn epochs(partition: &PartitionImage) -> (u32, u32) {
    (partition.partition_epoch, partition.leader_epoch.get())
}

#[test]
fn nothing_wanted_is_no_change() {
    let all = active(&[1, 2, 3]);
    for before in [
        partition(&[1, 2, 3], &[1, 2, 3], &[]),
        partition(&[1, 2, 3], &[2], &[1]),
    ] {
        assert_eq!(PartitionChange::new(&before, 2, &all).build(), None);
        let same = PartitionChange::new(&before, 2, &all).isr(before.isr.iter().rev().copied());
        assert_eq!(same.build(), None, "the order of a proposal means nothing");
    }
}

#[test]
fn every_change_counts_and_only_some_begin_a_leader_epoch() {
    let all = active(&[1, 2, 3]);
    let before = partition(&[1, 2, 3], &[1, 2, 3], &[]);
    let change = || PartitionChange::new(&before, 1, &all);

    let shrunk = change().isr(nodes(&[1, 2])).build().unwrap();
    assert_eq!(epochs(&shrunk), (8, 5));
    let forced = change().forced().build().unwrap();
    assert_eq!(epochs(&forced), (8, 5));
    let reordered = change().replicas(nodes(&[3, 2, 1]), vec![], vec![]);
    assert_eq!(epochs(&reordered.build().unwrap()), (8, 5));

    let led_by_other = change().isr(nodes(&[2, 3])).build().unwrap();
    assert_eq!(epochs(&led_by_other), (8, 6));
    assert_eq!(led_by_other.leader, Some(node(2)));
    let without_three = change().replicas(nodes(&[1, 2]), vec![], vec![]);
    let without_three = without_three.build().unwrap();
    assert_eq!(epochs(&without_three), (8, 6), "a replica was removed");
    assert_eq!(without_three.isr, nodes(&[1, 2]));
    let nobody = active(&[]);
    let leaderless = PartitionChange::new(&before, 1, &nobody).isr([]);
    assert_eq!(epochs(&leaderless.build().unwrap()), (8, 6));
}

#[test]
fn below_the_minimum_those_that_leave_stay_eligible() {
    let all = active(&[1, 2, 3]);
    let before = partition(&[1, 2, 3], &[1, 2, 3], &[]);
    let two = PartitionChange::new(&before, 2, &all).isr(nodes(&[1, 2]));
    let two = two.build().unwrap();
    assert_eq!((&two.isr, &two.elr), (&nodes(&[1, 2]), &vec![]));

    let one = PartitionChange::new(&two, 2, &all).isr(nodes(&[1]));
    let one = one.build().unwrap();
    assert_eq!((&one.isr, &one.elr), (&nodes(&[1]), &nodes(&[2])));

    let nobody = active(&[]);
    let none = PartitionChange::new(&one, 2, &nobody).isr([]);
    let none = none.build().unwrap();
    assert_eq!((none.leader, &none.isr), (None, &vec![]));
    assert_eq!(
        none.elr,
        nodes(&[1, 2]),
        "3 left before and is not complete"
    );

    // 3 alone is not complete, and does not become it by being there.
    let only_three = active(&[3]);
    assert_eq!(PartitionChange::new(&none, 2, &only_three).build(), None);

    let two_returns = active(&[2, 3]);
    let led = PartitionChange::new(&none, 2, &two_returns)
        .build()
        .unwrap();
    assert_eq!(led.leader, Some(node(2)));
    assert_eq!((&led.isr, &led.elr), (&nodes(&[2]), &nodes(&[1])));

    let again = PartitionChange::new(&led, 2, &two_returns).isr(nodes(&[2, 3]));
    let again = again.build().unwrap();
    assert_eq!(
        (&again.isr, &again.elr),
        (&nodes(&[2, 3]), &vec![]),
        "1 is overtaken now"
    );
}

#[test]
fn what_may_have_lost_data_is_only_remembered() {
    let before = partition(&[1, 2, 3], &[1], &[2]);
    let rest = active(&[1, 3]);
    let lost = PartitionChange::new(&before, 2, &rest).lost(node(2));
    let lost = lost.build().unwrap();
    assert_eq!(lost.elr, vec![]);
    assert_eq!(lost.last_known_elr, nodes(&[2]));

    let leader_lost = PartitionChange::new(&lost, 2, &rest).lost(node(1));
    let leader_lost = leader_lost.build().unwrap();
    assert_eq!(leader_lost.leader, None, "1 is active and must not lead");
    assert_eq!(leader_lost.last_known_elr, nodes(&[1, 2]));
    assert!(leader_lost.elr.is_empty());

    // With enough in-sync replicas the memory goes.
    let recovered = PartitionChange::new(&lost, 2, &rest).isr(nodes(&[1, 3]));
    assert!(recovered.build().unwrap().last_known_elr.is_empty());
}

#[test]
fn elections_go_by_the_order_of_the_replicas_and_keep_a_valid_leader() {
    let mut before = partition(&[3, 1, 2], &[3, 1, 2], &[]);
    before.leader = Some(node(2));
    let all = active(&[1, 2, 3]);
    let elect = |standings: &Standings, election| {
        PartitionChange::new(&before, 1, standings)
            .election(election)
            .build()
            .map(|after| after.leader.unwrap().get())
    };
    assert_eq!(elect(&all, Election::Keep), None);
    assert_eq!(elect(&all, Election::Preferred), Some(3));
    assert_eq!(elect(&all, Election::Node(node(1))), Some(1));
    assert_eq!(elect(&all, Election::Node(node(9))), None);
    assert_eq!(elect(&all, Election::Unclean(node(1))), None);
    let without_two = active(&[1, 3]);
    assert_eq!(elect(&without_two, Election::Keep), Some(3));
    assert_eq!(elect(&active(&[1, 2]), Election::Preferred), None);
}

#[test]
fn a_leader_that_stops_leads_until_another_can() {
    let before = partition(&[1, 2], &[1], &[]);
    let alone = active(&[2]).with_leaving(node(1));
    assert_eq!(PartitionChange::new(&before, 1, &alone).build(), None);
    let joined = PartitionChange::new(&before, 1, &alone).isr(nodes(&[1, 2]));
    assert_eq!(joined.build().unwrap().leader, Some(node(2)));

    // Nobody new begins to lead while stopping; and as long as it is in sync, nobody else either.
    let leaderless = PartitionImage {
        leader: None,
        ..partition(&[1, 2, 3], &[1], &[2])
    };
    let alone = active(&[2, 3]).with_leaving(node(1));
    for election in [Election::Keep, Election::Unclean(node(3))] {
        let change = PartitionChange::new(&leaderless, 2, &alone).election(election);
        assert_eq!(change.build(), None);
    }
}

#[test]
fn an_unclean_election_is_the_last_resort_and_declares_itself() {
    let before = PartitionImage {
        leader: None,
        last_known_elr: nodes(&[1]),
        ..partition(&[1, 2, 3], &[], &[2])
    };
    let unclean = |standings: &Standings, id| {
        PartitionChange::new(&before, 2, standings)
            .election(Election::Unclean(node(id)))
            .build()
    };
    let clean = unclean(&active(&[2, 3]), 3).unwrap();
    assert_eq!((clean.leader, clean.recovering), (Some(node(2)), false));

    let declared = unclean(&active(&[3]), 3).unwrap();
    assert_eq!(declared.leader, Some(node(3)));
    assert_eq!(declared.isr, nodes(&[3]));
    assert!(declared.recovering);
    assert!(
        declared.elr.is_empty() && declared.last_known_elr.is_empty(),
        "2 has records that the new leader never had"
    );
    assert_eq!(epochs(&declared), (8, 6));
    assert_eq!(unclean(&active(&[3]), 1), None, "not active");
    assert_eq!(unclean(&active(&[9]), 9), None, "no replica");

    let all = active(&[1, 2, 3]);
    let over = PartitionChange::new(&declared, 2, &all)
        .isr(nodes(&[1, 3]))
        .recovered();
    assert!(!over.build().unwrap().recovering);
}

#[test]
fn a_move_ends_when_everything_added_and_enough_of_the_target_is_in_sync() {
    let before = PartitionImage {
        adding: nodes(&[3, 4]),
        removing: nodes(&[1]),
        ..partition(&[3, 4, 2, 1], &[2, 1], &[])
    };
    let all = active(&[1, 2, 3, 4]);
    let change = |isr: &[u32], isr_min, standings: &Standings| {
        PartitionChange::new(&before, isr_min, standings)
            .isr(nodes(isr))
            .build()
            .unwrap()
    };
    let one_more = change(&[1, 2, 3], 1, &all);
    assert!(one_more.is_moving());
    assert_eq!(epochs(&one_more), (8, 5));
    assert!(change(&[1, 3, 4], 3, &all).is_moving(), "1 still counts");

    let done = change(&[1, 3, 4], 2, &all);
    assert_eq!(done.replicas, nodes(&[3, 4, 2]));
    assert_eq!(done.isr, nodes(&[3, 4]));
    assert!(!done.is_moving() && done.elr.is_empty());
    assert_eq!(done.leader, Some(node(3)), "1 led");
    assert_eq!(epochs(&done), (8, 6));

    let only_leaving = active(&[1]).with_leaving(node(3)).with_leaving(node(4));
    assert!(
        change(&[1, 3, 4], 2, &only_leaving).is_moving(),
        "nobody of the target could lead"
    );
}

#[test]
fn another_minimum_empties_the_elr_exactly_where_things_commit_again() {
    let all = active(&[1]);
    let frozen = partition(&[1, 2, 3], &[1], &[2]);
    let lowered = PartitionChange::new(&frozen, 1, &all).forced();
    let lowered = lowered.build().unwrap();
    assert!(lowered.elr.is_empty());
    assert_eq!(epochs(&lowered), (8, 5));
    let raised = PartitionChange::new(&frozen, 3, &all).forced();
    assert_eq!(raised.build().unwrap().elr, nodes(&[2]));

    let committing = partition(&[1, 2, 3], &[1], &[]);
    let raised = PartitionChange::new(&committing, 2, &all).forced();
    assert!(raised.build().unwrap().elr.is_empty(), "2 was overtaken");
}

#[test]
fn each_broken_rule_is_found() {
    let good = partition(&[1, 2, 3], &[1], &[2]);
    assert_eq!(check(&good, 2), Ok(()));
    let broken = |change: fn(&mut PartitionImage), isr_min| {
        let mut partition = good.clone();
        change(&mut partition);
        check(&partition, isr_min).unwrap_err()
    };
    assert_eq!(broken(|_| {}, 1), BrokenRule::NeedlessElr);
    assert_eq!(broken(|p| p.isr = nodes(&[1, 1]), 9), BrokenRule::Twice);
    assert_eq!(broken(|p| p.elr = nodes(&[4]), 9), BrokenRule::NoReplica);
    assert_eq!(broken(|p| p.elr = nodes(&[1]), 9), BrokenRule::Overlap);
    assert_eq!(
        broken(|p| p.last_known_elr = nodes(&[2]), 9),
        BrokenRule::Overlap
    );
    assert_eq!(
        broken(|p| p.leader = Some(node(3)), 9),
        BrokenRule::LeaderNotInSync
    );
    let together = |p: &mut PartitionImage| {
        p.isr = nodes(&[1, 3]);
        p.recovering = true;
    };
    assert_eq!(broken(together, 9), BrokenRule::RecoveringTogether);
}

fn some_of(of: &[u32]) -> impl Strategy<Value = Vec<u32>> + use<> {
    proptest::sample::subsequence(of.to_vec(), 0..=of.len())
}

proptest! {
    /// Whatever is wanted on whatever basis: the rules hold, epochs do not go back, and nobody becomes
    /// complete who was not asked for.
    #[test]
    fn no_change_breaks_a_rule(
        isr in some_of(&[1, 2, 3, 4]),
        elr in some_of(&[1, 2, 3, 4]),
        lost in some_of(&[1, 2, 3, 4]),
        wanted in proptest::option::of(some_of(&[1, 2, 3, 4])),
        up in some_of(&[1, 2, 3, 4]),
        adding in some_of(&[1, 2]),
        removing in some_of(&[3, 4]),
        isr_min in 1u16..4,
        which in 0u32..8,
    ) {
        let mut before = partition(&[1, 2, 3, 4], &isr, &[]);
        if isr.len() < usize::from(isr_min) {
            before.elr = nodes(&elr);
            before.elr.retain(|id| !before.isr.contains(id));
        }
        before.adding = nodes(&adding);
        before.removing = nodes(&removing);
        let standings = active(&up);
        let election = match which {
            0 => Election::Preferred,
            1..=4 => Election::Node(node(which)),
            5 => Election::Unclean(node(1)),
            _ => Election::Keep,
        };
        let mut change = PartitionChange::new(&before, isr_min, &standings).election(election);
        if let Some(wanted) = &wanted {
            change = change.isr(nodes(wanted));
        }
        for id in &lost {
            change = change.lost(node(*id));
        }
        let Some(after) = change.build() else {
            return Ok(());
        };
        prop_assert_eq!(check(&after, usize::from(isr_min)), Ok(()));
        prop_assert_eq!(after.partition_epoch, before.partition_epoch + 1);
        let same_epoch = after.leader_epoch == before.leader_epoch;
        prop_assert!(same_epoch || after.leader_epoch.get() == before.leader_epoch.get() + 1);
        prop_assert!(!same_epoch || after.leader == before.leader);
        let asked = wanted.unwrap_or_default();
        for id in after.isr.iter().chain(&after.elr) {
            let is_explained = before.isr.contains(id)
                || before.elr.contains(id)
                || asked.contains(&id.get())
                || after.recovering;
            prop_assert!(is_explained, "{} came from nowhere", id);
            prop_assert!(!lost.contains(&id.get()));
        }
        if after.isr.len() < usize::from(isr_min) && !after.recovering {
            for id in before.isr.iter().chain(&before.elr) {
                let is_kept = after.isr.contains(id)
                    || after.elr.contains(id)
                    || after.last_known_elr.contains(id);
                prop_assert!(is_kept || !after.replicas.contains(id), "{} is forgotten", id);
            }
        }
    }
}
