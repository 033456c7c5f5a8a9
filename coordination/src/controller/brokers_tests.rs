use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, DirectoryId, PartitionId};
use highwater_protocol::messages::{RemoveNodeRequest, ReplicaToRebuild, SessionEnd};

use super::super::test_cluster::{TestCluster, is_synced, join, node, nodes};
use super::super::*;
use crate::partition_change::check_image;

fn code<R: std::fmt::Debug>(result: Result<Decision<R>, ControllerError>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn the_same_incarnation_gets_the_same_answer_and_another_waits_for_the_session() {
    let mut cluster = TestCluster::of(1);
    let request = cluster.register_request(1, SessionEnd::Clean, &[]);
    let epoch = cluster.new_epoch();
    let refused = register_broker(&cluster.image, &request, epoch, true, &is_synced);
    assert_eq!(code(refused), ErrorCode::DuplicateBroker);

    let taken = register_broker(&cluster.image, &request, epoch, false, &is_synced);
    assert_eq!(cluster.apply(taken), epoch);
    cluster.unfence(1);
    let later = cluster.new_epoch();
    let retry = register_broker(&cluster.image, &request, later, true, &is_synced).unwrap();
    assert_eq!((retry.reply, retry.records.len()), (epoch, 0));

    let other = cluster.register_request(1, SessionEnd::Clean, &[]);
    let used = register_broker(&cluster.image, &other, epoch, false, &is_synced);
    assert_eq!(code(used), ErrorCode::Internal);
}

#[test]
fn who_does_not_belong_is_refused_with_the_remedy() {
    let mut cluster = TestCluster::of(2);
    let epoch = cluster.new_epoch();
    let good = cluster.register_request(2, SessionEnd::Clean, &[]);
    let refusal = |cluster: &TestCluster, request| {
        let refused = register_broker(&cluster.image, request, epoch, false, &is_synced);
        let error = refused.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NodeRefused);
        error.to_string()
    };
    let mut stranger = good.clone();
    stranger.node_id = node(9);
    assert!(refusal(&cluster, &stranger).contains("empty data directory"));
    let mut other_disk = good.clone();
    other_disk.directory = DirectoryId::from_bytes([9; 16]);
    assert!(refusal(&cluster, &other_disk).contains("node remove 2"));

    cluster.fence(2);
    let remove = RemoveNodeRequest {
        node_id: node(2),
        force: false,
    };
    cluster.apply(remove_node(&cluster.image, &remove, false));
    assert!(refusal(&cluster, &good).contains("removed"));
}

#[test]
fn a_new_life_begins_fenced_and_out_of_everything() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("synced", &[1, 2, 3], 2);
    cluster.topic("fast", &[1, 2], 2);
    cluster.register(1, SessionEnd::Clean, &[]);
    assert!(cluster.image.broker(node(1)).unwrap().fenced);
    let synced = cluster.partition("synced");
    assert_eq!(synced.leader, Some(node(2)));
    assert_eq!((&synced.isr, &synced.elr), (&nodes(&[2, 3]), &vec![]));
    let fast = cluster.partition("fast");
    assert_eq!(fast.leader, Some(node(2)));
    assert_eq!((&fast.isr, &fast.elr), (&nodes(&[2]), &nodes(&[1])));
}

/// The matrix of what the end of a life means for eligibility; below `min.insync.replicas` the ELR is
/// all that keeps a replica electable.
#[test]
fn only_a_proven_end_or_a_synced_topic_keeps_eligibility() {
    let kept = |topic: &str, end: SessionEnd, other_epoch: Option<u64>, is_damaged: bool| {
        let mut cluster = TestCluster::of(2);
        cluster.topic(topic, &[1, 2], 2);
        let damaged: &[(&str, u32)] = if is_damaged { &[(topic, 0)] } else { &[] };
        let mut request = cluster.register_request(1, end, damaged);
        if let Some(other) = other_epoch {
            request.last_broker_epoch = Some(BrokerEpoch::new(other));
        }
        let epoch = cluster.new_epoch();
        let decision = register_broker(&cluster.image, &request, epoch, false, &is_synced);
        cluster.apply(decision);
        let partition = cluster.partition(topic);
        assert_eq!(partition.isr, nodes(&[2]));
        let is_kept = partition.elr == nodes(&[1]);
        assert_eq!(partition.last_known_elr == nodes(&[1]), !is_kept);
        is_kept
    };
    assert!(kept("fast", SessionEnd::Clean, None, false));
    assert!(kept("fast", SessionEnd::ProcessCrash, None, false));
    assert!(!kept("fast", SessionEnd::Unclean, None, false));
    for other in [1, 1_000] {
        // The disk was rolled back, or comes from elsewhere.
        assert!(!kept("fast", SessionEnd::Clean, Some(other), false));
        assert!(!kept("fast", SessionEnd::ProcessCrash, Some(other), false));
        assert!(kept("synced", SessionEnd::ProcessCrash, Some(other), false));
    }
    assert!(kept("synced", SessionEnd::Unclean, None, false));
    for end in [
        SessionEnd::Clean,
        SessionEnd::ProcessCrash,
        SessionEnd::Unclean,
    ] {
        assert!(!kept("fast", end, None, true));
        assert!(!kept("synced", end, None, true));
    }
}

