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
