//! Ten thousand idle partitions on one broker: they cost little memory, little disk, and no time.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use highwater_protocol::ids::{Offset, PartitionId};
use highwater_protocol::messages::Acks;
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::{RawClient, batch_of};

const PARTITIONS: u32 = 10_000;

#[test]
fn ten_thousand_idle_partitions_start_and_run_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("wide", PARTITIONS);
    let one = PartitionId::new(PARTITIONS - 1);
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
    assert_eq!(client.read_all(topic, one, Offset::ZERO).len(), 1);
    let bytes = broker.anonymous_bytes();
    assert!(
        bytes < 500 << 20,
        "{PARTITIONS} partitions take {bytes} bytes after a restart"
    );
    broker.kill();

    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    assert_eq!(client.read_all(topic, one, Offset::ZERO).len(), 1);
    broker.terminate();
}