#[test]
fn the_last_in_sync_replica_comes_back_as_leader_in_a_new_epoch() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("fast", &[1, 2, 3], 1);
    cluster.alter("fast", &[1]);
    let before = cluster.partition("fast").leader_epoch;
    cluster.register(1, SessionEnd::ProcessCrash, &[]);
    let waiting = cluster.partition("fast");
    assert_eq!(
        (waiting.leader, &waiting.elr),
        (None, &nodes(&[1])),
        "2 and 3 are active and must not lead"
    );
    cluster.unfence(1);
    let back = cluster.partition("fast");
    assert_eq!((back.leader, &back.isr), (Some(node(1)), &nodes(&[1])));
    assert!(back.leader_epoch > before && !back.recovering);

    // After an end that it cannot prove others may be as good: nobody leads by itself.
    cluster.register(1, SessionEnd::Unclean, &[]);
    cluster.unfence(1);
    assert_eq!(cluster.partition("fast").leader, None);
    assert_eq!(cluster.partition("fast").last_known_elr, nodes(&[1]));
}

#[test]
fn the_only_copy_comes_back_after_any_end_unless_it_is_damaged() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("fast", &[1], 1);
    for end in [
        SessionEnd::Unclean,
        SessionEnd::ProcessCrash,
        SessionEnd::Clean,
    ] {
        let before = cluster.partition("fast").leader_epoch;
        cluster.register(1, end, &[]);
        assert_eq!(cluster.partition("fast").leader, None);
        cluster.unfence(1);
        let partition = cluster.partition("fast");
        assert_eq!(partition.leader, Some(node(1)));
        assert!(partition.leader_epoch > before);
    }
    cluster.register(1, SessionEnd::Clean, &[("fast", 0)]);
    cluster.unfence(1);
    assert_eq!(cluster.partition("fast").leader, None, "damaged");

    // The directory was put back.
    cluster.register(1, SessionEnd::Unclean, &[]);
    cluster.unfence(1);
    assert_eq!(cluster.partition("fast").leader, Some(node(1)));
}

#[test]
fn replicas_that_a_move_still_fills_are_no_other_copy() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("fast", &[1], 1);
    cluster.apply(set_replicas(
        &cluster.image,
        id,
        PartitionId::ZERO,
        &nodes(&[2, 3]),
    ));
    cluster.register(1, SessionEnd::Unclean, &[]);
    cluster.unfence(1);
    assert_eq!(cluster.partition("fast").leader, Some(node(1)));

    // 2 was in sync alone at last, and 1 is no copy that was being filled: neither leads by itself.
    cluster.alter("fast", &[1, 2]);
    cluster.register(1, SessionEnd::Unclean, &[]);
    cluster.register(2, SessionEnd::Unclean, &[]);
    cluster.unfence(1);
    cluster.unfence(2);
    let partition = cluster.partition("fast");
    assert_eq!((partition.leader, &partition.elr), (None, &vec![]));
    assert_eq!(partition.last_known_elr, nodes(&[2]));
}

#[test]
fn a_replica_that_a_move_has_filled_is_a_better_copy_than_one_that_may_have_lost_data() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("fast", &[1, 4], 2);
    cluster.fence(4);
    let remove = RemoveNodeRequest {
        node_id: node(4),
        force: true,
    };
    cluster.apply(remove_node(&cluster.image, &remove, false));
    cluster.apply(set_replicas(
        &cluster.image,
        id,
        PartitionId::ZERO,
        &nodes(&[1, 2, 3]),
    ));
    cluster.alter("fast", &[1, 2]);
    cluster.register(1, SessionEnd::Unclean, &[]);
    let partition = cluster.partition("fast");
    assert_eq!((partition.leader, &partition.elr), (Some(node(2)), &vec![]));
    assert_eq!(partition.last_known_elr, nodes(&[1]));
}

