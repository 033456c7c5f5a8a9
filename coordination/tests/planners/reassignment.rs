//! What may be asked for, and how far it has come.

use highwater_coordination::reassignment::{
    Factor, MovesBegun, ReassignmentError, ReplicaTarget, check_target, forget_ended,
    moves_in_flight, under_way,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::PartitionId;
use highwater_protocol::messages::MoveReason;

use crate::cluster::*;

fn check(
    cluster: &Cluster,
    replicas: &[u32],
    factor: Factor,
) -> Result<ReplicaTarget, ReassignmentError> {
    check_target(
        &cluster.image,
        "a",
        PartitionId::ZERO,
        &nodes(replicas),
        factor,
        MoveReason::Operator,
    )
}

fn four_nodes() -> Cluster {
    let mut cluster = Cluster::without_racks(4);
    cluster.topic("a", &[nodes(&[1, 2])]);
    cluster
}

#[test]
fn a_wish_is_checked() {
    let mut cluster = four_nodes();
    let target = check(&cluster, &[3, 2], Factor::MayGrow).unwrap();
    assert_eq!(target.replicas, nodes(&[3, 2]));
    assert_eq!(target.topic_id, cluster.image.topic("a").unwrap().id);
    assert!(check(&cluster, &[1, 2], Factor::MayGrow).is_ok());
    assert!(check(&cluster, &[1, 2, 3], Factor::MayGrow).is_ok());

    let refused = |cluster: &Cluster, replicas: &[u32]| {
        let error = check(cluster, replicas, Factor::MayGrow).unwrap_err();
        (error.code(), error.to_string())
    };
    let precondition = |text: &str| (ErrorCode::PreconditionFailed, text.to_owned());
    assert_eq!(
        refused(&cluster, &[1]),
        (
            ErrorCode::InvalidReplicationFactor,
            "partitions of topic a have 2 replicas, not 1".to_owned()
        )
    );
    assert_eq!(
        refused(&cluster, &[]).0,
        ErrorCode::InvalidReplicationFactor
    );
    assert!(check(&cluster, &[1], Factor::MayChange).is_ok());
    assert_eq!(refused(&cluster, &[3, 3]).0, ErrorCode::InvalidRequest);
    assert_eq!(refused(&cluster, &[1, 9]).0, ErrorCode::UnknownNode);
    cluster.set(3, DRAINING);
    cluster.lose(4, 0);
    assert_eq!(
        refused(&cluster, &[1, 3]),
        precondition("node 3 is being drained: it takes no replicas")
    );
    assert_eq!(
        refused(&cluster, &[1, 4]),
        precondition("node 4 is not active: it cannot take a replica now")
    );

    let unknown = |topic, partition| {
        let partition = PartitionId::new(partition);
        let wish = nodes(&[1]);
        check_target(
            &cluster.image,
            topic,
            partition,
            &wish,
            Factor::MayGrow,
            MoveReason::Operator,
        )
        .unwrap_err()
        .code()
    };
    assert_eq!(unknown("b", 0), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(unknown("a", 1), ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn replicas_may_stay_where_they_are_whatever_the_node_is_like() {
    let mut cluster = four_nodes();
    cluster.lose(1, 0);
    cluster.set(2, DRAINING);
    assert!(check(&cluster, &[1, 3], Factor::MayGrow).is_ok());
    assert!(check(&cluster, &[3, 2], Factor::MayGrow).is_ok());
}

#[test]
fn a_replica_that_a_move_adds_is_not_there_yet() {
    let mut cluster = four_nodes();
    let target = check(&cluster, &[3, 2], Factor::MayGrow).unwrap();
    cluster.begin(&target);
    cluster.lose(3, 0);
    // Two replicas are what counts, though three nodes hold the partition meanwhile.
    assert!(check(&cluster, &[1, 2], Factor::MayGrow).is_ok());
    assert_eq!(
        check(&cluster, &[3, 1], Factor::MayGrow).unwrap_err(),
        ReassignmentError::Inactive { node: node(3) }
    );
}

#[test]
fn progress_is_told_until_the_move_ends() {
    let mut cluster = four_nodes();
    let key = (cluster.image.topic("a").unwrap().id, PartitionId::ZERO);
    let mut begun = MovesBegun::from([(key, MoveReason::Balance)]);
    let target = check(&cluster, &[3, 2], Factor::MayGrow).unwrap();
    assert!(under_way(&cluster.image, &begun).is_empty());
    cluster.begin(&target);

    let moves = under_way(&cluster.image, &begun);
    assert_eq!(moves.len(), 1);
    assert_eq!(moves[0].from, nodes(&[2, 1]));
    assert_eq!(moves[0].to, nodes(&[3, 2]));
    assert_eq!(moves[0].catching_up, nodes(&[3]));
    assert_eq!(moves[0].removing, nodes(&[1]));
    assert_eq!(moves[0].reason, MoveReason::Balance);
    assert_eq!(moves_in_flight(&cluster.image), 1);
    forget_ended(&mut begun, &cluster.image);
    assert_eq!(begun.len(), 1);

    cluster.catch_up();
    assert_eq!(cluster.partition("a", 0).replicas, nodes(&[3, 2]));
    assert!(under_way(&cluster.image, &begun).is_empty());
    assert_eq!(moves_in_flight(&cluster.image), 0);
    forget_ended(&mut begun, &cluster.image);
    assert!(begun.is_empty());
}

#[test]
fn a_new_controller_guesses_why_a_move_was_begun() {
    let reason = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = four_nodes();
        let target = check(&cluster, &[3, 2], Factor::MayGrow).unwrap();
        cluster.begin(&target);
        change(&mut cluster);
        under_way(&cluster.image, &MovesBegun::new())[0].reason
    };
    assert_eq!(reason(&|_| ()), MoveReason::Operator);
    assert_eq!(reason(&|cluster| cluster.lose(1, 0)), MoveReason::Heal);
    assert_eq!(
        reason(&|cluster| cluster.set(1, DRAINING)),
        MoveReason::Drain
    );
}
