//! Proposals for the in-sync replicas.

use highwater_coordination::partition_leader::{
    AlterOutcome, FollowerFetch, PartitionLeader, WrittenMeans,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, NodeId, Offset, PartitionId};
use highwater_protocol::messages::{Acks, IsrDecision, IsrProposal};

use crate::leader::{EPOCH, LAG_MS, at, fetch, fetched, leader, node, told, view};

fn proposed(leader: &mut PartitionLeader) -> Option<(IsrProposal, Vec<u32>)> {
    let proposal = leader.take_proposal(PartitionId::new(0))?;
    let members = proposal.isr.iter().map(|member| member.node_id.get());
    let members = members.collect();
    Some((proposal, members))
}

fn changed(partition_epoch: u32, isr: &[u32]) -> AlterOutcome {
    AlterOutcome::Changed {
        leader_epoch: EPOCH,
        partition_epoch,
        isr: isr.iter().map(|id| node(*id)).collect(),
    }
}

fn maximal(leader: &PartitionLeader) -> Vec<NodeId> {
    let mut all: Vec<_> = leader.maximal_isr().collect();
    all.sort();
    all
}

#[test]
fn a_follower_joins_past_the_start_of_the_epoch_and_not_merely_past_the_high_watermark() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    // Alone, everything is committed.
    assert_eq!(leader.high_watermark(), Offset::new(10));
    fetched(&mut leader, 2, 9, 1);
    assert!(!leader.has_proposal());

    let mut behind = crate::leader::leader(WrittenMeans::Appended, 2, &[1], 2);
    assert_eq!(behind.high_watermark(), Offset::new(4));
    fetched(&mut behind, 2, 9, 1);
    assert!(
        !behind.has_proposal(),
        "the last leader may have committed up to 10"
    );
    fetched(&mut behind, 2, 10, 2);
    let (proposal, members) = proposed(&mut behind).unwrap();
    assert_eq!(members, [1, 2]);
    assert_eq!(
        (proposal.leader_epoch, proposal.partition_epoch),
        (EPOCH, 5)
    );
    assert_eq!(proposal.isr[1].broker_epoch, BrokerEpoch::new(20));
    assert!(proposed(&mut behind).is_none(), "one at a time");
    // It counts already, and yet decides nothing: one in sync is too few.
    assert_eq!(maximal(&behind), [node(1), node(2)]);
    assert_eq!(behind.high_watermark(), Offset::new(4));
    behind.on_alter_outcome(&proposal, changed(6, &[1, 2]), at(3));
    assert_eq!(behind.high_watermark(), Offset::new(10));
}

#[test]
fn in_synced_mode_a_follower_joins_with_what_it_has_on_disk() {
    let mut leader = leader(WrittenMeans::Durable, 1, &[1], 2);
    told(&mut leader, &fetch(2, 10, 9), 1).unwrap();
    assert!(!leader.has_proposal());
    told(&mut leader, &fetch(2, 10, 10), 2).unwrap();
    assert!(leader.has_proposal());
}

#[test]
fn a_follower_that_is_fenced_or_registered_anew_does_not_join() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    let mut fenced = view(6, &[1], 2);
    fenced.replicas.get_mut(&node(2)).unwrap().is_active = false;
    leader.on_image(&fenced, at(1));
    fetched(&mut leader, 2, 10, 2);
    assert!(!leader.has_proposal());
    let mut anew = view(7, &[1], 2);
    anew.replicas.get_mut(&node(2)).unwrap().epoch = Some(BrokerEpoch::new(21));
    leader.on_image(&anew, at(3));
    assert!(!leader.has_proposal(), "it proved itself in another life");
    let mut reborn = fetch(2, 10, 10);
    reborn.broker_epoch = BrokerEpoch::new(21);
    told(&mut leader, &reborn, 4).unwrap();
    let (proposal, _) = proposed(&mut leader).unwrap();
    assert_eq!(proposal.isr[1].broker_epoch, BrokerEpoch::new(21));
}

#[test]
fn a_replica_that_left_and_came_back_in_the_same_epoch_has_proved_nothing() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1, 2], 2);
    fetched(&mut leader, 2, 10, 1);
    leader.on_image(&view(6, &[1], 1), at(2));
    leader.on_image(&view(7, &[1], 2), at(3));
    assert!(!leader.has_proposal());
    fetched(&mut leader, 2, 10, 4);
    assert!(leader.has_proposal());
}

