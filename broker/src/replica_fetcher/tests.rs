#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use highwater_config::BrokerConfig;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, Offset};
use highwater_protocol::messages::{Acks, FetchRequest, FetchResponse, FetchTopic};
use highwater_storage::Durability;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{FetchCall, FetcherDeps, Following, ReplicaFetchers};
use crate::clock::Clock;
use crate::partition::Acknowledgement;
use crate::partition::test_replica::{Replica, broker_epoch, key, wait_for};
use crate::peers::PeerError;

/// Longer than any test may take: what waits for the end of a long poll fails.
const LONG_POLL: Duration = Duration::from_secs(60);

/// Brokers that can be reached, or not.
#[derive(Default)]
struct Network {
    replicas: Mutex<BTreeMap<NodeId, Arc<Replica>>>,
    is_cut: AtomicBool,
    refuses: AtomicBool,
    fetches: AtomicUsize,
    /// What followers asked last of the only partition, within their sessions.
    asked: Mutex<BTreeMap<NodeId, Vec<FetchTopic>>>,
}

impl Network {
    fn call(self: &Arc<Self>) -> FetchCall {
        let network = Arc::clone(self);
        Arc::new(move |node, request, _| {
            let network = Arc::clone(&network);
            Box::pin(async move { network.fetch(node, &request).await })
        })
    }

    async fn fetch(
        &self,
        node: NodeId,
        request: &FetchRequest,
    ) -> Result<FetchResponse, PeerError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let leader = self.replicas.lock().get(&node).map(Arc::clone);
        let (Some(leader), false) = (leader, self.is_cut.load(Ordering::Acquire)) else {
            return Err(PeerError::TimedOut {
                address: node.to_string(),
            });
        };
        let notify = Arc::new(Notify::new());
        let _watch = leader.partition.watch_log_end(&notify);
        let request = &self.in_full(request);
        let mut response = leader.answer(request, true);
        if self.refuses.load(Ordering::Acquire) {
            response.topics[0].partitions[0].error = ErrorCode::NotLeader;
        }
        while request.wait_ms_max > 0 && is_empty(&response) {
            if tokio::time::timeout(
                Duration::from_millis(request.wait_ms_max.into()),
                notify.notified(),
            )
            .await
            .is_err()
            {
                break;
            }
            response = leader.answer(request, false);
        }
        Ok(response)
    }
}

impl Network {
    /// The request with what a leader remembers of its session.
    fn in_full(&self, request: &FetchRequest) -> FetchRequest {
        let mut request = request.clone();
        if let Some(replica) = request.replica.as_ref().filter(|it| it.session.is_some()) {
            let mut asked = self.asked.lock();
            if request.topics.is_empty() {
                request.topics = asked.get(&replica.node_id).cloned().unwrap_or_default();
            } else {
                asked.insert(replica.node_id, request.topics.clone());
            }
        }
        request
    }
}

fn is_empty(response: &FetchResponse) -> bool {
    let results = response.topics.iter().flat_map(|topic| &topic.partitions);
    results.into_iter().all(|result| {
        result.error == ErrorCode::None && result.diverging.is_none() && result.records.is_empty()
    })
}

struct Follower {
    replica: Arc<Replica>,
    following: Arc<Following>,
    fetchers: ReplicaFetchers,
}

impl Follower {
    fn start(replica: &Arc<Replica>, network: &Arc<Network>) -> Self {
        let mut replication = BrokerConfig::default().replication;
        replication.fetch_wait_max = LONG_POLL;
        let following = Arc::new(Following::default());
        let node = replica.node;
        let deps = FetcherDeps {
            node,
            broker_epoch: Arc::new(move || Some(broker_epoch(node))),
            following: Arc::clone(&following),
            clock: Arc::new(Clock::default()),
            counters: Arc::default(),
            replication,
        };
        let fetchers = ReplicaFetchers::start(deps, |_| network.call()).unwrap();
        Self {
            replica: Arc::clone(replica),
            following,
            fetchers,
        }
    }

