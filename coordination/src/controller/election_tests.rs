use std::collections::BTreeMap;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, Offset, PartitionId, TopicId};
use highwater_protocol::messages::{ReplicaLog, ReplicaLogsResponse, TopicPartition, TopicResult};

use super::super::test_cluster::{TestCluster, node, nodes};
use super::super::*;

fn named(topic: &str) -> TopicPartition {
    TopicPartition {
        topic: topic.to_owned(),
        partition: PartitionId::ZERO,
    }
}

fn errors(results: &[TopicResult]) -> Vec<(&str, ErrorCode)> {
    results
        .iter()
        .map(|result| (result.name.as_str(), result.error))
        .collect()
}

#[test]
fn preferred_leaders_return_where_they_are_in_sync() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("a", &[1, 2], 1);
    cluster.topic("b", &[1, 2], 1);
    cluster.topic("c", &[2, 1], 1);
    cluster.fence(1);
    cluster.unfence(1);
    cluster.alter("a", &[1, 2]);

    let asked = [named("b"), named("c"), named("x"), named("a"), named("a")];
    let results = cluster.apply(elect_leaders(
        &cluster.image,
        Elect::Preferred,
        Some(&asked),
    ));
    assert_eq!(
        errors(&results),
        [
            ("b/0", ErrorCode::PreconditionFailed),
            ("c/0", ErrorCode::None),
            ("x/0", ErrorCode::UnknownTopicOrPartition),
            ("a/0", ErrorCode::None),
            ("a/0", ErrorCode::None),
        ]
    );
    assert_eq!(cluster.partition("a").leader, Some(node(1)));
    assert_eq!(cluster.partition("b").leader, Some(node(2)));

    cluster.alter("b", &[1, 2]);
    let results = cluster.apply(elect_leaders(&cluster.image, Elect::Preferred, None));
    assert_eq!(errors(&results), [("b/0", ErrorCode::None)]);
}

#[test]
fn a_named_node_leads_if_it_is_in_sync() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("a", &[1, 2, 3], 1);
    cluster.alter("a", &[1, 2]);
    let elect = Elect::Node(node(3));
    let refused = elect_leaders(&cluster.image, elect, Some(&[named("a")])).unwrap();
    assert!(refused.records.is_empty());
    assert_eq!(refused.reply[0].error, ErrorCode::PreconditionFailed);
    let elect = Elect::Node(node(2));
    cluster.apply(elect_leaders(&cluster.image, elect, Some(&[named("a")])));
    assert_eq!(cluster.partition("a").leader, Some(node(2)));

    let chosen = BTreeMap::from([
        ((id, PartitionId::ZERO), node(1)),
        ((id, PartitionId::new(5)), node(1)),
        ((TopicId::from_bytes([9; 16]), PartitionId::ZERO), node(1)),
    ]);
    assert_eq!(cluster.apply(Ok(elect_nodes(&cluster.image, &chosen))), 1);
    assert_eq!(cluster.partition("a").leader, Some(node(1)));
}

