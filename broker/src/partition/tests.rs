#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use highwater_coordination::partition_leader::AckWhen;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset, Timestamp};
use highwater_protocol::messages::Acks;
use highwater_storage::Durability;

use super::follow::FollowError;
use super::test_replica::{Replica, wait_for};
use super::{Acknowledgement, Followed, PartitionAppendError};

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn three(durability: Durability) -> [Replica; 3] {
    [1, 2, 3].map(|node| Replica::new(node, durability))
}

#[test]
fn followers_have_what_the_leader_has_and_learn_what_is_committed() {
    let [a, b, c] = three(Durability::Replicated);
    a.lead(1, &[1, 2, 3], 2);
    b.follow(&a, 1, false);
    c.follow(&a, 1, false);
    let appended = a.append(3, "x", Acks::All).unwrap();
    assert_eq!(appended.ack, AckWhen::Committed(at(3)));
    b.catch_up(&a);
    let waits = || a.partition.acknowledgement(appended.epoch, appended.ack);
    assert_eq!(
        waits(),
        Acknowledgement::Waiting,
        "the third is in sync too"
    );
    c.catch_up(&a);
    assert_eq!(waits(), Acknowledgement::Done);
    b.catch_up(&a);
    assert_eq!(b.bytes(), a.bytes());
    assert_eq!(c.bytes(), a.bytes());
    for replica in [&a, &b, &c] {
        assert_eq!(replica.partition.high_watermark(), at(3));
    }
}

#[test]
fn alone_everything_is_as_quick_as_before() {
    let a = Replica::new(1, Durability::Replicated);
    a.lead_with(1, &[1], 1, [(NodeId::new(1), Default::default())].into());
    let appended = a.append(2, "x", Acks::All).unwrap();
    assert_eq!(appended.ack, AckWhen::Now);
    assert_eq!(a.partition.high_watermark(), at(2));
}

#[test]
fn after_a_failover_the_old_leader_cuts_what_was_never_committed() {
    let [a, b, c] = three(Durability::Replicated);
    a.lead(1, &[1, 2, 3], 2);
    b.follow(&a, 1, false);
    c.follow(&a, 1, false);
    a.append(2, "kept", Acks::Leader).unwrap();
    b.catch_up(&a);
    c.catch_up(&a);
    b.catch_up(&a);
    // Nobody ever gets this.
    a.append(3, "lost", Acks::Leader).unwrap();

    b.lead(2, &[2, 3], 2);
    c.follow(&b, 2, false);
    b.append(1, "new", Acks::Leader).unwrap();
    b.append(1, "newer", Acks::Leader).unwrap();
    a.follow(&b, 2, false);
    assert!(matches!(
        a.append(1, "late", Acks::Leader),
        Err(PartitionAppendError::NotLeader)
    ));
    assert_eq!(a.catch_up(&b), 1, "one cut is enough");
    c.catch_up(&b);
    a.catch_up(&b);
    assert_eq!(a.bytes(), b.bytes());
    assert_eq!(a.epochs(), [1, 2, 2]);
    assert_eq!(a.partition.high_watermark(), at(4));
}

#[test]
fn two_quick_failovers_are_survived_as_well() {
    let [a, b, c] = three(Durability::Replicated);
    a.lead(1, &[1, 2, 3], 1);
    for follower in [&b, &c] {
        follower.follow(&a, 1, false);
    }
    a.append(1, "both", Acks::Leader).unwrap();
    b.catch_up(&a);
    c.catch_up(&a);
    a.append(2, "only a", Acks::Leader).unwrap();
    // Leads without appending, then c does.
    b.lead(2, &[2, 3], 1);
    c.lead(3, &[2, 3], 1);
    c.append(5, "c", Acks::Leader).unwrap();
    b.follow(&c, 3, false);
    assert_eq!(
        b.catch_up(&c),
        1,
        "its own epoch without records is forgotten"
    );
    a.follow(&c, 3, false);
    a.catch_up(&c);
    assert_eq!(a.bytes(), c.bytes());
    assert_eq!(b.bytes(), c.bytes());
}

#[test]
fn what_was_committed_is_not_cut_unless_the_election_was_unclean() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(1, &[1], 1);
    a.append(2, "committed alone", Acks::All).unwrap();
    assert_eq!(a.partition.high_watermark(), at(2));
    b.lead(2, &[2], 1);
    b.append(1, "other", Acks::All).unwrap();
    a.follow(&b, 2, false);
    let before = a.bytes();
    assert!(matches!(a.pull(&b), Followed::Quarantined));
    assert!(a.partition.offline_reason().unwrap().contains("committed"));
    assert_eq!(a.bytes(), before, "every byte is kept");
    assert!(a.partition.ask().is_none());
    assert_eq!(a.partitions.offline().len(), 1, "and it is told");

    let unclean = Replica::new(3, Durability::Replicated);
    unclean.lead(1, &[3], 1);
    unclean.append(2, "committed alone", Acks::All).unwrap();
    unclean.follow(&b, 2, true);
    assert_eq!(unclean.catch_up(&b), 1);
    assert_eq!(unclean.bytes(), b.bytes());
}

#[test]
fn a_leader_of_an_earlier_time_is_not_followed() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(9, &[1], 1);
    a.append(1, "later", Acks::Leader).unwrap();
    b.lead(10, &[2], 1);
    a.follow(&b, 10, false);
    // What a leader says whose log was rolled back.
    let followed = a.pull_changed(&b, |result| result.error = ErrorCode::EpochAhead);
    assert!(matches!(followed, Followed::Quarantined));
    assert_eq!(a.epochs(), [9]);
}

