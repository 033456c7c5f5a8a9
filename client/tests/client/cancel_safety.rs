//! Dropping a future loses neither records nor buffer space nor order.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use highwater_client::{ProducerRecord, Until};
use tokio::sync::oneshot;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};

fn record<V: ToString + ?Sized>(value: &V) -> ProducerRecord {
    ProducerRecord::to("t").value(value.to_string())
}

/// Polls a future a few times and drops it.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn a_dropped_send_keeps_its_place_and_gives_back_its_space() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record(&0))).await.unwrap();
    for n in 1..100 {
        // Polled once, the record is in the buffer: it goes out although nobody waits for it.
        assert!(poll_and_drop(producer.send(record(&n)), 1).await.is_none());
    }
    soon(producer.send(record(&100))).await.unwrap();
    let expected: Vec<String> = (0..=100).map(|n| n.to_string()).collect();
    assert_eq!(values(&broker.records("t", 0)), expected);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn a_send_dropped_while_it_waits_for_space_takes_its_record_back() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(2000).build();
    let first = producer
        .enqueue(ProducerRecord::to("t").value(vec![b'a'; 900]))
        .await
        .unwrap();
    let second = producer
        .enqueue(ProducerRecord::to("t").value(vec![b'b'; 900]))
        .await
        .unwrap();
    for polls in [1, 2, 5, 20] {
        let waiting = producer.enqueue(ProducerRecord::to("t").value(vec![b'c'; 900]));
        assert!(poll_and_drop(waiting, polls).await.is_none());
    }
    held.send(()).unwrap();
    soon(first).await.unwrap();
    soon(second).await.unwrap();
    let third = producer
        .enqueue(ProducerRecord::to("t").value(vec![b'd'; 900]))
        .await
        .unwrap();
    soon(third).await.unwrap();
    let first_bytes: Vec<u8> = broker.records("t", 0).iter().map(|r| r.value[0]).collect();
    assert_eq!(first_bytes, b"abd");
    eventually("no space is lost", || producer.buffered_bytes() == 0).await;
}

#[tokio::test]
async fn dropped_acknowledgements_change_nothing() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    for n in 0..50 {
        let ack = producer.enqueue(record(&n)).await.unwrap();
        poll_and_drop(ack, n % 3).await;
    }
    soon(producer.flush()).await;
    assert_eq!(broker.records("t", 0).len(), 50);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn a_dropped_connect_or_lookup_leaves_nothing_behind() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    for polls in 1..6 {
        poll_and_drop(quick(&broker).connect(), polls).await;
    }
    let client = soon(quick(&broker).connect()).await.unwrap();
    for polls in 1..6 {
        poll_and_drop(client.producer().build().send(record(&0)), polls).await;
        poll_and_drop(client.reader("t").build(), polls).await;
    }
    soon(client.producer().build().send(record(&0)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_read_loses_no_record() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let compressed = client
        .producer()
        .compression(highwater_client::Compression::Lz4)
        .batch_records(20_000)
        .build();
    // Incompressible enough that unpacking happens apart, where a dropped call could lose it.
    let noise: Vec<String> = (0..60_000_u64)
        .map(|n| {
            format!(
                "{n} {:x}",
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            )
        })
        .collect();
    let lines = noise.iter().map(String::as_str);
    soon(compressed.enqueue_many("t", None, lines))
        .await
        .unwrap()
        .await
        .unwrap();

    let mut reader = client.reader("t").until(Until::End).build().await.unwrap();
    let mut seen = Vec::new();
    loop {
        match poll_and_drop(reader.next_batch(), 1).await {
            None => tokio::time::sleep(Duration::from_micros(200)).await,
            Some(batch) => match batch.unwrap() {
                Some(batch) => {
                    for record in &batch {
                        let value = record.unwrap().value.unwrap();
                        seen.push(String::from_utf8(value.to_vec()).unwrap());
                    }
                }
                None => break,
            },
        }
    }
    assert!(seen == noise, "{} of {}", seen.len(), noise.len());
}
