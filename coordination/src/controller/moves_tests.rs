use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::PartitionId;
use highwater_protocol::messages::ReplicaMove;

use super::super::test_cluster::{TestCluster, node, nodes};
use super::super::*;

const ZERO: PartitionId = PartitionId::ZERO;

#[test]
fn a_move_grows_first_and_shrinks_when_the_new_replicas_are_in_sync() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("a", &[1, 2], 2);
    let target = nodes(&[3, 4]);
    let reply = cluster.apply(set_replicas(&cluster.image, id, ZERO, &target));
    assert_eq!(&reply, cluster.partition("a"));
    assert_eq!(reply.replicas, nodes(&[3, 4, 1, 2]));
    assert_eq!((&reply.adding, &reply.removing), (&target, &nodes(&[1, 2])));
    assert_eq!(reply.isr, nodes(&[1, 2]), "a move adds nobody to the ISR");
    assert_eq!(reply.leader, Some(node(1)));
    let again = set_replicas(&cluster.image, id, ZERO, &target).unwrap();
    assert!(again.records.is_empty());

    cluster.alter("a", &[1, 2, 3]);
    assert!(cluster.partition("a").is_moving());
    cluster.alter("a", &[1, 3, 4]);
    let done = cluster.partition("a");
    assert_eq!((&done.replicas, &done.isr), (&target, &target));
    assert_eq!(done.leader, Some(node(3)));
}

#[test]
fn a_move_that_adds_nothing_is_done_at_once_if_enough_is_in_sync() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("a", &[1, 2, 3], 2);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 2, 1])));
    let reordered = cluster.partition("a");
    assert_eq!(reordered.replicas, nodes(&[3, 2, 1]));
    assert_eq!(
        reordered.leader,
        Some(node(1)),
        "leaders are not moved by it"
    );
}

#[test]
fn a_move_that_only_removes_waits_until_enough_of_the_rest_is_in_sync() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("a", &[1, 2], 2);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 2, 1])));
    cluster.alter("a", &[1, 2, 3]);
    assert_eq!(cluster.partition("a").replicas, nodes(&[3, 2, 1]));
    cluster.alter("a", &[1, 2]);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 2])));
    assert_eq!(cluster.partition("a").removing, nodes(&[1]));
    cluster.alter("a", &[1, 2, 3]);
    assert_eq!(cluster.partition("a").replicas, nodes(&[3, 2]));
    assert_eq!(cluster.partition("a").leader, Some(node(3)));
}

#[test]
fn a_move_is_given_up_unless_its_replicas_are_needed() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("a", &[1, 2], 2);
    let nothing = cancel_move(&cluster.image, id, ZERO).unwrap_err();
    assert_eq!(nothing.code(), ErrorCode::PreconditionFailed);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 4])));
    cluster.alter("a", &[1, 2, 3]);
    let before = cluster.partition("a").leader_epoch;
    cluster.apply(cancel_move(&cluster.image, id, ZERO));
    let back = cluster.partition("a");
    assert_eq!(
        (&back.replicas, &back.isr),
        (&nodes(&[1, 2]), &nodes(&[1, 2]))
    );
    assert!(!back.is_moving() && back.leader_epoch > before);

    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 4])));
    cluster.alter("a", &[1, 2, 3]);
    cluster.alter("a", &[1, 3]);
    let needed = cancel_move(&cluster.image, id, ZERO).unwrap_err();
    assert_eq!(needed.code(), ErrorCode::PreconditionFailed);
    assert!(needed.to_string().contains("1 would be in sync, and 2"));
    let other = set_replicas(&cluster.image, id, ZERO, &nodes(&[1, 4])).unwrap_err();
    assert_eq!(other.code(), ErrorCode::PreconditionFailed);

    // Eligible counts as well: below the minimum it is what the committed records rest on.
    cluster.alter("a", &[1]);
    assert_eq!(cluster.partition("a").elr, nodes(&[3]));
    assert!(cancel_move(&cluster.image, id, ZERO).is_err());
}

#[test]
fn a_move_that_never_got_anywhere_is_given_up_even_below_the_minimum() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("a", &[1, 2], 2);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 4])));
    cluster.fence(2);
    cluster.apply(cancel_move(&cluster.image, id, ZERO));
    let back = cluster.partition("a");
    assert_eq!((&back.isr, &back.elr), (&nodes(&[1]), &nodes(&[2])));
}

#[test]
fn another_target_takes_over_what_it_shares_with_the_old_one() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("a", &[1, 2], 1);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 4])));
    cluster.alter("a", &[1, 2, 4]);
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[4, 2])));
    let moved = cluster.partition("a");
    assert_eq!(moved.replicas, nodes(&[4, 2]), "4 is in sync already");
    assert_eq!(moved.isr, nodes(&[4, 2]));
    assert_eq!(moved.leader, Some(node(4)));

    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 1])));
    cluster.apply(set_replicas(&cluster.image, id, ZERO, &nodes(&[3, 2])));
    let moved = cluster.partition("a");
    assert_eq!(moved.replicas, nodes(&[3, 2, 4]));
    assert_eq!(
        (&moved.adding, &moved.removing),
        (&nodes(&[3]), &nodes(&[4]))
    );
}

#[test]
fn targets_that_make_no_sense_are_refused_one_by_one() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[1, 2], 2);
    cluster.topic("b", &[1], 1);
    let wanted = |topic: &str, replicas: Option<&[u32]>| ReplicaMove {
        topic: topic.to_owned(),
        partition: ZERO,
        replicas: replicas.map(nodes),
    };
    let bad = [
        (wanted("a", Some(&[])), ErrorCode::InvalidReplicationFactor),
        (wanted("a", Some(&[1, 1])), ErrorCode::InvalidRequest),
        (wanted("a", Some(&[3])), ErrorCode::InvalidReplicationFactor),
        (wanted("a", Some(&[1, 9])), ErrorCode::UnknownNode),
        (wanted("a", None), ErrorCode::PreconditionFailed),
        (wanted("x", Some(&[1])), ErrorCode::UnknownTopicOrPartition),
    ];
    for (one, code) in bad {
        let decision = move_replicas(&cluster.image, std::slice::from_ref(&one));
        assert!(decision.records.is_empty());
        assert_eq!(decision.reply[0].error, code, "{one:?}");
    }
    let moves = [
        wanted("x", None),
        wanted("b", Some(&[2, 1])),
        wanted("b", Some(&[3])),
        wanted("a", Some(&[3, 2])),
    ];
    let results = cluster.apply(Ok(move_replicas(&cluster.image, &moves)));
    let errors: Vec<ErrorCode> = results.iter().map(|result| result.error).collect();
    assert_eq!(
        errors,
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::None
        ]
    );
    assert_eq!(cluster.partition("b").replicas, nodes(&[2, 1]));
    assert_eq!(cluster.partition("a").replicas, nodes(&[3, 2, 1]));
}
