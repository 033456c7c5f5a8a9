//! Clients that mean harm, or do not know better: no panic, bounded memory, others are served.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_protocol::codec::Decoder;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{decode_error_message, decode_response_header};
use highwater_protocol::ids::PartitionId;
use highwater_protocol::messages::{
    Acks, MetadataRequest, ProducePartition, ProduceRequest, ProduceTopic,
};
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::RawClient;

fn error_of(said: &[u8]) -> (ErrorCode, String) {
    let mut input = Decoder::new(Bytes::copy_from_slice(&said[4..]));
    let header = decode_response_header(&mut input).unwrap();
    (header.error, decode_error_message(input).unwrap())
}

/// Sends raw bytes on a fresh connection and returns what the broker says until it closes.
fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = RawClient::connect(address).unwrap();
    // The broker may close while we still write: that is an answer too.
    let _ = client.stream().write_all(bytes);
    let _ = client.stream().shutdown(std::net::Shutdown::Write);
    client.until_closed()
}

#[test]
fn garbage_is_closed_with_one_error_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let address = broker.address();
    let mut other = RawClient::hello(address);

    let said = say(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (code, message) = error_of(&said);
    assert_eq!(code, ErrorCode::FrameTooLarge, "{message}");
    other.assert_served();

    let said = say(address, &u32::MAX.to_be_bytes());
    assert_eq!(error_of(&said).0, ErrorCode::FrameTooLarge);

    // TLS ClientHello.
    say(
        address,
        &[
            0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
        ],
    );
    // A frame too short for a request header.
    let said = say(address, &[0, 0, 0, 3, 1, 2, 3]);
    assert_eq!(error_of(&said).0, ErrorCode::MalformedRequest);
    // An empty frame.
    let said = say(address, &[0, 0, 0, 0]);
    assert_eq!(error_of(&said).0, ErrorCode::MalformedRequest);

    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..300 {
        let mut bytes = Vec::with_capacity(200);
        for _ in 0..25 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        // Half of them with a plausible length, so that the bytes get past the framing.
        if seed & 1 == 0 {
            bytes[..4].copy_from_slice(&196u32.to_be_bytes());
        }
        say(address, &bytes);
    }
    other.assert_served();
    broker.terminate();
}

#[test]
fn every_request_with_garbage_for_a_body_gets_an_error_and_the_connection_lives() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    for api in 1u16..=20 {
        for body in [&b""[..], &[0xff; 64], &[0x7f, 0xff, 0xff, 0xff], &[0; 300]] {
            let mut frame = Vec::new();
            frame.extend_from_slice(&(8 + body.len() as u32).to_be_bytes());
            frame.extend_from_slice(&api.to_be_bytes());
            frame.extend_from_slice(&1u16.to_be_bytes());
            frame.extend_from_slice(&77u32.to_be_bytes());
            frame.extend_from_slice(body);
            client.stream().write_all(&frame).unwrap();
            let ((correlation, _), _) = client.receive().unwrap();
            assert_eq!(correlation.get(), 77, "api {api}");
        }
    }
    client.assert_served();
    broker.terminate();
}

#[test]
fn a_request_before_hello_and_a_second_hello_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::connect(broker.address()).unwrap();
    client.send(&MetadataRequest { topics: None });
    let said = client.until_closed();
    assert_eq!(error_of(&said).0, ErrorCode::HelloExpected);
    broker.terminate();
}

/// Thirty clients each announce the largest frame there may be and send almost nothing of it: the
/// broker must not pay for what was only announced.
#[test]
fn announced_frames_cost_nothing_until_they_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let before = broker.anonymous_bytes();
    let mut slow: Vec<RawClient> = (0..30)
        .map(|_| {
            let mut client = RawClient::hello(broker.address());
            client
                .stream()
                .write_all(&(64u32 << 20).to_be_bytes())
                .unwrap();
            client.stream().write_all(&[0; 1000]).unwrap();
            client
        })
        .collect();
    let mut other = RawClient::hello(broker.address());
    // One byte at a time, as slow-loris does.
    for _ in 0..50 {
        for client in &mut slow {
            client.stream().write_all(&[0]).unwrap();
        }
        other.assert_served();
    }
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "30 announced frames of 64 MiB cost {grown} bytes"
    );
    drop(slow);
    other.assert_served();
    broker.terminate();
}

