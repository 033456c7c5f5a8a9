//! Appending batches to a log, without syncing it.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use highwater_benches::{TIME, batch};
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, PartitionId, TopicId, TopicName};
use highwater_storage::{Durability, Engine, EngineOptions, Log, LogOptions, PartitionMeta};
use tempfile::TempDir;

fn main() {
    divan::main();
}

/// Beyond this the log is begun anew: the disk is not what is measured.
const LOG_BYTES_MAX: u64 = 512 << 20;

/// A log in a directory of its own.
struct Fresh {
    log: Arc<Log>,
    engine: Arc<Engine>,
    _directory: TempDir,
}

impl Fresh {
    fn new() -> Fresh {
        let directory = tempfile::tempdir().expect("a temporary directory");
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
        Fresh {
            log,
            engine,
            _directory: directory,
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.engine.close().expect("an engine that closes");
    }
}

/// One batch per append: a single record of 100 bytes, 16 KiB, 1 MiB.
#[divan::bench(args = [180, 16 << 10, 1 << 20])]
fn append(bencher: Bencher<'_, '_>, batch_bytes: usize) {
    let batch = batch(Compression::None, 100, batch_bytes);
    let mut fresh = Fresh::new();
    bencher
        .counter(BytesCount::new(batch.len()))
        .bench_local(|| {
            if fresh.log.size_bytes() > LOG_BYTES_MAX {
                fresh = Fresh::new();
            }
            fresh
                .log
                .append(&batch, LeaderEpoch::new(0), TIME)
                .expect("room on the disk")
        });
}
