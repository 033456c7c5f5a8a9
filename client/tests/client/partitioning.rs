//! Keys keep their partition, the same as Kafka's clients would pick; records without one spread.

use highwater_client::{PartitionId, Partitioner, ProducerRecord, SendError, TopicName};
use highwater_protocol::partitioner::partition_for_key;

use crate::support::{FakeBroker, quick, soon};

#[tokio::test]
async fn records_of_a_key_go_to_its_partition() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 7);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let keys: Vec<Vec<u8>> = (0..100).map(|n| format!("key {n}").into_bytes()).collect();
    for key in &keys {
        let record = ProducerRecord::to("t").key(key.clone()).value("one");
        let ack = soon(producer.send(record)).await.unwrap();
        assert_eq!(ack.partition, partition_for_key(key, 7));
    }
    let pairs = keys.iter().map(|key| (&key[..], &b"many"[..]));
    soon(producer.enqueue_many("t", None, pairs))
        .await
        .unwrap()
        .await
        .unwrap();
    for partition in 0..7 {
        for record in broker.records("t", partition) {
            assert_eq!(partition_for_key(&record.key.unwrap(), 7).get(), partition);
        }
    }
}

#[tokio::test]
async fn records_without_a_key_fill_a_batch_and_move_on() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 4);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().batch_records(50).build();
    let values = vec!["x"; 1000];
    soon(producer.enqueue_many("t", None, values))
        .await
        .unwrap()
        .await
        .unwrap();
    for partition in 0..4 {
        let count = broker.records("t", partition).len();
        assert!((150..=350).contains(&count), "{partition} has {count}");
    }
}

#[tokio::test]
async fn records_without_a_key_that_are_sent_one_by_one_spread_too() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 4);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    for _ in 0..40 {
        soon(producer.send(ProducerRecord::to("t").value("x")))
            .await
            .unwrap();
    }
    for partition in 0..4 {
        assert_eq!(broker.records("t", partition).len(), 10);
    }
}

#[tokio::test]
async fn fewer_partitions_after_a_topic_was_made_anew_are_noticed() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 6);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(ProducerRecord::to("t").value("x")))
        .await
        .unwrap();
    broker.topic("t", 2);
    let mut failed = 0;
    for n in 0..50 {
        let record = ProducerRecord::to("t").key(n.to_string()).value("x");
        failed += usize::from(soon(producer.send(record)).await.is_err());
    }
    assert!(
        failed <= 1,
        "only what was on its way to a partition that is gone: {failed}"
    );
}

#[tokio::test]
async fn a_partition_that_is_named_is_used() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 3);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let record = || ProducerRecord::to("t").key("k").value("x");
    for n in [2, 0, 1] {
        let ack = soon(producer.send(record().partition(PartitionId::new(n))))
            .await
            .unwrap();
        assert_eq!(ack.partition.get(), n);
    }
    let error = soon(producer.send(record().partition(PartitionId::new(3))))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::UnknownPartition { partitions: 3, .. }),
        "{error}"
    );
    broker.add_partition("t");
    soon(producer.send(record().partition(PartitionId::new(3))))
        .await
        .unwrap();
}

#[derive(Debug)]
struct Last;

impl Partitioner for Last {
    fn pick(&self, _: &TopicName, _: Option<&[u8]>, partitions: u32) -> Option<PartitionId> {
        Some(PartitionId::new(partitions - 1))
    }
}

#[tokio::test]
async fn a_partitioner_of_ones_own_decides() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 5);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().partitioner(Last).build();
    let ack = soon(producer.send(ProducerRecord::to("t").value("x")))
        .await
        .unwrap();
    assert_eq!(ack.partition.get(), 4);
}
