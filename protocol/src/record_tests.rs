//! Tests of record decoding.

use super::*;
use crate::batch_builder::BatchBuilder;

#[test]
fn a_batch_of_each_codec_reads_back() {
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(*codec, None);
        for n in 0..1000_i64 {
            let value = format!("value number {n}");
            let key = (n % 3 == 0).then(|| n.to_be_bytes());
            let headers: &[(&str, Option<&[u8]>)] = if n % 7 == 0 {
                &[("a", Some(b"1")), ("b", None)]
            } else {
                &[]
            };
            builder.push(
                Timestamp::from_millis(1000 - n),
                key.as_ref().map(|key| &key[..]),
                (n % 5 != 0).then_some(value.as_bytes()),
                headers,
            );
        }
        let plain_bytes = builder.len_bytes();
        let batch = builder.build();
        let header = crate::record_batch::verify_producer_batch(&batch, 1 << 20).unwrap();
        assert_eq!(header.compression, *codec);
        if *codec == Compression::None {
            assert_eq!(batch.len(), plain_bytes);
        }
        let records = RecordIter::new(batch, RecordLimits::default()).unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect();
        assert_eq!(records.len(), 1000);
        for (n, record) in (0_i64..).zip(records) {
            assert_eq!(record.offset.get(), n as u64);
            assert_eq!(record.timestamp.millis(), 1000 - n);
            assert_eq!(
                record.key.as_deref(),
                (n % 3 == 0).then_some(&n.to_be_bytes()[..])
            );
            let value = format!("value number {n}");
            assert_eq!(
                record.value.as_deref(),
                (n % 5 != 0).then_some(value.as_bytes())
            );
            let headers: Vec<_> = record.headers.iter().collect();
            if n % 7 == 0 {
                assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None)]);
            } else {
                assert!(headers.is_empty());
            }
        }
    }
}

/// A plain batch of hand-written record bytes.
fn raw_batch(record_count: u32, last_offset_delta: u32, records: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp::from_millis(500), None, None, &[]);
    let mut batch = builder.build().to_vec();
    batch.truncate(BATCH_HEADER_BYTES);
    batch.extend_from_slice(records);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    batch[57..61].copy_from_slice(&record_count.to_be_bytes());
    crate::record_batch::seal(&mut batch);
    crate::record_batch::verify_batch(&batch).unwrap();
    batch.into()
}

