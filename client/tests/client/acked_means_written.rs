//! Whatever happens on the way: a record whose acknowledgement is good is in the log, at the offset
//! that the acknowledgement names, once and in order; one that surely failed is not.

use std::time::Duration;

use highwater_client::{ErrorCode, PartitionId, ProducerRecord};

use crate::support::{FakeBroker, Verdict, quick, soon};

/// A small generator with a fixed seed: failures are the same in every run.
fn pseudo_random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// With an idempotent producer each record is there once; otherwise first copies are in order.
async fn torture(seed: u64, partitions: u32, in_flight: usize, idempotent: bool) {
    let broker = FakeBroker::start().await;
    broker.topic("t", partitions as usize);
    let mut random = pseudo_random(seed);
    broker.on_produce(move |_| match random(if idempotent { 16 } else { 14 }) {
        0 => Verdict::AppendAndHangUp,
        1 => Verdict::HangUp,
        2 => Verdict::Refuse(ErrorCode::Busy),
        3 => Verdict::Refuse(ErrorCode::NotLeader),
        4 => Verdict::AppendAndRefuse(ErrorCode::RequestTimedOut),
        5 => Verdict::Refuse(ErrorCode::BatchTooLarge),
        14 => Verdict::HangUpAndAppendLate(random(6) as usize + 1),
        15 => Verdict::AppendAndRefuse(ErrorCode::NotLeader),
        _ => Verdict::Append,
    });
    let client = quick(&broker).connect().await.unwrap();
    let producer = client
        .producer()
        .batch_records(3)
        .max_in_flight(in_flight)
        .idempotent(idempotent)
        .delivery_timeout(Duration::from_secs(60))
        .build();
    let mut random = pseudo_random(seed + 1000);
    let mut acks = Vec::new();
    for n in 0..600 {
        let partition = PartitionId::new(random(partitions.into()) as u32);
        let record = ProducerRecord::to("t")
            .value(n.to_string())
            .partition(partition);
        acks.push((n, partition, soon(producer.enqueue(record)).await.unwrap()));
        if random(10) == 0 {
            tokio::task::yield_now().await;
        }
    }
    let logs: Vec<_> = {
        soon(producer.flush()).await;
        (0..partitions).map(|p| broker.records("t", p)).collect()
    };
    let mut good = 0;
    for (n, partition, ack) in acks {
        let log = &logs[partition.get() as usize];
        let value = n.to_string();
        match soon(ack).await {
            Ok(ack) => {
                let offset = ack.offset.unwrap().get();
                assert_eq!(ack.partition, partition);
                assert_eq!(log[offset as usize].value, value.as_bytes(), "seed {seed}");
                good += 1;
            }
            Err(error) if !error.may_have_committed() => {
                let there = log.iter().any(|record| record.value == value.as_bytes());
                assert!(!there, "seed {seed}: {value} is there in spite of {error}");
            }
            Err(_) => {}
        }
    }
    assert!(good > 200, "seed {seed}: {good}");
    assert_eq!(producer.buffered_bytes(), 0, "seed {seed}");
    for log in &logs {
        let mut seen = std::collections::HashSet::new();
        let mut last = None;
        for record in log {
            let n: u64 = String::from_utf8_lossy(&record.value).parse().unwrap();
            let new = seen.insert(n);
            assert!(new || !idempotent, "seed {seed}: {n} twice");
            if new {
                assert!(last < Some(n), "seed {seed}: {n} behind {last:?}");
                last = Some(n);
            }
        }
    }
}

#[tokio::test]
async fn acknowledged_records_are_there_once_and_in_order() {
    for seed in 0..12 {
        torture(seed, 1 + (seed as u32 % 3), 1 + (seed as usize % 5), true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_with_several_threads() {
    for seed in 100..106 {
        torture(seed, 2, 5, true).await;
    }
}

#[tokio::test]
async fn acknowledged_records_are_there_without_numbers_too() {
    for seed in 0..12 {
        torture(seed, 1 + (seed as u32 % 3), 1 + (seed as usize % 5), false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_without_numbers_with_several_threads() {
    for seed in 100..104 {
        torture(seed, 2, 5, false).await;
    }
}
