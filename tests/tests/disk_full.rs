//! A real full disk: a clean, retriable error; reads and the admin endpoint served meanwhile; and
//! everything goes on when space returns, with nothing acknowledged lost.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::Acks;
use highwater_tests::broker_process::{BrokerProcess, file_limit};
use highwater_tests::raw::{RawClient, batch_of};
use highwater_tests::small_disk::SmallDisk;

const BATCH_BYTES: usize = 256 << 10;
const DEADLINE: Duration = Duration::from_secs(60);

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}:").into_bytes();
    value.resize(BATCH_BYTES, b'x');
    value
}

/// Appends until the broker says that the disk is full; returns how many were acknowledged.
fn fill(client: &mut RawClient, topic: TopicId, mut number: u64) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let batch = batch_of([value(number).as_slice()]);
        match client
            .produce(topic, PartitionId::ZERO, Acks::All, batch)
            .unwrap()
        {
            Ok(offset) => assert_eq!(offset, Offset::new(number)),
            Err(refused) => {
                assert_eq!(refused.code, ErrorCode::DiskFull, "{}", refused.message);
                assert!(refused.code.is_retriable());
                return number;
            }
        }
        number += 1;
        assert!(Instant::now() < deadline, "the disk does not fill up");
    }
}

fn assert_holds(client: &mut RawClient, topic: TopicId, count: u64) {
    let read = client.read_all(topic, PartitionId::ZERO, Offset::ZERO);
    assert_eq!(read.len() as u64, count);
    for (number, (offset, found)) in (0..).zip(read) {
        assert_eq!(offset, Offset::new(number));
        assert!(found == value(number), "record {number} is what was sent");
    }
}

fn http_status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Produces until it is accepted again.
fn goes_on(client: &mut RawClient, topic: TopicId, number: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let batch = batch_of([value(number).as_slice()]);
        match client
            .produce(topic, PartitionId::ZERO, Acks::All, batch)
            .unwrap()
        {
            Ok(offset) => {
                assert_eq!(offset, Offset::new(number));
                return;
            }
            Err(refused) => assert_eq!(refused.code, ErrorCode::DiskFull, "{}", refused.message),
        }
        assert!(
            Instant::now() < deadline,
            "appends do not go on after space returned"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn full_disk(durability: &str) {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(dir.path(), 48);
    let settings = [
        "storage.min.free.bytes=0",
        "segment.bytes=8MiB",
        "max.message.bytes=1MiB",
    ];
    let filler = dir.path().join("filler");
    let broker = if disk.is_some() {
        fs::write(&filler, vec![1; 16 << 20]).unwrap();
        BrokerProcess::start(dir.path(), &settings)
    } else {
        let limit = file_limit(Some(4 << 20));
        BrokerProcess::start_behind(&limit, dir.path(), "127.0.0.1:0", &settings)
    };
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic_with("t", 1, &[("durability", durability)]);
    // Sealing gives back what a finished segment had ahead, and a segment that is being prepared holds
    // space for a moment: until neither moves any more, a retry may still fit.
    let mut count = fill(&mut client, topic, 0);
    assert!(count > 4, "some fitted");
    let mut quiet = 0;
    while quiet < 20 {
        let now = fill(&mut client, topic, count);
        quiet = if now == count { quiet + 1 } else { 0 };
        count = now;
        std::thread::sleep(Duration::from_millis(10));
    }

    // Full: still read, still answering.
    assert_holds(&mut client, topic, count);
    assert!(http_status(broker.admin_address(), "/healthz").contains("200"));
    assert!(http_status(broker.admin_address(), "/v1/topics/t").contains("200"));

    if disk.is_some() {
        fs::remove_file(&filler).unwrap();
    } else {
        broker.set_file_limit(None);
    }
    goes_on(&mut client, topic, count);
    assert_holds(&mut client, topic, count + 1);

    // And over a crash: what was acknowledged around the full disk is there.
    broker.kill();
    let broker = BrokerProcess::start(dir.path(), &settings);
    let mut client = RawClient::hello(broker.address());
    assert_holds(&mut client, topic, count + 1);
    broker.terminate();
}

#[test]
fn synced_topics_live_through_a_full_disk() {
    full_disk("synced");
}

#[test]
fn replicated_topics_live_through_a_full_disk() {
    full_disk("replicated");
}

/// Before the disk is really full, `storage.min.free.bytes` stops appends, so that metadata and
/// indexes still have room.
#[test]
fn appends_stop_before_the_last_bytes_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &["storage.min.free.bytes=1000TiB"]);
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let batch = batch_of([&b"x"[..]]);
        let refused = client
            .produce(topic, PartitionId::ZERO, Acks::All, batch)
            .unwrap();
        if let Err(refused) = refused {
            assert_eq!(refused.code, ErrorCode::DiskFull);
            assert!(
                refused.message.contains("storage.min.free.bytes"),
                "{}",
                refused.message
            );
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the check of free space never ran"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    broker.terminate();
}
