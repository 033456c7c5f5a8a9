//! The frames of requests and responses of producers and consumers.

use bytes::{Bytes, BytesMut};
use highwater_protocol::api_key::Request;
use highwater_protocol::codec::{ApiVersion, Decoder};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{
    FrameReader, decode_body, decode_error_message, decode_request_header, decode_response_header,
    encode_error_response, encode_request, encode_response,
};
use highwater_protocol::ids::{
    ClusterId, CorrelationId, LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId,
};
use highwater_protocol::messages::*;

use super::{snake_case, vector};

const V1: ApiVersion = ApiVersion(1);

/// The responses to requests that failed as a whole: file, error, message, correlation id.
pub(crate) const ERRORS: &[(&str, ErrorCode, &str, u32)] = &[
    (
        "error_unsupported_version",
        ErrorCode::UnsupportedVersion,
        "Produce version 9 is not supported; this broker speaks 1 to 1",
        52,
    ),
    (
        "error_unknown_api",
        ErrorCode::UnknownApi,
        "there is no API 999",
        53,
    ),
    (
        "error_hello_expected",
        ErrorCode::HelloExpected,
        "the first request must be Hello",
        0,
    ),
    ("error_without_message", ErrorCode::Busy, "", 54),
];

pub(crate) fn topic_id() -> TopicId {
    "11112222-3333-4444-5555-666677778888".parse().unwrap()
}

pub(crate) fn cluster_id() -> ClusterId {
    "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap()
}

