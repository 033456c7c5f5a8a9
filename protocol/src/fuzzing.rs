//! What must hold of any bytes whatever: the bodies of the fuzz targets.
//!
//! Each function takes hostile bytes and panics only on a bug. The crate `fuzz` wraps them for
//! cargo-fuzz; the test `corpus` runs them over the checked-in corpus and mutations of it, without
//! nightly tools.

use bytes::{Bytes, BytesMut};

use crate::api_key::{ApiKey, ApiVisitor, Request};
use crate::batch_builder::{BatchBuilder, HeaderPair};
use crate::codec::{ApiVersion, Decoder, Encoder, Wire};
use crate::compression::{self, Compression};
use crate::error_code::ErrorCode;
use crate::frame::{
    FrameReader, REQUEST_HEADER_BYTES, RESPONSE_HEADER_BYTES, decode_body, decode_error_message,
    decode_request_header, decode_response_header,
};
use crate::metadata_record::MetadataRecord;
use crate::record::{BatchRecords, RecordIter, RecordLimits, records_ref};
use crate::record_batch::{BatchHeader, Batches, seal, verify_batch, verify_producer_batch};

/// A target: its name, which is also the name of its corpus directory, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("request", request),
    ("response", response),
    ("metadata_record", metadata_record),
    ("record_batch", record_batch),
    ("decompress", decompress),
];

/// Most bytes that anything may unfold to here: small, so that a bomb is found by its time.
const UNFOLDED_BYTES_MAX: usize = 1 << 20;

/// A receive buffer: the first byte says how much arrives at a time. Frames come out the same
/// however their bytes arrive.
///
/// # Panics
/// On a bug.
pub fn frame(data: &[u8]) {
    const FRAME_BYTES_MAX: u32 = 1 << 16;
    let Some((step, stream)) = data.split_first() else {
        return;
    };
    let step = usize::from(*step).max(1);

    let frames_of = |step: usize| {
        let mut reader = FrameReader::new(FRAME_BYTES_MAX);
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match reader.next_frame(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(reader.needed() > 0);
            assert!(reader.needed() <= 4 + FRAME_BYTES_MAX as usize);
        }
        (frames, None)
    };
    assert_eq!(frames_of(step), frames_of(stream.len().max(1)));
}

/// A request's frame, without its length. What decodes, encodes to the same bytes.
///
/// # Panics
/// On a bug.
pub fn request(data: &[u8]) {
    struct RequestBody<'a>(&'a [u8], ApiVersion);
    impl ApiVisitor for RequestBody<'_> {
        type Output = ();
        fn visit<R: Request>(self) {
            canonical::<R>(self.0, self.1);
        }
    }
    let mut input = Decoder::new(Bytes::copy_from_slice(data));
    let Ok(header) = decode_request_header(&mut input) else {
        return;
    };
    if let Some(api) = known_api(header.api, header.version) {
        api.visit(RequestBody(&data[REQUEST_HEADER_BYTES..], header.version));
    }
}

/// Number and version of an API as in a request's header, then a response's frame without its
/// length. What decodes, encodes to the same bytes.
///
/// # Panics
/// On a bug.
pub fn response(data: &[u8]) {
    struct ResponseBody<'a>(&'a [u8], ApiVersion);
    impl ApiVisitor for ResponseBody<'_> {
        type Output = ();
        fn visit<R: Request>(self) {
            canonical::<R::Response>(self.0, self.1);
        }
    }
    let Some((selector, frame)) = data.split_first_chunk::<4>() else {
        return;
    };
    let [a0, a1, v0, v1] = *selector;
    let version = ApiVersion(u16::from_be_bytes([v0, v1]));
    let mut input = Decoder::new(Bytes::copy_from_slice(frame));
    let Ok(header) = decode_response_header(&mut input) else {
        return;
    };
    if header.error != ErrorCode::None {
        let _ = decode_error_message(input);
    } else if let Some(api) = known_api(u16::from_be_bytes([a0, a1]), version) {
        api.visit(ResponseBody(&frame[RESPONSE_HEADER_BYTES..], version));
    }
}

fn known_api(api: u16, version: ApiVersion) -> Option<ApiKey> {
    ApiKey::from_code(api).filter(|api| {
        let (lowest, highest) = api.versions();
        (lowest..=highest).contains(&version)
    })
}

/// There is one encoding of each value: so a peer cannot tell apart what we cannot.
fn canonical<T: Wire + std::fmt::Debug>(body: &[u8], version: ApiVersion) {
    let Ok(value) = decode_body::<T>(Decoder::new(Bytes::copy_from_slice(body)), version) else {
        return;
    };
    let mut out = Encoder::new();
    value.encode(&mut out, version);
    assert_eq!(out.into_bytes(), body, "{value:?}");
}

