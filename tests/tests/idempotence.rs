//! Retries of an idempotent producer: appended once, answered each time, whatever happened in between.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_broker::{EmbeddedBroker, EmbeddedCluster};
use highwater_client::{Client, NewTopic, TopicDescription};
use highwater_config::BrokerConfig;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};
use highwater_protocol::messages::{Acks, InitProducerIdRequest, InitProducerIdResponse};
use highwater_protocol::record_batch::ProducerStamp;
use highwater_tests::raw::{RawClient, Refused};

const ZERO: PartitionId = PartitionId::ZERO;
/// Records of each batch.
const RECORDS: u32 = 3;

/// A producer that says what it is told to.
#[derive(Debug, Clone, Copy)]
struct Producer {
    id: ProducerId,
    epoch: u16,
    topic: TopicId,
}

impl Producer {
    fn new(client: &mut RawClient, topic: TopicId) -> Self {
        let InitProducerIdResponse {
            producer_id,
            producer_epoch,
        } = init(client);
        Self {
            id: producer_id,
            epoch: producer_epoch.get(),
            topic,
        }
    }

    /// Its n-th batch. The same number gives the same bytes.
    fn batch(&self, number: u32) -> Bytes {
        self.batch_at(number * RECORDS, RECORDS)
    }

    fn batch_at(&self, sequence: u32, records: u32) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.set_producer(Some(ProducerStamp {
            id: self.id,
            epoch: ProducerEpoch::new(self.epoch),
            base_sequence: Some(Sequence::new(sequence)),
        }));
        for n in 0..records {
            let mut value = format!("{}/{}", self.epoch, sequence + n);
            value.push_str(&"x".repeat(2000));
            // The topics of these tests take any timestamp.
            builder.push(Timestamp::from_millis(1), None, Some(value.as_bytes()), &[]);
        }
        builder.build()
    }

    fn send(&self, client: &mut RawClient, number: u32) -> Result<Offset, Refused> {
        self.send_bytes(client, &self.batch(number))
    }

    /// Sends a batch until it is answered for good. On a busy machine a broker may lose its session
    /// for a moment and say so; to send again is what sequence numbers are for.
    fn send_bytes(&self, client: &mut RawClient, batch: &Bytes) -> Result<Offset, Refused> {
        let began = Instant::now();
        loop {
            let answer = client
                .produce(self.topic, ZERO, Acks::All, batch.clone())
                .unwrap();
            let for_now = matches!(
                &answer,
                Err(Refused {
                    code: ErrorCode::NotLeader
                        | ErrorCode::NotEnoughReplicas
                        | ErrorCode::NotEnoughReplicasAfterAppend
                        | ErrorCode::RequestTimedOut,
                    ..
                })
            );
            if !for_now {
                return answer;
            }
            assert!(began.elapsed() < DEADLINE, "{answer:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send_all(&self, client: &mut RawClient, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let expected = Offset::new(u64::from(number * RECORDS));
            assert_eq!(self.send(client, number), Ok(expected), "batch {number}");
        }
    }
}

fn init(client: &mut RawClient) -> InitProducerIdResponse {
    let request = InitProducerIdRequest { reserved: false };
    client.call(&request).unwrap()
}

fn code(answer: Result<Offset, Refused>) -> ErrorCode {
    answer.unwrap_err().code
}

fn create_topic(client: &mut RawClient) -> TopicId {
    let configs = [
        ("retention.ms", "-1"),
        ("segment.bytes", "64KiB"),
        ("max.message.bytes", "32KiB"),
    ];
    client.create_topic_with("t", 1, &configs)
}

/// Each record is there once, in the order of its sequence number.
fn assert_records(client: &mut RawClient, topic: TopicId, batches: u32) {
    let read = client.read_all(topic, ZERO, Offset::ZERO);
    assert_eq!(read.len() as u64, u64::from(batches * RECORDS));
    for (number, (offset, value)) in read.iter().enumerate() {
        assert_eq!(offset.get(), number as u64);
        let expected = format!("0/{number}x");
        assert!(value.starts_with(expected.as_bytes()), "record {number}");
    }
}

fn segments(broker: &EmbeddedBroker, topic: TopicId) -> usize {
    let dir: &Path = &broker.data_dir().join(format!("{topic}-{ZERO}"));
    let files = std::fs::read_dir(dir).unwrap();
    files
        .filter(|file| {
            let path = file.as_ref().unwrap().path();
            path.extension().is_some_and(|end| end == "log")
        })
        .count()
}