/// The error of a batch with one record of these bytes, behind its length.
fn fault(record: &[u8]) -> String {
    let records = [&[(record.len() * 2) as u8], record].concat();
    let batch = raw_batch(1, 0, &records);
    let mut borrowed = records_ref(&batch).unwrap();
    let error = borrowed.next().unwrap().unwrap_err();
    assert!(borrowed.next().is_none(), "something after an error");
    let mut owned = RecordIter::new(batch, RecordLimits::default()).unwrap();
    assert_eq!(
        owned.next().unwrap().unwrap_err().to_string(),
        error.to_string()
    );
    assert!(owned.next().is_none(), "something after an error");
    match error {
        RecordError::Malformed { index: 0, field } => field.to_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn each_invalid_field_is_named() {
    // attributes, timestamp delta, offset delta, key, value, header count
    let good = [0, 0, 0, 1, 1, 0];
    let batch = raw_batch(1, 0, &[&[12], &good[..]].concat());
    let records: Vec<_> = records_ref(&batch).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[0].timestamp.millis(), 500);
    assert_eq!((records[0].key, records[0].value), (None, None));

    assert_eq!(fault(&[0, 0x80, 0x80, 0x80, 0x80, 0x80]), "timestamp delta");
    assert_eq!(fault(&[0, 0, 2, 1, 1, 0]), "offset delta");
    assert_eq!(fault(&[0, 0, 1, 1, 1, 0]), "offset delta");
    assert_eq!(fault(&[0, 0, 0, 3, 1, 0]), "key");
    assert_eq!(fault(&[0, 0, 0, 100, 1, 0]), "key");
    assert_eq!(fault(&[0, 0, 0, 1, 100, 0]), "value");
    assert_eq!(fault(&[0, 0, 0, 1, 1, 1]), "headers");
    assert_eq!(fault(&[0, 0, 0, 1, 1, 0, 0]), "headers");
    assert_eq!(fault(&[0, 0, 0, 1, 1, 2, 1, 1]), "headers");
    assert_eq!(fault(&[0, 0, 0, 1, 1, 2, 2, 0xff, 1]), "headers");
}

#[test]
fn offsets_must_rise() {
    let record = |delta: u8| [12, 0, 0, delta * 2, 1, 1, 0];
    let offsets = |deltas: [u8; 2]| {
        let batch = raw_batch(2, 9, &deltas.map(record).concat());
        let records: Result<Vec<_>, _> = records_ref(&batch).unwrap().collect();
        records.map(|records| [records[0].offset.get(), records[1].offset.get()])
    };
    assert_eq!(offsets([3, 9]).unwrap(), [3, 9]);
    for wrong in [[3, 3], [3, 2], [3, 10]] {
        let error = offsets(wrong).unwrap_err();
        assert!(matches!(
            error,
            RecordError::Malformed {
                index: 1,
                field: "offset delta"
            }
        ));
    }
}

#[test]
fn counts_that_do_not_fit_the_bytes_are_refused() {
    let record = [12, 0, 0, 0, 1, 1, 0];
    let hostile = raw_batch(0x7fff_ffff, 0x7fff_fffe, &record);
    assert!(matches!(
        records_ref(&hostile),
        Err(RecordError::Count { bytes: 7, .. })
    ));
    let error = RecordIter::new(hostile, RecordLimits::default()).unwrap_err();
    assert!(matches!(error, RecordError::Count { .. }));

    let batch = raw_batch(1, 0, &record.repeat(2));
    let mut records = records_ref(&batch).unwrap();
    assert!(records.next().unwrap().is_ok());
    let error = records.next().unwrap().unwrap_err();
    assert!(matches!(
        error,
        RecordError::TrailingBytes {
            left: 7,
            record_count: 1
        }
    ));
    assert!(records.next().is_none());
}

#[test]
fn log_append_time_is_the_time_of_all_records() {
    let record = [12, 0, 20, 0, 1, 1, 0];
    let mut batch = raw_batch(1, 0, &record).to_vec();
    batch[22] |= 1 << 3;
    batch[35..43].copy_from_slice(&777_i64.to_be_bytes());
    let record = records_ref(&batch).unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp.millis(), 777);
}

#[test]
fn compressed_batches_are_not_read_in_place_and_their_limit_holds() {
    let mut builder = BatchBuilder::new(Compression::Lz4, None);
    for _ in 0..1000 {
        builder.push(Timestamp::default(), None, Some(&[0; 100]), &[]);
    }
    let batch = builder.build();
    let error = records_ref(&batch).unwrap_err();
    assert!(matches!(
        error,
        RecordError::Compressed {
            codec: Compression::Lz4
        }
    ));
    let limits = RecordLimits {
        decompressed_bytes_max: 1000,
    };
    let error = RecordIter::new(batch, limits).unwrap_err();
    let message = "the lz4 data unfolds to more than the limit of 1000 bytes";
    assert_eq!(error.to_string(), message);
}

#[test]
fn owned_records_share_the_memory_of_the_batch() {
    let mut builder = BatchBuilder::new(Compression::None, None);
    let headers: &[(&str, Option<&[u8]>)] = &[("k", Some(b"1")), ("k", Some(b"2"))];
    builder.push(Timestamp::default(), Some(b"key"), Some(b"value"), headers);
    let batch = builder.build();
    let range = batch.as_ptr_range();
    let record = RecordIter::new(batch, RecordLimits::default())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(range.contains(&record.key.as_ref().unwrap().as_ptr()));
    assert!(range.contains(&record.value.as_ref().unwrap().as_ptr()));
    assert_eq!(record.headers.len(), 2);
    assert_eq!(
        record.headers.get("k"),
        Some(Some(&b"2"[..])),
        "the last one counts"
    );
    assert_eq!(record.headers.get("other"), None);
}

#[test]
fn a_lending_walk_sees_the_same() {
    let mut builder = BatchBuilder::new(Compression::Zstd, None);
    for n in 0..500_u32 {
        builder.push(
            Timestamp::default(),
            None,
            Some(&n.to_be_bytes().repeat(9)),
            &[],
        );
    }
    let batch = builder.build();
    let owned = RecordIter::new(batch.clone(), RecordLimits::default()).unwrap();
    let mut lending = RecordIter::new(batch, RecordLimits::default()).unwrap();
    for record in owned {
        let lent = lending.next_ref().unwrap().unwrap();
        assert_eq!(lent.value, record.unwrap().value.as_deref());
    }
    assert!(lending.next_ref().is_none());
}
