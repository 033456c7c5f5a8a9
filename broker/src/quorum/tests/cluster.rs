//! Nodes of a quorum, each with a data directory and a listener of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::Decoder;
use highwater_protocol::frame::{
    RequestHeader, decode_body, encode_error_response, encode_response,
};
use highwater_protocol::ids::{ClusterId, NodeId, TopicId, TopicName};
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::{Engine, EngineOptions};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::Instant;

use super::super::{
    Applied, ProposeError, Quorum, QuorumOptions, SNAPSHOT_ENTRIES, raft_log_options,
    raft_partition,
};
use crate::partitions::Refusal;
use crate::peers::test_broker::TestBroker;
use crate::peers::{AddressBook, Peers};

/// A test that waits longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for a busy machine, short enough for a test.
pub(super) const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Links {
    addresses: Mutex<HashMap<NodeId, String>>,
    /// Ways that are cut, in one direction each.
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
}

pub(super) struct Cluster {
    id: ClusterId,
    links: Arc<Links>,
    dirs: BTreeMap<NodeId, TempDir>,
    nodes: BTreeMap<NodeId, Node>,
    pub(super) snapshot_entries: u64,
}

struct Node {
    quorum: Arc<Quorum>,
    engine: Arc<Engine>,
    broker: TestBroker,
}

pub(super) fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

pub(super) fn topic(number: u32) -> MetadataRecord {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    MetadataRecord::TopicCreated {
        id: TopicId::from_bytes(id),
        name: TopicName::new(&format!("topic-{number}")).unwrap(),
        partitions: 1,
        replicas: 1,
        isr_min: 1,
        configs: Vec::new(),
    }
}

/// Whether this topic is in the image.
pub(super) fn has_topic(applied: &Applied, number: u32) -> bool {
    applied.image.topic(&format!("topic-{number}")).is_some()
}

impl Cluster {
    /// No node yet.
    pub(super) fn new() -> Self {
        Self {
            id: ClusterId::random(),
            links: Arc::default(),
            dirs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            snapshot_entries: SNAPSHOT_ENTRIES,
        }
    }

    /// Voters with the ids from 1 on.
    pub(super) async fn of(voters: u32) -> Self {
        let mut cluster = Self::new();
        cluster.start(1).await;
        cluster.quorum(1).form("127.0.0.1", 1).await.unwrap();
        cluster.leader().await;
        for id in 2..=voters {
            cluster.start(id).await;
            cluster.add_learner(id).await;
        }
        cluster.set_voters(1..=voters).await;
        cluster
    }

    /// Starts a node, with what is in its directory from before.
    pub(super) async fn start(&mut self, id: u32) {
        let id = node(id);
        let dir = self
            .dirs
            .entry(id)
            .or_insert_with(|| TempDir::new().unwrap());
        let engine = Engine::open(&dir.path().join("logs"), EngineOptions::default()).unwrap();
        for opened in engine.open_logs(
            &|meta| (*meta == raft_partition()).then(raft_log_options),
            &|_| {},
        ) {
            opened.result.unwrap();
        }
        let links = Arc::clone(&self.links);
        let addresses: AddressBook = Arc::new(move |other| {
            let is_cut = links.cut.lock().contains(&(id, other));
            let addresses = links.addresses.lock();
            addresses.get(&other).filter(|_| !is_cut).cloned()
        });
        let runtime = tokio::runtime::Handle::current();
        let peers = Peers::new(id, self.id, addresses, runtime);
        let quorum = Quorum::start(QuorumOptions {
            node: id,
            cluster: self.id,
            engine: Arc::clone(&engine),
            dir: dir.path().join("raft"),
            peers,
            election_timeout: ELECTION_TIMEOUT,
            snapshot_entries: self.snapshot_entries,
        })
        .await
        .unwrap();
        let served = Arc::clone(&quorum);
        let broker = TestBroker::start(id, self.id, move |header, input| {
            let quorum = Arc::clone(&served);
            Box::pin(async move { Some(serve(&quorum, header, input).await) })
        })
        .await;
        let mut addresses = self.links.addresses.lock();
        addresses.insert(id, broker.address.to_string());
        drop(addresses);
        let started = Node {
            quorum,
            engine,
            broker,
        };
        self.nodes.insert(id, started);
    }

    /// Takes a node off the network and ends it. Its directory stays.
    pub(super) async fn stop(&mut self, id: u32) {
        let stopped = self.nodes.remove(&node(id)).unwrap();
        stopped.broker.stop();
        stopped.quorum.shutdown().await;
        stopped.engine.close().unwrap();
    }

