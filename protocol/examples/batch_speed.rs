//! How fast batches are built and read here: `cargo run --release -p highwater-protocol --example batch_speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::Timestamp;
use highwater_protocol::record::{RecordIter, RecordLimits, records_ref};
use highwater_protocol::record_batch::verify_producer_batch;

const BATCH_BYTES: usize = 1 << 20;
const ROUNDS: usize = 300;

fn main() {
    println!("{:<34} {:>10} {:>10}", "", "ns/record", "GB/s");
    for size in [100, 1024] {
        let value: Vec<u8> = (0..size)
            .map(|at| b"the quick brown fox "[at % 20])
            .collect();
        for key in [None, Some(&b"some-key"[..])] {
            let with = if key.is_some() { "with key" } else { "no key" };
            let name = |what: &str| format!("{what}, {size} B, {with}");
            let mut builder = BatchBuilder::with_chunk_bytes(Compression::None, None, BATCH_BYTES);
            let batch = fill(&mut builder, key, &value);
            let records = u64::from(
                verify_producer_batch(&batch, u32::MAX)
                    .expect("valid")
                    .record_count,
            );

            report(&name("push and build"), records, batch.len(), || {
                black_box(fill(&mut builder, key, &value));
            });
            report(&name("verify"), records, batch.len(), || {
                black_box(verify_producer_batch(&batch, u32::MAX).expect("valid"));
            });
            report(&name("read borrowed"), records, batch.len(), || {
                let mut sum = 0;
                for record in records_ref(&batch).expect("plain") {
                    let record = record.expect("valid");
                    sum += record.offset.get() + record.value.map_or(0, |value| value.len() as u64);
                }
                black_box(sum);
            });
            report(&name("read owned"), records, batch.len(), || {
                for record in
                    RecordIter::new(batch.clone(), RecordLimits::default()).expect("plain")
                {
                    black_box(record.expect("valid"));
                }
            });
        }
    }
    let lines: Vec<String> = (0..10_000)
        .map(|n: u64| {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!(
                r#"{{"id":{n},"user":"user-{}","amount":{},"state":"paid"}}"#,
                hash % 977,
                hash >> 40
            )
        })
        .collect();
    for codec in Compression::ALL
        .iter()
        .filter(|codec| **codec != Compression::Gzip)
    {
        let mut builder = BatchBuilder::new(*codec, None);
        let fill = |builder: &mut BatchBuilder| {
            for line in &lines {
                builder.push(Timestamp::from_millis(0), None, Some(line.as_bytes()), &[]);
            }
            let plain = builder.len_bytes();
            (plain, builder.build())
        };
        let (plain, batch) = fill(&mut builder);
        let ratio = plain as f64 / batch.len() as f64;
        report(
            &format!("{codec} x{ratio:.1} push and build"),
            10_000,
            plain,
            || {
                black_box(fill(&mut builder));
            },
        );
        report(&format!("{codec} read borrowed"), 10_000, plain, || {
            let mut records =
                RecordIter::new(batch.clone(), RecordLimits::default()).expect("valid");
            while let Some(record) = records.next_ref() {
                black_box(record.expect("valid"));
            }
        });
    }
}

fn fill(builder: &mut BatchBuilder, key: Option<&[u8]>, value: &[u8]) -> bytes::Bytes {
    while builder.len_bytes() + value.len() + 100 < BATCH_BYTES {
        builder.push(
            Timestamp::from_millis(1_700_000_000_000),
            key,
            Some(value),
            &[],
        );
    }
    builder.build()
}

/// Best of some rounds: what other load on the machine does not explain.
fn report(name: &str, records: u64, bytes: usize, mut work: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    let nanos = best.as_nanos() as f64;
    println!(
        "{name:<34} {:>10.2} {:>10.2}",
        nanos / records as f64,
        bytes as f64 / nanos
    );
}