#[test]
fn who_lags_is_put_out_and_still_counts_until_that_is_decided() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1, 2, 3], 3);
    fetched(&mut leader, 2, 10, 1);
    fetched(&mut leader, 3, 10, 1);
    leader.on_appended(Offset::new(20), Acks::Leader);
    for now in (1..=5).map(|n| n * LAG_MS / 4) {
        fetched(&mut leader, 2, 20, now);
        leader.on_tick(at(now));
    }
    let (proposal, members) = proposed(&mut leader).unwrap();
    assert_eq!(members, [1, 2]);
    assert_eq!(
        leader.high_watermark(),
        Offset::new(10),
        "3 counts until it is out"
    );
    leader.on_alter_outcome(&proposal, changed(6, &[1, 2]), at(1300));
    assert_eq!(leader.high_watermark(), Offset::new(20));
    // It comes back when it has caught up.
    fetched(&mut leader, 3, 15, 1400);
    assert!(!leader.has_proposal());
    fetched(&mut leader, 3, 20, 1401);
    assert_eq!(proposed(&mut leader).unwrap().1, [1, 2, 3]);
}

#[test]
fn a_follower_that_has_everything_does_not_lag_however_long_it_was_quiet() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1, 2], 2);
    fetched(&mut leader, 2, 10, 1);
    for n in 1..40 {
        leader.on_tick(at(n * LAG_MS / 4));
    }
    assert!(!leader.has_proposal());
}

#[test]
fn a_follower_that_keeps_up_with_a_slow_disk_stays() {
    let mut leader = leader(WrittenMeans::Durable, 1, &[1, 2], 2);
    let mut end = 10;
    for n in 1..100 {
        let now = n * LAG_MS / 20;
        end += 10;
        leader.on_appended(Offset::new(end), Acks::Leader);
        leader.on_durable(Offset::new(end));
        // Its disk is always several fetches behind.
        told(&mut leader, &fetch(2, end, end.saturating_sub(35)), now).unwrap();
        leader.on_tick(at(now));
        assert!(!leader.has_proposal(), "at {now} ms");
    }
}

/// Reports and fetches of a follower travel beside each other.
#[test]
fn a_report_or_a_fetch_that_was_overtaken_is_no_log_that_was_begun_anew() {
    let report = |end, durable| FollowerFetch {
        is_report: true,
        ..fetch(2, end, durable)
    };
    let mut leader = leader(WrittenMeans::Durable, 1, &[1, 2], 2);
    fetched(&mut leader, 2, 10, 1);
    leader.on_appended(Offset::new(30), Acks::Leader);
    leader.on_durable(Offset::new(30));
    told(&mut leader, &fetch(2, 20, 10), 2).unwrap();
    told(&mut leader, &report(15, 12), 3).unwrap();
    leader.on_tick(at(4));
    assert!(!leader.has_proposal(), "it was caught up 3 ms ago");
    told(&mut leader, &report(20, 20), 5).unwrap();
    assert_eq!(leader.high_watermark(), Offset::new(20));
    // Asked before that was durable, and arrived later: nothing is durable no more.
    told(&mut leader, &fetch(2, 20, 15), 6).unwrap();
    let known = leader.followers().next().unwrap().1.unwrap();
    assert_eq!(known.durable_end, Offset::new(20));
    // A log that was begun anew wants records.
    told(&mut leader, &fetch(2, 0, 0), 7).unwrap();
    let known = leader.followers().next().unwrap().1.unwrap();
    assert_eq!(known.log_end, Offset::ZERO);
    leader.on_tick(at(8));
    assert_eq!(proposed(&mut leader).unwrap().1, [1]);
}

#[test]
fn a_leader_that_was_stopped_puts_nobody_out_when_it_goes_on() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1, 2, 3], 3);
    leader.on_appended(Offset::new(20), Acks::Leader);
    leader.on_tick(at(LAG_MS / 4));
    let woken = 100 * LAG_MS;
    leader.on_tick(at(woken));
    assert!(!leader.has_proposal());
    leader.on_tick(at(woken + LAG_MS / 4));
    assert!(!leader.has_proposal(), "they have a whole lag from then on");
    for n in 2..=5 {
        leader.on_tick(at(woken + n * LAG_MS / 4));
    }
    assert_eq!(proposed(&mut leader).unwrap().1, [1]);
}

#[test]
fn an_outcome_that_nobody_knows_changes_nothing_and_the_same_is_asked_again() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1, 2], 3);
    fetched(&mut leader, 2, 10, 1);
    fetched(&mut leader, 3, 10, 2);
    let (first, _) = proposed(&mut leader).unwrap();
    leader.on_alter_outcome(&first, AlterOutcome::Unknown, at(3));
    assert_eq!(maximal(&leader), [node(1), node(2), node(3)]);
    // Others would be put out by now.
    for n in 1..10 {
        leader.on_tick(at(n * LAG_MS / 4));
    }
    let (again, _) = proposed(&mut leader).unwrap();
    assert_eq!(again, first);
    // It had been decided the first time, and metadata tells.
    leader.on_alter_outcome(&again, AlterOutcome::Behind, at(4000));
    assert_eq!(maximal(&leader), [node(1), node(2), node(3)]);
    leader.on_image(&view(6, &[1, 2, 3], 3), at(4001));
    assert_eq!(leader.isr().len(), 3);
    assert_eq!(leader.partition_epoch(), 6);
}