#[tokio::test]
async fn a_retry_is_answered_like_the_first_attempt_and_appends_nothing() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = create_topic(&mut client);
    let producer = Producer::new(&mut client, topic);
    producer.send_all(&mut client, 0..8);
    // The last five are known with their offsets, whatever was answered in between.
    for number in [7, 3, 5, 4, 6, 3] {
        let expected = Offset::new(u64::from(number * RECORDS));
        assert_eq!(producer.send(&mut client, number), Ok(expected));
    }
    // What is older is known to be there, and no more.
    for number in [0, 2] {
        let answer = producer.send(&mut client, number);
        assert_eq!(code(answer), ErrorCode::DuplicateSequence);
    }
    let part = producer.batch_at(7 * RECORDS + 1, 1);
    let answer = producer.send_bytes(&mut client, &part);
    assert_eq!(code(answer), ErrorCode::DuplicateSequence);
    assert_records(&mut client, topic, 8);
    producer.send_all(&mut client, 8..9);
    for acks in [Acks::Leader, Acks::All] {
        let again = client.produce(topic, ZERO, acks, producer.batch(8));
        assert_eq!(again.unwrap(), Ok(Offset::new(u64::from(8 * RECORDS))));
    }
    assert_records(&mut client, topic, 9);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn gaps_and_old_epochs_are_refused() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = create_topic(&mut client);
    let mut producer = Producer::new(&mut client, topic);
    producer.send_all(&mut client, 0..2);
    let answer = producer.send(&mut client, 3);
    assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
    // Half known, half new.
    let overlap = producer.batch_at(2 * RECORDS - 1, 2);
    let answer = producer.send_bytes(&mut client, &overlap);
    assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
    // Several batches of one request count as one: the second does not follow the first.
    let gap = [producer.batch(2), producer.batch(4)].concat().into();
    let answer = producer.send_bytes(&mut client, &gap);
    assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
    let mixed = [producer.batch(1), producer.batch(2)].concat().into();
    let answer = producer.send_bytes(&mut client, &mixed);
    assert_eq!(code(answer), ErrorCode::InvalidBatch);
    assert_records(&mut client, topic, 2);
    let pair: Bytes = [producer.batch(2), producer.batch(3)].concat().into();
    for _ in 0..2 {
        let answer = producer.send_bytes(&mut client, &pair);
        assert_eq!(answer, Ok(Offset::new(u64::from(2 * RECORDS))));
    }
    assert_records(&mut client, topic, 4);

    let old = producer;
    producer.epoch = 1;
    let answer = producer.send(&mut client, 4);
    assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
    let began = producer.send(&mut client, 0);
    assert_eq!(began, Ok(Offset::new(u64::from(4 * RECORDS))));
    for number in [3, 4] {
        let answer = old.send(&mut client, number);
        assert_eq!(code(answer), ErrorCode::InvalidProducerEpoch);
    }
    broker.shutdown().await.unwrap();
}

/// A stamp goes with all of its parts, and what brokers write stays theirs.
#[tokio::test]
async fn half_a_stamp_is_refused() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = create_topic(&mut client);
    let producer = Producer::new(&mut client, topic);
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.set_producer(Some(ProducerStamp {
        id: producer.id,
        epoch: ProducerEpoch::ZERO,
        base_sequence: None,
    }));
    builder.push(Timestamp::from_millis(1), None, None, &[]);
    let answer = producer.send_bytes(&mut client, &builder.build());
    assert_eq!(code(answer), ErrorCode::InvalidBatch);
    assert_records(&mut client, topic, 0);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn retries_are_recognized_after_kills_and_orderly_restarts() {
    for kill in [true, false] {
        let mut broker = EmbeddedBroker::start().await.unwrap();
        let address = broker.address();
        let mut client = RawClient::hello(address);
        let topic = create_topic(&mut client);
        let producer = Producer::new(&mut client, topic);
        let mut sent = 0;
        // Through several segments: snapshots come into play, and what lies behind them.
        for _ in 0..4 {
            producer.send_all(&mut client, sent..sent + 13);
            sent += 13;
            if kill {
                broker.kill().await.unwrap();
            }
            broker.restart().await.unwrap();
            client = RawClient::hello(address);
            // All five, not only the last one.
            for number in sent - 5..sent {
                let expected = Offset::new(u64::from(number * RECORDS));
                assert_eq!(producer.send(&mut client, number), Ok(expected));
            }
            let answer = producer.send(&mut client, sent - 6);
            assert_eq!(code(answer), ErrorCode::DuplicateSequence);
            let answer = producer.send(&mut client, sent + 1);
            assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
        }
        assert!(segments(&broker, topic) > 3);
        assert_records(&mut client, topic, sent);
        broker.shutdown().await.unwrap();
    }
}

