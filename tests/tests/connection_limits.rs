//! What one connection may ask for and hold, and that it always gets its answers.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use highwater_broker::EmbeddedBroker;
use highwater_protocol::api_key::Request;
use highwater_protocol::codec::ApiVersion;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{decode_body, encode_request};
use highwater_protocol::ids::{CorrelationId, Offset, PartitionId, TopicId};
use highwater_protocol::limits::REQUEST_ELEMENTS_MAX;
use highwater_protocol::messages::{
    Acks, FetchPartition, FetchRequest, FetchTopic, Isolation, MetadataRequest, ProducePartition,
    ProduceRequest, ProduceResponse, ProduceTopic,
};
use highwater_tests::raw::{RawClient, batch_of};

const ZERO: PartitionId = PartitionId::ZERO;

fn frame_of<R: Request>(request: &R, correlation: u32) -> Vec<u8> {
    encode_request(request, ApiVersion(1), CorrelationId::new(correlation)).concat()
}

fn produce_request(topic_id: TopicId, acks: Acks, copies: usize, value: &[u8]) -> ProduceRequest {
    let partition = ProducePartition {
        partition: ZERO,
        leader_epoch: None,
        records: batch_of([value]),
    };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topics: vec![ProduceTopic {
            topic_id,
            partitions: vec![partition; copies],
        }],
    }
}

fn fetch_request(topic_id: TopicId, copies: usize, bytes_min: u32, bytes_max: u32) -> FetchRequest {
    let partition = FetchPartition {
        partition: ZERO,
        leader_epoch: None,
        offset: Offset::ZERO,
        last_epoch: None,
        durable_end: None,
        log_start: None,
        bytes_max: u32::MAX,
    };
    FetchRequest {
        replica: None,
        wait_ms_max: 300_000,
        bytes_min,
        bytes_max,
        isolation: Isolation::ReadUncommitted,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![partition; copies],
        }],
    }
}

/// Requests that arrived together are all answered, without any more bytes from the client: each
/// round of this test would otherwise wait for the connection's next look at its timeouts.
#[tokio::test]
async fn requests_that_came_together_are_answered_without_waiting_for_more() {
    const ROUNDS: u32 = 60;
    const PIPELINED: u32 = 700;
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let topics = Some(Vec::new());
        let frames: Vec<u8> = (0..PIPELINED)
            .flat_map(|n| {
                let topics = topics.clone();
                frame_of(&MetadataRequest { topics }, n)
            })
            .collect();
        client.stream().write_all(&frames).unwrap();
        for n in 0..PIPELINED {
            let ((correlation, error), _) = client.receive().unwrap();
            assert_eq!((correlation.get(), error), (n, ErrorCode::None));
        }
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(u64::from(ROUNDS)),
        "took {took:?}"
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_the_answers_to_what_it_asked() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    // Synced, so the answers wait for the disk.
    client.send(&produce_request(topic, Acks::All, 1, b"a"));
    client.stream().shutdown(Shutdown::Write).unwrap();
    let ((_, error), body) = client.receive().unwrap();
    assert_eq!(error, ErrorCode::None);
    let response: ProduceResponse = decode_body(body, ApiVersion(1)).unwrap();
    let result = &response.topics[0].partitions[0];
    assert_eq!(result.base_offset, Some(Offset::ZERO), "{result:?}");
    assert!(client.until_closed().is_empty());
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_name_asked_for_many_times_is_answered_once() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    client.create_topic("many", 500);
    let mut names = vec!["many".to_owned(); 100_000];
    names.push("none".to_owned());
    let response = client
        .call(&MetadataRequest {
            topics: Some(names),
        })
        .unwrap();
    let found: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.error))
        .collect();
    assert_eq!(
        found,
        [
            ("many", ErrorCode::None),
            ("none", ErrorCode::UnknownTopicOrPartition)
        ]
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_request_of_too_many_elements_is_refused_and_the_connection_lives() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topics = Some(vec![String::new(); REQUEST_ELEMENTS_MAX + 1]);
    let refused = client.call(&MetadataRequest { topics }).unwrap_err();
    assert_eq!(refused.code, ErrorCode::MalformedRequest);
    assert!(
        refused
            .message
            .contains(&format!("{REQUEST_ELEMENTS_MAX} array elements")),
        "{}",
        refused.message
    );
    client.assert_served();
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stranger_cannot_send_a_large_frame() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::connect(broker.address()).unwrap();
    client
        .stream()
        .write_all(&(1u32 << 20).to_be_bytes())
        .unwrap();
    let ((_, error), _) = client.receive().unwrap();
    assert_eq!(error, ErrorCode::FrameTooLarge);
    client.until_closed();
    broker.shutdown().await.unwrap();
}

