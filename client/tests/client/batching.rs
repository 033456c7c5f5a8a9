//! Batching is adaptive: an idle producer sends at once, a busy one gathers.

use std::time::Duration;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};
use highwater_client::{Acks, ProducerRecord, SendError};
use tokio::sync::oneshot;

fn record<V: ToString + ?Sized>(value: &V) -> ProducerRecord {
    ProducerRecord::to("t").value(value.to_string())
}

#[tokio::test]
async fn an_idle_producer_sends_at_once_whatever_the_linger_time() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().linger(Duration::from_secs(3600)).build();
    let ack = soon(producer.send(record("x"))).await.unwrap();
    assert_eq!(ack.offset.unwrap().get(), 0);
}

#[tokio::test]
async fn records_gather_while_a_request_is_unanswered_and_go_with_the_answer() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();

    let first = producer.enqueue(record(&0)).await.unwrap();
    let mut rest = Vec::new();
    for n in 1..100 {
        rest.push(producer.enqueue(record(&n)).await.unwrap());
    }
    eventually("the first is there", || broker.produce_calls() == 1).await;
    held.send(()).unwrap();
    soon(first).await.unwrap();
    for (n, ack) in rest.into_iter().enumerate() {
        assert_eq!(soon(ack).await.unwrap().offset.unwrap().get(), n as u64 + 1);
    }
    assert_eq!(broker.produce_calls(), 2, "all others went together");
}

#[tokio::test]
async fn full_batches_do_not_wait_for_answers() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (_held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::Append, Verdict::AppendAndHold(told)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().batch_records(10).build();
    soon(producer.send(record(&0))).await.unwrap();
    let _first = producer.enqueue(record(&0)).await.unwrap();
    let pending = producer
        .enqueue_many("t", None, (1..36).map(|_| "x").collect::<Vec<_>>())
        .await
        .unwrap();
    // 35 more: three full batches go, the rest of five stays behind the held answer.
    eventually("full batches are there", || {
        broker.records("t", 0).len() == 32
    })
    .await;
    drop(pending);
}

#[tokio::test]
async fn batches_are_limited_by_bytes_and_by_records() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().batch_bytes(1000).build();
    let values: Vec<Vec<u8>> = (0..100).map(|n| vec![n; 100]).collect();
    soon(producer.enqueue_many("t", None, &values))
        .await
        .unwrap()
        .await
        .unwrap();
    let records = broker.records("t", 0);
    assert_eq!(records.len(), 100);
    assert!(records.last().unwrap().batch >= 10);

    let producer = client.producer().batch_records(7).build();
    let ack = soon(producer.enqueue_many("t", None, &values))
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(ack.records(), 100);
    let ranges: Vec<u32> = ack.ranges.iter().map(|range| range.records).collect();
    assert!(ranges.iter().all(|records| *records <= 7), "{ranges:?}");
}

#[tokio::test]
async fn lingering_gathers_records_after_the_first() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().linger(Duration::from_millis(400)).build();
    soon(producer.send(record(&0))).await.unwrap();
    let mut acks = Vec::new();
    for n in 1..20 {
        acks.push(producer.enqueue(record(&n)).await.unwrap());
        tokio::task::yield_now().await;
    }
    for ack in acks {
        soon(ack).await.unwrap();
    }
    assert_eq!(
        broker.produce_calls(),
        2,
        "one at once, one after the linger time"
    );
}

#[tokio::test]
async fn a_flush_does_not_linger() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().linger(Duration::from_secs(3600)).build();
    soon(producer.send(record(&0))).await.unwrap();
    let ack = producer.enqueue(record(&1)).await.unwrap();
    soon(producer.flush()).await;
    soon(ack).await.unwrap();
    assert_eq!(values(&broker.records("t", 0)), ["0", "1"]);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn without_acknowledgements_records_are_written_and_offsets_unknown() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().acks(Acks::None).build();
    for n in 0..100 {
        let ack = soon(producer.send(record(&n))).await.unwrap();
        assert_eq!(ack.offset, None);
    }
    eventually("all are there", || broker.records("t", 0).len() == 100).await;
    let expected: Vec<String> = (0..100).map(|n: u32| n.to_string()).collect();
    assert_eq!(values(&broker.records("t", 0)), expected);
}

#[tokio::test]
async fn a_record_that_no_buffer_holds_is_refused() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(10_000).build();
    let error = soon(producer.send(ProducerRecord::to("t").value(vec![0; 6000]))).await;
    assert!(
        matches!(
            error,
            Err(SendError::RecordTooLarge {
                bytes_max: 5000,
                ..
            })
        ),
        "{error:?}"
    );
    soon(producer.send(ProducerRecord::to("t").value(vec![0; 4000])))
        .await
        .unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn compressed_batches_arrive_compressed() {
    use highwater_client::Compression;
    let broker = FakeBroker::start().await;
    let client = quick(&broker).connect().await.unwrap();
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let topic = codec.to_string();
        broker.topic(&topic, 1);
        let bytes = std::sync::Arc::new(std::sync::Mutex::new(0));
        let seen = std::sync::Arc::clone(&bytes);
        broker.on_produce(move |call| {
            *seen.lock().unwrap() += call.bytes;
            Verdict::Append
        });
        let producer = client.producer().compression(codec).build();
        let lines = vec!["the same line again and again"; 10_000];
        soon(producer.enqueue_many(&topic, None, lines))
            .await
            .unwrap()
            .await
            .unwrap();
        assert_eq!(broker.records(&topic, 0).len(), 10_000);
        assert!(*bytes.lock().unwrap() < 10_000 * 29 / 2, "{codec}");
    }
}
