//! `kill -9` in a loop, under load, in both durability modes: what was acknowledged is there, at its
//! offset, once per attempt, in the order in which each producer sent it.
//!
//! The death of a process loses nothing of what the kernel has, so both modes must keep everything
//! acknowledged here; only a power cut tells them apart (the storage crate's simulated disk does that).
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::Acks;
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::{RawClient, batch_of};

const PRODUCERS: u64 = 4;
const PARTITIONS: u32 = 2;
const KILLS: u64 = 6;
/// Each life of the broker ends after this many more acknowledged batches.
const BATCHES_PER_LIFE: u64 = 300;
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Sent {
    /// Acknowledged: value and where the broker said it is.
    acked: Vec<(PartitionId, Offset, Vec<u8>)>,
    /// The connection broke before the answer: in the log or not.
    unknown: Vec<Vec<u8>>,
}

/// Produces batches of unique values until told to stop; every value is sent exactly once.
fn produce(
    producer: u64,
    address: SocketAddr,
    topic: TopicId,
    stop: &AtomicBool,
    acked_batches: &AtomicU64,
) -> Sent {
    let mut sent = Sent::default();
    let mut number = 0u64;
    let mut client: Option<RawClient> = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(connected) = client.as_mut() else {
            // While the broker is down, connecting fails: that is expected here.
            client = RawClient::try_hello(address).ok();
            if client.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            continue;
        };
        let partition = PartitionId::new((number % u64::from(PARTITIONS)) as u32);
        let count = 1 + number % 7;
        let values: Vec<Vec<u8>> = (0..count)
            .map(|n| format!("{producer}:{}:{}", number + n, "x".repeat(100)).into_bytes())
            .collect();
        number += count;
        let acks = if number.is_multiple_of(2) {
            Acks::Leader
        } else {
            Acks::All
        };
        match connected.produce(
            topic,
            partition,
            acks,
            batch_of(values.iter().map(Vec::as_slice)),
        ) {
            Ok(Ok(base)) => {
                acked_batches.fetch_add(1, Ordering::Relaxed);
                for (offset, value) in (base.get()..).zip(values) {
                    sent.acked.push((partition, Offset::new(offset), value));
                }
            }
            // It starts, or does not lead yet. Each value is sent once, so this one stays in doubt.
            Ok(Err(refused)) if refused.code.is_retriable() => {
                sent.unknown.extend(values);
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Err(refused)) => panic!("a healthy broker refused a batch: {refused:?}"),
            Err(_) => {
                sent.unknown.extend(values);
                client = None;
            }
        }
    }
    sent
}

fn kill_in_a_loop(durability: &str) {
    let dir = tempfile::tempdir().unwrap();
    // Small segments, so that rolls and seals are among what is interrupted.
    let mut broker = BrokerProcess::start(dir.path(), &[]);
    let address = broker.address();
    let listen = address.to_string();
    let topic = RawClient::hello(address).create_topic_with(
        "t",
        PARTITIONS,
        &[("durability", durability), ("segment.bytes", "2MiB")],
    );
    let stop = Arc::new(AtomicBool::new(false));
    let acked_batches = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (stop, acked_batches) = (Arc::clone(&stop), Arc::clone(&acked_batches));
            std::thread::spawn(move || produce(producer, address, topic, &stop, &acked_batches))
        })
        .collect();
    let deadline = Instant::now() + DEADLINE;
    for life in 1..=KILLS {
        while acked_batches.load(Ordering::Relaxed) < life * BATCHES_PER_LIFE {
            assert!(Instant::now() < deadline, "the producers get nowhere");
            std::thread::sleep(Duration::from_millis(1));
        }
        broker.kill();
        broker = BrokerProcess::start_on(dir.path(), &listen, &[]);
    }
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<Sent> = producers.into_iter().map(|p| p.join().unwrap()).collect();

    let mut client = RawClient::hello(address);
    let mut found: HashMap<(PartitionId, Offset), Vec<u8>> = HashMap::new();
    let mut times: HashMap<Vec<u8>, usize> = HashMap::new();
    for partition in (0..PARTITIONS).map(PartitionId::new) {
        let mut last: HashMap<String, u64> = HashMap::new();
        let mut expected = Offset::ZERO;
        for (offset, value) in client.read_all(topic, partition, Offset::ZERO) {
            assert_eq!(offset, expected, "offsets have no gaps");
            expected = offset.next();
            let text = String::from_utf8(value.clone()).unwrap();
            let mut parts = text.split(':');
            let producer = parts.next().unwrap().to_owned();
            let number: u64 = parts.next().unwrap().parse().unwrap();
            if let Some(before) = last.insert(producer, number) {
                assert!(before < number, "a producer's records keep their order");
            }
            *times.entry(value.clone()).or_default() += 1;
            found.insert((partition, offset), value);
        }
    }
    let mut acked = 0;
    for (partition, offset, value) in sent.iter().flat_map(|sent| &sent.acked) {
        acked += 1;
        assert_eq!(
            found.get(&(*partition, *offset)),
            Some(value),
            "acknowledged record at {partition}/{offset} ({durability})"
        );
    }
    assert!(
        times.values().all(|times| *times == 1),
        "each value was sent once"
    );
    let unknown: Vec<_> = sent.iter().flat_map(|sent| &sent.unknown).collect();
    let known: usize = times.len() - unknown.iter().filter(|v| times.contains_key(**v)).count();
    assert_eq!(known, acked, "nothing is there that nobody sent");
    assert!(acked as u64 >= KILLS * BATCHES_PER_LIFE);
    broker.terminate();
}

#[test]
fn synced_keeps_what_it_acknowledged_over_kill_9() {
    kill_in_a_loop("synced");
}

#[test]
fn replicated_keeps_what_it_acknowledged_over_kill_9() {
    kill_in_a_loop("replicated");
}

/// After an orderly stop nothing is recovered, and nothing is lost either.
#[test]
fn a_clean_restart_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    let values: Vec<Vec<u8>> = (0..100u32).map(|n| n.to_string().into_bytes()).collect();
    for value in &values {
        let batch = batch_of([value.as_slice()]);
        client
            .produce(topic, PartitionId::ZERO, Acks::All, batch)
            .unwrap()
            .unwrap();
    }
    drop(client);
    broker.terminate();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    let read = client.read_all(topic, PartitionId::ZERO, Offset::ZERO);
    let read: Vec<Vec<u8>> = read.into_iter().map(|(_, value)| value).collect();
    assert_eq!(read, values);
    broker.terminate();
}