    pub(super) fn quorum(&self, id: u32) -> &Arc<Quorum> {
        &self.nodes[&node(id)].quorum
    }

    pub(super) fn dir(&self, id: u32) -> &std::path::Path {
        self.dirs[&node(id)].path()
    }

    /// Lets no message pass between this node and the others.
    pub(super) fn cut_off(&self, id: u32) {
        let mut cut = self.links.cut.lock();
        for other in self.dirs.keys() {
            cut.insert((node(id), *other));
            cut.insert((*other, node(id)));
        }
    }

    pub(super) fn heal(&self) {
        self.links.cut.lock().clear();
    }

    /// The node that leads and may decide, and its term.
    pub(super) async fn leader(&self) -> (u32, u64) {
        self.leader_other_than(0).await
    }

    pub(super) async fn leader_other_than(&self, not: u32) -> (u32, u64) {
        let mut found = None;
        let deadline = Instant::now() + PATIENCE;
        while found.is_none() {
            assert!(
                Instant::now() < deadline,
                "nobody leads: {:#?}",
                self.states()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
            found = self
                .nodes
                .iter()
                .filter(|(id, _)| id.get() != not)
                .filter_map(|(id, node)| {
                    let term = *node.quorum.watch_leadership().borrow();
                    Some((id.get(), term?))
                })
                .max_by_key(|(_, term)| *term);
        }
        found.unwrap()
    }

    /// Proposes through whoever leads until it is applied, and says who led.
    pub(super) async fn propose(&self, number: u32) -> (u32, u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (leader, term) = self.leader().await;
            let proposed = self.quorum(leader).propose(term, &[topic(number)]).await;
            match proposed {
                Ok(index) => return (leader, index),
                Err(ProposeError::Contradiction(reason)) => panic!("{reason}"),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    pub(super) async fn add_learner(&self, id: u32) {
        self.change(|quorum| async move { quorum.add_learner(node(id), "127.0.0.1", 1).await })
            .await;
    }

    pub(super) async fn set_voters(&self, ids: impl IntoIterator<Item = u32>) {
        let voters: BTreeSet<_> = ids.into_iter().map(node).collect();
        self.change(|quorum| {
            let voters = voters.clone();
            async move { quorum.set_voters(&voters).await }
        })
        .await;
    }

    /// Has the leader change the members; once more when the leader was lost meanwhile.
    async fn change<F: Future<Output = Result<(), ProposeError>>>(
        &self,
        change: impl Fn(Arc<Quorum>) -> F,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (leader, _) = self.leader().await;
            let Err(error) = change(Arc::clone(self.quorum(leader))).await else {
                return;
            };
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What each node says of itself, for a test that failed.
    fn states(&self) -> Vec<String> {
        let nodes = self.nodes.values().map(|node| &node.quorum);
        nodes
            .map(|quorum| {
                quorum.metrics(|metrics| format!("{metrics} {:?}", metrics.running_state))
            })
            .collect()
    }

    /// Waits until each of these nodes has applied the topic.
    pub(super) async fn all_have(&self, ids: impl IntoIterator<Item = u32>, number: u32) {
        for id in ids {
            let mut applied = self.quorum(id).watch_applied();
            let arrived = applied.wait_for(|applied| has_topic(applied, number));
            let arrived = tokio::time::timeout(PATIENCE, arrived).await;
            assert!(
                arrived.is_ok(),
                "topic {number} never reaches node {id}: {:#?}",
                self.states()
            );
        }
    }
}

async fn serve(quorum: &Quorum, header: RequestHeader, input: Decoder) -> Vec<Bytes> {
    async fn answer<R: Request, F: Future<Output = Result<R::Response, Refusal>>>(
        header: RequestHeader,
        input: Decoder,
        handle: impl FnOnce(R) -> F,
    ) -> Vec<Bytes> {
        let request = decode_body(input, header.version).expect("a request");
        match handle(request).await {
            Ok(response) => encode_response(&response, header.version, header.correlation),
            Err(Refusal { code, message }) => {
                encode_error_response(code, &message, header.correlation)
            }
        }
    }
    match ApiKey::from_code(header.api).expect("an API") {
        ApiKey::RaftAppend => answer(header, input, |r| quorum.on_append(r)).await,
        ApiKey::RaftVote => answer(header, input, |r| quorum.on_vote(r)).await,
        ApiKey::RaftSnapshot => answer(header, input, |r| quorum.on_snapshot(r)).await,
        ApiKey::RaftProbe => answer(header, input, |r| quorum.on_probe(r)).await,
        other => panic!("nobody asks for {other} here"),
    }
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