/// Directly behind a roll everything about the producer is in the segment before.
#[tokio::test]
async fn retries_are_recognized_after_a_roll_and_a_restart() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let address = broker.address();
    let mut client = RawClient::hello(address);
    let topic = create_topic(&mut client);
    let producer = Producer::new(&mut client, topic);
    let mut sent = 0;
    while segments(&broker, topic) < 3 {
        producer.send_all(&mut client, sent..sent + 1);
        sent += 1;
    }
    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    let mut client = RawClient::hello(address);
    for number in sent - 5..sent {
        let expected = Offset::new(u64::from(number * RECORDS));
        assert_eq!(producer.send(&mut client, number), Ok(expected));
    }
    producer.send_all(&mut client, sent..sent + 1);
    assert_records(&mut client, topic, sent + 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_producer_id_is_given_out_twice() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let address = broker.address();
    let mut seen = std::collections::BTreeSet::new();
    for life in 0..3 {
        let mut client = RawClient::hello(address);
        // More than a block.
        for _ in 0..1100 {
            let given = init(&mut client);
            assert_eq!(given.producer_epoch, ProducerEpoch::ZERO);
            assert!(seen.insert(given.producer_id), "{given:?}");
        }
        if life == 0 {
            broker.kill().await.unwrap();
        }
        broker.restart().await.unwrap();
    }
    broker.shutdown().await.unwrap();
}

/// How long a cluster may take for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// Timeouts short enough for a test, and long enough for a busy machine.
fn quick(_: usize, config: &mut BrokerConfig) {
    config.cluster.heartbeat_interval = Duration::from_millis(100);
    config.cluster.session_timeout = Duration::from_secs(3);
    config.cluster.election_timeout = Duration::from_millis(500);
    config.replication.lag_time_max = Duration::from_secs(2);
    config.replication.fetch_wait_max = Duration::from_millis(200);
}

/// Waits until a topic is as it should be, and says how it is.
async fn until(
    client: &Client,
    topic: &str,
    is_so: impl Fn(&TopicDescription) -> bool,
) -> TopicDescription {
    let began = Instant::now();
    loop {
        let described = client.admin().describe_topic(topic).await;
        match described {
            Ok(described) if is_so(&described) => return described,
            other => assert!(began.elapsed() < DEADLINE, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Who leads next knows what the last leader knew, however often that happens, and whether it has the
/// batches from the network or from its own disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_are_recognized_by_every_next_leader() {
    let mut cluster = EmbeddedCluster::start_with(3, quick).await.unwrap();
    let client = Client::builder()
        .seeds(cluster.addresses().to_vec())
        .connect()
        .await
        .unwrap();
    let topic = NewTopic::new("t")
        .partitions(1)
        .replicas(3)
        .config("segment.bytes", "64KiB")
        .config("max.message.bytes", "32KiB");
    client.admin().create_topic(topic).await.unwrap();
    let mut producer = None;
    let mut sent: u32 = 0;
    let mut dead: Option<u32> = None;
    for _ in 0..4 {
        let described = until(&client, "t", |topic| {
            let partition = &topic.partitions[0];
            let enough = if dead.is_some() { 2 } else { 3 };
            partition.isr.len() == enough
                && partition
                    .leader
                    .is_some_and(|leader| Some(leader.get()) != dead)
        })
        .await;
        let leader = described.partitions[0].leader.unwrap().get();
        let address = cluster.broker(leader as usize - 1).address();
        let (again, next) = (sent, sent + 13);
        let topic_id = described.topic_id;
        let known = producer;
        // The raw client blocks.
        let answered = tokio::task::spawn_blocking(move || {
            let mut client = RawClient::hello(address);
            let producer = known.unwrap_or_else(|| Producer::new(&mut client, topic_id));
            for number in again.saturating_sub(5)..again {
                let expected = Offset::new(u64::from(number * RECORDS));
                assert_eq!(producer.send(&mut client, number), Ok(expected));
            }
            if again > 0 {
                let answer = producer.send(&mut client, again - 6);
                assert_eq!(code(answer), ErrorCode::DuplicateSequence);
                let answer = producer.send(&mut client, again + 1);
                assert_eq!(code(answer), ErrorCode::OutOfOrderSequence);
            }
            producer.send_all(&mut client, again..next);
            assert_records(&mut client, topic_id, next);
            producer
        });
        producer = Some(answered.await.unwrap());
        sent = next;
        if let Some(back) = dead {
            cluster.restart(back as usize - 1).await.unwrap();
            until(&client, "t", |topic| topic.partitions[0].isr.len() == 3).await;
        }
        cluster.kill(leader as usize - 1).await.unwrap();
        dead = Some(leader);
    }
    cluster.shutdown().await.unwrap();
}