/// Nobody can connect to `0.0.0.0`: a client is told the address at which it reached the broker.
#[tokio::test]
async fn a_broker_on_all_addresses_is_where_the_client_reached_it() {
    let broker = EmbeddedBroker::start_with(|config| config.listen = "0.0.0.0:0".to_owned())
        .await
        .unwrap();
    let port = broker.address().port();
    for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
        let mut client = RawClient::hello(SocketAddr::from((host, port)));
        let metadata = client.call(&MetadataRequest { topics: None }).unwrap();
        let endpoint = &metadata.brokers[0];
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port),
            (host.to_string().as_str(), port)
        );
    }
    broker.shutdown().await.unwrap();
}

/// With `durability = synced` records can be read once they are on disk, whoever waits for them.
#[tokio::test]
async fn records_without_acknowledgement_become_readable_without_the_background_flush() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let settings = [("durability", "synced"), ("flush.max.delay", "1h")];
    let topic = client.create_topic_with("t", 1, &settings);
    client.send(&produce_request(topic, Acks::None, 1, b"a"));
    let response = client.call(&fetch_request(topic, 1, 1, 1 << 20)).unwrap();
    assert!(!response.topics[0].partitions[0].records.is_empty());
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn more_than_may_be_sent_is_not_waited_for_and_an_answer_stays_a_frame() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    let value = vec![7; 500_000];
    client
        .produce(topic, ZERO, Acks::All, batch_of([&value[..]]))
        .unwrap()
        .unwrap();
    // The wait is five minutes, the client's patience twenty seconds.
    let response = client
        .call(&fetch_request(topic, 1, u32::MAX, 1000))
        .unwrap();
    assert!(!response.topics[0].partitions[0].records.is_empty());

    // 20,000 times the same half MB would be 10 GB.
    let request = fetch_request(topic, 20_000, 1, u32::MAX);
    let response = client.call(&request).unwrap();
    let partitions = &response.topics[0].partitions;
    assert_eq!(partitions.len(), 20_000);
    let bytes: usize = partitions.iter().map(|p| p.records.len()).sum();
    assert!(bytes <= 65 << 20, "{bytes} bytes");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_partition_many_times_in_a_request_is_appended_to_in_order() {
    let broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    let response = client
        .call(&produce_request(topic, Acks::All, 1000, b"a"))
        .unwrap();
    let offsets: Vec<u64> = response.topics[0]
        .partitions
        .iter()
        .map(|result| result.base_offset.unwrap().get())
        .collect();
    assert_eq!(offsets, (0..1000).collect::<Vec<_>>());
    broker.shutdown().await.unwrap();
}

/// Frames that are all half there, and together more than the broker's budget, all get through.
#[tokio::test]
async fn frames_that_are_half_there_do_not_wait_for_each_other() {
    const FRAME: usize = 4 << 20;
    let broker = EmbeddedBroker::start_with(|config| {
        config.network.frame_bytes_max = FRAME as u32;
        config.network.connection_in_flight_bytes_max = FRAME as u64;
        config.network.in_flight_bytes_max = FRAME as u64;
    })
    .await
    .unwrap();
    let mut clients: Vec<_> = (0..8).map(|_| RawClient::hello(broker.address())).collect();
    let mut frame = frame_of(&MetadataRequest { topics: None }, 1);
    frame.resize(4 + FRAME, 0);
    frame[..4].copy_from_slice(&(FRAME as u32).to_be_bytes());
    let (first, second) = frame.split_at(FRAME / 2);
    let mut writers = Vec::new();
    for client in &mut clients {
        let mut stream = client.stream().try_clone().unwrap();
        let (first, second) = (first.to_vec(), second.to_vec());
        writers.push(std::thread::spawn(move || {
            stream.write_all(&first).unwrap();
            stream.write_all(&second).unwrap();
        }));
    }
    for client in &mut clients {
        let ((correlation, error), _) = client.receive().unwrap();
        assert_eq!((correlation.get(), error), (1, ErrorCode::MalformedRequest));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    broker.shutdown().await.unwrap();
}