#[test]
fn a_heartbeat_unfences_only_who_is_ready_and_has_its_registration() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("synced", &[1], 1);
    cluster.register(1, SessionEnd::Clean, &[]);
    let mut beat = cluster.beat(1);
    beat.metadata_index = cluster.epoch(1).get() - 1;
    let early = heartbeat(&cluster.image, &beat).unwrap();
    assert!(early.reply.fenced && early.records.is_empty());
    beat.metadata_index += 1;
    beat.wants_fence = true;
    let starting = heartbeat(&cluster.image, &beat).unwrap();
    assert!(starting.reply.fenced && starting.records.is_empty());
    beat.wants_fence = false;
    let ready = cluster.apply(heartbeat(&cluster.image, &beat));
    assert!(!ready.fenced && !ready.may_shut_down);
    assert_eq!(cluster.partition("synced").leader, Some(node(1)));
    let idle = heartbeat(&cluster.image, &beat).unwrap();
    assert!(
        idle.records.is_empty(),
        "an ordinary heartbeat decides nothing"
    );

    beat.wants_fence = true;
    assert!(cluster.apply(heartbeat(&cluster.image, &beat)).fenced);
    assert_eq!(cluster.partition("synced").leader, None);

    beat.broker_epoch = BrokerEpoch::new(1);
    assert_eq!(
        code(heartbeat(&cluster.image, &beat)),
        ErrorCode::StaleBrokerEpoch
    );
    beat.node_id = node(7);
    assert_eq!(
        code(heartbeat(&cluster.image, &beat)),
        ErrorCode::UnknownNode
    );
}

#[test]
fn fencing_moves_leaderships_and_the_same_life_comes_back() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("synced", &[1, 2, 3], 2);
    let epoch = cluster.epoch(1);
    cluster.fence(1);
    assert_eq!(cluster.partition("synced").leader, Some(node(2)));
    cluster.fence(2);
    let one_left = cluster.partition("synced");
    assert_eq!((&one_left.isr, &one_left.elr), (&nodes(&[3]), &nodes(&[2])));
    cluster.fence(3);
    assert_eq!(cluster.partition("synced").elr, nodes(&[2, 3]));
    cluster.unfence(1);
    assert_eq!(
        cluster.partition("synced").leader,
        None,
        "1 is not complete"
    );
    cluster.unfence(3);
    assert_eq!(cluster.partition("synced").leader, Some(node(3)));
    assert_eq!(cluster.epoch(1), epoch);
    let again = fence_broker(&cluster.image, node(2), cluster.epoch(2)).unwrap();
    assert!(again.records.is_empty());
    let stale = fence_broker(&cluster.image, node(1), BrokerEpoch::new(1));
    assert_eq!(code(stale), ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_shutdown_hands_over_and_waits_for_an_heir() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("synced-a", &[1, 2], 1);
    cluster.topic("synced-b", &[2, 1], 1);
    cluster.topic("synced-c", &[1, 3], 1);
    cluster.alter("synced-c", &[1]);
    let mut beat = cluster.beat(1);
    beat.wants_shutdown = true;
    let outcome = cluster.apply(heartbeat(&cluster.image, &beat));
    assert_eq!(cluster.partition("synced-a").isr, nodes(&[2]));
    assert_eq!(cluster.partition("synced-b").isr, nodes(&[2]));
    assert_eq!(cluster.partition("synced-c").leader, Some(node(1)));
    assert_eq!((outcome.leads, outcome.may_shut_down), (1, false));
    assert!(!outcome.fenced);

    // It stays so, even if the wish is not repeated.
    let outcome = cluster.apply(heartbeat(&cluster.image, &cluster.beat(1)));
    assert!(!outcome.may_shut_down);
    cluster.alter("synced-c", &[1, 3]);
    assert_eq!(cluster.partition("synced-c").leader, Some(node(3)));
    let outcome = cluster.apply(heartbeat(&cluster.image, &beat));
    assert_eq!((outcome.leads, outcome.may_shut_down), (0, true));
    assert_eq!(cluster.partition("synced-c").isr, nodes(&[3]));
}

#[test]
fn a_broker_that_is_alone_may_stop_and_leads_to_the_end() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("synced", &[1, 2], 2);
    cluster.fence(2);
    let mut beat = cluster.beat(1);
    beat.wants_shutdown = true;
    let outcome = cluster.apply(heartbeat(&cluster.image, &beat));
    assert_eq!((outcome.leads, outcome.may_shut_down), (1, true));
    assert_eq!(cluster.partition("synced").leader, Some(node(1)));
    cluster.fence(1);
    assert_eq!(cluster.partition("synced").elr, nodes(&[1, 2]));
    // Its next life begins without the mark.
    cluster.register(1, SessionEnd::Clean, &[]);
    cluster.unfence(1);
    assert!(cluster.image.broker(node(1)).unwrap().is_active());
    assert_eq!(cluster.partition("synced").leader, Some(node(1)));
}

