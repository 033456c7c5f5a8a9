//! Reading from a log that is in the page cache.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use highwater_benches::{TIME, batch};
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, TopicId, TopicName};
use highwater_storage::{Durability, Engine, EngineOptions, Log, LogOptions, PartitionMeta};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const LOG_BYTES: u64 = 64 << 20;

fn filled(directory: &TempDir) -> (Arc<Engine>, Arc<Log>) {
    let engine = Engine::open(directory.path(), EngineOptions::default()).expect("an engine");
    let meta = PartitionMeta {
        topic_id: TopicId::random(),
        topic: TopicName::new("bench").expect("a valid name"),
        partition: PartitionId::new(0),
    };
    let options = LogOptions {
        durability: Durability::Replicated,
        ..LogOptions::default()
    };
    let log = engine.create_log(meta, options).expect("a log");
    let batch = batch(Compression::None, 1024, 16 << 10);
    while log.size_bytes() < LOG_BYTES {
        log.append(&batch, LeaderEpoch::new(0), TIME)
            .expect("room on the disk");
    }
    (engine, log)
}

/// The whole log in steps of about 1 MiB, as a consumer that catches up.
#[divan::bench]
fn catch_up(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (engine, log) = filled(&directory);
    bencher.counter(BytesCount::new(LOG_BYTES)).bench_local(|| {
        let mut from = log.log_start();
        while from < log.end() {
            let slice = log.read(from, log.end(), 1 << 20).expect("a readable log");
            divan::black_box(&slice.records);
            from = slice.next;
        }
    });
    engine.close().expect("an engine that closes");
}

/// One batch anywhere, found by the index.
#[divan::bench]
fn any_offset(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (engine, log) = filled(&directory);
    let end = log.end().get();
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 7919) % end;
        log.read(Offset::new(offset), log.end(), 1)
            .expect("a readable log")
    });
    engine.close().expect("an engine that closes");
}
