//! Closing waits for what was enqueued and hands back what was not delivered; dropping delivers.

use std::time::Duration;

use highwater_client::{ProducerRecord, SendError};
use highwater_protocol::record::BatchRecords;
use tokio::sync::oneshot;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};

fn record<V: ToString + ?Sized>(value: &V) -> ProducerRecord {
    ProducerRecord::to("t").value(value.to_string())
}

#[tokio::test]
async fn close_waits_for_what_was_enqueued() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().linger(Duration::from_secs(3600)).build();
    for n in 0..10 {
        let _ack = producer.enqueue(record(&n)).await.unwrap();
    }
    soon(producer.close(Duration::from_secs(10))).await.unwrap();
    assert_eq!(broker.records("t", 0).len(), 10);
    let error = soon(producer.send(record(&11))).await.unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
    soon(producer.close(Duration::ZERO)).await.unwrap();
}

#[tokio::test]
async fn close_hands_back_what_was_not_delivered() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (_held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let first = producer.enqueue(record(&0)).await.unwrap();
    let second = producer.enqueue(record(&1)).await.unwrap();
    eventually("the first is there", || broker.produce_calls() == 1).await;
    let error = soon(producer.close(Duration::from_millis(20)))
        .await
        .unwrap_err();
    assert_eq!(error.records(), 2);
    assert!(error.may_have_committed());
    let [sent, unsent] = &error.undelivered[..] else {
        panic!("{error:?}")
    };
    assert!(sent.may_have_committed && !unsent.may_have_committed);
    let back = BatchRecords::open(unsent.batch.clone(), Default::default()).unwrap();
    let values: Vec<_> = back
        .iter()
        .map(|r| r.unwrap().value.unwrap().to_vec())
        .collect();
    assert_eq!(values, [b"1"]);
    assert!(soon(first).await.unwrap_err().may_have_committed());
    let error = soon(second).await.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Abandoned {
                may_have_committed: false,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn close_wakes_those_who_wait_for_space() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (_held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().buffer_bytes(1024).build();
    let _first = producer
        .enqueue(ProducerRecord::to("t").value(vec![0; 300]))
        .await
        .unwrap();
    let _second = producer
        .enqueue(ProducerRecord::to("t").value(vec![0; 300]))
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move {
            producer
                .enqueue(ProducerRecord::to("t").value(vec![0; 400]))
                .await
                .map(drop)
        }
    });
    tokio::task::yield_now().await;
    let _ = soon(producer.close(Duration::ZERO)).await;
    assert!(matches!(
        soon(waiting).await.unwrap(),
        Err(SendError::Closed)
    ));
}

#[tokio::test]
async fn dropping_the_last_handle_still_delivers() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    soon(producer.send(record("first"))).await.unwrap();
    let mut acks = Vec::new();
    for n in 0..100 {
        acks.push(producer.enqueue(record(&n)).await.unwrap());
    }
    drop(producer);
    drop(client);
    for ack in acks {
        soon(ack).await.unwrap();
    }
    assert_eq!(values(&broker.records("t", 0)).len(), 101);
}

#[test]
fn a_runtime_that_goes_away_leaves_nobody_waiting() {
    let first = tokio::runtime::Runtime::new().unwrap();
    let (broker, producer, ack) = first.block_on(async {
        let broker = FakeBroker::start().await;
        broker.topic("t", 1);
        broker.on_produce(|_| Verdict::AppendAndForget);
        let client = quick(&broker).connect().await.unwrap();
        let producer = client.producer().build();
        let ack = producer.enqueue(record(&0)).await.unwrap();
        // Before it is sent, nothing is in doubt.
        soon(async {
            while broker.records("t", 0).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        (broker, producer, ack)
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let second = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    second.block_on(async {
        let error = soon(ack).await.unwrap_err();
        assert!(error.may_have_committed(), "{error}");
        assert!(soon(producer.send(record(&1))).await.is_err());
    });
    drop(broker);
}
