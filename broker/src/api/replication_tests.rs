//! What clients and followers are answered, by a broker that leads a partition with a follower.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use bytes::BytesMut;
use highwater_coordination::partition_leader::{PartitionView, ReplicaView};
use highwater_protocol::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    Acks, ConfigEntry, CreateTopicsRequest, FetchPartition, FetchPartitionResult, FetchReplica,
    FetchRequest, FetchTopic, Isolation, ListOffsetsPartition, ListOffsetsPartitionResult,
    ListOffsetsRequest, ListOffsetsTopic, NewTopic, OffsetSpec, ProducePartition,
    ProducePartitionResult, ProduceRequest, ProduceTopic,
};

use super::*;
use crate::EmbeddedBroker;
use crate::lease;
use crate::partition::test_replica::batch;
use crate::partition::{Lead, Partition};

const FOLLOWER: NodeId = NodeId::new(77);
const EPOCH: LeaderEpoch = LeaderEpoch::new(1000);

struct Broker {
    broker: EmbeddedBroker,
    topic_id: TopicId,
}

async fn call<R: Request>(shared: &Arc<Shared>, request: &R) -> R::Response {
    call_as(FOLLOWER, shared, request).await.unwrap()
}

/// What a node is answered that said Hello as this one.
async fn call_as<R: Request>(
    node: NodeId,
    shared: &Arc<Shared>,
    request: &R,
) -> Result<R::Response, ErrorCode> {
    let version = R::API.versions().1;
    let mut frame = BytesMut::new();
    for slice in highwater_protocol::frame::encode_request(request, version, CorrelationId::ZERO) {
        frame.extend_from_slice(&slice);
    }
    let mut peer = Peer {
        local: None,
        client: Some(Client {
            name: "test".to_owned(),
            version: String::new(),
            node_id: Some(node),
        }),
    };
    let frame = frame.freeze().slice(4..);
    let answer = match dispatch(shared, &mut peer, frame, Instant::now()) {
        Answer::Now(answer) => answer,
        Answer::Later(answer, _) => answer.await,
        other => panic!("{other:?}"),
    };
    let mut input = Decoder::new(Bytes::from(answer.concat()).slice(4..));
    let header = highwater_protocol::frame::decode_response_header(&mut input).unwrap();
    match header.error {
        ErrorCode::None => Ok(decode_body(input, version).unwrap()),
        code => Err(code),
    }
}

impl Broker {
    async fn start() -> Self {
        let broker = EmbeddedBroker::start().await.unwrap();
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "orders".to_owned(),
                partitions: Some(1),
                replicas: None,
                configs: vec![ConfigEntry {
                    key: "durability".to_owned(),
                    value: "replicated".to_owned(),
                }],
            }],
            validate_only: false,
        };
        let created = call(broker.running().shared(), &request).await;
        let topic_id = created.topics[0].topic_id.unwrap();
        let this = Self { broker, topic_id };
        let deadline = Instant::now() + Duration::from_secs(20);
        while this.find().is_none_or(|found| found.leads_in().is_none()) {
            assert!(Instant::now() < deadline, "the partition is led");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        this
    }

    fn shared(&self) -> &Arc<Shared> {
        self.broker.running().shared()
    }

    fn find(&self) -> Option<Arc<Partition>> {
        let key = (self.topic_id, PartitionId::new(0));
        self.shared().partitions.online_one(key)
    }

    /// From now on it leads with a follower that is in sync, in an epoch of its own.
    fn lead_with_follower(&self) -> Arc<Partition> {
        let partition = self.find().unwrap();
        let me = self.shared().node_id;
        let replicas = [me, FOLLOWER].map(|node| {
            let view = ReplicaView {
                epoch: Some(BrokerEpoch::new(7)),
                is_active: true,
            };
            (node, view)
        });
        let lead = Lead {
            node: me,
            epoch: EPOCH,
            view: PartitionView {
                partition_epoch: 1000,
                recovering: false,
                isr: [me, FOLLOWER].into(),
                replicas: replicas.into(),
            },
            isr_min: 1,
            lag_ms_max: 60_000,
        };
        partition.become_leader(lead, lease::now()).unwrap();
        partition
    }

    async fn produce(&self, acks: Acks, timeout_ms: u32) -> ProducePartitionResult {
        let request = ProduceRequest {
            acks,
            timeout_ms,
            topics: vec![ProduceTopic {
                topic_id: self.topic_id,
                partitions: vec![ProducePartition {
                    partition: PartitionId::new(0),
                    leader_epoch: None,
                    records: batch(1, "x"),
                }],
            }],
        };
        let mut answer = call(self.shared(), &request).await;
        answer.topics[0].partitions.remove(0)
    }

    async fn list(&self, spec: OffsetSpec) -> ListOffsetsPartitionResult {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                topic_id: self.topic_id,
                partitions: vec![ListOffsetsPartition {
                    partition: PartitionId::new(0),
                    leader_epoch: None,
                    spec,
                }],
            }],
        };
        let mut answer = call(self.shared(), &request).await;
        answer.topics[0].partitions.remove(0)
    }

    async fn fetch(&self, request: FetchRequest) -> FetchPartitionResult {
        let replica = request.replica.as_ref();
        let node = replica.map_or(FOLLOWER, |replica| replica.node_id);
        let mut answer = call_as(node, self.shared(), &request).await.unwrap();
        answer.topics[0].partitions.remove(0)
    }

    fn consumer(&self, offset: u64) -> FetchRequest {
        FetchRequest {
            replica: None,
            wait_ms_max: 0,
            bytes_min: 1,
            bytes_max: 1 << 20,
            isolation: Isolation::ReadUncommitted,
            topics: vec![FetchTopic {
                topic_id: self.topic_id,
                partitions: vec![FetchPartition {
                    partition: PartitionId::new(0),
                    leader_epoch: None,
                    offset: Offset::new(offset),
                    last_epoch: None,
                    durable_end: None,
                    log_start: None,
                    bytes_max: 1 << 20,
                }],
            }],
        }
    }

    fn follower(&self, offset: u64) -> FetchRequest {
        let mut request = self.consumer(offset);
        request.replica = Some(FetchReplica {
            node_id: FOLLOWER,
            broker_epoch: BrokerEpoch::new(7),
        });
        let asked = &mut request.topics[0].partitions[0];
        asked.leader_epoch = Some(EPOCH);
        asked.last_epoch = Some(EPOCH).filter(|_| offset > 0);
        asked.durable_end = Some(Offset::new(offset));
        request
    }
}