    fn follow(&self, leader: &Replica, epoch: u32) {
        self.replica.follow(leader, epoch, false);
        let partition = Arc::clone(&self.replica.partition);
        self.following.follow(leader.node, partition, true);
    }
}

fn replicas(durability: Durability) -> (Arc<Network>, [Arc<Replica>; 3]) {
    let network = Arc::new(Network::default());
    let all = [1, 2, 3].map(|node| Arc::new(Replica::new(node, durability)));
    for replica in &all {
        let mut known = network.replicas.lock();
        known.insert(replica.node, Arc::clone(replica));
    }
    (network, all)
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

#[test]
fn an_acknowledgement_waits_for_one_sync_and_not_for_the_long_poll() {
    let (network, [a, b, _c]) = replicas(Durability::Synced);
    a.lead(1, &[1, 2], 2);
    let follower = Follower::start(&b, &network);
    follower.follow(&a, 1);
    for n in 1..=20 {
        let appended = a.append(1, "x", Acks::All).unwrap();
        wait_for("the acknowledgement", || {
            a.partition.acknowledgement(appended.epoch, appended.ack) == Acknowledgement::Done
        });
        assert_eq!(a.partition.high_watermark(), at(n));
    }
    assert_eq!(a.bytes(), b.bytes());
    follower.fetchers.shutdown();
}

#[test]
fn a_failover_is_followed_and_what_was_only_on_the_old_leader_goes() {
    let (network, [a, b, c]) = replicas(Durability::Replicated);
    a.lead(1, &[1, 2, 3], 2);
    let [of_a, of_b, of_c] = [&a, &b, &c].map(|replica| Follower::start(replica, &network));
    of_b.follow(&a, 1);
    of_c.follow(&a, 1);
    a.append(3, "kept", Acks::All).unwrap();
    wait_for("it is committed", || a.partition.high_watermark() == at(3));

    network.is_cut.store(true, Ordering::Release);
    of_b.following.unfollow(key());
    b.lead(2, &[2, 3], 2);
    a.append(5, "lost", Acks::Leader).unwrap();
    of_a.follow(&b, 2);
    of_c.follow(&b, 2);
    network.is_cut.store(false, Ordering::Release);
    let appended = b.append(2, "new", Acks::All).unwrap();
    wait_for("both follow the new leader", || {
        a.bytes() == b.bytes() && c.bytes() == b.bytes()
    });
    wait_for("the acknowledgement", || {
        b.partition.acknowledgement(appended.epoch, appended.ack) == Acknowledgement::Done
    });
    assert_eq!(b.epochs(), [1, 2]);
    for follower in [of_a, of_b, of_c] {
        follower.fetchers.shutdown();
    }
}

#[test]
fn a_leader_that_does_not_know_it_yet_is_asked_again_and_not_stormed() {
    let (network, [a, b, _c]) = replicas(Durability::Replicated);
    a.lead(1, &[1, 2], 1);
    a.append(1, "x", Acks::Leader).unwrap();
    network.refuses.store(true, Ordering::Release);
    let follower = Follower::start(&b, &network);
    follower.follow(&a, 1);
    wait_for("a few refusals", || {
        network.fetches.load(Ordering::Relaxed) >= 4
    });
    assert_eq!(b.log().end(), at(0));
    network.refuses.store(false, Ordering::Release);
    wait_for("the record", || b.log().end() == at(1));
    follower.fetchers.shutdown();
}

#[test]
fn what_is_not_followed_any_more_is_not_fetched() {
    let (network, [a, b, _c]) = replicas(Durability::Replicated);
    a.lead(1, &[1, 2], 1);
    let follower = Follower::start(&b, &network);
    follower.follow(&a, 1);
    a.append(1, "x", Acks::Leader).unwrap();
    wait_for("the record", || b.log().end() == at(1));
    follower.following.unfollow(key());
    a.append(1, "y", Acks::Leader).unwrap();
    // A fetch that was under way may still bring it; after the stop nothing does.
    follower.fetchers.shutdown();
    let end = b.log().end();
    a.append(1, "z", Acks::Leader).unwrap();
    assert_eq!(b.log().end(), end);
}
