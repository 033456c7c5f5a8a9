//! Tests of framing.

use bytes::BufMut;
use proptest::prelude::*;

use super::*;
use crate::ids::{PartitionId, TopicId};
use crate::messages as m;

const V1: ApiVersion = ApiVersion(1);

fn produce(records: Bytes) -> m::ProduceRequest {
    m::ProduceRequest {
        acks: m::Acks::All,
        timeout_ms: 1000,
        topics: vec![m::ProduceTopic {
            topic_id: TopicId::from_bytes([1; 16]),
            partitions: vec![m::ProducePartition {
                partition: PartitionId::new(3),
                leader_epoch: None,
                records,
            }],
        }],
    }
}

#[test]
fn a_request_goes_through_a_frame() {
    for size in [0, 10, 2047, 2048, 100_000] {
        let request = produce(Bytes::from(vec![9; size]));
        let slices = encode_request(&request, V1, CorrelationId::new(77));
        let mut received = BytesMut::from(&slices.concat()[..]);
        let frame = FrameReader::new(1 << 20)
            .next_frame(&mut received)
            .unwrap()
            .unwrap();
        assert!(received.is_empty());

        let mut frame = Decoder::new(frame);
        let header = decode_request_header(&mut frame).unwrap();
        assert_eq!(
            header,
            RequestHeader {
                api: 2,
                version: V1,
                correlation: CorrelationId::new(77)
            }
        );
        assert_eq!(decode_body::<m::ProduceRequest>(frame, V1), Ok(request));
    }
}

#[test]
fn a_large_batch_is_not_copied_into_its_frame() {
    let records = Bytes::from(vec![9; 100_000]);
    let slices = encode_request(&produce(records.clone()), V1, CorrelationId::ZERO);
    assert_eq!(slices.len(), 2);
    assert_eq!(slices[1].as_ptr(), records.as_ptr());
}

#[test]
fn a_response_is_a_body_or_an_error() {
    let body = m::CreatePartitionsResponse { topics: vec![] };
    let bytes = encode_response(&body, V1, CorrelationId::new(5)).concat();
    assert_eq!(bytes, [0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    let mut frame = Decoder::new(Bytes::from(bytes).slice(4..));
    let header = decode_response_header(&mut frame).unwrap();
    assert_eq!(
        header,
        ResponseHeader {
            correlation: CorrelationId::new(5),
            error: ErrorCode::None
        }
    );
    assert_eq!(
        decode_body::<m::CreatePartitionsResponse>(frame, V1),
        Ok(body)
    );

    let bytes = encode_error_response(ErrorCode::Busy, "later", CorrelationId::new(6)).concat();
    assert_eq!(bytes, b"\0\0\0\x0d\0\0\0\x06\0\x08\0\x05later");
    let mut frame = Decoder::new(Bytes::from(bytes).slice(4..));
    let header = decode_response_header(&mut frame).unwrap();
    assert_eq!(
        (header.correlation.get(), header.error),
        (6, ErrorCode::Busy)
    );
    assert_eq!(decode_error_message(frame).unwrap(), "later");
}

#[test]
fn a_length_above_the_limit_is_refused_at_once() {
    let mut reader = FrameReader::new(100);
    let mut buffer = BytesMut::from(&[0, 0, 0][..]);
    assert_eq!(reader.next_frame(&mut buffer), Ok(None));
    assert_eq!((reader.needed(), reader.announced()), (1, None));
    buffer.put_u8(101);
    let error = FrameError::TooLarge {
        length: 101,
        bytes_max: 100,
    };
    assert_eq!(reader.next_frame(&mut buffer), Err(error));

    // "GET " as a length is 1.2 GB: a browser is refused by its first four bytes.
    let mut buffer = BytesMut::from("GET / HTTP/1.1\r\n");
    let error = FrameError::TooLarge {
        length: 0x4745_5420,
        bytes_max: 1 << 30,
    };
    assert_eq!(
        FrameReader::new(1 << 30).next_frame(&mut buffer),
        Err(error)
    );
}

#[test]
fn a_reader_reserves_nothing_for_an_announced_frame() {
    let mut reader = FrameReader::new(1 << 30);
    let mut buffer = BytesMut::with_capacity(64);
    buffer.put_u32(1 << 30);
    assert_eq!(reader.next_frame(&mut buffer), Ok(None));
    assert_eq!(reader.announced(), Some(1 << 30));
    assert_eq!(reader.needed(), 1 << 30);
    assert!(buffer.capacity() <= 64);
}

proptest! {
    #[test]
    fn frames_survive_any_split(
        sizes in proptest::collection::vec(0_usize..50, 0..10),
        splits in proptest::collection::vec(1_usize..40, 1..50),
    ) {
        let mut wire = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            wire.put_u32(*size as u32);
            wire.extend(std::iter::repeat_n(n as u8, *size));
        }
        let mut reader = FrameReader::new(50);
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        let mut rest = &wire[..];
        for split in splits.iter().cycle() {
            while let Some(frame) = reader.next_frame(&mut buffer).unwrap() {
                frames.push(frame);
            }
            // What is announced as missing is exactly what completes the next step.
            prop_assert!(reader.needed() > 0);
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*split).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(frames.len(), sizes.len());
        for (n, (frame, size)) in frames.iter().zip(&sizes).enumerate() {
            prop_assert_eq!(&frame[..], &vec![n as u8; *size][..]);
        }
    }
}
