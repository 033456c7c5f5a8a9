//! A log on the real file system: what it is asked for and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_storage::{Engine, EngineOptions, Log, LogOptions, OpenError, ReadError};
use support::{at, batch, epoch, meta, ms, ranges};

fn small_segments() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        index_interval_bytes: 500,
        ..LogOptions::default()
    }
}

fn open(dir: &std::path::Path) -> Arc<Engine> {
    Engine::open(dir, EngineOptions::default()).unwrap()
}

fn reopen(dir: &std::path::Path, options: &LogOptions) -> (Arc<Engine>, Arc<Log>) {
    let engine = open(dir);
    let mut opened = engine.open_logs(&|_| Some(options.clone()), &|_| {});
    assert_eq!(opened.len(), 1);
    let (log, _) = opened.pop().unwrap().result.unwrap();
    (engine, log)
}

/// Reads all offsets from the start, in steps of about `bytes_max`.
fn read_all(log: &Log, bytes_max: usize) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut from = log.log_start();
    loop {
        let slice = log.read(from, log.end(), bytes_max).unwrap();
        if slice.records.is_empty() {
            return found;
        }
        log.bring_in(&slice).unwrap();
        found.extend(ranges(&slice.records));
        assert_eq!(found.last().unwrap().1, slice.next.get());
        from = slice.next;
    }
}

fn fill(log: &Log, batches: u64) {
    for n in 0..batches {
        let now = i64::try_from(n).unwrap();
        let appended = log
            .append(&batch(3, 100, now, n), epoch(1), ms(now))
            .unwrap();
        assert_eq!(appended.base_offset, at(n * 3));
        assert_eq!(log.end(), at(n * 3 + 3));
    }
}

#[test]
fn what_was_appended_is_read_back_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<_> = (0..300u64).map(|n| (n * 3, n * 3 + 3)).collect();
    let options = small_segments();
    {
        let engine = open(dir.path());
        assert!(!engine.was_clean());
        let log = engine.create_log(meta(0), options.clone()).unwrap();
        fill(&log, 300);
        assert!(log.segment_count() > 5, "{log:?}");
        for bytes_max in [1, 1000, 5000, 1 << 20] {
            assert_eq!(read_all(&log, bytes_max), expected, "{bytes_max}");
        }
        assert_eq!(log.flush().unwrap(), at(900));
        assert_eq!(log.durable_end(), at(900));
        // No close: as after a kill.
    }
    {
        let (engine, log) = reopen(dir.path(), &options);
        assert!(!engine.was_clean());
        assert_eq!(read_all(&log, 1 << 20), expected);
        log.append(&batch(1, 10, 5, 5), epoch(2), ms(5)).unwrap();
        engine.close().unwrap();
        assert!(log.append(&batch(1, 10, 5, 5), epoch(2), ms(5)).is_err());
    }
    let (engine, log) = reopen(dir.path(), &options);
    assert!(engine.was_clean());
    assert_eq!(log.end(), at(901));
    assert_eq!(log.durable_end(), at(901));
    assert_eq!(log.latest_epoch(), Some(epoch(2)));
    assert_eq!(read_all(&log, 5000).len(), 301);
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset_and_ends_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.create_log(meta(0), small_segments()).unwrap();
    fill(&log, 40);
    for from in 0..120 {
        let slice = log.read(at(from), at(120), 1).unwrap();
        assert_eq!(
            ranges(&slice.records),
            [(from / 3 * 3, from / 3 * 3 + 3)],
            "{from}"
        );
    }
    for bound in 1..120 {
        let slice = log.read(at(0), at(bound), 4000).unwrap();
        assert!(slice.next.get() <= bound.next_multiple_of(3), "{bound}");
        assert_eq!(ranges(&slice.records).last().unwrap().1, slice.next.get());
    }
    let empty = log.read(at(60), at(60), 100).unwrap();
    assert!(empty.records.is_empty() && empty.next == at(60) && empty.resident);
    assert!(matches!(
        log.read(at(121), at(200), 1),
        Err(ReadError::OutOfRange { .. })
    ));
}

