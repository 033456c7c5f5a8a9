//! Brokers that are none, are of another time, or lie; and settings that contradict each other. Nothing
//! that they say is believed, everything is told with its reason, and the cluster goes on.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater_broker::EmbeddedCluster;
use highwater_config::BrokerConfig;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, Offset, PartitionId,
    TopicId,
};
use highwater_protocol::messages::{
    Acks, AllocateProducerIdsRequest, AlterConfigsRequest, AlterPartitionRequest,
    AlterPartitionTopic, BrokerHeartbeatRequest, ConfigChange, ConfigEntry, CreateTopicsRequest,
    DescribeClusterRequest, FetchPartition, FetchPartitionResult, FetchReplica, FetchRequest,
    FetchTopic, Isolation, IsrDecision, IsrMember, IsrProposal, MetadataRequest, NewTopic,
    RaftProbeRequest, RegisterBrokerRequest, SessionEnd, TopicConfigChanges,
};
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::{RawClient, Refused, batch_of};

const DEADLINE: Duration = Duration::from_secs(60);
const ZERO: PartitionId = PartitionId::ZERO;

/// Three brokers, and what an enemy can find out about them.
struct Target {
    cluster: EmbeddedCluster,
    id: ClusterId,
    epochs: BTreeMap<NodeId, BrokerEpoch>,
}

fn steady(_: usize, config: &mut BrokerConfig) {
    config.replication.fetch_wait_max = Duration::from_millis(200);
    // The disk of a test machine may be as full as it likes.
    config.healing.disk_percent_max = 100;
}

impl Target {
    async fn start() -> Self {
        let cluster = EmbeddedCluster::start_with(3, steady).await.unwrap();
        let mut client = RawClient::hello(cluster.broker(0).address());
        let request = DescribeClusterRequest {
            include_fenced: true,
        };
        let described = client.call(&request).unwrap();
        let epochs = described
            .brokers
            .iter()
            .map(|broker| (broker.endpoint.node_id, broker.broker_epoch));
        Self {
            id: described.cluster_id,
            epochs: epochs.collect(),
            cluster,
        }
    }

    fn address(&self, node: NodeId) -> SocketAddr {
        self.cluster.broker(node.get() as usize - 1).address()
    }

    fn client(&self) -> RawClient {
        RawClient::hello(self.address(NodeId::new(1)))
    }

    fn controller(&self) -> NodeId {
        let began = Instant::now();
        loop {
            let request = DescribeClusterRequest {
                include_fenced: true,
            };
            let described = self.client().call(&request).unwrap();
            if let Some(controller) = described.controller {
                return controller;
            }
            assert!(began.elapsed() < DEADLINE, "there is a controller");
        }
    }

    /// What the controller answers a connection that says it is a node, whoever is the controller now.
    fn ask_as<R: highwater_protocol::api_key::Request>(
        &self,
        node: NodeId,
        request: &R,
    ) -> Result<R::Response, Refused> {
        let began = Instant::now();
        loop {
            let address = self.address(self.controller());
            let mut peer = RawClient::hello_as(address, node, Some(self.id)).unwrap();
            match peer.call(request) {
                Err(refused) if refused.code == ErrorCode::NotController => {
                    assert!(began.elapsed() < DEADLINE, "{refused:?}");
                }
                answer => return answer,
            }
        }
    }

    /// A topic with one partition, its leader and the leader's epoch.
    fn topic(&self, name: &str, replicas: u16) -> (TopicId, NodeId, LeaderEpoch, Vec<NodeId>) {
        let mut client = self.client();
        let (code, message) = create(&mut client, name, Some(replicas), &[]);
        assert_eq!(code, ErrorCode::None, "{message}");
        let request = MetadataRequest {
            topics: Some(vec![name.to_owned()]),
        };
        let topic = client.call(&request).unwrap().topics.remove(0);
        let partition = &topic.partitions[0];
        let leader = partition.leader.unwrap();
        let (epoch, replicas) = (partition.leader_epoch, partition.replicas.clone());
        (topic.topic_id.unwrap(), leader, epoch, replicas)
    }

