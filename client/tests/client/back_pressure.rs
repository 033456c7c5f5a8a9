//! The buffer is bounded by bytes: what does not fit waits, or is handed back.

use highwater_client::{PartitionId, ProducerRecord, SendError};
use tokio::sync::oneshot;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon};

const KIB: usize = 1 << 10;

fn record(partition: u32) -> ProducerRecord {
    ProducerRecord::to("t")
        .value(vec![7; KIB])
        .partition(PartitionId::new(partition))
}

/// Answers of partition 0 are held until the sender is dropped.
fn hold_partition_0(broker: &FakeBroker) -> Vec<super::support::Held> {
    let (holds, mut told): (Vec<_>, Vec<_>) = (0..100).map(|_| oneshot::channel()).unzip();
    broker.on_produce(move |call| {
        if call.partition.get() == 0 {
            Verdict::AppendAndHold(told.pop().unwrap())
        } else {
            Verdict::Append
        }
    });
    holds
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait_until_records_are_acknowledged() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let held = hold_partition_0(&broker);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(64 * KIB).build();
    let mut taken = 0;
    let rejected = loop {
        // The topic is new to the producer at first.
        match producer.try_enqueue(record(0)) {
            Ok(_) => taken += 1,
            Err(rejected) if rejected.error.code() == "MetadataPending" => {
                tokio::task::yield_now().await;
            }
            Err(rejected) => break rejected,
        }
    };
    assert!(
        matches!(rejected.error, SendError::BufferFull { .. }),
        "{rejected}"
    );
    assert_eq!(*rejected.record, record(0), "it is handed back untouched");
    assert!(
        (28..=32).contains(&taken),
        "half of the buffer for one partition: {taken}"
    );
    assert!(producer.buffered_bytes() <= 64 * KIB);

    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(record(0)).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(held);
    soon(waiting).await.unwrap().unwrap();
    eventually("the buffer is empty", || producer.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn a_stuck_partition_does_not_stop_the_others() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 2);
    let _held = hold_partition_0(&broker);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(64 * KIB).build();
    soon(producer.send(record(1))).await.unwrap();
    while producer.try_enqueue(record(0)).is_ok() {}
    for _ in 0..100 {
        soon(producer.send(record(1))).await.unwrap();
    }
}

#[tokio::test]
async fn a_bulk_call_goes_through_a_small_buffer() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 3);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(32 * KIB).build();
    let values: Vec<Vec<u8>> = (0..2000).map(|n: u32| n.to_string().into_bytes()).collect();
    let big: Vec<Vec<u8>> = values
        .iter()
        .map(|v| [v.clone(), vec![b'.'; 500]].concat())
        .collect();
    let pending = soon(producer.enqueue_many("t", None, &big)).await.unwrap();
    assert_eq!(soon(pending).await.unwrap().records(), 2000);
    let total: usize = (0..3).map(|p| broker.records("t", p).len()).sum();
    assert_eq!(total, 2000);
    eventually("the buffer is empty", || producer.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn a_bulk_call_that_is_broken_off_says_what_was_taken() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(32 * KIB).build();
    let values = [vec![1; 100], vec![2; 100], vec![3; 20 * KIB], vec![4; 100]];
    let broken = soon(producer.enqueue_many("t", None, &values))
        .await
        .unwrap_err();
    assert!(
        matches!(broken.error, SendError::RecordTooLarge { .. }),
        "{broken}"
    );
    assert_eq!(soon(broken.enqueued.unwrap()).await.unwrap().records(), 2);
    eventually("the buffer is empty", || producer.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn a_full_buffer_ends_the_lingering() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 2);
    let client = quick(&broker).connect().await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let producer = client
        .producer()
        .linger(hour)
        .buffer_bytes(16 * KIB)
        .build();
    for _ in 0..20 {
        for partition in [0, 1] {
            let _ack = soon(producer.enqueue(record(partition))).await.unwrap();
        }
    }
    let values = vec![[7; KIB]; 50];
    let slices = values.iter().map(|value| &value[..]);
    let _pending = soon(producer.enqueue_many("t", None, slices))
        .await
        .unwrap();
}
