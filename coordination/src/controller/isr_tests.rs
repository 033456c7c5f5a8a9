use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, PartitionId, TopicId};
use highwater_protocol::messages::{AlterPartitionRequest, IsrMember, IsrProposal, SessionEnd};

use super::super::test_cluster::{TestCluster, node, nodes};
use std::collections::BTreeMap;

use highwater_protocol::messages::TopicPartition;

use super::super::*;

fn change(
    mut request: AlterPartitionRequest,
    change: impl FnOnce(&mut IsrProposal),
) -> AlterPartitionRequest {
    change(&mut request.topics[0].partitions[0]);
    request
}

#[test]
fn a_proposal_on_the_present_state_is_taken_and_answered_with_the_state_after_it() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[1, 2, 3], 2);
    let proposal = cluster.proposal("a", &[3, 1]);
    let answer = cluster.send(&proposal);
    assert_eq!(answer.error, ErrorCode::None);
    assert_eq!(answer.isr, nodes(&[1, 3]));
    assert_eq!(answer.partition_epoch, 1);
    assert_eq!(answer.leader_epoch, LeaderEpoch::ZERO);
    assert_eq!(answer.leader, Some(node(1)));

    // The same again after a lost answer: stale, and told what is.
    let again = cluster.send(&proposal);
    assert_eq!(again.error, ErrorCode::StalePartitionEpoch);
    assert_eq!((again.isr, again.partition_epoch), (nodes(&[1, 3]), 1));

    // Who proposes what there is wants to be sure that an older proposal comes too late from now on: that
    // counts as a change although everything stays.
    let older = cluster.proposal("a", &[1, 2, 3]);
    let same = cluster.proposal("a", &[1, 3]);
    let answer = cluster.send(&same);
    assert_eq!(answer.error, ErrorCode::None);
    assert_eq!((answer.isr, answer.partition_epoch), (nodes(&[1, 3]), 2));
    assert_eq!(cluster.send(&older).error, ErrorCode::StalePartitionEpoch);
}

#[test]
fn the_checks_come_in_their_order() {
    let mut cluster = TestCluster::of(4);
    cluster.topic("a", &[1, 2, 3], 1);
    cluster.fence(3);
    cluster.unfence(3);
    let good = cluster.proposal("a", &[1, 2]);
    let now = cluster.partition("a").clone();
    let error = |cluster: &TestCluster, request: &AlterPartitionRequest| {
        let decision = alter_partition(&cluster.image, request).unwrap();
        assert!(decision.records.is_empty());
        let answer = decision.reply.topics[0].partitions[0].clone();
        assert_ne!(answer.error, ErrorCode::None);
        answer.error
    };

    let mut stale = good.clone();
    stale.broker_epoch = BrokerEpoch::new(1);
    let refused = alter_partition(&cluster.image, &stale).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StaleBrokerEpoch);

    let mut elsewhere = good.clone();
    elsewhere.topics[0].topic_id = TopicId::from_bytes([0; 16]);
    assert_eq!(error(&cluster, &elsewhere), ErrorCode::UnknownTopicId);
    let elsewhere = change(good.clone(), |p| p.partition = PartitionId::new(1));
    assert_eq!(
        error(&cluster, &elsewhere),
        ErrorCode::UnknownTopicOrPartition
    );

    let newer = change(good.clone(), |p| p.leader_epoch = LeaderEpoch::new(99));
    assert_eq!(error(&cluster, &newer), ErrorCode::NotController);
    let newer = change(good.clone(), |p| p.partition_epoch += 1);
    assert_eq!(error(&cluster, &newer), ErrorCode::NotController);

    let mut not_leader = good.clone();
    not_leader.node_id = node(2);
    not_leader.broker_epoch = cluster.epoch(2);
    assert_eq!(error(&cluster, &not_leader), ErrorCode::InvalidRequest);

    let older = change(good.clone(), |p| p.partition_epoch -= 1);
    assert_eq!(error(&cluster, &older), ErrorCode::StalePartitionEpoch);

    let members = |ids: &[u32]| -> Vec<IsrMember> {
        ids.iter()
            .map(|id| IsrMember {
                node_id: node(*id),
                broker_epoch: cluster.epoch(*id),
            })
            .collect()
    };
    for isr in [&[1, 2, 4][..], &[2], &[], &[1, 2, 2]] {
        let odd = change(good.clone(), |p| p.isr = members(isr));
        assert_eq!(error(&cluster, &odd), ErrorCode::InvalidRequest, "{isr:?}");
    }

    let mut wrong_life = members(&[1, 2]);
    wrong_life[1].broker_epoch = BrokerEpoch::new(1);
    let wrong_life = change(good.clone(), |p| p.isr = wrong_life);
    assert_eq!(error(&cluster, &wrong_life), ErrorCode::IneligibleReplica);
    let with_three = cluster.proposal("a", &[1, 2, 3]);
    cluster.fence(3);
    assert_eq!(error(&cluster, &with_three), ErrorCode::IneligibleReplica);
    cluster.unfence(3);
    cluster.apply(shut_down_broker(&cluster.image, node(3), cluster.epoch(3)));
    assert_eq!(error(&cluster, &with_three), ErrorCode::IneligibleReplica);

    // A new leader epoch fences the proposals of the old one, whoever leads now.
    cluster.fence(1);
    cluster.unfence(1);
    assert!(cluster.partition("a").leader_epoch > now.leader_epoch);
    assert_eq!(error(&cluster, &good), ErrorCode::FencedLeaderEpoch);
}

