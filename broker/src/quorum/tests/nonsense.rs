//! Messages that no honest node sends: refused, and the node goes on.

use bytes::Bytes;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{
    RaftAppendOutcome, RaftAppendRequest, RaftBallot, RaftEntry, RaftEntryKind, RaftLogId,
    RaftMembership, RaftNode, RaftSnapshotRequest, RaftVoteRequest, RaftVoters,
};

use super::cluster::Cluster;
use crate::quorum::wire::encoded;

const ME: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);

fn ballot(term: u64, committed: bool) -> RaftBallot {
    RaftBallot {
        term,
        node: OTHER,
        committed,
    }
}

fn id(term: u64, index: u64) -> RaftLogId {
    RaftLogId {
        term,
        node: OTHER,
        index,
    }
}

fn blank(term: u64, index: u64) -> RaftEntry {
    RaftEntry {
        id: id(term, index),
        kind: RaftEntryKind::Blank,
        body: Bytes::new(),
    }
}

fn membership(voters: &[NodeId]) -> RaftMembership {
    RaftMembership {
        configs: vec![RaftVoters {
            voters: voters.to_vec(),
        }],
        nodes: vec![RaftNode {
            node_id: ME,
            host: "localhost".to_owned(),
            port: 1,
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_make_no_sense_are_refused_and_the_node_goes_on() {
    let mut cluster = Cluster::of(1).await;
    cluster.propose(1).await;
    let quorum = cluster.quorum(1);
    let term = quorum.term() + 5;
    let append = |previous, entries| RaftAppendRequest {
        target: ME,
        ballot: ballot(term, true),
        previous,
        entries,
        commit: None,
    };
    let good = append(Some(id(term, 1000)), vec![blank(term, 1001)]);
    let with = |change: &dyn Fn(&mut RaftAppendRequest)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let voters_of_none = |kind| RaftEntry {
        body: encoded(&membership(&[])),
        kind,
        ..blank(term, 1001)
    };
    let of_nonsense = [
        with(&|bad| bad.target = OTHER),
        with(&|bad| bad.ballot.node = ME),
        with(&|bad| bad.ballot.committed = false),
        with(&|bad| bad.ballot.term = u64::MAX),
        with(&|bad| bad.entries[0].id.index = 1002),
        with(&|bad| bad.entries[0].id.index = u64::MAX),
        with(&|bad| bad.entries[0].id.term = term - 1),
        with(&|bad| bad.entries[0].id.term = term + 1),
        with(&|bad| bad.entries.push(blank(term, 1001))),
        with(&|bad| bad.previous = None),
        // Another entry where one is applied, and one of a later term before it.
        with(&|bad| {
            bad.previous = Some(id(term, 0));
            bad.entries = Vec::new();
        }),
        with(&|bad| bad.commit = Some(id(term - 1, 5000))),
        with(&|bad| bad.entries[0] = voters_of_none(RaftEntryKind::Membership)),
        // Bytes that are no records and no membership.
        with(&|bad| bad.entries[0] = voters_of_none(RaftEntryKind::Records)),
        with(&|bad| {
            bad.entries[0].kind = RaftEntryKind::Membership;
            bad.entries[0].body = Bytes::from_static(&[0xff; 40]);
        }),
    ];
    let before = quorum.term();
    for (n, request) in of_nonsense.into_iter().enumerate() {
        let refused = quorum.on_append(request).await.unwrap_err();
        let typed = [
            ErrorCode::InvalidRequest,
            ErrorCode::NodeRefused,
            ErrorCode::MalformedRequest,
        ];
        assert!(typed.contains(&refused.code), "{n}: {refused:?}");
    }
    let vote = |ballot, last| RaftVoteRequest {
        target: ME,
        ballot,
        last,
    };
    for request in [
        vote(ballot(u64::MAX, false), None),
        vote(ballot(term, true), None),
        vote(ballot(term, false), Some(id(term + 1, 7))),
    ] {
        let refused = quorum.on_vote(request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{refused:?}");
    }
    assert_eq!(quorum.term(), before, "nobody was believed");
    // A leader that was replaced is honest, and has to hear of it, whatever it sends.
    let late = with(&|late| {
        late.ballot.term = 0;
        late.previous = Some(id(0, 1));
        late.entries = vec![blank(0, 2)];
    });
    let told = quorum.on_append(late).await.unwrap();
    assert_eq!(told.outcome, RaftAppendOutcome::HigherBallot);
    cluster.propose(2).await;
    cluster.all_have([1], 2).await;
    cluster.stop(1).await;
}

/// The last part of a snapshot that is none: refused like a part that is missing, and nothing is installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_is_refused_and_the_node_goes_on() {
    let mut cluster = Cluster::of(1).await;
    cluster.propose(1).await;
    let quorum = cluster.quorum(1);
    let term = quorum.term() + 5;
    let part = RaftSnapshotRequest {
        target: ME,
        ballot: ballot(term, true),
        snapshot_id: "none".to_owned(),
        last: Some(id(term, 1000)),
        membership_id: None,
        membership: membership(&[ME]),
        offset: 0,
        data: Bytes::from_static(&[0x5a; 300]),
        done: true,
    };
    let nothing = RaftSnapshotRequest {
        last: None,
        ..part.clone()
    };
    let refused = quorum.on_snapshot(nothing).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest, "{refused:?}");
    for _ in 0..3 {
        let refused = quorum.on_snapshot(part.clone()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::PreconditionFailed, "{refused:?}");
    }
    assert!(quorum.watch_failure().borrow().is_none());
    cluster.propose(2).await;
    cluster.all_have([1], 2).await;
    cluster.stop(1).await;
}
