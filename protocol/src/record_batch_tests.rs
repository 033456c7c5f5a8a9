//! Tests of the batch header and its checks.

use proptest::prelude::*;

use super::*;
use crate::batch_builder::BatchBuilder;
use crate::error_code::ErrorCode;

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, None);
    for n in 0..3 {
        builder.push(Timestamp::from_millis(1000 + n), None, Some(b"value"), &[]);
    }
    builder.build().to_vec()
}

/// A batch with some bytes of its header replaced and its checksum made right again.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch
}

#[test]
fn a_built_batch_has_the_header_of_a_producer() {
    let batch = batch();
    let header = verify_producer_batch(&batch, 1000).unwrap();
    assert_eq!(
        header,
        BatchHeader {
            base_offset: Offset::ZERO,
            batch_bytes: batch.len() as u32,
            leader_epoch: None,
            crc: header.crc,
            compression: Compression::None,
            timestamp_type: TimestampType::Create,
            is_transactional: false,
            is_control: false,
            last_offset_delta: 2,
            base_timestamp: Timestamp::from_millis(1000),
            max_timestamp: Timestamp::from_millis(1002),
            producer: None,
            record_count: 3,
        }
    );
    assert_eq!(header.next_offset().get(), 3);
}

#[test]
fn stamping_keeps_the_checksum_right() {
    let mut batch = batch();
    stamp(&mut batch, Offset::new(1 << 40), LeaderEpoch::new(7));
    let header = verify_batch(&batch).unwrap();
    assert_eq!(header.base_offset.get(), 1 << 40);
    assert_eq!(header.last_offset().get(), (1 << 40) + 2);
    assert_eq!(header.leader_epoch, Some(LeaderEpoch::new(7)));
    assert_eq!(header.crc, batch_crc(&batch));
}

