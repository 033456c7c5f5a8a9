use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::messages::{RaftProbeRequest, RaftRecords};
use tokio::time::Instant;

use super::super::ProposeError;
use super::cluster::{Cluster, ELECTION_TIMEOUT, PATIENCE, has_topic, node, topic, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_leads_decides_and_remembers() {
    let mut cluster = Cluster::of(1).await;
    let (_, first) = cluster.propose(1).await;
    cluster.quorum(1).confirm_leadership().await.unwrap();
    cluster.stop(1).await;
    cluster.start(1).await;
    // Before anybody leads: it was committed, and it is not forgotten even for a moment.
    assert!(has_topic(&cluster.quorum(1).applied(), 1));
    let (_, term) = cluster.leader().await;
    assert_eq!(term, 2);
    let (_, second) = cluster.propose(2).await;
    assert!(second > first);
    // Forming again is what every start of a single broker does.
    cluster.quorum(1).form("127.0.0.1", 1).await.unwrap();
    assert!(has_topic(&cluster.quorum(1).applied(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_catches_up_when_it_is_back() {
    let mut cluster = Cluster::of(3).await;
    let (leader, _) = cluster.propose(1).await;
    cluster.all_have(1..=3, 1).await;
    cluster.stop(leader).await;
    let (next, _) = cluster.propose(2).await;
    assert_ne!(next, leader);
    cluster.start(leader).await;
    cluster.all_have(1..=3, 2).await;
    assert!(has_topic(&cluster.quorum(leader).applied(), 1));
    let index = cluster.propose(3).await.1;
    cluster.all_have(1..=3, 3).await;
    for id in 1..=3 {
        let applied = cluster.quorum(id).applied();
        assert!(applied.index >= index);
        assert_eq!(applied.image.topics().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_survive_two() {
    let mut cluster = Cluster::of(5).await;
    for number in 1..=2 {
        let (leader, _) = cluster.propose(number).await;
        cluster.stop(leader).await;
    }
    let (leader, _) = cluster.propose(3).await;
    let applied = cluster.quorum(leader).applied();
    assert!((1..=3).all(|number| has_topic(&applied, number)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_cut_off_does_not_depose_the_leader() {
    let cluster = Cluster::of(3).await;
    let (leader, term) = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    cluster.cut_off(follower);
    cluster.propose(1).await;
    // It hears nothing for long enough to have stood several times.
    until("the follower misses its leader", || {
        cluster.quorum(follower).leader().is_none()
    })
    .await;
    let quiet = Instant::now() + ELECTION_TIMEOUT * 4;
    tokio::time::sleep_until(quiet).await;
    cluster.heal();
    cluster.all_have([follower], 1).await;
    cluster.propose(2).await;
    cluster.all_have(1..=3, 2).await;
    assert_eq!(cluster.leader().await, (leader, term));
    assert_eq!(cluster.quorum(follower).leader(), Some(node(leader)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_stops_deciding_and_its_entry_does_not_count() {
    let cluster = Cluster::of(3).await;
    let (leader, term) = cluster.leader().await;
    cluster.cut_off(leader);
    let orphan = [topic(1)];
    let error = cluster.quorum(leader).propose(term, &orphan).await;
    let error = error.expect_err("nobody else has it");
    assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
    let mut leadership = cluster.quorum(leader).watch_leadership();
    let lost = leadership.wait_for(Option::is_none);
    let lost = tokio::time::timeout(PATIENCE, lost).await;
    lost.expect("it gives up").expect("it runs");
    let error = cluster.quorum(leader).confirm_leadership().await;
    assert!(error.is_err());
    let (next, next_term) = cluster.leader_other_than(leader).await;
    assert!(next_term > term);
    let proposed = cluster.quorum(next).propose(next_term, &[topic(2)]).await;
    proposed.expect("two of three are enough");
    cluster.heal();
    cluster.all_have(1..=3, 2).await;
    for id in 1..=3 {
        assert!(!has_topic(&cluster.quorum(id).applied(), 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_decided_in_another_term_do_not_count() {
    let cluster = Cluster::of(1).await;
    let quorum = cluster.quorum(1);
    let (_, term) = cluster.leader().await;
    let before = quorum.applied().index;
    let stale = RaftRecords {
        decided_in: term - 1,
        records: vec![topic(1).encode()],
    };
    assert_eq!(quorum.write(stale).await, Err(ProposeError::NotApplied));
    assert!(!has_topic(&quorum.applied(), 1));
    assert_eq!(quorum.applied().index, before + 1);
    let error = quorum.propose(term + 1, &[topic(1)]).await;
    assert!(matches!(error, Err(ProposeError::NotLeader { .. })));
    assert_eq!(quorum.applied().index, before + 1, "nothing was proposed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_counts_as_a_whole_or_not_at_all() {
    let cluster = Cluster::of(1).await;
    let quorum = cluster.quorum(1);
    let (_, term) = cluster.leader().await;
    let mut second = topic(1);
    if let highwater_protocol::metadata_record::MetadataRecord::TopicCreated { id, .. } =
        &mut second
    {
        *id = highwater_protocol::ids::TopicId::from_bytes([9; 16]);
    }
    let error = quorum.propose(term, &[topic(1), second.clone()]).await;
    assert!(matches!(error, Err(ProposeError::Contradiction(_))));
    // Past the check of the proposer, as it would be if applying were what differs.
    let entry = RaftRecords {
        decided_in: term,
        records: vec![topic(1).encode(), second.encode()],
    };
    let error = quorum.write(entry).await;
    assert!(matches!(error, Err(ProposeError::Contradiction(_))));
    assert!(!has_topic(&quorum.applied(), 1));
    cluster.propose(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_another_node_are_refused() {
    let cluster = Cluster::of(1).await;
    let request = RaftProbeRequest {
        target: node(2),
        from: node(3),
    };
    let refusal = cluster.quorum(1).on_probe(request).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NodeRefused);
    let request = RaftProbeRequest {
        target: node(1),
        from: node(3),
    };
    let answer = cluster.quorum(1).on_probe(request).await.unwrap();
    assert_eq!(answer.leader, Some(node(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_decided_while_an_abandoned_change_may_still_be_made() {
    let mut cluster = Cluster::of(2).await;
    let (leader, term) = cluster.leader().await;
    let other = 3 - leader;
    cluster.stop(other).await;
    let quorum = Arc::clone(cluster.quorum(leader));
    let abandoned = [topic(1)];
    {
        let propose = quorum.propose(term, &abandoned);
        tokio::pin!(propose);
        // It cannot be committed by this node alone.
        tokio::select! {
            result = &mut propose => panic!("{result:?}"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    let error = quorum.propose(term, &[topic(2)]).await;
    assert!(matches!(error, Err(ProposeError::NotLeader { .. })));
    assert_eq!(quorum.applied().image.topics().len(), 0);
    cluster.start(other).await;
    // What was given up is in the log of the leader, and is made before anything else.
    cluster.all_have([1, 2], 1).await;
    cluster.propose(2).await;
    cluster.all_have([1, 2], 2).await;
    assert!(quorum.doubts.watch().borrow().is_empty());
}
