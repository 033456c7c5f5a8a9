//! The record batches.

use bytes::Bytes;
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use highwater_protocol::record::{Record, RecordIter, RecordLimits};
use highwater_protocol::record_batch::{
    ProducerStamp, TimestampType, stamp, verify_batch, verify_producer_batch,
};

use super::vector;

/// Every batch file.
pub(crate) const ALL: &[&str] = &[
    "batch_compacted",
    "batch_edges",
    "batch_gzip",
    "batch_log_append",
    "batch_lz4",
    "batch_lz4_checksums",
    "batch_plain",
    "batch_producer_id",
    "batch_snappy",
    "batch_snappy_raw",
    "batch_stamped",
    "batch_zstd",
];

const TIME: i64 = 1_700_000_000_000;

fn at(delta: i64) -> Timestamp {
    Timestamp::from_millis(TIME + delta)
}

fn records(batch: Bytes) -> Vec<Record> {
    let records = RecordIter::new(batch, RecordLimits::default()).unwrap();
    records.collect::<Result<_, _>>().unwrap()
}

/// Offset, timestamp relative to [`TIME`], key and value.
type Plain<'a> = (u64, i64, Option<&'a [u8]>, Option<&'a [u8]>);

fn plain(record: &Record) -> Plain<'_> {
    let time = record.timestamp.millis() - TIME;
    (
        record.offset.get(),
        time,
        record.key.as_deref(),
        record.value.as_deref(),
    )
}

#[test]
fn every_batch_is_valid() {
    for name in ALL {
        let file = vector(name);
        let header = verify_batch(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(header.batch_bytes as usize, file.len(), "{name}");
        assert_eq!(records(file).len(), header.record_count as usize, "{name}");
    }
}

#[test]
fn plain_and_stamped() {
    let file = vector("batch_plain");
    let mut builder = BatchBuilder::new(Compression::None, None);
    let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"abc")), ("empty", None)];
    builder.push(at(0), Some(b"k1"), Some(b"hello"), &[]);
    builder.push(at(5), None, Some(b"world"), headers);
    assert_eq!(builder.build(), file);

    let stamped = vector("batch_stamped");
    let mut batch = file.to_vec();
    stamp(&mut batch, Offset::new(4711), LeaderEpoch::new(3));
    assert_eq!(batch, stamped);

    let read = records(stamped);
    assert_eq!(
        plain(&read[0]),
        (4711, 0, Some(&b"k1"[..]), Some(&b"hello"[..]))
    );
    assert_eq!(plain(&read[1]), (4712, 5, None, Some(&b"world"[..])));
    assert!(read[0].headers.is_empty());
    assert!(read[1].headers.iter().eq(headers.iter().copied()));
}

#[test]
fn edges() {
    let file = vector("batch_edges");
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(at(0), None, None, &[]);
    builder.push(at(-3), Some(b""), Some(b""), &[]);
    builder.push(at(300), None, Some(b"late"), &[]);
    assert_eq!(builder.build(), file);
    let read = records(file);
    assert_eq!(plain(&read[0]), (0, 0, None, None));
    assert_eq!(plain(&read[1]), (1, -3, Some(&b""[..]), Some(&b""[..])));
    assert_eq!(plain(&read[2]), (2, 300, None, Some(&b"late"[..])));
}

#[test]
fn producer_id() {
    let file = vector("batch_producer_id");
    let producer = ProducerStamp {
        id: ProducerId::new(4000),
        epoch: ProducerEpoch::new(7),
        base_sequence: Some(Sequence::new(99)),
    };
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.set_producer(Some(producer));
    builder.push(at(0), None, Some(b"once"), &[]);
    assert_eq!(builder.build(), file);
    assert_eq!(verify_batch(&file).unwrap().producer, Some(producer));
    let verified = verify_producer_batch(&file, u32::MAX).unwrap();
    assert_eq!(verified.producer, Some(producer));
}

#[test]
fn compacted() {
    let file = vector("batch_compacted");
    let header = verify_batch(&file).unwrap();
    assert_eq!(
        (header.base_offset.get(), header.last_offset().get()),
        (100, 104)
    );
    assert!(verify_producer_batch(&file, u32::MAX).is_err());
    let read = records(file);
    assert_eq!(plain(&read[0]), (100, 0, None, Some(&b"a"[..])));
    assert_eq!(plain(&read[1]), (104, 9, None, Some(&b"e"[..])));
}

#[test]
fn log_append() {
    let file = vector("batch_log_append");
    assert_eq!(
        verify_batch(&file).unwrap().timestamp_type,
        TimestampType::LogAppend
    );
    let read = records(file);
    assert_eq!(plain(&read[0]), (7, 1000, None, Some(&b"a"[..])));
    assert_eq!(plain(&read[1]), (8, 1000, None, Some(&b"b"[..])));
}

#[test]
fn compressed() {
    let value = "highwater rises, highwater falls; ".repeat(4);
    for (name, codec) in [
        ("batch_gzip", Compression::Gzip),
        ("batch_lz4", Compression::Lz4),
        ("batch_lz4_checksums", Compression::Lz4),
        ("batch_snappy", Compression::Snappy),
        ("batch_snappy_raw", Compression::Snappy),
        ("batch_zstd", Compression::Zstd),
    ] {
        let file = vector(name);
        assert_eq!(
            verify_producer_batch(&file, 10_000).unwrap().compression,
            codec,
            "{name}"
        );
        let read = records(file);
        assert_eq!(read.len(), 6, "{name}");
        for (n, record) in (0_u8..).zip(&read) {
            let key = format!("key-{}", n % 3);
            let expected = (
                n.into(),
                n.into(),
                Some(key.as_bytes()),
                Some(value.as_bytes()),
            );
            assert_eq!(plain(record), expected, "{name}");
        }
    }
}
