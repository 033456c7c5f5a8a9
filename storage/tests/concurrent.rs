//! One appender, readers that follow it, a flusher and a trimmer, all at the same time.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_protocol::record_batch::{Batches, verify_batch};
use highwater_storage::{Durability, Engine, EngineOptions, Log, LogOptions};
use support::{at, batch, epoch, meta, ms};

const RECORDS: u64 = 30_000;

/// Follows the log to its end and checks every byte; `seen` says how far it is.
fn follow(log: &Log, seen: &AtomicU64, bytes_max: usize) {
    let mut next = 0;
    while next < RECORDS {
        let slice = log.read(at(next), log.end(), bytes_max).unwrap();
        log.bring_in(&slice).unwrap();
        for item in Batches::new(&slice.records) {
            let (header, bytes) = item.unwrap();
            verify_batch(bytes).unwrap();
            assert_eq!(header.base_offset, at(next));
            next = header.next_offset().get();
        }
        assert_eq!(slice.next, at(next));
        seen.store(next, Ordering::Release);
        if slice.records.is_empty() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn readers_see_whole_batches_in_order_while_everything_else_goes_on() {
    for durability in [Durability::Synced, Durability::Replicated] {
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            mapped_segments_max: 2,
            ..EngineOptions::default()
        };
        let engine = Engine::open(dir.path(), options).unwrap();
        let log_options = LogOptions {
            segment_bytes: 200 << 10,
            flush_bytes: 64 << 10,
            flush_interval_ms: 5,
            durability,
            ..LogOptions::default()
        };
        let log = engine.create_log(meta(0), log_options.clone()).unwrap();
        let seen = [AtomicU64::new(0), AtomicU64::new(0)];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut n = 0u64;
                while log.end().get() < RECORDS {
                    n += 1;
                    let left = RECORDS - log.end().get();
                    let records = usize::try_from((n % 40 + 1).min(left)).unwrap();
                    // Some appends are large enough to be written rather than copied.
                    let bytes = if n.is_multiple_of(7) { 2000 } else { 50 };
                    let now = ms(i64::try_from(n).unwrap());
                    log.append(&batch(records, bytes, now.millis(), n), epoch(1), now)
                        .unwrap();
                    if n.is_multiple_of(5) {
                        log.request_flush();
                    }
                }
            });
            scope.spawn(|| follow(&log, &seen[0], 1));
            scope.spawn(|| follow(&log, &seen[1], 100 << 10));
            scope.spawn(|| {
                let mut trimmed = 0;
                while trimmed < RECORDS {
                    let slowest = seen.iter().map(|seen| seen.load(Ordering::Acquire)).min();
                    trimmed = slowest.unwrap();
                    assert!(log.trim_prefix(at(trimmed)).unwrap() >= at(trimmed));
                    let durable = log.flush().unwrap();
                    assert!(durable <= log.end());
                    let _ = log.offset_at_time(ms(10), log.end()).unwrap();
                }
            });
        });
        assert_eq!(log.flush().unwrap(), at(RECORDS));
        assert_eq!(log.log_start(), at(RECORDS));
        drop((log, engine));
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        let opened = engine.open_logs(&|_| Some(log_options.clone()), &|_| {});
        let log: &Arc<Log> = &opened[0].result.as_ref().unwrap().0;
        assert_eq!((log.log_start(), log.end()), (at(RECORDS), at(RECORDS)));
    }
}