pub(crate) fn text(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn message(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn frame_of(file: &Bytes) -> Decoder {
    let mut received = BytesMut::from(&file[..]);
    let frame = FrameReader::new(1 << 20)
        .next_frame(&mut received)
        .unwrap()
        .unwrap();
    assert!(received.is_empty(), "bytes behind the frame");
    Decoder::new(frame)
}

/// Both files of an API, both ways.
pub(crate) fn check<R: Request>(correlation: u32, request: &R, response: &R::Response) {
    let correlation = CorrelationId::new(correlation);
    let api = snake_case(R::API.name());

    let file = vector(&format!("{api}_request_v1"));
    let mut frame = frame_of(&file);
    let header = decode_request_header(&mut frame).unwrap();
    assert_eq!(
        (header.api, header.version, header.correlation),
        (R::API.code(), V1, correlation)
    );
    assert_eq!(&decode_body::<R>(frame, V1).unwrap(), request);
    assert_eq!(
        encode_request(request, V1, correlation).concat(),
        file,
        "{api} request"
    );

    let file = vector(&format!("{api}_response_v1"));
    let mut frame = frame_of(&file);
    let header = decode_response_header(&mut frame).unwrap();
    assert_eq!(
        (header.correlation, header.error),
        (correlation, ErrorCode::None)
    );
    assert_eq!(&decode_body::<R::Response>(frame, V1).unwrap(), response);
    assert_eq!(
        encode_response(response, V1, correlation).concat(),
        file,
        "{api} response"
    );
}

#[test]
fn errors() {
    for (name, error, message, correlation) in ERRORS {
        let correlation = CorrelationId::new(*correlation);
        let file = vector(name);
        let mut frame = frame_of(&file);
        let header = decode_response_header(&mut frame).unwrap();
        assert_eq!((header.correlation, header.error), (correlation, *error));
        assert_eq!(&decode_error_message(frame).unwrap(), message);
        assert_eq!(
            encode_error_response(*error, message, correlation).concat(),
            file,
            "{name}"
        );
    }
}

#[test]
fn hello() {
    let request = HelloRequest {
        magic: HELLO_MAGIC,
        client_name: text("example"),
        client_version: text("1.2.3"),
        cluster_id: None,
        node_id: None,
    };
    let range = |api| ApiRange {
        api,
        version_min: 1,
        version_max: 1,
    };
    let response = HelloResponse {
        cluster_id: cluster_id(),
        node_id: NodeId::new(1),
        broker_version: text("0.1.0"),
        apis: vec![range(0), range(2)],
        frame_bytes_max: 64 << 20,
        in_flight_bytes_max: 100 << 20,
        in_flight_requests_max: 1024,
        auth_mechanisms: vec![],
    };
    check(1, &request, &response);
}

#[test]
fn metadata() {
    let request = MetadataRequest {
        topics: Some(vec![text("orders"), text("nope")]),
    };
    let response = MetadataResponse {
        cluster_id: cluster_id(),
        controller: Some(NodeId::new(1)),
        brokers: vec![BrokerEndpoint {
            node_id: NodeId::new(1),
            host: text("127.0.0.1"),
            port: 7171,
            rack: message("r1"),
        }],
        topics: vec![
            TopicMetadata {
                error: ErrorCode::None,
                name: text("orders"),
                topic_id: Some(topic_id()),
                partitions: vec![PartitionMetadata {
                    error: ErrorCode::None,
                    partition: PartitionId::new(0),
                    leader: Some(NodeId::new(1)),
                    leader_epoch: LeaderEpoch::new(3),
                    replicas: vec![NodeId::new(1), NodeId::new(2), NodeId::new(4)],
                    isr: vec![NodeId::new(1)],
                    elr: vec![NodeId::new(2)],
                    adding: vec![NodeId::new(4)],
                    removing: vec![NodeId::new(2)],
                }],
            },
            TopicMetadata {
                error: ErrorCode::UnknownTopicOrPartition,
                name: text("nope"),
                topic_id: None,
                partitions: vec![],
            },
        ],
    };
    check(2, &request, &response);
}

#[test]
fn produce() {
    let request = ProduceRequest {
        acks: Acks::Leader,
        timeout_ms: 5000,
        topics: vec![ProduceTopic {
            topic_id: topic_id(),
            partitions: vec![ProducePartition {
                partition: PartitionId::new(0),
                leader_epoch: Some(LeaderEpoch::new(3)),
                records: vector("batch_plain"),
            }],
        }],
    };
    let response = ProduceResponse {
        throttle_ms: 0,
        topics: vec![ProduceTopicResult {
            topic_id: topic_id(),
            partitions: vec![
                ProducePartitionResult {
                    partition: PartitionId::new(0),
                    error: ErrorCode::None,
                    message: None,
                    base_offset: Some(Offset::new(4711)),
                    log_start: Some(Offset::ZERO),
                },
                ProducePartitionResult {
                    partition: PartitionId::new(9),
                    error: ErrorCode::UnknownTopicOrPartition,
                    message: message("topic orders has no partition 9"),
                    base_offset: None,
                    log_start: None,
                },
            ],
        }],
    };
    check(42, &request, &response);
}

#[test]
fn fetch() {
    let request = FetchRequest {
        replica: None,
        wait_ms_max: 500,
        bytes_min: 1,
        bytes_max: 1 << 20,
        isolation: Isolation::ReadUncommitted,
        topics: vec![FetchTopic {
            topic_id: topic_id(),
            partitions: vec![FetchPartition {
                partition: PartitionId::new(0),
                leader_epoch: None,
                offset: Offset::new(4712),
                last_epoch: None,
                durable_end: None,
                log_start: None,
                bytes_max: 1 << 20,
            }],
        }],
    };
    let response = FetchResponse {
        throttle_ms: 0,
        topics: vec![FetchTopicResult {
            topic_id: topic_id(),
            partitions: vec![FetchPartitionResult {
                partition: PartitionId::new(0),
                error: ErrorCode::None,
                message: None,
                high_watermark: Offset::new(4713),
                last_stable: Offset::new(4713),
                log_start: Offset::ZERO,
                diverging: None,
                records: vector("batch_stamped"),
            }],
        }],
    };
    check(43, &request, &response);
}

#[test]
fn list_offsets() {
    let ask = |partition, leader_epoch, spec| ListOffsetsPartition {
        partition: PartitionId::new(partition),
        leader_epoch,
        spec,
    };
    let request = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            topic_id: topic_id(),
            partitions: vec![
                ask(0, None, OffsetSpec::Earliest),
                ask(
                    1,
                    None,
                    OffsetSpec::At(Timestamp::from_millis(1_700_000_000_000)),
                ),
                ask(2, Some(LeaderEpoch::new(3)), OffsetSpec::Latest),
            ],
        }],
    };
    let found = |partition, offset, timestamp: Option<i64>| ListOffsetsPartitionResult {
        partition: PartitionId::new(partition),
        error: ErrorCode::None,
        message: None,
        offset: Some(Offset::new(offset)),
        timestamp: timestamp.map(Timestamp::from_millis),
        leader_epoch: LeaderEpoch::new(3),
    };
    let response = ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResult {
            topic_id: topic_id(),
            partitions: vec![
                found(0, 0, None),
                found(1, 17, Some(1_700_000_000_002)),
                ListOffsetsPartitionResult {
                    partition: PartitionId::new(2),
                    error: ErrorCode::NotLeader,
                    message: message("node 1 does not lead orders-2"),
                    offset: None,
                    timestamp: None,
                    leader_epoch: LeaderEpoch::new(4),
                },
            ],
        }],
    };
    check(44, &request, &response);
}