#[test]
fn every_changed_byte_is_noticed() {
    let good = batch();
    // What the leader stamps is not covered, everything else is.
    for at in (LENGTH_AT..LEADER_EPOCH_AT).chain(MAGIC_AT..good.len()) {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(verify_batch(&bad).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn each_fault_has_its_error() {
    let good = batch();
    let size = good.len() as u32;
    let parse = |bytes: &[u8]| verify_batch(bytes).unwrap_err();
    assert_eq!(
        parse(&good[..60]),
        BatchError::TooShort {
            needed: 61,
            have: 60
        }
    );
    assert_eq!(
        parse(&good[..good.len() - 1]),
        BatchError::TooShort {
            needed: good.len(),
            have: good.len() - 1
        }
    );
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        let bad = changed(LENGTH_AT, &length.to_be_bytes());
        assert_eq!(parse(&bad), BatchError::Length { length });
    }
    assert_eq!(
        parse(&changed(MAGIC_AT, &[1])),
        BatchError::Magic { magic: 1 }
    );
    assert_eq!(
        parse(&changed(ATTRIBUTES_AT, &[0, 5])),
        BatchError::UnknownCompression { code: 5 }
    );
    assert_eq!(
        parse(&changed(BASE_OFFSET_AT, &i64::MAX.to_be_bytes())),
        BatchError::OffsetOverflow {
            base_offset: Offset::MAX,
            last_offset_delta: 2
        }
    );
    for (at, field) in [
        (LEADER_EPOCH_AT, "leader epoch"),
        (LAST_OFFSET_DELTA_AT, "last offset delta"),
        (RECORD_COUNT_AT, "record count"),
    ] {
        let bad = changed(at, &(-2_i32).to_be_bytes());
        assert_eq!(parse(&bad), BatchError::Negative { field, value: -2 });
    }
    let bad = changed(BASE_OFFSET_AT, &(-1_i64).to_be_bytes());
    assert_eq!(
        parse(&bad),
        BatchError::Negative {
            field: "base offset",
            value: -1
        }
    );
    let bad = changed(RECORD_COUNT_AT, &4_i32.to_be_bytes());
    assert_eq!(
        parse(&bad),
        BatchError::Counts {
            record_count: 4,
            last_offset_delta: 2
        }
    );
    let mut bad = good.clone();
    bad[CRC_AT] ^= 1;
    assert!(matches!(parse(&bad), BatchError::Crc { .. }));

    let too_large = BatchError::TooLarge {
        batch_bytes: size,
        bytes_max: size - 1,
    };
    assert_eq!(verify_producer_batch(&good, size - 1), Err(too_large));
    assert!(verify_producer_batch(&good, size).is_ok());
}

#[test]
fn compacted_batches_are_valid_but_not_from_a_producer() {
    let gap = changed(LAST_OFFSET_DELTA_AT, &9_i32.to_be_bytes());
    let header = verify_batch(&gap).unwrap();
    assert!(!header.has_every_offset());
    assert_eq!(header.next_offset().get(), 10);
    let counts = BatchError::Counts {
        record_count: 3,
        last_offset_delta: 9,
    };
    assert_eq!(verify_producer_batch(&gap, u32::MAX), Err(counts));

    let empty = changed(RECORD_COUNT_AT, &0_i32.to_be_bytes());
    assert_eq!(verify_batch(&empty).unwrap().record_count, 0);
    assert_eq!(
        verify_producer_batch(&empty, u32::MAX),
        Err(BatchError::Empty)
    );
}

#[test]
fn producers_must_not_write_what_brokers_write() {
    let refused = |bad: Vec<u8>| {
        assert!(verify_batch(&bad).is_ok());
        verify_producer_batch(&bad, u32::MAX).unwrap_err()
    };
    for (bit, code) in [
        (CONTROL_BIT, ErrorCode::InvalidBatch),
        (LOG_APPEND_BIT, ErrorCode::InvalidBatch),
        (TRANSACTIONAL_BIT, ErrorCode::Unsupported),
    ] {
        assert_eq!(
            refused(changed(ATTRIBUTES_AT, &bit.to_be_bytes())).code(),
            code
        );
    }
    let error = refused(changed(MAX_TIMESTAMP_AT, &999_i64.to_be_bytes()));
    assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    // Bits that mean nothing yet are nobody's business.
    assert!(verify_producer_batch(&changed(ATTRIBUTES_AT, &[0xff, 0xc0]), u32::MAX).is_ok());
}

#[test]
fn a_producer_stamp_is_whole_or_missing() {
    let stamped = |id: i64, epoch: i16, sequence: i32| {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&epoch.to_be_bytes());
        bytes.extend_from_slice(&sequence.to_be_bytes());
        verify_producer_batch(&changed(PRODUCER_ID_AT, &bytes), u32::MAX)
    };
    assert!(stamped(0, 0, 0).unwrap().producer.is_some());
    assert!(stamped(i64::MAX, i16::MAX, i32::MAX).is_ok());
    assert_eq!(stamped(-1, -1, -1).unwrap().producer, None);
    for (id, epoch, sequence) in [(-1, 0, 0), (-1, -1, 0), (-1, 0, -1), (5, 0, -1)] {
        let error = stamped(id, epoch, sequence).unwrap_err();
        assert_eq!(error, BatchError::PartialProducer);
        assert_eq!(error.code(), ErrorCode::InvalidBatch);
    }
    assert!(stamped(5, -1, 0).is_err(), "an id without epoch");
}

#[test]
fn a_producer_stamp_round_trips() {
    let stamp = ProducerStamp {
        id: ProducerId::new(i64::MAX as u64),
        epoch: ProducerEpoch::new(i16::MAX as u16),
        base_sequence: Some(Sequence::new(i32::MAX as u32)),
    };
    for stamp in [
        stamp,
        ProducerStamp {
            base_sequence: None,
            ..stamp
        },
    ] {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.set_producer(Some(stamp));
        builder.push(Timestamp::default(), None, None, &[]);
        let batch = builder.build();
        assert_eq!(verify_batch(&batch).unwrap().producer, Some(stamp));
    }
}

#[test]
fn a_producer_can_be_named_after_the_batch_was_finished() {
    let producer = Some(ProducerStamp {
        id: ProducerId::new(9),
        epoch: ProducerEpoch::new(2),
        base_sequence: Some(Sequence::new(i32::MAX as u32)),
    });
    let mut batch = batch();
    let before = batch.clone();
    set_producer(&mut batch, producer);
    assert_eq!(verify_batch(&batch).unwrap().producer, producer);
    set_producer(&mut batch, None);
    assert_eq!(batch, before);
}

#[test]
fn batches_are_walked_and_a_cut_one_is_an_error() {
    let one = batch();
    let mut log = one.repeat(3);
    let offsets: Vec<_> = Batches::new(&log)
        .map(|item| item.unwrap().1.len())
        .collect();
    assert_eq!(offsets, [one.len(); 3]);

    log.truncate(one.len() * 2 + 70);
    let mut batches = Batches::new(&log);
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().unwrap().is_ok());
    let error = BatchError::TooShort {
        needed: one.len(),
        have: 70,
    };
    assert_eq!(batches.next(), Some(Err(error)));
    assert_eq!(batches.next(), None);
    assert_eq!(batches.position(), one.len() * 2);
    assert_eq!(Batches::new(&[]).next(), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        plausible: bool,
    ) {
        if plausible && bytes.len() > 20 {
            let length = (bytes.len() - LOG_OVERHEAD) as u32;
            bytes[LENGTH_AT..LEADER_EPOCH_AT].copy_from_slice(&length.to_be_bytes());
            bytes[MAGIC_AT] = MAGIC;
        }
        crate::fuzzing::record_batch(&bytes);
    }
}