    /// Appends with `acks=all` at the leader, as soon as it knows that it is.
    fn append(&self, topic: TopicId, leader: NodeId, value: &str) -> Offset {
        let mut client = RawClient::hello(self.address(leader));
        let began = Instant::now();
        loop {
            let batch = batch_of([value.as_bytes()]);
            match client.produce(topic, ZERO, Acks::All, batch).unwrap() {
                Ok(offset) => return offset,
                Err(refused) => assert!(began.elapsed() < DEADLINE, "{refused:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn values(&self, topic: TopicId, leader: NodeId) -> Vec<String> {
        let mut client = RawClient::hello(self.address(leader));
        let records = client.read_all(topic, ZERO, Offset::ZERO);
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        records.into_iter().map(|(_, value)| text(value)).collect()
    }
}

fn create(
    client: &mut RawClient,
    name: &str,
    replicas: Option<u16>,
    configs: &[(&str, &str)],
) -> (ErrorCode, String) {
    let configs = configs.iter().map(|(key, value)| ConfigEntry {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        replicas,
        configs: configs.collect(),
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        validate_only: false,
    };
    let result = client.call(&request).unwrap().topics.remove(0);
    (result.error, result.message.unwrap_or_default())
}

fn heartbeat(node_id: NodeId, broker_epoch: BrokerEpoch) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest {
        node_id,
        broker_epoch,
        metadata_index: 0,
        wants_fence: false,
        // Were it believed, the broker would lose its leaderships.
        wants_shutdown: true,
        offline: Vec::new(),
        to_rebuild: Vec::new(),
        log_bytes: 0,
        disk_free: 0,
        disk_total: 0,
    }
}

fn registration(node_id: NodeId, directory: DirectoryId) -> RegisterBrokerRequest {
    RegisterBrokerRequest {
        node_id,
        directory,
        incarnation: IncarnationId::random(),
        host: "localhost".to_owned(),
        port: 1,
        rack: None,
        version: String::new(),
        session_end: SessionEnd::Clean,
        last_broker_epoch: Some(BrokerEpoch::new(1)),
        damaged: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_another_cluster_or_in_the_name_of_another_is_refused() {
    let target = Target::start().await;
    let (one, two, three) = (NodeId::new(1), NodeId::new(2), NodeId::new(3));
    let address = target.address(one);
    for cluster in [None, Some(ClusterId::random())] {
        let refused = RawClient::hello_as(address, two, cluster).unwrap_err();
        assert_eq!(refused.code, ErrorCode::WrongCluster, "{refused:?}");
    }
    let (topic, leader, ..) = target.topic("t", 3);
    target.append(topic, leader, "before");
    let epoch = target.epochs[&three];
    let beat = heartbeat(three, epoch);
    let register = registration(three, DirectoryId::from_bytes([1; 16]));
    let alter = AlterPartitionRequest {
        node_id: three,
        broker_epoch: epoch,
        topics: Vec::new(),
    };
    let ids = AllocateProducerIdsRequest {
        node_id: three,
        broker_epoch: epoch,
    };
    let probe = RaftProbeRequest {
        target: one,
        from: three,
    };
    // As a client, and as a broker that speaks for another.
    let peers = [
        RawClient::hello(address),
        RawClient::hello_as(address, two, Some(target.id)).unwrap(),
    ];
    for mut peer in peers {
        let refused = [
            peer.call(&beat).unwrap_err(),
            peer.call(&register).unwrap_err(),
            peer.call(&alter).unwrap_err(),
            peer.call(&ids).unwrap_err(),
            peer.call(&probe).unwrap_err(),
        ];
        for refused in refused {
            assert_eq!(refused.code, ErrorCode::InvalidRequest, "{refused:?}");
        }
        peer.assert_served();
    }
    // For another node than the one that is there, which had the address before.
    let misled = RaftProbeRequest {
        target: two,
        from: three,
    };
    let mut peer = RawClient::hello_as(address, three, Some(target.id)).unwrap();
    let refused = peer.call(&misled).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NodeRefused, "{refused:?}");
    target.append(topic, leader, "after");
    assert_eq!(target.values(topic, leader), ["before", "after"]);
    target.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_life_or_another_process_sends_changes_nothing() {
    let target = Target::start().await;
    let two = NodeId::new(2);
    let (topic, leader, ..) = target.topic("t", 3);
    target.append(topic, leader, "before");
    // A heartbeat of an earlier incarnation, and of one that never was.
    for epoch in [0, target.epochs[&two].get() - 1, u64::MAX] {
        let beat = heartbeat(two, BrokerEpoch::new(epoch));
        let refused = target.ask_as(two, &beat).unwrap_err();
        assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch, "{refused:?}");
    }
    let stranger = NodeId::new(99);
    let beat = heartbeat(stranger, BrokerEpoch::new(1));
    let refused = target.ask_as(stranger, &beat).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownNode, "{refused:?}");
    // A registration with another disk.
    let register = registration(two, DirectoryId::from_bytes([9; 16]));
    let refused = target.ask_as(two, &register).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NodeRefused, "{refused:?}");
    assert!(refused.message.contains("directory"), "{refused:?}");
    let register = registration(stranger, DirectoryId::from_bytes([9; 16]));
    let refused = target.ask_as(stranger, &register).unwrap_err();
    assert!(refused.message.contains("not part of"), "{refused:?}");

    let described = target.client().call(&DescribeClusterRequest {
        include_fenced: true,
    });
    for broker in described.unwrap().brokers {
        let node = broker.endpoint.node_id;
        assert_eq!(broker.broker_epoch, target.epochs[&node], "node {node}");
        assert!(!broker.fenced && !broker.shutting_down, "node {node}");
    }
    target.append(topic, leader, "after");
    assert_eq!(target.values(topic, leader), ["before", "after"]);
    target.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_is_late_or_comes_twice_changes_nothing() {
    let target = Target::start().await;
    let (topic, leader, leader_epoch, replicas) = target.topic("t", 3);
    target.append(topic, leader, "before");
    let propose = |of: NodeId, epoch: BrokerEpoch, change: &dyn Fn(&mut IsrProposal)| {
        let member = |node: &NodeId| IsrMember {
            node_id: *node,
            broker_epoch: target.epochs[node],
        };
        let mut proposal = IsrProposal {
            partition: ZERO,
            leader_epoch,
            partition_epoch: 0,
            isr: replicas.iter().map(member).collect(),
            recovered: false,
        };
        change(&mut proposal);
        let request = AlterPartitionRequest {
            node_id: of,
            broker_epoch: epoch,
            topics: vec![AlterPartitionTopic {
                topic_id: topic,
                partitions: vec![proposal],
            }],
        };
        let answer = target.ask_as(of, &request)?;
        Ok::<IsrDecision, Refused>(answer.topics[0].partitions[0].clone())
    };
    let own = target.epochs[&leader];
    let earlier = BrokerEpoch::new(own.get() - 1);
    let refused = propose(leader, earlier, &|_| {}).unwrap_err();
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch, "{refused:?}");
    let follower = *replicas.iter().find(|node| **node != leader).unwrap();
    let not_leader = propose(follower, target.epochs[&follower], &|_| {}).unwrap();
    assert_eq!(not_leader.error, ErrorCode::InvalidRequest);
    let now = not_leader.partition_epoch;
    let by_leader = |change: &dyn Fn(&mut IsrProposal)| {
        let decision = propose(leader, own, &|proposal| {
            proposal.partition_epoch = now;
            change(proposal);
        });
        decision.unwrap()
    };
    let with_stranger = by_leader(&|proposal| proposal.isr[0].node_id = NodeId::new(99));
    assert_eq!(with_stranger.error, ErrorCode::InvalidRequest);
    let named_twice = by_leader(&|proposal| proposal.isr[1] = proposal.isr[0].clone());
    assert_eq!(named_twice.error, ErrorCode::InvalidRequest);
    let of_earlier_life = by_leader(&|proposal| proposal.isr[1].broker_epoch = BrokerEpoch::new(1));
    assert_eq!(of_earlier_life.error, ErrorCode::IneligibleReplica);
    assert_eq!(of_earlier_life.partition_epoch, now, "nothing has changed");

    // One that is taken, and then delivered again and again, also when its leader has taken the follower
    // in anew.
    let without = |proposal: &mut IsrProposal| {
        proposal.isr.retain(|member| member.node_id != follower);
    };
    let taken = by_leader(&without);
    assert_eq!(taken.error, ErrorCode::None);
    assert_eq!(taken.partition_epoch, now + 1);
    let began = Instant::now();
    loop {
        let again = by_leader(&without);
        assert_eq!(again.error, ErrorCode::StalePartitionEpoch);
        if again.isr.len() == replicas.len() {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the follower is taken in again");
        target.append(topic, leader, "between");
    }
    target.append(topic, leader, "after");
    let values = target.values(topic, leader);
    assert_eq!(values.first().unwrap(), "before");
    assert_eq!(values.last().unwrap(), "after");
    target.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_follower_or_lies_gets_no_records_and_commits_none() {
    let target = Target::start().await;
    let (topic, leader, leader_epoch, replicas) = target.topic("t", 2);
    target.append(topic, leader, "before");
    let follower = *replicas.iter().find(|node| **node != leader).unwrap();
    let all = target.epochs.keys();
    let outsider = *all.clone().find(|node| !replicas.contains(node)).unwrap();
    let fetch = |node: NodeId, change: &dyn Fn(&mut FetchRequest)| -> FetchPartitionResult {
        let partitions = vec![FetchPartition {
            partition: ZERO,
            leader_epoch: Some(leader_epoch),
            offset: Offset::ZERO,
            last_epoch: None,
            durable_end: Some(Offset::ZERO),
            log_start: None,
            bytes_max: 1 << 20,
        }];
        let mut request = FetchRequest {
            replica: Some(FetchReplica {
                node_id: node,
                broker_epoch: target.epochs[&node],
                session: None,
            }),
            wait_ms_max: 0,
            bytes_min: 0,
            bytes_max: 1 << 20,
            isolation: Isolation::ReadUncommitted,
            topics: vec![FetchTopic {
                topic_id: topic,
                partitions,
            }],
        };
        change(&mut request);
        let mut peer = RawClient::hello_as(target.address(leader), node, Some(target.id)).unwrap();
        peer.call(&request).unwrap().topics[0].partitions.remove(0)
    };
    // It holds another replica no more, or never did.
    let removed = fetch(outsider, &|_| {});
    assert_eq!(removed.error, ErrorCode::UnknownLeaderEpoch);
    assert!(removed.records.is_empty());
    let earlier = fetch(follower, &|request| {
        request.replica.as_mut().unwrap().broker_epoch = BrokerEpoch::new(1);
    });
    assert_eq!(earlier.error, ErrorCode::StaleBrokerEpoch);
    let of_future = fetch(follower, &|request| {
        request.topics[0].partitions[0].last_epoch = Some(LeaderEpoch::new(7777));
    });
    assert_eq!(of_future.error, ErrorCode::EpochAhead);
    let beyond = fetch(follower, &|request| {
        let asked = &mut request.topics[0].partitions[0];
        asked.offset = Offset::new(1 << 40);
        asked.durable_end = Some(Offset::MAX);
    });
    assert_eq!(beyond.error, ErrorCode::OffsetOutOfRange);
    // As a client, without having said to be a broker.
    let mut client = RawClient::hello(target.address(leader));
    let stolen = FetchRequest {
        replica: Some(FetchReplica {
            node_id: follower,
            broker_epoch: target.epochs[&follower],
            session: None,
        }),
        wait_ms_max: 0,
        bytes_min: 0,
        bytes_max: 1,
        isolation: Isolation::ReadUncommitted,
        topics: Vec::new(),
    };
    let refused = client.call(&stolen).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest, "{refused:?}");
    let (_, high_watermark) = client.fetch(topic, ZERO, Offset::ZERO).unwrap();
    assert_eq!(high_watermark, Offset::new(1));
    target.append(topic, leader, "after");
    assert_eq!(target.values(topic, leader), ["before", "after"]);
    target.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_contradict_each_other_are_refused_with_the_remedy() {
    let target = Target::start().await;
    let mut client = target.client();
    let (code, message) = create(&mut client, "none", Some(0), &[]);
    assert_eq!(code, ErrorCode::InvalidReplicationFactor);
    assert!(message.contains("at least"), "{message}");
    let (code, message) = create(&mut client, "many", Some(4), &[]);
    assert_eq!(code, ErrorCode::InvalidReplicationFactor);
    assert!(message.contains("4 brokers"), "{message}");
    assert!(message.contains("has 3"), "{message}");
    let three = ("min.insync.replicas", "3");
    let (code, message) = create(&mut client, "never", Some(2), &[three]);
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(message.contains("2 replicas"), "{message}");

    let (topic, leader, ..) = target.topic("t", 2);
    target.append(topic, leader, "before");
    let alter = AlterConfigsRequest {
        topics: vec![TopicConfigChanges {
            name: "t".to_owned(),
            changes: vec![ConfigChange {
                key: three.0.to_owned(),
                value: Some(three.1.to_owned()),
            }],
        }],
        validate_only: false,
    };
    let altered = client.call(&alter).unwrap().topics.remove(0);
    assert_eq!(altered.error, ErrorCode::InvalidConfig);
    let message = altered.message.unwrap();
    assert!(message.contains("2 replicas"), "{message}");
    // What was refused is not in force.
    target.append(topic, leader, "after");
    assert_eq!(target.values(topic, leader), ["before", "after"]);
    target.cluster.shutdown().await.unwrap();
}

/// Bodies that are no requests, with counts that are not there, for everything that brokers ask each other.
#[test]
fn garbage_between_brokers_gets_an_error_and_costs_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let described = RawClient::hello(broker.address()).call(&DescribeClusterRequest {
        include_fenced: true,
    });
    let id = described.unwrap().cluster_id;
    let mut peer = RawClient::hello_as(broker.address(), NodeId::new(7), Some(id)).unwrap();
    let before = broker.anonymous_bytes();
    let mut noise = vec![0; 4 << 10];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for byte in &mut noise {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        *byte = seed as u8;
    }
    let many = vec![0xff; 1 << 20];
    let mut counted = vec![0; 300];
    counted[20..28].fill(0x7f);
    for api in (40u16..=50).chain(60..=66) {
        for body in [&b""[..], &[0xff; 64], &[0; 300], &counted, &noise, &many] {
            let mut frame = Vec::new();
            frame.extend_from_slice(&(8 + body.len() as u32).to_be_bytes());
            frame.extend_from_slice(&api.to_be_bytes());
            frame.extend_from_slice(&1u16.to_be_bytes());
            frame.extend_from_slice(&77u32.to_be_bytes());
            frame.extend_from_slice(body);
            peer.stream().write_all(&frame).unwrap();
            let ((correlation, _), _) = peer.receive().unwrap();
            assert_eq!(correlation.get(), 77, "api {api}");
        }
    }
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "garbage costs {grown} bytes");
    // A frame that ends in the middle.
    peer.stream().write_all(&[0, 0, 1, 0, 0, 46]).unwrap();
    drop(peer);
    RawClient::hello(broker.address()).assert_served();
    broker.terminate();
}