#[test]
fn create_topics() {
    let request = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: text("orders"),
            partitions: Some(6),
            replicas: None,
            configs: vec![ConfigEntry {
                key: text("retention.ms"),
                value: text("604800000"),
            }],
        }],
        validate_only: false,
    };
    let response = CreateTopicsResponse {
        topics: vec![
            NewTopicResult {
                name: text("orders"),
                error: ErrorCode::None,
                message: None,
                topic_id: Some(topic_id()),
                partitions: 6,
                replicas: 1,
            },
            NewTopicResult {
                name: text("a b"),
                error: ErrorCode::InvalidTopic,
                message: message("topic name \"a b\" contains ' '"),
                topic_id: None,
                partitions: 0,
                replicas: 0,
            },
        ],
    };
    check(45, &request, &response);
}

pub(crate) fn topic_result(name: &str, error: ErrorCode, message: Option<String>) -> TopicResult {
    TopicResult {
        name: text(name),
        error,
        message,
    }
}

#[test]
fn delete_topics() {
    let request = DeleteTopicsRequest {
        topics: vec![text("orders"), text("nope")],
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let response = DeleteTopicsResponse {
        topics: vec![
            topic_result("orders", ErrorCode::None, None),
            topic_result("nope", unknown, message("there is no topic nope")),
        ],
    };
    check(46, &request, &response);
}

#[test]
fn create_partitions() {
    let request = CreatePartitionsRequest {
        topics: vec![MorePartitions {
            name: text("orders"),
            total: 12,
        }],
        validate_only: true,
    };
    let why = message("topic small has 3 partitions already");
    let response = CreatePartitionsResponse {
        topics: vec![
            topic_result("orders", ErrorCode::None, None),
            topic_result("small", ErrorCode::InvalidPartitions, why),
        ],
    };
    check(47, &request, &response);
}

#[test]
fn delete_records() {
    let trim = |partition, before: Option<u64>| DeleteRecordsPartition {
        partition: PartitionId::new(partition),
        before: before.map(Offset::new),
    };
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            topic_id: topic_id(),
            partitions: vec![trim(0, Some(4000)), trim(1, None)],
        }],
    };
    let response = DeleteRecordsResponse {
        topics: vec![DeleteRecordsTopicResult {
            topic_id: topic_id(),
            partitions: vec![
                DeleteRecordsPartitionResult {
                    partition: PartitionId::new(0),
                    error: ErrorCode::None,
                    message: None,
                    log_start: Some(Offset::new(4000)),
                },
                DeleteRecordsPartitionResult {
                    partition: PartitionId::new(1),
                    error: ErrorCode::PartitionOffline,
                    message: message("orders-1 is offline"),
                    log_start: None,
                },
            ],
        }],
    };
    check(48, &request, &response);
}

#[test]
fn describe_configs() {
    let request = DescribeConfigsRequest {
        topics: vec![text("orders")],
        keys: Some(vec![text("retention.ms")]),
    };
    let response = DescribeConfigsResponse {
        topics: vec![
            TopicConfigs {
                name: text("orders"),
                error: ErrorCode::None,
                message: None,
                configs: vec![ConfigDescription {
                    key: text("retention.ms"),
                    value: text("604800000"),
                    source: ConfigSource::Topic,
                    doc: text("How long records are kept."),
                }],
            },
            TopicConfigs {
                name: text("nope"),
                error: ErrorCode::UnknownTopicOrPartition,
                message: message("there is no topic nope"),
                configs: vec![],
            },
        ],
    };
    check(49, &request, &response);
}

#[test]
fn alter_configs() {
    let request = AlterConfigsRequest {
        topics: vec![TopicConfigChanges {
            name: text("orders"),
            changes: vec![
                ConfigChange {
                    key: text("retention.ms"),
                    value: message("1000"),
                },
                ConfigChange {
                    key: text("segment.bytes"),
                    value: None,
                },
            ],
        }],
        validate_only: false,
    };
    let why = message("retention.ms = \"1000\" is below 60000");
    let response = AlterConfigsResponse {
        topics: vec![topic_result("orders", ErrorCode::InvalidConfig, why)],
    };
    check(50, &request, &response);
}