#[test]
fn a_flush_request_moves_the_durable_end_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let (told, hear) = std::sync::mpsc::channel();
    engine.on_durable(Box::new(move |log| {
        let _ = told.send(log.durable_end());
    }));
    let log = engine.create_log(meta(0), LogOptions::default()).unwrap();
    fill(&log, 10);
    log.request_flush();
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.durable_end() < at(30) {
        hear.recv_timeout(deadline - Instant::now())
            .expect("the flusher tells");
    }
    assert!(engine.stats().syncs >= 1);
}

#[test]
fn records_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.create_log(meta(0), small_segments()).unwrap();
    fill(&log, 300);
    for time in [0, 1, 57, 123, 299] {
        let found = log.offset_at_time(ms(time), log.end()).unwrap();
        let offset = u64::try_from(time).unwrap() * 3;
        assert_eq!(found, Some((at(offset), ms(time))));
    }
    assert_eq!(log.offset_at_time(ms(300), log.end()).unwrap(), None);
    assert_eq!(
        log.offset_at_time(ms(200), at(600)).unwrap(),
        None,
        "behind the bound"
    );
    assert_eq!(
        log.max_timestamp(log.end()).unwrap(),
        Some((at(897), ms(299)))
    );
    log.trim_prefix(at(301)).unwrap();
    assert_eq!(
        log.offset_at_time(ms(0), log.end()).unwrap(),
        Some((at(301), ms(100)))
    );
}

#[test]
fn a_second_engine_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Engine::open(dir.path(), EngineOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_deleted_log_is_gone_and_its_readers_keep_what_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.create_log(meta(0), small_segments()).unwrap();
    fill(&log, 100);
    let slice = log.read(at(0), log.end(), 1 << 20).unwrap();
    let before = slice.records.to_vec();
    engine.delete_log(&meta(0)).unwrap();
    assert!(log.append(&batch(1, 1, 1, 1), epoch(1), ms(1)).is_err());
    assert!(matches!(
        log.read(at(0), at(1), 1),
        Err(ReadError::Offline(_))
    ));
    assert_eq!(slice.records, before);
    let log = engine.create_log(meta(0), small_segments()).unwrap();
    assert_eq!(log.end(), at(0));
}

#[test]
fn readers_keep_what_truncation_and_trimming_take_away() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let options = small_segments();
    let log = engine.create_log(meta(0), options.clone()).unwrap();
    fill(&log, 100);
    let tail = log.read(at(270), log.end(), 1 << 20).unwrap();
    let head = log.read(at(0), log.end(), 1 << 20).unwrap();
    let (tail_before, head_before) = (tail.records.to_vec(), head.records.to_vec());
    assert_eq!(
        log.truncate_suffix(at(275)).unwrap(),
        at(273),
        "whole batches"
    );
    assert_eq!(log.trim_prefix(at(150)).unwrap(), at(150));
    log.append(&batch(2, 3000, 7, 7), epoch(3), ms(7)).unwrap();
    assert_eq!(
        (&tail.records[..], &head.records[..]),
        (&tail_before[..], &head_before[..])
    );
    let now = read_all(&log, 1 << 20);
    assert_eq!(now.first().unwrap().0, 150);
    assert_eq!(now.last().unwrap(), &(273, 275));
    drop((tail, head, log, engine));
    let (_engine, log) = reopen(dir.path(), &options);
    assert_eq!(read_all(&log, 1 << 20), now);
    assert_eq!(log.log_start(), at(150));
    assert_eq!(log.end_offset_for(epoch(1)).unwrap().end_offset, at(273));
}

#[test]
fn retention_deletes_old_segments_and_nothing_past_the_high_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let options = LogOptions {
        retention_ms: Some(100),
        segment_ms: 1000,
        ..small_segments()
    };
    let log = engine.create_log(meta(0), options).unwrap();
    fill(&log, 300);
    let kept = log.apply_retention(ms(10_000), at(0)).unwrap();
    assert_eq!((kept.segments, kept.log_start), (0, at(0)));
    let outcome = log.apply_retention(ms(10_000), at(450)).unwrap();
    assert!(
        outcome.segments > 1 && outcome.log_start <= at(450),
        "{outcome:?}"
    );
    assert_eq!(log.log_start(), outcome.log_start);
    log.apply_retention(ms(10_000), log.end()).unwrap();
    assert_eq!(
        log.log_start(),
        log.end(),
        "the aged active segment was finished and deleted"
    );
    log.append(&batch(1, 1, 1, 1), epoch(1), ms(10_001))
        .unwrap();
    assert_eq!(read_all(&log, 10), [(900, 901)]);
}