#[test]
fn a_client_that_never_says_hello_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &["network.handshake.timeout=1s"]);
    let mut silent = RawClient::connect(broker.address()).unwrap();
    let mut other = RawClient::hello(broker.address());
    assert!(silent.until_closed().is_empty());
    other.assert_served();
    broker.terminate();
}

/// A client that sends requests and never reads an answer stops being read from.
#[test]
fn a_client_that_does_not_read_costs_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut deaf = RawClient::hello(broker.address());
    deaf.create_topic("many", 2000);
    let before = broker.anonymous_bytes();
    deaf.stream()
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut frame = Vec::new();
    for slice in highwater_protocol::frame::encode_request(
        &MetadataRequest { topics: None },
        highwater_protocol::codec::ApiVersion(1),
        highwater_protocol::ids::CorrelationId::new(9),
    ) {
        frame.extend_from_slice(&slice);
    }
    // Each answer is about 60 KB; the broker has to stop reading long before all are asked for.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut sent = 0u64;
    while deaf.stream().write_all(&frame).is_ok() && Instant::now() < deadline {
        sent += 1;
    }
    assert!(sent > 10);
    let mut other = RawClient::hello(broker.address());
    other.assert_served();
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "unread answers cost {grown} bytes");
    broker.terminate();
}

#[test]
fn damaged_and_oversized_batches_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    let topic_id = client.create_topic("t", 1);
    let mut builder = highwater_protocol::batch_builder::BatchBuilder::new(
        highwater_protocol::compression::Compression::None,
        None,
    );
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let now = highwater_protocol::ids::Timestamp::from_millis(i64::try_from(now).unwrap());
    builder.push(now, None, Some(b"hello"), &[]);
    let good = builder.build();
    let produce = |client: &mut RawClient, records: Bytes| {
        let request = ProduceRequest {
            acks: Acks::All,
            timeout_ms: 10_000,
            topics: vec![ProduceTopic {
                topic_id,
                partitions: vec![ProducePartition {
                    partition: PartitionId::ZERO,
                    leader_epoch: None,
                    records,
                }],
            }],
        };
        client.call(&request).unwrap().topics[0].partitions[0].error
    };
    assert_eq!(produce(&mut client, good.clone()), ErrorCode::None);
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        let error = produce(&mut client, bad.into());
        // Base offset and leader epoch are the broker's to write, and outside of the checksum.
        let free = at < 8 || (12..16).contains(&at);
        if !free {
            assert_ne!(error, ErrorCode::None, "a flipped bit at {at}");
        }
    }
    assert_eq!(
        produce(&mut client, good.slice(..good.len() - 1)),
        ErrorCode::CorruptBatch
    );
    assert_eq!(produce(&mut client, Bytes::new()), ErrorCode::InvalidBatch);
    let large = vec![0u8; 3 << 20];
    builder.push(now, None, Some(&large), &[]);
    assert_eq!(
        produce(&mut client, builder.build()),
        ErrorCode::BatchTooLarge
    );
    broker.terminate();
}

/// Ten thousand connections at once; then a client is served among them, and after they are gone.
#[test]
fn ten_thousand_connections() {
    const CONNECTIONS: usize = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let may = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        may >= CONNECTIONS as u64 + 200,
        "this test needs {CONNECTIONS} descriptors, the hard limit is {may}: raise it (ulimit -Hn)"
    );
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let before = broker.anonymous_bytes();
    let mut clients: Vec<RawClient> = (0..CONNECTIONS)
        .map(|_| RawClient::connect(broker.address()).unwrap())
        .collect();
    let mut other = RawClient::hello(broker.address());
    other.assert_served();
    let grown = broker.anonymous_bytes().saturating_sub(before);
    assert!(
        grown < 100 << 20,
        "{CONNECTIONS} connections cost {grown} bytes"
    );
    // Some of them wake up.
    for client in clients.iter_mut().step_by(500) {
        let hello = highwater_protocol::messages::HelloRequest {
            node_id: None,
            magic: highwater_protocol::messages::HELLO_MAGIC,
            client_name: "one of many".to_owned(),
            client_version: String::new(),
            cluster_id: None,
        };
        client.call(&hello).unwrap();
        client.assert_served();
    }
    drop(clients);
    other.assert_served();
    broker.terminate();
}
