//! Tests of the batch builder.

use proptest::prelude::*;

use super::*;
use crate::record::{RecordIter, RecordLimits, records_ref};
use crate::record_batch::verify_producer_batch;

#[test]
fn an_empty_builder_builds_nothing() {
    let mut builder = BatchBuilder::new(Compression::Zstd, None);
    assert!(builder.is_empty());
    assert_eq!(builder.len_bytes(), BATCH_HEADER_BYTES);
    assert!(builder.build().is_empty());
}

#[test]
fn the_memory_of_a_dropped_batch_is_used_again() {
    let mut builder = BatchBuilder::with_chunk_bytes(Compression::None, None, 1 << 20);
    let mut fill = || {
        while builder.len_bytes() < 900_000 {
            builder.push(Timestamp::default(), None, Some(&[7; 1000]), &[]);
        }
        builder.build()
    };
    let first = fill();
    let place = first.as_ptr();
    let while_held = fill();
    assert_ne!(while_held.as_ptr(), place);
    drop(first);
    let place = while_held.as_ptr();
    drop(while_held);
    for _ in 0..5 {
        assert_eq!(fill().as_ptr(), place);
    }
}

#[test]
fn small_batches_share_one_chunk() {
    let mut builder = BatchBuilder::with_chunk_bytes(Compression::None, None, 64 << 10);
    let batches: Vec<_> = (0..100)
        .map(|_| {
            builder.push(Timestamp::default(), None, Some(&[7; 100]), &[]);
            builder.build()
        })
        .collect();
    for pair in batches.windows(2) {
        assert_eq!(
            pair[1].as_ptr(),
            pair[0].as_ptr().wrapping_add(pair[0].len())
        );
    }
}

#[test]
fn batches_far_beyond_the_chunk_work() {
    let mut builder = BatchBuilder::new(Compression::None, None);
    let value = vec![9; 3 << 20];
    for n in 0..5 {
        let pushed = builder.push(Timestamp::default(), Some(&value), Some(&value), &[]);
        assert_eq!(pushed.relative_offset, n);
    }
    let batch = builder.build();
    assert_eq!(
        verify_producer_batch(&batch, u32::MAX)
            .unwrap()
            .record_count,
        5
    );
    for record in records_ref(&batch).unwrap() {
        let record = record.unwrap();
        assert_eq!(record.key, Some(&value[..]));
        assert_eq!(record.value, Some(&value[..]));
    }
}

#[test]
fn what_does_not_shrink_stays_plain() {
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(*codec, None);
        builder.push(Timestamp::default(), None, Some(b"short"), &[]);
        let plain_bytes = builder.len_bytes();
        let batch = builder.build();
        assert_eq!(batch.len(), plain_bytes);
        assert_eq!(
            verify_producer_batch(&batch, 100).unwrap().compression,
            Compression::None
        );
    }
}

#[test]
fn cleared_records_are_gone() {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp::from_millis(99), None, Some(b"dropped"), &[]);
    builder.clear();
    assert_eq!(
        (builder.count(), builder.len_bytes()),
        (0, BATCH_HEADER_BYTES)
    );
    builder.push(Timestamp::from_millis(5), None, Some(b"kept"), &[]);
    let batch = builder.build();
    let records: Vec<_> = records_ref(&batch).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value, Some(&b"kept"[..]));
    assert_eq!(records[0].timestamp.millis(), 5);
}

type Fields = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

fn records() -> impl Strategy<Value = Vec<Fields>> {
    let bytes = || {
        let bytes = prop_oneof![
            20 => proptest::collection::vec(any::<u8>(), 0..200),
            1 => (8000_usize..20_000).prop_map(|length| vec![5; length]),
        ];
        proptest::option::of(bytes)
    };
    let time = prop_oneof![
        10 => 1_700_000_000_000_i64..1_700_000_100_000,
        1 => any::<i64>(),
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
    ];
    let headers = prop_oneof![
        3 => Just(vec![]),
        1 => proptest::collection::vec((".{0,10}", bytes()), 0..4),
    ];
    proptest::collection::vec((time, bytes(), bytes(), headers), 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_goes_in_comes_out(records in records(), code in 0_u8..5) {
        let codec = Compression::from_code(code).unwrap();
        let mut builder = BatchBuilder::new(codec, None);
        for (time, key, value, headers) in &records {
            let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            let time = Timestamp::from_millis(*time);
            let expected = builder.len_with(time, key.as_deref(), value.as_deref(), &headers);
            builder.push(time, key.as_deref(), value.as_deref(), &headers);
            prop_assert_eq!(builder.len_bytes(), expected);
        }
        let bytes_max = builder.len_bytes();
        let batch = builder.build();
        prop_assert!(batch.len() <= bytes_max);
        if codec == Compression::None {
            prop_assert_eq!(batch.len(), bytes_max);
        }
        let header = verify_producer_batch(&batch, u32::MAX).unwrap();
        prop_assert_eq!(header.base_timestamp.millis(), records[0].0);
        let latest = records.iter().map(|record| record.0).max();
        prop_assert_eq!(Some(header.max_timestamp.millis()), latest);

        let back: Vec<_> = RecordIter::new(batch, RecordLimits::default())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        prop_assert_eq!(back.len(), records.len());
        for (n, (record, (time, key, value, headers))) in back.iter().zip(&records).enumerate() {
            prop_assert_eq!(record.offset.get(), n as u64);
            prop_assert_eq!(record.timestamp.millis(), *time);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            let back: Vec<_> = record.headers.iter().collect();
            let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            prop_assert_eq!(back, headers);
        }
    }
}