#[test]
fn many_idle_logs_take_no_space_and_open_quickly() {
    let dir = tempfile::tempdir().unwrap();
    {
        let engine = open(dir.path());
        let metas = (0..500).map(|n| (meta(n), LogOptions::default())).collect();
        assert_eq!(engine.create_logs(metas).unwrap().len(), 500);
        engine.close().unwrap();
    }
    let engine = open(dir.path());
    let opened = engine.open_logs(&|_| Some(LogOptions::default()), &|_| {});
    assert_eq!(opened.len(), 500);
    assert!(
        opened.iter().all(|log| log.result.as_ref().unwrap().1.clean
            || log.result.as_ref().unwrap().1.segments == 0)
    );
    let files = std::fs::read_dir(&opened[0].path).unwrap().count();
    assert_eq!(files, 1, "only the file that names the partition");
}

#[test]
fn few_sealed_segments_stay_mapped_and_readers_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let options = small_segments();
    {
        let engine = open(dir.path());
        let log = engine.create_log(meta(0), options.clone()).unwrap();
        fill(&log, 600);
        engine.close().unwrap();
    }
    let engine_options = EngineOptions {
        mapped_segments_max: 3,
        ..EngineOptions::default()
    };
    let engine = Engine::open(dir.path(), engine_options).unwrap();
    let opened = engine.open_logs(&|_| Some(options.clone()), &|_| {});
    let log = &opened[0].result.as_ref().unwrap().0;
    assert!(log.segment_count() > 10);
    let first = log.read(at(0), log.end(), 1 << 20).unwrap();
    let before = first.records.to_vec();
    assert_eq!(read_all(log, 1 << 20).len(), 600);
    assert!(engine.stats().mapped_segments <= 3, "{:?}", engine.stats());
    assert_eq!(first.records, before);
    assert_eq!(
        read_all(log, 5000).len(),
        600,
        "and what was let go is mapped again"
    );
}

#[test]
fn an_old_segment_is_finished_by_the_next_append() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let options = LogOptions {
        segment_ms: 1000,
        ..LogOptions::default()
    };
    let log = engine.create_log(meta(0), options).unwrap();
    for (now, segments) in [(5000, 1), (5999, 1), (6000, 2), (6999, 2), (7000, 3)] {
        log.append(&batch(1, 10, now, 0), epoch(1), ms(now))
            .unwrap();
        assert_eq!(log.segment_count(), segments, "at {now}");
    }
}

#[test]
fn a_follower_takes_what_fits_behind_its_end_and_nothing_else() {
    use highwater_protocol::record_batch::stamp;
    use highwater_storage::AppendError;
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let log = engine.create_log(meta(0), small_segments()).unwrap();
    let stamped = |base, of| {
        let mut bytes = batch(2, 100, 1, base);
        stamp(&mut bytes, at(base), epoch(of));
        bytes
    };
    let two = [stamped(0, 3), stamped(2, 4)].concat();
    assert_eq!(
        log.append_replicated(&two, ms(1)).unwrap().end_offset,
        at(4)
    );
    let refused = |bytes: &[u8]| log.append_replicated(bytes, ms(1)).unwrap_err();
    assert!(matches!(
        refused(&stamped(5, 4)),
        AppendError::NotContiguous { .. }
    ));
    assert!(matches!(
        refused(&stamped(4, 3)),
        AppendError::EpochWentBack { .. }
    ));
    assert!(matches!(
        refused(&batch(2, 100, 1, 1)),
        AppendError::NotContiguous { .. }
    ));
    let half = [stamped(4, 4), stamped(7, 4)].concat();
    assert!(
        matches!(refused(&half), AppendError::NotContiguous { .. }),
        "all or none"
    );
    assert!(matches!(
        refused(&two[..two.len() - 1]),
        AppendError::NotContiguous { .. }
    ));
    assert!(matches!(refused(&[]), AppendError::Empty));
    assert_eq!(log.end(), at(4));
    assert_eq!(log.end_offset_for(epoch(3)).unwrap().end_offset, at(2));
    let bytes = log.read(at(0), log.end(), 1 << 20).unwrap().records;
    assert_eq!(bytes, two, "stored exactly as received");
}