#[test]
fn an_eligible_replica_takes_over_from_the_last_in_sync_one_that_stops() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("synced", &[1, 2], 2);
    cluster.alter("synced", &[1]);
    assert_eq!(cluster.partition("synced").elr, nodes(&[2]));
    cluster.apply(shut_down_broker(&cluster.image, node(1), cluster.epoch(1)));
    let partition = cluster.partition("synced");
    assert_eq!(partition.leader, Some(node(2)));
    assert_eq!(
        (&partition.isr, &partition.elr),
        (&nodes(&[2]), &nodes(&[1]))
    );
}

#[test]
fn a_damaged_log_leaves_isr_elr_and_leadership() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("synced-a", &[1, 2, 3], 3);
    cluster.topic("synced-b", &[1, 2], 1);
    cluster.topic("synced-c", &[1], 1);
    let mut beat = cluster.beat(1);
    beat.offline = cluster.partitions(&[("synced-a", 0), ("synced-c", 0)]);
    cluster.apply(heartbeat(&cluster.image, &beat));
    let a = cluster.partition("synced-a");
    assert_eq!(a.leader, Some(node(2)));
    assert_eq!((&a.isr, &a.elr), (&nodes(&[2, 3]), &vec![]));
    assert_eq!(a.last_known_elr, nodes(&[1]));
    assert_eq!(cluster.partition("synced-b").leader, Some(node(1)));
    assert_eq!(cluster.partition("synced-c").leader, None);
    let again = heartbeat(&cluster.image, &beat).unwrap();
    assert!(again.records.is_empty());

    // Also where it is only eligible.
    cluster.alter("synced-a", &[2]);
    assert_eq!(cluster.partition("synced-a").elr, nodes(&[3]));
    let lost = cluster.partitions(&[("synced-a", 0), ("synced-a", 99)]);
    cluster.apply(take_offline(
        &cluster.image,
        node(3),
        cluster.epoch(3),
        &lost,
    ));
    assert!(cluster.partition("synced-a").elr.is_empty());
    assert_eq!(cluster.partition("synced-a").last_known_elr, nodes(&[1, 3]));

    // Repaired from its peers, it is taken in again.
    cluster.alter("synced-a", &[1, 2]);
    assert_eq!(cluster.partition("synced-a").isr, nodes(&[1, 2]));
}

#[test]
fn a_replica_that_is_to_be_begun_anew_begins_one_leader_epoch_in_sync_or_not() {
    for isr in [&[1, 2, 3][..], &[1, 2]] {
        let mut cluster = TestCluster::of(3);
        let topic_id = cluster.topic("synced-a", &[1, 2, 3], 2);
        if isr.len() < 3 {
            cluster.alter("synced-a", isr);
        }
        let before = cluster.partition("synced-a").clone();
        let mut beat = cluster.beat(3);
        beat.offline = cluster.partitions(&[("synced-a", 0)]);
        beat.to_rebuild = vec![ReplicaToRebuild {
            topic_id,
            partition: PartitionId::new(0),
            leader_epoch: before.leader_epoch,
        }];
        cluster.apply(heartbeat(&cluster.image, &beat));
        let after = cluster.partition("synced-a");
        assert_eq!(after.leader, before.leader);
        assert!(after.leader_epoch > before.leader_epoch, "{isr:?}");
        assert_eq!(after.isr, nodes(&[1, 2]));
        let again = heartbeat(&cluster.image, &beat).unwrap();
        assert!(again.records.is_empty(), "what it told is over");
    }
}

#[test]
fn a_node_that_joined_and_never_started_is_no_obstacle() {
    let mut cluster = TestCluster::of(1);
    cluster.apply(join_cluster(&cluster.image, &join(2, None)));
    check_image(&cluster.image).unwrap();
    let mut beat = cluster.beat(1);
    beat.node_id = node(2);
    assert_eq!(
        code(heartbeat(&cluster.image, &beat)),
        ErrorCode::StaleBrokerEpoch
    );
    cluster.register(2, SessionEnd::Unclean, &[]);
    cluster.unfence(2);
    cluster.topic("synced", &[2, 1], 2);
}