#[test]
fn metadata_and_answer_may_come_in_either_order() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    fetched(&mut leader, 2, 10, 1);
    let (proposal, _) = proposed(&mut leader).unwrap();
    leader.on_image(&view(6, &[1, 2], 2), at(2));
    assert_eq!(leader.isr().len(), 2);
    // Metadata says 7 already; the answer about 6 comes late.
    leader.on_image(&view(7, &[1], 2), at(3));
    leader.on_alter_outcome(&proposal, changed(6, &[1, 2]), at(4));
    assert_eq!((leader.partition_epoch(), leader.isr().len()), (7, 1));
    fetched(&mut leader, 2, 10, 4);
    let (proposal, _) = proposed(&mut leader).unwrap();
    leader.on_alter_outcome(&proposal, changed(8, &[1, 2]), at(5));
    leader.on_image(&view(7, &[1], 2), at(6));
    assert_eq!((leader.partition_epoch(), leader.isr().len()), (8, 2));
}

#[test]
fn a_definite_no_is_rolled_back_and_not_repeated_at_once() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    fetched(&mut leader, 2, 10, 1);
    let (proposal, _) = proposed(&mut leader).unwrap();
    leader.on_alter_outcome(&proposal, AlterOutcome::Ineligible, at(2));
    assert_eq!(maximal(&leader), [node(1)]);
    fetched(&mut leader, 2, 10, 3);
    assert!(!leader.has_proposal());
    leader.on_tick(at(LAG_MS / 4));
    assert!(leader.has_proposal());
}

#[test]
fn a_no_to_what_may_still_be_under_way_is_made_sure_of() {
    let mut leader = leader(WrittenMeans::Appended, 1, &[1], 2);
    fetched(&mut leader, 2, 10, 1);
    let (proposal, _) = proposed(&mut leader).unwrap();
    leader.on_alter_outcome(&proposal, AlterOutcome::Unknown, at(2));
    let (again, _) = proposed(&mut leader).unwrap();
    leader.on_alter_outcome(&again, AlterOutcome::Ineligible, at(3));
    // The first copy may arrive yet: only another change of the partition makes it too late.
    let (present, members) = proposed(&mut leader).unwrap();
    assert_eq!(members, [1]);
    assert_eq!(maximal(&leader), [node(1), node(2)]);
    leader.on_alter_outcome(&present, changed(6, &[1]), at(4));
    assert_eq!(maximal(&leader), [node(1)]);
}

#[test]
fn what_the_controller_answers_is_told_apart() {
    let of = |error| {
        AlterOutcome::of(&IsrDecision {
            partition: PartitionId::new(0),
            error,
            leader: Some(node(1)),
            leader_epoch: EPOCH,
            partition_epoch: 6,
            isr: vec![node(1)],
        })
    };
    assert_eq!(of(ErrorCode::None), changed(6, &[1]));
    assert_eq!(of(ErrorCode::IneligibleReplica), AlterOutcome::Ineligible);
    assert_eq!(of(ErrorCode::StalePartitionEpoch), AlterOutcome::Behind);
    assert_eq!(of(ErrorCode::FencedLeaderEpoch), AlterOutcome::Behind);
    for unclear in [
        ErrorCode::NotController,
        ErrorCode::RequestTimedOut,
        ErrorCode::Internal,
    ] {
        assert_eq!(of(unclear), AlterOutcome::Unknown);
    }
}

/// A replica whose log went offline was put out by the controller, its leader proposed it again because
/// of what it had last fetched, and so on thousands of times, while nothing could be committed.
#[test]
fn who_was_put_out_joins_again_only_with_a_new_fetch() {
    let mut leader = leader(WrittenMeans::Appended, 2, &[1, 2, 3], 3);
    fetched(&mut leader, 2, 10, 1);
    fetched(&mut leader, 3, 10, 2);
    leader.on_appended(Offset::new(12), Acks::All);
    fetched(&mut leader, 2, 12, 3);
    leader.on_image(&view(6, &[1, 2], 3), at(4));
    assert!(
        !leader.has_proposal(),
        "3 was caught up when it was last heard"
    );
    assert_eq!(
        leader.high_watermark(),
        Offset::new(12),
        "and nobody waits for it"
    );
    for n in 1..4 {
        leader.on_tick(at(n * LAG_MS / 4));
        fetched(&mut leader, 2, 12, n * LAG_MS / 4);
        assert!(!leader.has_proposal());
    }
    fetched(&mut leader, 3, 12, LAG_MS);
    assert_eq!(proposed(&mut leader).unwrap().1, [1, 2, 3]);
}