#[test]
fn an_unclean_election_needs_names_a_winner_and_nobody_complete() {
    let mut cluster = TestCluster::of(3);
    let id = cluster.topic("a", &[1, 2, 3], 1);
    let key = (id, PartitionId::ZERO);
    let winners = BTreeMap::from([(key, node(3))]);
    let nobody = BTreeMap::new();
    let elect = |cluster: &TestCluster, winners| {
        let asked = [named("a")];
        elect_leaders(&cluster.image, Elect::Unclean(winners), Some(&asked))
    };
    let all = elect_leaders(&cluster.image, Elect::Unclean(&winners), None).unwrap_err();
    assert_eq!(all.code(), ErrorCode::InvalidRequest);
    let led = elect(&cluster, &winners).unwrap();
    assert_eq!(led.reply[0].error, ErrorCode::PreconditionFailed);

    cluster.alter("a", &[1]);
    cluster.fence(1);
    assert_eq!(cluster.partition("a").elr, nodes(&[1]));
    let none = elect(&cluster, &nobody).unwrap();
    assert_eq!(none.reply[0].error, ErrorCode::PreconditionFailed);
    let away = BTreeMap::from([(key, node(1))]);
    let away = elect(&cluster, &away).unwrap();
    assert_eq!(away.reply[0].error, ErrorCode::PreconditionFailed);

    let results = cluster.apply(elect(&cluster, &winners));
    assert_eq!(results[0].error, ErrorCode::None);
    let partition = cluster.partition("a").clone();
    assert_eq!(partition.leader, Some(node(3)));
    assert!(partition.recovering && partition.elr.is_empty());
    // The old leader comes back and follows.
    cluster.unfence(1);
    assert_eq!(cluster.partition("a"), &partition);
}

fn answer(
    cluster: &TestCluster,
    id: u32,
    topic: TopicId,
    last_epoch: Option<u32>,
    end: u64,
) -> ReplicaLogsResponse {
    ReplicaLogsResponse {
        broker_epoch: cluster.epoch(id),
        logs: vec![ReplicaLog {
            topic_id: topic,
            partition: PartitionId::ZERO,
            error: ErrorCode::None,
            last_epoch: last_epoch.map(LeaderEpoch::new),
            end: Offset::new(end),
            high_watermark: Offset::ZERO,
        }],
    }
}

#[test]
fn the_longest_log_of_the_highest_epoch_wins() {
    let mut cluster = TestCluster::of(4);
    let id = cluster.topic("a", &[3, 1, 2], 1);
    let winner = |answers: &[(u32, ReplicaLogsResponse)]| {
        let answers = answers
            .iter()
            .map(|(id, answer)| (node(*id), answer.clone()))
            .collect();
        choose_winners(&cluster.image, &answers)
            .get(&(id, PartitionId::ZERO))
            .map(|id| id.get())
    };
    let log = |node, epoch, end| (node, answer(&cluster, node, id, epoch, end));
    assert_eq!(winner(&[]), None);
    let by_epoch = [log(1, Some(2), 10), log(2, Some(1), 99), log(3, None, 0)];
    assert_eq!(winner(&by_epoch), Some(1));
    let by_end = [
        log(1, Some(2), 10),
        log(2, Some(2), 11),
        log(3, Some(1), 99),
    ];
    assert_eq!(winner(&by_end), Some(2));
    let equal = [
        log(1, Some(2), 10),
        log(2, Some(2), 10),
        log(3, Some(2), 10),
    ];
    assert_eq!(winner(&equal), Some(3), "the first in replica order");
    assert_eq!(winner(&[log(1, None, 0)]), Some(1), "an empty log is one");

    let no_replica = log(4, Some(9), 99);
    assert_eq!(winner(&[no_replica, log(1, Some(1), 1)]), Some(1));
    let mut damaged = log(2, Some(9), 99);
    damaged.1.logs[0].error = ErrorCode::PartitionOffline;
    assert_eq!(winner(&[damaged, log(1, Some(1), 1)]), Some(1));
    let mut earlier_life = log(2, Some(9), 99);
    earlier_life.1.broker_epoch = BrokerEpoch::new(1);
    assert_eq!(winner(&[earlier_life, log(1, Some(1), 1)]), Some(1));

    let asked = [named("a"), named("a"), named("x")];
    assert!(
        replicas_to_ask(&cluster.image, &asked).is_empty(),
        "it is led"
    );
    cluster.alter("a", &[3]);
    cluster.fence(3);
    let whom = replicas_to_ask(&cluster.image, &asked);
    assert_eq!(whom.keys().copied().collect::<Vec<_>>(), nodes(&[1, 2]));
    assert_eq!(whom[&node(1)], cluster.partitions(&[("a", 0)]));
}