#[test]
fn a_replica_that_began_a_new_life_is_not_taken_in_on_the_proof_of_the_old_one() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("a", &[1, 2], 1);
    cluster.alter("a", &[1]);
    let proposal = cluster.proposal("a", &[1, 2]);
    cluster.register(2, SessionEnd::Clean, &[]);
    cluster.unfence(2);
    assert_eq!(cluster.send(&proposal).error, ErrorCode::IneligibleReplica);
    cluster.alter("a", &[1, 2]);
}

#[test]
fn a_batch_is_one_decision_and_a_partition_named_twice_is_stale_the_second_time() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("a", &[1, 2], 1);
    cluster.topic("b", &[1, 2], 1);
    let mut request = cluster.proposal("a", &[1]);
    let twice = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(twice);
    request.topics.extend(cluster.proposal("b", &[1]).topics);
    let decision = alter_partition(&cluster.image, &request).unwrap();
    assert_eq!(decision.records.len(), 2);
    let errors: Vec<ErrorCode> = decision
        .reply
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|answer| answer.error))
        .collect();
    assert_eq!(
        errors,
        [
            ErrorCode::None,
            ErrorCode::StalePartitionEpoch,
            ErrorCode::None
        ]
    );
    cluster.apply(Ok(decision));
}

#[test]
fn the_proposal_that_completes_a_move_ends_it() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("a", &[1, 2], 2);
    cluster.apply(set_replicas(
        &cluster.image,
        id,
        PartitionId::ZERO,
        &nodes(&[3, 2]),
    ));
    assert_eq!(cluster.partition("a").replicas, nodes(&[3, 2, 1]));
    let proposal = cluster.proposal("a", &[1, 2, 3]);
    let answer = cluster.send(&proposal);
    assert_eq!(answer.error, ErrorCode::None);
    assert_eq!((answer.leader, answer.isr), (Some(node(3)), nodes(&[3, 2])));
    let partition = cluster.partition("a");
    assert_eq!(partition.replicas, nodes(&[3, 2]));
    assert!(!partition.is_moving());
}

#[test]
fn while_it_recovers_a_partition_is_led_alone_until_its_leader_says_otherwise() {
    let mut cluster = TestCluster::of(2);
    let id = cluster.topic("fast", &[1, 2], 1);
    cluster.alter("fast", &[1]);
    cluster.fence(1);
    let winners = BTreeMap::from([((id, PartitionId::ZERO), node(2))]);
    let which = [TopicPartition {
        topic: "fast".to_owned(),
        partition: PartitionId::ZERO,
    }];
    cluster.apply(elect_leaders(
        &cluster.image,
        Elect::Unclean(&winners),
        Some(&which),
    ));
    assert!(cluster.partition("fast").recovering);
    cluster.unfence(1);

    let both = cluster.proposal("fast", &[1, 2]);
    let silent = change(both.clone(), |p| p.recovered = false);
    assert_eq!(cluster.send(&silent).error, ErrorCode::InvalidRequest);
    assert_eq!(cluster.send(&both).error, ErrorCode::None);
    assert!(!cluster.partition("fast").recovering);
    // A proposal cannot bring it back.
    let silent = change(cluster.proposal("fast", &[2]), |p| p.recovered = false);
    assert_eq!(cluster.send(&silent).error, ErrorCode::None);
    assert!(!cluster.partition("fast").recovering);
}

#[test]
fn a_leader_with_an_old_minimum_is_refused_by_its_partition_epoch() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[1, 2, 3], 2);
    let old = cluster.proposal("a", &[1, 3]);
    cluster.apply(alter_topic_config(&cluster.image, "a", 3, Vec::new()));
    assert_eq!(cluster.send(&old).error, ErrorCode::StalePartitionEpoch);
    assert_eq!(cluster.partition("a").leader_epoch, LeaderEpoch::ZERO);
}
