//! Ten thousand idle partitions on one broker: they cost little memory, little disk, and no time.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::{Duration, Instant};

use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::Acks;
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::{RawClient, batch_of};

const PARTITIONS: u32 = 10_000;

/// Until a broker has taken all its roles it may be without a lease on a machine that is busy, and says so.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

fn until_served(client: &mut RawClient, topic: TopicId, partition: PartitionId) {
    let began = Instant::now();
    while let Err(refused) = client.fetch(topic, partition, Offset::ZERO) {
        assert!(began.elapsed() < SERVED_WITHIN, "{refused:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ten_thousand_idle_partitions_start_and_run_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("wide", PARTITIONS);
    let one = PartitionId::new(PARTITIONS - 1);
    until_served(&mut client, topic, one);
    let batch = batch_of([&b"hello"[..]]);
    client
        .produce(topic, one, Acks::All, batch)
        .unwrap()
        .unwrap();
    let bytes = broker.anonymous_bytes();
    assert!(
        bytes < 500 << 20,
        "{PARTITIONS} partitions take {bytes} bytes"
    );
    drop(client);
    broker.terminate();

    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    until_served(&mut client, topic, one);
    assert_eq!(client.read_all(topic, one, Offset::ZERO).len(), 1);
    let bytes = broker.anonymous_bytes();
    assert!(
        bytes < 500 << 20,
        "{PARTITIONS} partitions take {bytes} bytes after a restart"
    );
    broker.kill();

    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    until_served(&mut client, topic, one);
    assert_eq!(client.read_all(topic, one, Offset::ZERO).len(), 1);
    broker.terminate();
}