#[test]
fn in_synced_mode_an_acknowledgement_waits_for_the_followers_disk() {
    let [a, b, _c] = three(Durability::Synced);
    a.lead(1, &[1, 2], 2);
    b.follow(&a, 1, false);
    let appended = a.append(1, "x", Acks::All).unwrap();
    wait_for("the leader's own disk", || a.log().durable_end() == at(1));
    assert!(matches!(b.pull(&a), Followed::Took));
    assert_eq!(
        a.partition.acknowledgement(appended.epoch, appended.ack),
        Acknowledgement::Waiting
    );
    wait_for("the follower's disk", || b.log().durable_end() == at(1));
    b.pull(&a);
    assert_eq!(
        a.partition.acknowledgement(appended.epoch, appended.ack),
        Acknowledgement::Done
    );
}

#[test]
fn whoever_waits_learns_that_another_leads_even_if_the_same_broker_leads_again() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(1, &[1, 2], 2);
    let appended = a.append(1, "mine", Acks::All).unwrap();
    a.follow(&b, 2, false);
    let outcome = || a.partition.acknowledgement(appended.epoch, appended.ack);
    assert_eq!(outcome(), Acknowledgement::NotLeader);
    a.lead(3, &[1, 2], 1);
    b.follow(&a, 3, false);
    b.catch_up(&a);
    assert_eq!(a.partition.high_watermark(), at(1));
    assert_eq!(
        outcome(),
        Acknowledgement::NotLeader,
        "it counts in its own epoch only"
    );
}

#[test]
fn an_epoch_that_is_over_changes_nothing() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(5, &[1, 2], 1);
    a.follow(&b, 4, false);
    assert_eq!(a.partition.leads_in().map(LeaderEpoch::get), Some(5));
    a.follow(&b, 6, false);
    a.lead(5, &[1, 2], 1);
    assert_eq!(a.partition.leads_in(), None);
    // And an answer of the earlier leader is not taken in.
    b.lead(6, &[1, 2], 1);
    b.append(1, "x", Acks::Leader).unwrap();
    let followed = {
        let (ask, _) = a.partition.ask().unwrap();
        a.follow(&b, 7, false);
        let result = highwater_protocol::messages::FetchPartitionResult {
            partition: super::test_replica::key().1,
            error: ErrorCode::None,
            message: None,
            high_watermark: at(1),
            last_stable: at(1),
            log_start: at(0),
            diverging: None,
            records: b.bytes().into(),
        };
        a.partition
            .on_followed(&ask, &result, Timestamp::from_millis(1))
    };
    assert!(matches!(followed, Followed::Dropped));
    assert_eq!(a.log().end(), at(0));
}

#[test]
fn a_batch_that_was_damaged_on_its_way_is_not_appended() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(1, &[1, 2], 1);
    b.follow(&a, 1, false);
    a.append(1, "x", Acks::Leader).unwrap();
    let followed = b.pull_changed(&a, |result| {
        let mut bytes = result.records.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        result.records = bytes.into();
    });
    assert!(matches!(followed, Followed::Failed(_)), "{followed:?}");
    assert_eq!(b.log().end(), at(0));
    b.catch_up(&a);
    assert_eq!(b.bytes(), a.bytes());
}

/// In an epoch, batches come from its leader, and a later leader's have not been asked for.
#[test]
fn a_batch_of_a_later_epoch_than_its_leaders_is_not_appended() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(1, &[1, 2], 1);
    b.follow(&a, 1, false);
    a.append(1, "x", Acks::Leader).unwrap();
    let followed = b.pull_changed(&a, |result| {
        let mut bytes = result.records.to_vec();
        // The leader epoch lies outside of the checksum.
        bytes[12..16].copy_from_slice(&2u32.to_be_bytes());
        result.records = bytes.into();
    });
    assert!(
        matches!(followed, Followed::Failed(FollowError::Epoch { .. })),
        "{followed:?}"
    );
    assert_eq!(b.log().end(), at(0));
    b.catch_up(&a);
    assert_eq!(b.bytes(), a.bytes());
}

#[test]
fn a_follower_begins_where_the_leaders_log_begins_and_trims_with_it() {
    let [a, b, _c] = three(Durability::Replicated);
    a.lead(1, &[1], 1);
    b.follow(&a, 1, false);
    for tag in ["a", "b", "c"] {
        a.append(4, tag, Acks::Leader).unwrap();
    }
    // In the middle of a batch, which comes whole.
    a.log().trim_prefix(at(6)).unwrap();
    b.catch_up(&a);
    assert_eq!((b.log().log_start(), b.log().end()), (at(6), at(12)));
    assert_eq!(b.partition.high_watermark(), at(12));
    a.log().trim_prefix(at(8)).unwrap();
    b.catch_up(&a);
    assert_eq!(b.log().log_start(), at(8));
    assert_eq!(b.bytes(), a.bytes());
}

#[test]
fn a_new_leader_does_not_tell_the_end_before_it_knows_it() {
    let [a, b, c] = three(Durability::Replicated);
    a.lead(1, &[1, 2, 3], 2);
    b.follow(&a, 1, false);
    c.follow(&a, 1, false);
    a.append(4, "x", Acks::Leader).unwrap();
    assert!(matches!(b.pull(&a), Followed::Took));
    assert!(matches!(c.pull(&a), Followed::Took));
    // Committed as soon as both ask again, which only the leader knows.
    b.pull(&a);
    c.pull(&a);
    assert_eq!(a.partition.high_watermark(), at(4));
    b.lead(2, &[2, 3], 2);
    assert!(b.partition.high_watermark() < at(4));
    assert!(!b.partition.high_watermark_is_known());
    c.follow(&b, 2, false);
    c.catch_up(&b);
    assert!(b.partition.high_watermark_is_known());
    assert_eq!(b.partition.high_watermark(), at(4));
}