/// The value of a record of the metadata log. What decodes, encodes to the same bytes.
///
/// # Panics
/// On a bug.
pub fn metadata_record(data: &[u8]) {
    if let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(data)) {
        assert_eq!(record.encode(), data, "{record:?}");
    }
}

/// Record batches back to back. The three ways of reading a batch agree, and its records, built
/// into a batch again, read the same.
///
/// # Panics
/// On a bug.
pub fn record_batch(data: &[u8]) {
    accepted(data);
    // A changed byte nearly always makes the checksum wrong: what a producer can send that computes
    // it afterwards is tried too.
    let size = BatchHeader::parse(data).map_or(0, |header| header.batch_bytes as usize);
    if let Some(batch) = data.get(..size).filter(|batch| !batch.is_empty()) {
        let mut batch = batch.to_vec();
        seal(&mut batch);
        accepted(&batch);
    }
    let mut walked = 0;
    let mut batches = Batches::new(data);
    for (header, batch) in batches.by_ref().flatten() {
        assert_eq!(header.batch_bytes as usize, batch.len());
        assert!(header.next_offset() > header.last_offset());
        walked += batch.len();
        records(batch);
    }
    assert_eq!(batches.position(), walked);
    assert!(walked <= data.len());
}

fn accepted(data: &[u8]) {
    if let Ok(header) = verify_producer_batch(data, u32::MAX) {
        assert_eq!(verify_batch(data), Ok(header));
        assert!(header.record_count > 0 && header.batch_bytes as usize <= data.len());
        assert!(header.max_timestamp >= header.base_timestamp);
    }
}

fn records(batch: &[u8]) {
    let limits = RecordLimits {
        decompressed_bytes_max: UNFOLDED_BYTES_MAX,
    };
    let batch = Bytes::copy_from_slice(batch);
    let Ok(opened) = BatchRecords::open(batch.clone(), limits) else {
        assert!(records_ref(&batch).is_err() || RecordIter::new(batch, limits).is_err());
        return;
    };
    let header = *opened.header();
    assert!(opened.data().len() <= UNFOLDED_BYTES_MAX.max(batch.len()));
    let borrowed: Result<Vec<_>, _> = opened.iter().collect();
    let owned: Result<Vec<_>, _> = opened.clone().into_iter().collect();
    assert_eq!(borrowed.is_ok(), owned.is_ok());
    let (Ok(borrowed), Ok(owned)) = (borrowed, owned) else {
        return;
    };
    assert_eq!(borrowed.len(), header.record_count as usize);
    for (borrowed, owned) in borrowed.iter().zip(&owned) {
        assert_eq!(&borrowed.to_owned_in(opened.data()), owned);
        assert!((header.base_offset..=header.last_offset()).contains(&borrowed.offset));
    }
    if borrowed.is_empty() {
        return;
    }

    let mut builder = BatchBuilder::new(Compression::None, None);
    for record in &borrowed {
        let headers: Vec<HeaderPair<'_>> = record.headers.iter().collect();
        let expected = builder.len_with(record.timestamp, record.key, record.value, &headers);
        builder.push(record.timestamp, record.key, record.value, &headers);
        assert_eq!(builder.len_bytes(), expected);
    }
    let rebuilt = builder.build();
    let reread: Vec<_> = records_ref(&rebuilt)
        .and_then(Iterator::collect)
        .expect("a batch that was just built can be read");
    assert_eq!(reread.len(), borrowed.len());
    for (before, after) in borrowed.iter().zip(&reread) {
        assert_eq!((before.timestamp, before.key), (after.timestamp, after.key));
        assert_eq!(before.value, after.value);
        assert!(before.headers.iter().eq(after.headers.iter()));
    }
}

/// The code of a codec, then compressed bytes. Nothing unfolds to more than the limit, and what
/// unfolds comes back after it was compressed again.
///
/// # Panics
/// On a bug.
pub fn decompress(data: &[u8]) {
    let Some((code, packed)) = data.split_first() else {
        return;
    };
    let Some(codec) = Compression::from_code(*code) else {
        return;
    };
    let Ok(plain) = compression::decompress(codec, packed, UNFOLDED_BYTES_MAX) else {
        return;
    };
    assert!(plain.len() <= UNFOLDED_BYTES_MAX);
    let again = compression::compress(codec, &plain);
    let back = compression::decompress(codec, &again, plain.len())
        .expect("what was just compressed can be unfolded");
    assert_eq!(back, plain);
}
