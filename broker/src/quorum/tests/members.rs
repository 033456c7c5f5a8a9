use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::ProposeError;
use super::cluster::{Cluster, has_topic, node, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_grows_from_one_to_three_and_shrinks_again() {
    let mut cluster = Cluster::of(1).await;
    cluster.propose(1).await;
    for id in 2..=3 {
        cluster.start(id).await;
        cluster.add_learner(id).await;
        cluster.add_learner(id).await;
    }
    cluster.all_have(1..=3, 1).await;
    let (leader, _) = cluster.leader().await;
    let described = cluster.quorum(leader).describe().unwrap();
    assert_eq!(described.leader, node(1));
    let voters: Vec<_> = described
        .members
        .iter()
        .map(|m| (m.node_id, m.voter))
        .collect();
    assert_eq!(
        voters,
        [(node(1), true), (node(2), false), (node(3), false)]
    );

    cluster.set_voters(1..=3).await;
    cluster.set_voters(1..=3).await;
    cluster.propose(2).await;
    cluster.all_have(1..=3, 2).await;
    until("all know the voters", || {
        (1..=3).all(|id| cluster.quorum(id).members().0.len() == 3)
    })
    .await;
    let (leader, _) = cluster.leader().await;
    assert_eq!(cluster.quorum(leader).voters_to_come(), None);
    let described = cluster.quorum(leader).describe().unwrap();
    assert!(described.members.iter().all(|member| member.voter));

    // The leader goes out of the voters itself; another one leads then.
    let rest: BTreeSet<u32> = (1..=3).filter(|id| *id != leader).collect();
    cluster.set_voters(rest.iter().copied()).await;
    let (next, _) = cluster.leader_other_than(leader).await;
    assert!(rest.contains(&next));
    cluster.propose(3).await;
    cluster.all_have(1..=3, 3).await;

    let error = cluster.quorum(next).remove_node(node(next)).await;
    assert!(matches!(error, Err(ProposeError::Members(_))));
    cluster
        .quorum(next)
        .remove_node(node(leader))
        .await
        .unwrap();
    cluster
        .quorum(next)
        .remove_node(node(leader))
        .await
        .unwrap();
    let (voters, learners) = cluster.quorum(next).members();
    assert_eq!(voters, rest.iter().map(|id| node(*id)).collect());
    assert!(learners.is_empty());
    cluster.stop(leader).await;
    cluster.set_voters([next]).await;
    let gone = rest.iter().find(|id| **id != next).unwrap();
    cluster.stop(*gone).await;
    cluster.propose(4).await;
    assert!((1..=4).all(|number| has_topic(&cluster.quorum(next).applied(), number)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_vote_and_only_the_leader_changes_members() {
    let cluster = Cluster::of(2).await;
    let (leader, _) = cluster.leader().await;
    let other = 3 - leader;
    let voters = BTreeSet::from([node(1), node(9)]);
    let error = cluster.quorum(leader).set_voters(&voters).await;
    assert!(matches!(error, Err(ProposeError::Members(_))), "{error:?}");
    let error = cluster.quorum(other).add_learner(node(9), "h", 1).await;
    assert!(matches!(error, Err(ProposeError::NotLeader { .. })));
    assert!(cluster.quorum(other).describe().is_none());
    cluster.propose(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_voters_that_was_cut_off_is_brought_to_its_end() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2).await;
    cluster.add_learner(2).await;
    cluster.stop(2).await;
    let voters = BTreeSet::from([node(1), node(2)]);
    let leader = Arc::clone(cluster.quorum(1));
    // It needs the new voter, and whoever asked for it does not wait.
    let given_up = tokio::time::timeout(Duration::from_millis(50), leader.set_voters(&voters));
    assert!(given_up.await.is_err());
    assert_eq!(leader.voters_to_come(), Some(BTreeSet::from([1, 2])));
    cluster.start(2).await;
    until("both vote, and nothing is left of the change", || {
        leader.voters_to_come().is_none() && leader.members().0 == voters
    })
    .await;
    cluster.propose(1).await;
    cluster.all_have([1, 2], 1).await;
}
