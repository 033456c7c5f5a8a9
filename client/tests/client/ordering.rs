//! The records of one partition are appended in the order in which they were enqueued, also when
//! attempts fail while several are in flight.

use highwater_client::{ErrorCode, PendingAck, Producer, ProducerRecord, SendError};
use tokio::sync::oneshot;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};

/// Every record a batch of its own, so that several are in flight.
async fn one_by_one(broker: &FakeBroker) -> Producer {
    let client = quick(broker).connect().await.unwrap();
    client.producer().batch_records(1).build()
}

async fn enqueue(producer: &Producer, count: usize) -> Vec<PendingAck> {
    let mut acks = Vec::new();
    for n in 0..count {
        let record = ProducerRecord::to("t").value(n.to_string());
        acks.push(producer.enqueue(record).await.unwrap());
    }
    acks
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn several_requests_are_in_flight_and_stay_in_order() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let (held, told) = oneshot::channel();
    broker.on_first_produces(vec![Verdict::AppendAndHold(told)]);
    let producer = one_by_one(&broker).await;
    let acks = enqueue(&producer, 200).await;
    eventually("the pipe is full", || broker.produce_calls() >= 5).await;
    held.send(()).unwrap();
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(soon(ack).await.unwrap().offset.unwrap().get(), n as u64);
    }
    assert_eq!(values(&broker.records("t", 0)), numbers(200));
}

#[tokio::test]
async fn refused_batches_go_again_in_order() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    // All five that are in flight come back; then one more at a time, in the middle of the stream.
    broker.on_produce(|call| match call.number {
        0..5 | 30..35 => Verdict::Refuse(ErrorCode::DiskFull),
        _ => Verdict::Append,
    });
    let producer = one_by_one(&broker).await;
    let acks = enqueue(&producer, 100).await;
    let mut kept = Vec::new();
    for (n, ack) in acks.into_iter().enumerate() {
        match soon(ack).await {
            Ok(_) => kept.push(n.to_string()),
            Err(SendError::Overtaken { cause, .. }) => {
                assert_eq!(cause.broker_code(), Some(ErrorCode::DiskFull));
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(
        values(&broker.records("t", 0)),
        kept,
        "what was acknowledged, in order"
    );
    assert!(kept.len() >= 90, "{}", kept.len());
}

#[tokio::test]
async fn a_batch_that_was_overtaken_fails_instead_of_landing_out_of_order() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![
        Verdict::Append,
        Verdict::Refuse(ErrorCode::Busy),
        Verdict::Append,
    ]);
    let producer = one_by_one(&broker).await;
    let mut acks = enqueue(&producer, 3).await.into_iter();
    soon(acks.next().unwrap()).await.unwrap();
    let error = soon(acks.next().unwrap()).await.unwrap_err();
    assert!(matches!(error, SendError::Overtaken { .. }), "{error}");
    assert!(error.is_retriable() && !error.may_have_committed());
    assert_eq!(error.code(), "Overtaken");
    soon(acks.next().unwrap()).await.unwrap();
    assert_eq!(values(&broker.records("t", 0)), ["0", "2"]);
}

#[tokio::test]
async fn with_one_in_flight_nothing_is_overtaken() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number % 3 {
        0 => Verdict::Refuse(ErrorCode::Busy),
        _ => Verdict::Append,
    });
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().batch_records(1).max_in_flight(1).build();
    for ack in enqueue(&producer, 60).await {
        soon(ack).await.unwrap();
    }
    assert_eq!(values(&broker.records("t", 0)), numbers(60));
}

#[tokio::test]
async fn a_lost_connection_repeats_records_but_never_reorders_them() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number {
        7 | 40 => Verdict::AppendAndHangUp,
        23 | 61 => Verdict::HangUp,
        _ => Verdict::Append,
    });
    let producer = one_by_one(&broker).await;
    for ack in enqueue(&producer, 100).await {
        soon(ack).await.unwrap();
    }
    // Without the repetitions the log is the stream; repetitions only ever go back.
    let mut next = 0;
    for value in values(&broker.records("t", 0)) {
        let value: usize = value.parse().unwrap();
        assert!(value <= next, "{value} came before {next}");
        next = next.max(value + 1);
    }
    assert_eq!(next, 100);
    assert!(broker.connections() >= 5);
}

#[tokio::test]
async fn batches_behind_a_refused_one_wait_for_it() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let mut refusals = 4;
    broker.on_produce(move |_| {
        refusals -= 1;
        if refusals >= 0 {
            Verdict::Refuse(ErrorCode::NotEnoughReplicas)
        } else {
            Verdict::Append
        }
    });
    let client = quick(&broker).connect().await.unwrap();
    let producer = client.producer().build();
    let first = producer
        .enqueue(ProducerRecord::to("t").value("0"))
        .await
        .unwrap();
    let second = producer
        .enqueue(ProducerRecord::to("t").value("1"))
        .await
        .unwrap();
    soon(second).await.unwrap();
    soon(first).await.unwrap();
    assert_eq!(values(&broker.records("t", 0)), ["0", "1"]);
}
