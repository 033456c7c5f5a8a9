//! Tests of the encoding, over all messages.

use proptest::prelude::*;

use super::*;
use crate::api_key::{ApiKey, Request};
use crate::error_code::ErrorCode;
use crate::frame::decode_body;
use crate::ids::{Offset, Timestamp, TopicId, TopicName};
use crate::messages as m;
use crate::sample::{Sample, SampledVisitor, Source};

const V1: ApiVersion = ApiVersion(1);

fn encoded<T: Wire>(value: &T) -> Bytes {
    let mut out = Encoder::new();
    value.encode(&mut out, V1);
    out.into_bytes()
}

fn decoded<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_body(Decoder::new(Bytes::copy_from_slice(bytes)), V1)
}

fn round_trip<T: Wire + PartialEq + std::fmt::Debug>(value: &T, version: ApiVersion) {
    let mut out = Encoder::new();
    value.encode(&mut out, version);
    let length = out.len();
    let slices = out.finish();
    assert!(
        slices.iter().all(|slice| !slice.is_empty()),
        "an empty slice in {slices:?}"
    );
    let bytes = Bytes::from(slices.concat());
    assert_eq!(bytes.len(), length);
    assert!(length >= T::SIZE_MIN, "SIZE_MIN of {value:?} is too large");
    assert_eq!(
        &decode_body::<T>(Decoder::new(bytes.clone()), version).unwrap(),
        value
    );

    // No prefix is the message, and nothing may follow it.
    for end in (0..length).take(300) {
        assert!(decode_body::<T>(Decoder::new(bytes.slice(..end)), version).is_err());
    }
    let longer = Bytes::from([&bytes[..], &[0]].concat());
    let trailing = Err(DecodeError::TrailingBytes { left: 1 });
    assert_eq!(decode_body::<T>(Decoder::new(longer), version), trailing);
}

struct RoundTrip<'a>(&'a mut Source);

impl SampledVisitor for RoundTrip<'_> {
    fn visit<R: Request<Response: Sample> + Sample>(self) {
        let (lowest, highest) = R::API.versions();
        for version in lowest.0..=highest.0 {
            round_trip(&R::sample(self.0), ApiVersion(version));
            round_trip(&R::Response::sample(self.0), ApiVersion(version));
        }
    }
}

proptest! {
    #[test]
    fn every_message_round_trips(seed: u64) {
        let mut source = Source::new(seed);
        for api in ApiKey::ALL {
            api.visit_sampled(RoundTrip(&mut source));
        }
    }

    #[test]
    fn strings_are_cut_at_a_character(text in "[aäœ🦀]{0,40}", repeat in 1_usize..3000) {
        let text = text.repeat(repeat);
        let back: String = decoded(&encoded(&text)).unwrap();
        prop_assert!(text.starts_with(&back));
        prop_assert!(back == text || back.len() > usize::from(u16::MAX) - 4);
    }
}

#[test]
fn each_type_is_laid_out_as_documented() {
    assert_eq!(&encoded(&0x1234_u16)[..], [0x12, 0x34]);
    assert_eq!(
        &encoded(&-2_i64)[..],
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]
    );
    assert_eq!(&encoded(&true)[..], [1]);
    assert_eq!(&encoded(&"hé".to_owned())[..], [0, 3, b'h', 0xc3, 0xa9]);
    assert_eq!(
        &encoded(&Bytes::from_static(b"ab"))[..],
        [0, 0, 0, 2, b'a', b'b']
    );
    assert_eq!(&encoded(&vec![1_u8, 2])[..], [0, 0, 0, 2, 1, 2]);
    assert_eq!(&encoded(&Some(7_u8))[..], [1, 7]);
    assert_eq!(&encoded(&None::<u8>)[..], [0]);
    assert_eq!(&encoded(&TopicId::from_bytes([7; 16]))[..], [7; 16]);
    assert_eq!(&encoded(&m::OffsetSpec::LogEnd)[..], [3]);
    assert_eq!(
        &encoded(&m::OffsetSpec::At(Timestamp::from_millis(1)))[..],
        [5, 0, 0, 0, 0, 0, 0, 0, 1]
    );
}

#[test]
fn large_byte_strings_are_shared_and_come_back_as_slices() {
    let large = Bytes::from(vec![7_u8; 100_000]);
    let mut out = Encoder::new();
    vec![large.clone(), Bytes::from_static(b"small"), large.clone()].encode(&mut out, V1);
    let slices = out.finish();
    assert_eq!(slices.len(), 4);
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(slices[3].as_ptr(), large.as_ptr());

    let frame = Bytes::from(slices.concat());
    let back: Vec<Bytes> = decode_body(Decoder::new(frame.clone()), V1).unwrap();
    assert_eq!(back[0], large);
    assert!(frame.as_ptr_range().contains(&back[2].as_ptr()), "copied");
}

