//! The records of one partition are appended in the order in which they were enqueued, also when
//! attempts fail while several are in flight.

use highwater_client::{ErrorCode, PartitionId, PendingAck, Producer, ProducerRecord, SendError};
use tokio::sync::oneshot;

use crate::support::{FakeBroker, Verdict, eventually, quick, soon, values};

/// Every record a batch of its own, so that several are in flight.
async fn one_by_one(broker: &FakeBroker) -> Producer {
    let client = quick(broker).connect().await.unwrap();
    client.producer().batch_records(1).build()
}

/// As [`one_by_one`], without what lets the broker keep the order.
async fn without_numbers(broker: &FakeBroker) -> Producer {
    let client = quick(broker).connect().await.unwrap();
    client.producer().batch_records(1).idempotent(false).build()
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
    // The first one goes alone: the broker does not know the producer before.
    broker.on_first_produces(vec![Verdict::Append, Verdict::AppendAndHold(told)]);
    let producer = one_by_one(&broker).await;
    let acks = enqueue(&producer, 200).await;
    eventually("the pipe is full", || broker.produce_calls() >= 6).await;
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
    for (n, ack) in enqueue(&producer, 100).await.into_iter().enumerate() {
        assert_eq!(soon(ack).await.unwrap().offset.unwrap().get(), n as u64);
    }
    assert_eq!(values(&broker.records("t", 0)), numbers(100));
}

#[tokio::test]
async fn refused_batches_go_again_in_order_or_not_at_all_without_numbers() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number {
        0..5 | 30..35 => Verdict::Refuse(ErrorCode::DiskFull),
        _ => Verdict::Append,
    });
    let producer = without_numbers(&broker).await;
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
async fn without_numbers_a_batch_that_was_overtaken_fails() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_first_produces(vec![
        Verdict::Append,
        Verdict::Refuse(ErrorCode::Busy),
        Verdict::Append,
    ]);
    let producer = without_numbers(&broker).await;
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
async fn with_one_in_flight_nothing_is_overtaken_without_numbers_either() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number % 3 {
        0 => Verdict::Refuse(ErrorCode::Busy),
        _ => Verdict::Append,
    });
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .batch_records(1)
        .idempotent(false)
        .max_in_flight(1)
        .build();
    for ack in enqueue(&producer, 60).await {
        soon(ack).await.unwrap();
    }
    assert_eq!(values(&broker.records("t", 0)), numbers(60));
}

#[tokio::test]
async fn a_lost_connection_neither_repeats_records_nor_reorders_them() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number {
        7 | 40 => Verdict::AppendAndHangUp,
        23 | 61 => Verdict::HangUp,
        34 | 72 => Verdict::HangUpAndAppendLate(3),
        _ => Verdict::Append,
    });
    let producer = one_by_one(&broker).await;
    for (n, ack) in enqueue(&producer, 100).await.into_iter().enumerate() {
        assert_eq!(soon(ack).await.unwrap().offset.unwrap().get(), n as u64);
    }
    assert_eq!(values(&broker.records("t", 0)), numbers(100));
    assert!(broker.connections() >= 7);
}

#[tokio::test]
async fn without_numbers_a_lost_connection_repeats_records_but_never_reorders_them() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    broker.on_produce(|call| match call.number {
        7 | 40 => Verdict::AppendAndHangUp,
        23 | 61 => Verdict::HangUp,
        _ => Verdict::Append,
    });
    let producer = without_numbers(&broker).await;
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

#[tokio::test]
async fn what_comes_late_on_a_lost_connection_is_refused_after_the_next_epoch_began() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    // The second is lost with its connection and given up; it arrives behind the third.
    broker.on_produce(|call| match call.number {
        1 => Verdict::HangUpAndAppendLate(100),
        number if number < 40 && number > 1 => Verdict::Refuse(ErrorCode::DiskFull),
        _ => Verdict::Append,
    });
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .batch_records(1)
        .delivery_timeout(std::time::Duration::from_millis(300))
        .build();
    let send = |n: u32| producer.send(ProducerRecord::to("t").value(n.to_string()));
    soon(send(0)).await.unwrap();
    let error = soon(send(1)).await.unwrap_err();
    assert!(error.may_have_committed(), "{error}");
    broker.on_produce(|_| Verdict::Append);
    for n in 2..120 {
        soon(send(n)).await.unwrap();
    }
    let expected: Vec<String> = (0..120)
        .filter(|n| *n != 1)
        .map(|n| n.to_string())
        .collect();
    assert_eq!(values(&broker.records("t", 0)), expected);
}

/// Requests are put together by one task while others enqueue: a partition that gets new records in
/// that moment must not get into the same request twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_record_is_told_its_own_offset_whoever_enqueues_meanwhile() {
    const PARTITIONS: u32 = 64;
    const TASKS: usize = 4;
    const ROUNDS: usize = 100;
    let broker = FakeBroker::start().await;
    broker.topic("t", PARTITIONS as usize);
    let producer = one_by_one(&broker).await;
    let enqueuing = (0..TASKS).map(|task| {
        let producer = producer.clone();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..ROUNDS {
                let mut waiting = Vec::new();
                for partition in 0..PARTITIONS {
                    let value = format!("{task}:{round}");
                    let record = ProducerRecord::to("t")
                        .partition(PartitionId::new(partition))
                        .value(value.clone());
                    waiting.push((partition, value, producer.enqueue(record).await.unwrap()));
                }
                for (partition, value, ack) in waiting {
                    let offset = soon(ack).await.unwrap().offset.unwrap();
                    told.push((partition, offset.get() as usize, value));
                }
            }
            told
        })
    });
    let enqueuing: Vec<_> = enqueuing.collect();
    let mut told = Vec::new();
    for task in enqueuing {
        told.extend(task.await.unwrap());
    }
    let logs: Vec<_> = (0..PARTITIONS)
        .map(|partition| values(&broker.records("t", partition)))
        .collect();
    for (partition, offset, value) in told {
        let found = &logs[partition as usize][offset];
        assert_eq!(*found, value, "at {partition}/{offset}");
    }
}
