//! Checking batches and taking records out of them.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use highwater_benches::{BATCH_BYTES, VALUE_BYTES, batch};
use highwater_protocol::compression::Compression;
use highwater_protocol::record::{RecordIter, RecordLimits, records_ref};
use highwater_protocol::record_batch::{BatchHeader, verify_batch};

fn main() {
    divan::main();
}

/// What the broker does with every batch that comes in.
#[divan::bench(args = VALUE_BYTES)]
fn verify(bencher: Bencher<'_, '_>, value_bytes: usize) {
    let batch = batch(Compression::None, value_bytes, BATCH_BYTES);
    bencher
        .counter(BytesCount::new(batch.len()))
        .bench(|| verify_batch(divan::black_box(&batch)));
}

/// Records borrowed from the batch.
#[divan::bench(args = VALUE_BYTES)]
fn borrowed(bencher: Bencher<'_, '_>, value_bytes: usize) {
    let batch = batch(Compression::None, value_bytes, BATCH_BYTES);
    let header = BatchHeader::parse(&batch).expect("a batch of our own");
    bencher
        .counter(ItemsCount::new(header.record_count))
        .counter(BytesCount::new(batch.len()))
        .bench(|| {
            let records = records_ref(divan::black_box(&batch)).expect("a batch of our own");
            records
                .filter_map(Result::ok)
                .map(|record| record.value.map_or(0, <[u8]>::len))
                .sum::<usize>()
        });
}

/// Records that keep the batch alive, unpacked first where it is compressed.
#[divan::bench(args = ["none", "lz4", "zstd", "snappy", "gzip"])]
fn owned(bencher: Bencher<'_, '_>, codec: &str) {
    let codec: Compression = codec.parse().expect("the names of the codecs");
    let batch = batch(codec, 1024, BATCH_BYTES);
    let header = BatchHeader::parse(&batch).expect("a batch of our own");
    bencher
        .counter(ItemsCount::new(header.record_count))
        .bench(|| {
            let records = RecordIter::new(batch.clone(), RecordLimits::default());
            records
                .expect("a batch of our own")
                .filter_map(Result::ok)
                .count()
        });
}