#[test]
fn invalid_values_are_told_apart() {
    assert_eq!(
        decoded::<bool>(&[2]),
        Err(DecodeError::Invalid {
            what: "bool",
            value: 2
        })
    );
    assert_eq!(
        decoded::<Option<u8>>(&[9, 0]),
        Err(DecodeError::Invalid {
            what: "bool",
            value: 9
        })
    );
    assert_eq!(decoded::<String>(&[0, 1, 0xff]), Err(DecodeError::Utf8));
    assert_eq!(
        decoded::<Offset>(&[0xff; 8]),
        Err(DecodeError::Invalid {
            what: "offset",
            value: u64::MAX
        })
    );
    assert_eq!(
        decoded::<m::Acks>(&[3]),
        Err(DecodeError::Invalid {
            what: "Acks",
            value: 3
        })
    );
    assert!(matches!(
        decoded::<TopicName>(&[0, 1, b'/']),
        Err(DecodeError::TopicName(_))
    ));
    assert_eq!(
        decoded::<u32>(&[0, 0]),
        Err(DecodeError::Truncated {
            what: "u32",
            needed: 4,
            left: 2
        })
    );
}

#[test]
fn a_hostile_count_is_refused_before_anything_is_reserved() {
    let mut body = u32::MAX.to_be_bytes().to_vec();
    body.extend([0; 1000]);
    for error in [
        decoded::<Vec<u8>>(&body).unwrap_err(),
        decoded::<Vec<String>>(&body).unwrap_err(),
        decoded::<Vec<m::ProduceTopic>>(&body).unwrap_err(),
        decoded::<Bytes>(&body).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
    }
}

/// An element of an array must not be much larger in memory than the bytes that can stand for it:
/// a frame would otherwise unfold to many times its size.
#[test]
fn elements_in_memory_stay_a_small_multiple_of_the_wire() {
    fn ratio<T: Wire>() -> usize {
        size_of::<T>().div_ceil(T::SIZE_MIN)
    }
    let ratios = [
        ratio::<String>(),
        ratio::<m::ProduceTopic>(),
        ratio::<m::ProducePartition>(),
        ratio::<m::FetchTopic>(),
        ratio::<m::FetchPartition>(),
        ratio::<m::FetchPartitionResult>(),
        ratio::<m::ListOffsetsPartition>(),
        ratio::<m::DeleteRecordsPartition>(),
        ratio::<m::NewTopic>(),
        ratio::<m::ConfigEntry>(),
        ratio::<m::ConfigChange>(),
        ratio::<m::TopicConfigChanges>(),
        ratio::<m::MorePartitions>(),
        ratio::<m::TopicMetadata>(),
        ratio::<m::PartitionMetadata>(),
        ratio::<m::BrokerDescription>(),
        ratio::<m::ApiRange>(),
    ];
    assert!(ratios.iter().all(|ratio| *ratio <= 16), "{ratios:?}");
}

#[test]
fn unknown_error_codes_survive() {
    let code = ErrorCode::from_code(54_321);
    assert_eq!(decoded::<ErrorCode>(&encoded(&code)), Ok(code));
}

#[allow(unreachable_pub)]
mod versions {
    use super::*;

    wire_struct! {
        /// Grew a field.
        pub struct Grown {
            /// There from the start.
            pub old: u16;
            /// Came with version 2.
            pub new: Option<u32>, since 2;
        }
    }

    #[test]
    fn a_field_exists_from_its_version_on() {
        let value = Grown {
            old: 7,
            new: Some(9),
        };
        let bytes = |version| {
            let mut out = Encoder::new();
            value.encode(&mut out, ApiVersion(version));
            out.into_bytes()
        };
        let back = |bytes, version| decode_body::<Grown>(Decoder::new(bytes), ApiVersion(version));
        assert_eq!(&bytes(1)[..], [0, 7]);
        assert_eq!(back(bytes(1), 1), Ok(Grown { old: 7, new: None }));
        assert_eq!(&bytes(2)[..], [0, 7, 1, 0, 0, 0, 9]);
        assert_eq!(back(bytes(2), 2), Ok(value.clone()));
        assert_eq!(
            back(bytes(2), 1),
            Err(DecodeError::TrailingBytes { left: 5 })
        );
        assert_eq!(Grown::SIZE_MIN, 2);
        let fields = [("old", "u16", 1), ("new", "Option<u32>", 2)];
        assert_eq!(Grown::LAYOUT, ("Grown", &fields[..]));
    }
}
