//! Making batches out of records.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use highwater_benches::{BATCH_BYTES, TIME, VALUE_BYTES, value};
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;

fn main() {
    divan::main();
}

/// Records into a batch of 1 MiB, as in a producer at full speed.
#[divan::bench(args = VALUE_BYTES)]
fn full_batch(bencher: Bencher<'_, '_>, value_bytes: usize) {
    let value = value(value_bytes);
    let records = BATCH_BYTES / (value_bytes + 12);
    let mut builder = BatchBuilder::with_chunk_bytes(Compression::None, None, BATCH_BYTES);
    bencher
        .counter(ItemsCount::new(records))
        .counter(BytesCount::new(records * value_bytes))
        .bench_local(|| {
            for _ in 0..records {
                builder.push(TIME, None, Some(&value), &[]);
            }
            builder.build()
        });
}

/// One record, as in a producer that sends each by itself.
#[divan::bench(args = VALUE_BYTES)]
fn single_record(bencher: Bencher<'_, '_>, value_bytes: usize) {
    let value = value(value_bytes);
    let mut builder = BatchBuilder::new(Compression::None, None);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        builder.push(TIME, None, Some(&value), &[]);
        builder.build()
    });
}

/// A batch of 64 KiB with each codec.
#[divan::bench(args = ["none", "lz4", "zstd", "snappy", "gzip"])]
fn with_codec(bencher: Bencher<'_, '_>, codec: &str) {
    let codec: Compression = codec.parse().expect("the names of the codecs");
    let value = value(1024);
    let mut builder = BatchBuilder::new(codec, None);
    bencher
        .counter(BytesCount::new(64 * value.len()))
        .bench_local(|| {
            for _ in 0..64 {
                builder.push(TIME, None, Some(&value), &[]);
            }
            builder.build()
        });
}