#[tokio::test]
async fn without_a_lease_clients_are_sent_elsewhere() {
    let broker = Broker::start().await;
    assert_eq!(
        broker.produce(Acks::Leader, 1000).await.error,
        ErrorCode::None
    );
    assert_eq!(
        broker.fetch(broker.consumer(0)).await.error,
        ErrorCode::None
    );
    let lease = &broker.shared().lease;
    // Heartbeats give it back now and then.
    let mut refused = [false; 3];
    let deadline = Instant::now() + Duration::from_secs(20);
    while refused != [true; 3] {
        assert!(Instant::now() < deadline, "{refused:?}");
        lease.end();
        refused[0] |= broker.produce(Acks::Leader, 1000).await.error == ErrorCode::NotLeader;
        lease.end();
        let fetched = broker.fetch(broker.consumer(0)).await;
        if fetched.error == ErrorCode::NotLeader {
            assert!(fetched.records.is_empty());
            refused[1] = true;
        }
        lease.end();
        refused[2] |= broker.list(OffsetSpec::Latest).await.error == ErrorCode::NotLeader;
    }
    broker.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_committed_is_for_followers_only() {
    let broker = Broker::start().await;
    assert_eq!(broker.produce(Acks::All, 1000).await.error, ErrorCode::None);
    let partition = broker.lead_with_follower();
    // The follower was not heard in this epoch: what is committed is known up to here, as it happens.
    assert_eq!(
        broker.produce(Acks::Leader, 1000).await.error,
        ErrorCode::None
    );
    let waits = broker.produce(Acks::All, 20).await;
    assert_eq!(waits.error, ErrorCode::RequestTimedOut);
    assert_eq!(partition.log().end(), Offset::new(3));

    let beyond = broker.fetch(broker.consumer(2)).await;
    assert_eq!((beyond.error, beyond.records.len()), (ErrorCode::None, 0));
    assert_eq!(beyond.high_watermark, Offset::new(1));
    assert_eq!(
        broker.fetch(broker.consumer(4)).await.error,
        ErrorCode::OffsetOutOfRange
    );

    let all = broker.fetch(broker.follower(0)).await;
    assert_eq!(all.error, ErrorCode::None, "{:?}", all.message);
    assert!(!all.records.is_empty());
    // It tells that it has everything, and asks for nothing.
    let mut report = broker.follower(3);
    report.bytes_max = 0;
    let reported = broker.fetch(report).await;
    assert_eq!(
        (reported.error, reported.records.len()),
        (ErrorCode::None, 0)
    );
    assert_eq!(partition.high_watermark(), Offset::new(3));
    assert_eq!(
        broker.list(OffsetSpec::Latest).await.offset,
        Some(Offset::new(3))
    );
    broker.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_follower_that_waits_is_woken_by_an_append_and_counts_as_it_was_when_it_asked() {
    let broker = Broker::start().await;
    let partition = broker.lead_with_follower();
    let mut poll = broker.follower(0);
    poll.wait_ms_max = 60_000;
    let (polled, appended) = tokio::join!(broker.fetch(poll), broker.produce(Acks::Leader, 1000));
    assert_eq!(appended.error, ErrorCode::None);
    assert!(!polled.records.is_empty());
    assert_eq!(
        partition.high_watermark(),
        Offset::ZERO,
        "it has not said that it has it"
    );
    broker.broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn followers_that_are_none_or_are_behind_are_told_why() {
    let broker = Broker::start().await;
    broker.lead_with_follower();
    let answered = async |change: fn(&mut FetchRequest)| {
        let mut request = broker.follower(0);
        change(&mut request);
        broker.fetch(request).await.error
    };
    let stranger = answered(|request| request.replica.as_mut().unwrap().node_id = NodeId::new(99));
    assert_eq!(stranger.await, ErrorCode::UnknownLeaderEpoch);
    let earlier = answered(|request| {
        request.replica.as_mut().unwrap().broker_epoch = BrokerEpoch::new(6);
    });
    assert_eq!(earlier.await, ErrorCode::StaleBrokerEpoch);
    let fenced = answered(|request| {
        request.topics[0].partitions[0].leader_epoch = Some(LeaderEpoch::new(999));
    });
    assert_eq!(fenced.await, ErrorCode::FencedLeaderEpoch);
    let ahead = answered(|request| {
        request.topics[0].partitions[0].leader_epoch = Some(LeaderEpoch::new(1001));
    });
    assert_eq!(ahead.await, ErrorCode::UnknownLeaderEpoch);
    let unsaid = answered(|request| request.topics[0].partitions[0].leader_epoch = None);
    assert_eq!(unsaid.await, ErrorCode::InvalidRequest);
    let later = answered(|request| {
        request.topics[0].partitions[0].last_epoch = Some(LeaderEpoch::new(5000));
    });
    assert_eq!(later.await, ErrorCode::EpochAhead);
    broker.broker.shutdown().await.unwrap();
}

/// What a follower says of itself commits records, so nothing that cannot be so counts.
#[tokio::test]
async fn a_follower_that_lies_commits_nothing_beyond_what_is_there() {
    let broker = Broker::start().await;
    let partition = broker.lead_with_follower();
    for _ in 0..3 {
        let appended = broker.produce(Acks::Leader, 1000).await;
        assert_eq!(appended.error, ErrorCode::None);
    }
    // In the name of another.
    let stolen = broker.follower(3);
    let refused = call_as(NodeId::new(99), broker.shared(), &stolen).await;
    assert_eq!(refused.unwrap_err(), ErrorCode::InvalidRequest);
    assert_eq!(partition.high_watermark(), Offset::ZERO);
    // Beyond the end of the leader's log: it is told where the leader's ends, or that nothing is there.
    let beyond = broker.fetch(broker.follower(1000)).await;
    assert_eq!(beyond.diverging.unwrap().end, Offset::new(3));
    assert_eq!(beyond.high_watermark, Offset::ZERO);
    let mut without_epoch = broker.follower(1000);
    without_epoch.topics[0].partitions[0].last_epoch = None;
    let without_epoch = broker.fetch(without_epoch).await;
    assert_eq!(without_epoch.error, ErrorCode::OffsetOutOfRange);
    assert_eq!(partition.high_watermark(), Offset::ZERO);
    // More on its disk than in its log: what it has counts.
    let mut durable = broker.follower(1);
    durable.topics[0].partitions[0].durable_end = Some(Offset::MAX);
    assert_eq!(broker.fetch(durable).await.error, ErrorCode::None);
    assert_eq!(partition.high_watermark(), Offset::new(1));
    // Backwards: what was committed stays so.
    assert_eq!(
        broker.fetch(broker.follower(0)).await.error,
        ErrorCode::None
    );
    assert_eq!(partition.high_watermark(), Offset::new(1));
    broker.broker.shutdown().await.unwrap();
}
