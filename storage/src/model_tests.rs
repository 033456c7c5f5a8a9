//! The engine against a model, on a disk that loses power.
//!
//! What is held here (`docs/STORAGE.md` has the list):
//! - S1 after a crash the log is a prefix of what was written, on batch boundaries, with everything
//!   before the durable end
//! - S2 recovery comes to the same result when it is interrupted at any of its steps and repeated
//! - S3 indexes and epochs are what a rebuild from the batches gives
//! - S4 the durable end is never ahead of what survives
//! - S8 the start never goes back

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::record_batch::{Batches, verify_batch};
use proptest::prelude::*;

use crate::epoch_checkpoint::EpochCache;
use crate::error::{DamageKind, OpenError};
use crate::layout::SegmentFileKind;
use crate::sim_disk::{Dice, SimDisk};
use crate::{
    AppendError, Background, Durability, Engine, EngineOptions, Log, LogOptions, OfflineReason,
    PartitionMeta, RecoveryReport, StorageError,
};

const INTERVAL: u32 = 300;

fn meta() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes([1; 16]),
        topic: TopicName::new("model").unwrap(),
        partition: PartitionId::new(0),
    }
}

fn dir() -> PathBuf {
    Path::new("/data").join(meta().dir_name())
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 12 << 10,
        index_interval_bytes: INTERVAL,
        durability: Durability::Synced,
        ..LogOptions::default()
    }
}

fn batch(records: usize, bytes: usize, timestamp: i64, tag: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, None);
    for n in 0..records {
        let mut value = format!("{tag}:{n}:").into_bytes();
        value.resize(bytes.max(value.len()), u8::try_from(tag % 250).unwrap());
        builder.push(Timestamp::from_millis(timestamp), None, Some(&value), &[]);
    }
    builder.build().to_vec()
}

/// A batch as it must be in the log.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    base: u64,
    next: u64,
    bytes: Vec<u8>,
    epoch: u32,
}

#[derive(Debug, Clone, Default)]
struct Model {
    start: u64,
    batches: Vec<Written>,
    /// The end if there is no batch.
    empty_end: u64,
    /// Everything before this must survive.
    durable: u64,
    epoch: u32,
    tag: u64,
}

impl Model {
    fn end(&self) -> u64 {
        self.batches.last().map_or(self.empty_end, |last| last.next)
    }

    fn cut(&mut self, end: u64) {
        if let Some(first) = self.batches.first() {
            self.empty_end = first.base;
        }
        self.batches.retain(|written| written.next <= end);
        if self.batches.is_empty() {
            self.empty_end = self.empty_end.max(end.min(self.empty_end));
        }
        self.durable = self.durable.min(self.end());
    }

    /// Largest batch boundary not behind an offset.
    fn boundary(&self, to: u64) -> u64 {
        let floor = self.batches.iter().rev().find(|written| written.next <= to);
        let first = self
            .batches
            .first()
            .map_or(self.empty_end, |first| first.base);
        if to >= self.end() {
            self.end()
        } else {
            floor.map_or(first, |written| written.next)
        }
    }
}

/// A log on a simulated disk, with its model.
struct Harness {
    disk: SimDisk,
    engine: Option<Arc<Engine>>,
    log: Option<Arc<Log>>,
    model: Model,
}

impl Harness {
    fn new() -> Self {
        let mut harness = Self {
            disk: SimDisk::new(),
            engine: None,
            log: None,
            model: Model {
                epoch: 1,
                ..Model::default()
            },
        };
        harness.start_engine().unwrap();
        let engine = harness.engine.as_ref().unwrap();
        harness.log = Some(engine.create_log(meta(), options()).unwrap());
        harness
    }

    fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            disk: Arc::new(self.disk.clone()),
            background: Background::Manual,
            allocation_bytes_min: 4096,
            allocation_bytes_max: 8192,
            mapped_segments_max: 2,
            ..EngineOptions::default()
        }
    }

    fn start_engine(&mut self) -> Result<(), OpenError> {
        self.engine = Some(Engine::open(Path::new("/data"), self.engine_options())?);
        Ok(())
    }

    fn log(&self) -> &Arc<Log> {
        self.log.as_ref().expect("the log is open")
    }

    fn stop(&mut self) {
        self.log = None;
        self.engine = None;
    }

    fn open(&mut self) -> Result<RecoveryReport, OpenError> {
        self.start_engine()?;
        let engine = self.engine.as_ref().unwrap();
        let mut opened = engine.open_logs(&|_| Some(options()), &|_| {});
        let (log, report) = opened.pop().expect("the directory is there").result?;
        self.log = Some(log);
        Ok(report)
    }

    fn crash(&mut self, dice: &mut Dice) {
        self.stop();
        self.disk.crash(dice);
    }

    fn append(&mut self, batches: usize, records: usize, bytes: usize) -> Result<(), AppendError> {
        let mut input = Vec::new();
        let mut written = Vec::new();
        let mut next = self.model.end();
        for _ in 0..batches {
            self.model.tag += 1;
            let timestamp = i64::try_from(self.model.tag).unwrap();
            let mut one = batch(records, bytes, timestamp, self.model.tag);
            input.extend_from_slice(&one);
            let base = next;
            next += records as u64;
            let epoch = LeaderEpoch::new(self.model.epoch);
            highwater_protocol::record_batch::stamp(&mut one, Offset::new(base), epoch);
            written.push(Written {
                base,
                next,
                bytes: one,
                epoch: self.model.epoch,
            });
        }
        let now = Timestamp::from_millis(i64::try_from(self.model.tag).unwrap());
        let epoch = LeaderEpoch::new(self.model.epoch);
        let appended = self.log().append(&input, epoch, now)?;
        assert_eq!(appended.base_offset.get(), self.model.end());
        assert_eq!(appended.end_offset.get(), next);
        self.model.batches.extend(written);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let answer = self.log().flush();
        // Also after a failure: what is said to be durable is.
        self.model.durable = self.model.durable.max(self.log().durable_end().get());
        let end = answer?;
        assert_eq!(end.get(), self.model.end());
        Ok(())
    }

    fn truncate(&mut self, to: u64) -> Result<(), StorageError> {
        let expected = self.model.boundary(to);
        match self.log().truncate_suffix(Offset::new(to)) {
            Ok(end) => {
                assert_eq!(end.get(), expected);
                self.model.cut(expected);
                Ok(())
            }
            Err(error) => {
                self.model.durable = self.model.durable.min(expected);
                Err(error)
            }
        }
    }

    fn trim(&mut self, to: u64) -> Result<(), StorageError> {
        let start = self.log().trim_prefix(Offset::new(to))?;
        self.model.start = self.model.start.max(to);
        assert_eq!(start.get(), self.model.start);
        Ok(())
    }

    /// The log is a prefix of the model; the model becomes what the log is.
    fn check_recovered(&mut self, context: &str) {
        let log = Arc::clone(self.log());
        let end = log.end().get();
        let start = log.log_start().get();
        assert!(
            end >= self.model.durable,
            "{context}: S1 {end} >= {}",
            self.model.durable
        );
        assert!(
            end <= self.model.end(),
            "{context}: nothing that was cut comes back"
        );
        assert!(
            start >= self.model.start,
            "{context}: S8 {start} >= {}",
            self.model.start
        );
        self.model.start = start;
        let written: Vec<_> = self
            .model
            .batches
            .iter()
            .map(|written| (written.base, written.next))
            .collect();
        self.model.cut(end);
        assert_eq!(
            end,
            self.model.end(),
            "{context}: S1 batch boundaries of {written:?}"
        );
        self.model.durable = self.model.durable.max(log.durable_end().get());
        self.check(context);
    }

    /// Everything that can be asked of the log fits the model.
    fn check(&self, context: &str) {
        let log = self.log();
        let model = &self.model;
        assert_eq!(log.log_start().get(), model.start, "{context}");
        assert_eq!(log.end().get(), model.end(), "{context}");
        assert!(log.durable_end() <= log.end());
        let expected = expected_batches(model);
        let mut from = log.log_start();
        let mut found = Vec::new();
        while from < log.end() {
            let slice = log.read(from, log.end(), 3000).unwrap();
            log.bring_in(&slice).unwrap();
            for item in Batches::new(&slice.records) {
                let (header, bytes) = item.unwrap();
                verify_batch(bytes).unwrap();
                found.push((header.base_offset.get(), bytes.to_vec()));
            }
            assert!(slice.next > from, "{context}: a read goes on");
            from = slice.next;
        }
        assert_eq!(found.len(), expected.len(), "{context}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.0, expected.base, "{context}");
            assert!(found.1 == expected.bytes, "{context}: bytes at {}", found.0);
        }
        self.check_derived(context);
    }

    /// S3: indexes and epochs against a rebuild.
    fn check_derived(&self, context: &str) {
        let log = self.log();
        for segment in log.segment_list().iter() {
            let map = log.map_of(segment).unwrap();
            let rebuilt = segment
                .rebuild_index(&map, segment.log_bytes(), INTERVAL)
                .unwrap();
            segment
                .with_index(log.shared.disk(), &map, |offsets, times| {
                    assert_eq!(
                        offsets, rebuilt.offsets,
                        "{context}: S3 offsets {segment:?}"
                    );
                    assert_eq!(times, rebuilt.times, "{context}: S3 times {segment:?}");
                })
                .unwrap();
            let newest = Batches::new(map.bytes(0..usize::try_from(segment.log_bytes()).unwrap()))
                .map(|item| item.unwrap().0.max_timestamp.millis())
                .max();
            assert_eq!(
                segment.max_timestamp_ms(),
                newest,
                "{context}: newest timestamp"
            );
        }
        let mut naive = EpochCache::default();
        for written in expected_batches(&self.model) {
            naive.assign(LeaderEpoch::new(written.epoch), Offset::new(written.base));
        }
        naive.truncate_prefix(Offset::new(self.model.start));
        for epoch in 0..=self.model.epoch {
            let epoch = LeaderEpoch::new(epoch);
            if naive.latest().is_some_and(|latest| epoch <= latest) {
                let (found, expected) = (
                    log.end_offset_for(epoch),
                    naive.end_offset_for(epoch, log.end()),
                );
                assert_eq!(found, expected, "{context}: S3 epoch {epoch}");
            }
        }
    }
}

/// What can be read of the model.
fn expected_batches(model: &Model) -> Vec<&Written> {
    model
        .batches
        .iter()
        .filter(|written| written.next > model.start)
        .collect()
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        batches: usize,
        records: usize,
        bytes: usize,
    },
    Flush,
    Roll,
    Epoch,
    AssignEpoch,
    Truncate(u64),
    Trim(u64),
    RunPending,
    WriteBack(u64),
    Crash(u64),
    Restart,
    Close,
    FailSync(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1usize..4, 1usize..5, 1usize..900)
            .prop_map(|(batches, records, bytes)| Op::Append { batches, records, bytes }),
        4 => Just(Op::Flush),
        2 => Just(Op::Roll),
        1 => Just(Op::Epoch),
        1 => Just(Op::AssignEpoch),
        2 => (0u64..100).prop_map(Op::Truncate),
        2 => (0u64..100).prop_map(Op::Trim),
        4 => Just(Op::RunPending),
        2 => any::<u64>().prop_map(Op::WriteBack),
        3 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Restart),
        1 => Just(Op::Close),
        1 => (0u64..3).prop_map(Op::FailSync),
    ]
}

/// The log must be online unless a sync failed.
fn or_offline<E: std::fmt::Debug>(answer: Result<(), E>, log: &Log) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) => {
            assert!(log.offline.get().is_some(), "{error:?}");
            false
        }
    }
}

fn run(ops: &[Op]) {
    let mut harness = Harness::new();
    for (n, op) in ops.iter().enumerate() {
        let context = format!("op {n}: {op:?}");
        let mut online = true;
        let log = Arc::clone(harness.log());
        match op {
            Op::Append {
                batches,
                records,
                bytes,
            } => {
                online = or_offline(harness.append(*batches, *records, *bytes), &log);
            }
            Op::Flush => online = or_offline(harness.flush(), &log),
            Op::Roll => online = or_offline(log.roll(), &log),
            Op::Epoch => harness.model.epoch += 1,
            Op::AssignEpoch => {
                harness.model.epoch += 1;
                let epoch = LeaderEpoch::new(harness.model.epoch);
                online = or_offline(log.assign_epoch(epoch), &log);
            }
            Op::Truncate(percent) => {
                let (start, end) = (harness.model.start, harness.model.end());
                let to = start + (end - start) * percent / 100;
                // A follower never cuts below the start of its log.
                if harness.model.boundary(to) >= start {
                    online = or_offline(harness.truncate(to), &log);
                }
            }
            Op::Trim(percent) => {
                let (start, end) = (harness.model.start, harness.model.end());
                let to = start + (end - start) * percent / 99;
                online = or_offline(harness.trim(to.min(end)), &log);
            }
            Op::RunPending => {
                harness.engine.as_ref().unwrap().run_pending();
                online = log.offline.get().is_none();
            }
            Op::WriteBack(seed) => harness.disk.write_back_some(&mut Dice::new(*seed)),
            Op::FailSync(after) => harness.disk.fail_sync_after(*after),
            Op::Crash(seed) => {
                drop(log);
                harness.model.durable =
                    harness.model.durable.max(harness.log().durable_end().get());
                harness.crash(&mut Dice::new(*seed));
                harness.open().unwrap();
                harness.check_recovered(&context);
                continue;
            }
            Op::Restart => {
                drop(log);
                let end = harness.model.end();
                harness.stop();
                harness.disk.restart();
                harness.open().unwrap();
                harness.check_recovered(&context);
                assert_eq!(
                    harness.model.end(),
                    end,
                    "{context}: a killed process loses nothing"
                );
                continue;
            }
            Op::Close => {
                drop(log);
                let closed = harness.engine.as_ref().unwrap().close();
                let end = harness.model.end();
                harness.model.durable =
                    harness.model.durable.max(harness.log().durable_end().get());
                harness.stop();
                harness.disk.restart();
                let report = harness
                    .open()
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                harness.check_recovered(&context);
                if closed.is_ok() && !report.was_poisoned {
                    assert_eq!(harness.model.end(), end, "{context}");
                    assert_eq!(harness.log().durable_end().get(), end, "{context}");
                    assert!(report.clean, "{context}: {report:?}");
                }
                continue;
            }
        }
        harness.model.durable = harness.model.durable.max(log.durable_end().get());
        if online && log.offline.get().is_none() {
            harness.check(&context);
        } else {
            // S5: nothing becomes durable after a failure, and nothing is appended.
            let durable = log.durable_end();
            let epoch = LeaderEpoch::new(1000);
            let now = Timestamp::from_millis(0);
            let refused = log.append(&batch(1, 1, 0, 0), epoch, now).unwrap_err();
            assert!(matches!(refused, AppendError::Offline { .. }));
            assert!(log.flush().is_err());
            assert_eq!(log.durable_end(), durable);
            drop(log);
            harness.stop();
            harness.disk.restart();
            harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_run_fits_the_model(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }
}

/// A run that comes through every kind of operation. Stops at the first failure.
fn scripted(harness: &mut Harness) -> bool {
    let mut trim_to = None;
    let mut go = || -> Result<(), Box<dyn std::error::Error>> {
        harness.append(2, 3, 200)?;
        harness.flush()?;
        harness.append(3, 2, 700)?;
        harness.append(4, 3, 900)?;
        harness.log().roll()?;
        harness.engine.as_ref().unwrap().run_pending();
        harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        harness.append(2, 3, 300)?;
        harness.model.epoch += 1;
        harness
            .log()
            .assign_epoch(LeaderEpoch::new(harness.model.epoch))?;
        harness.append(2, 1, 300)?;
        harness.flush()?;
        harness.append(3, 1, 500)?;
        let end = harness.model.end();
        harness.truncate(end - 5)?;
        harness.model.epoch += 1;
        harness.append(2, 3, 400)?;
        harness.flush()?;
        trim_to = Some(harness.model.batches[7].base);
        harness.trim(trim_to.unwrap_or_default())?;
        harness.append(3, 2, 1500)?;
        harness.engine.as_ref().unwrap().run_pending();
        harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        harness.truncate(harness.model.start + 4)?;
        harness.append(1, 2, 100)?;
        harness.engine.as_ref().unwrap().close()?;
        harness.model.durable = harness.model.end();
        Ok(())
    };
    let whole = go().is_ok();
    if let Some(log) = &harness.log {
        harness.model.durable = harness.model.durable.max(log.durable_end().get());
    }
    whole
}

#[test]
fn a_crash_at_every_operation_of_a_run_is_recovered_from() {
    let mut harness = Harness::new();
    let first = harness.disk.operations();
    assert!(scripted(&mut harness));
    let last = harness.disk.operations();
    assert!(last - first > 100, "{} operations", last - first);
    for at in first..last {
        for seed in 0..4 {
            let mut harness = Harness::new();
            harness.disk.lose_power_at(at);
            assert!(!scripted(&mut harness));
            let mut dice = Dice::new(seed * 1_000_003 + at);
            harness.crash(&mut dice);
            let context = format!("crash at operation {at}, seed {seed}");
            let report = harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
            // S2: a second recovery finds the same, without another cut.
            let end = harness.model.end();
            harness.stop();
            harness.disk.restart();
            let again = harness.open().unwrap();
            assert_eq!(again.end.get(), end, "{context}: {report:?} {again:?}");
            assert_eq!(again.cut_bytes, 0, "{context}");
            harness.check_recovered(&context);
            // And the log can be used.
            harness.model.epoch += 5;
            harness.append(2, 2, 300).unwrap();
            harness.flush().unwrap();
            harness.check(&context);
        }
    }
}

#[test]
fn a_crash_at_every_operation_of_a_recovery_is_recovered_from() {
    let mut harness = Harness::new();
    let first = harness.disk.operations();
    scripted(&mut harness);
    let last = harness.disk.operations();
    for at in (first..last).step_by(7) {
        for step in 0.. {
            let mut harness = Harness::new();
            harness.disk.lose_power_at(at);
            scripted(&mut harness);
            let mut dice = Dice::new(at * 31 + step);
            harness.crash(&mut dice);
            harness.disk.lose_power_at(harness.disk.operations() + step);
            let interrupted = harness.open().is_err();
            if !interrupted {
                break;
            }
            harness.crash(&mut dice);
            let context = format!("crash at {at}, again at step {step} of the recovery");
            harness
                .open()
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            harness.check_recovered(&context);
        }
    }
}

/// A log with several segments, the last of them unsealed and with an unsynced end.
fn mixed_log() -> Harness {
    let mut harness = Harness::new();
    for _ in 0..12 {
        harness.append(3, 2, 400).unwrap();
    }
    harness.flush().unwrap();
    harness.engine.as_ref().unwrap().run_pending();
    harness.append(2, 2, 400).unwrap();
    harness.flush().unwrap();
    harness.append(3, 2, 400).unwrap();
    harness
}

#[test]
fn damage_below_the_recovery_point_is_reported_and_never_cut() {
    // The last segment is not sealed, and its checkpoint is lost, so that it is scanned from its
    // start; the seals before it say what had been durable.
    let mut harness = mixed_log();
    let segments = harness.log().segment_list();
    assert!(segments.len() > 2 && segments[0].is_sealed());
    let (first, last) = (&segments[0], segments.last().unwrap());
    let path = first.path(SegmentFileKind::Log);
    let seal = first.path(SegmentFileKind::Seal);
    let middle = usize::try_from(first.log_bytes() / 2).unwrap();
    let before = harness.disk.content(&path).unwrap();
    let last_path = last.path(SegmentFileKind::Log);
    drop(segments);
    harness.stop();
    harness.disk.restart();
    harness.disk.lose_file(&seal);
    harness.disk.corrupt(&path, middle, 0x40).unwrap();
    let error = harness.open().unwrap_err();
    let OpenError::Damaged(damage) = error else {
        panic!("{error}")
    };
    let found = matches!(
        damage.kind,
        DamageKind::Batch(_) | DamageKind::OffsetGap { .. }
    );
    assert!(found, "{damage}");
    assert!(damage.offset < damage.recovery_point);
    // Nothing was touched.
    harness.stop();
    harness.disk.restart();
    let after = harness.disk.content(&path).unwrap();
    assert_eq!(after.len(), before.len());
    assert!(harness.disk.content(&last_path).is_ok());
    // And when the medium gives the bytes again, so does the log.
    harness.disk.corrupt(&path, middle, 0x40).unwrap();
    harness.open().unwrap();
    harness.check_recovered("repaired");
}

#[test]
fn a_missing_segment_is_damage() {
    for which in 0..2 {
        let mut harness = mixed_log();
        let segments = harness.log().segment_list();
        let path = segments[which].path(SegmentFileKind::Log);
        drop(segments);
        harness.stop();
        harness.disk.restart();
        harness.disk.lose_file(&path);
        let error = harness.open().unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
}

/// Whether a position of the last segment, which ends at `end`, holds the epoch of a batch: Kafka's
/// format leaves it out of the checksum, so only a seal notices another value.
fn in_epoch_field(model: &Model, end: u64, position: u64) -> bool {
    let mut batch_end = end;
    for written in model.batches.iter().rev() {
        let start = batch_end.saturating_sub(written.bytes.len() as u64);
        if position >= start {
            return (12..16).contains(&(position - start));
        }
        batch_end = start;
    }
    false
}

#[test]
fn a_torn_tail_is_cut_and_what_had_been_synced_stays() {
    for seed in 0..60 {
        let mut harness = mixed_log();
        let durable = harness.log().durable_end().get();
        let segments = harness.log().segment_list();
        let last = segments.last().unwrap();
        let path = last.path(SegmentFileKind::Log);
        let end = last.log_bytes();
        let synced = last.synced_bytes.load(std::sync::atomic::Ordering::Relaxed);
        drop(segments);
        let mut dice = Dice::new(seed);
        harness.stop();
        harness.disk.restart();
        let position = synced + dice.below(end - synced);
        if in_epoch_field(&harness.model, end, position) {
            continue;
        }
        harness
            .disk
            .corrupt(&path, usize::try_from(position).unwrap(), 0x10)
            .unwrap();
        let report = harness.open().unwrap();
        assert!(report.cut_bytes > 0 || harness.log().end().get() == harness.model.end());
        harness.check_recovered(&format!("seed {seed}"));
        assert!(harness.log().end().get() >= durable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// One flipped byte anywhere: the log opens with all that had been synced, or is refused; a
    /// file that is a cache or a hint changes nothing at all.
    #[test]
    fn one_bad_byte_never_loses_what_had_been_synced(file in any::<u32>(), place in any::<u32>(), flip in 1u8..) {
        let mut harness = mixed_log();
        harness.stop();
        harness.disk.restart();
        let files: Vec<_> = harness
            .disk
            .files()
            .into_iter()
            .filter(|path| path.starts_with(dir()) && !harness.disk.content(path).unwrap().is_empty())
            .collect();
        let path = &files[file as usize % files.len()];
        let length = harness.disk.content(path).unwrap().len();
        harness.disk.corrupt(path, place as usize % length, flip).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        match harness.open() {
            Err(OpenError::PartitionMeta { .. }) => prop_assert_eq!(name, "partition.toml"),
            Err(OpenError::Damaged(_)) => prop_assert!(name.ends_with(".log"), "{}", name),
            Err(other) => prop_assert!(false, "{}: {}", name, other),
            Ok(_) if name.ends_with(".log") => {
                let end = harness.log().end().get();
                prop_assert!(end >= harness.model.durable && end <= harness.model.end());
            }
            Ok(_) => {
                let end = harness.model.end();
                harness.check_recovered(name);
                prop_assert_eq!(harness.model.end(), end, "{}", name);
            }
        }
    }
}

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let mut harness = Harness::new();
    harness.append(3, 2, 300).unwrap();
    harness.flush().unwrap();
    let durable = harness.log().durable_end();
    harness.append(3, 2, 300).unwrap();
    harness.disk.fail_sync_after(0);
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let hear = Arc::clone(&told);
    harness.log().on_durable(Box::new(move |log| {
        assert!(log.offline.get().is_some());
        hear.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }));
    assert!(matches!(
        harness.log().flush(),
        Err(StorageError::Offline(_))
    ));
    assert!(
        told.load(std::sync::atomic::Ordering::Relaxed) > 0,
        "waiters are told"
    );
    // A second sync would succeed and prove nothing: there is none.
    let before = harness.disk.operations();
    assert!(harness.log().flush().is_err());
    harness.engine.as_ref().unwrap().run_pending();
    assert_eq!(harness.disk.operations(), before);
    assert_eq!(harness.log().durable_end(), durable);
    assert!(matches!(
        **harness.log().offline.get().unwrap(),
        OfflineReason::SyncFailed(_)
    ));
    // The next process does not believe the page cache, which still shows the lost bytes.
    harness.stop();
    harness.disk.restart();
    let report = harness.open().unwrap();
    assert!(report.was_poisoned);
    assert_eq!(harness.log().end(), durable);
    harness.check_recovered("after a failed sync");
    harness.append(1, 1, 10).unwrap();
    harness.flush().unwrap();
    harness.crash(&mut Dice::new(1));
    assert!(!harness.open().unwrap().was_poisoned);
    harness.check_recovered("and later");
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let mut harness = Harness::new();
    harness.append(3, 2, 300).unwrap();
    harness.flush().unwrap();
    harness
        .disk
        .set_capacity(Some(harness.disk.used_bytes() + 20_000));
    let mut refused = 0;
    for _ in 0..200 {
        match harness.append(1, 2, 800) {
            Ok(()) => harness.check("filling"),
            Err(error) => {
                assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
                assert!(error.is_retriable());
                refused += 1;
                assert!(matches!(harness.log().health(), crate::LogHealth::DiskFull));
                harness.check("full");
                // What is there can still be made durable.
                harness.flush().unwrap();
            }
        }
        harness.engine.as_ref().unwrap().run_pending();
    }
    assert!(refused > 50);
    // Retention makes space, or the operator does.
    harness.disk.set_capacity(None);
    harness.append(5, 2, 800).unwrap();
    assert!(matches!(harness.log().health(), crate::LogHealth::Online));
    harness.flush().unwrap();
    harness.engine.as_ref().unwrap().run_pending();
    harness.check("space again");
    harness.crash(&mut Dice::new(5));
    harness.open().unwrap();
    harness.check_recovered("after a full disk");
    assert_eq!(harness.log().end().get(), harness.model.end());
}

#[test]
fn a_full_disk_at_every_size_loses_nothing() {
    for spare in (0..60_000).step_by(1500) {
        let mut harness = Harness::new();
        harness.append(3, 2, 300).unwrap();
        harness.flush().unwrap();
        harness
            .disk
            .set_capacity(Some(harness.disk.used_bytes() + spare));
        for n in 0..40 {
            let _ = harness.append(1, 2, 700);
            if n % 5 == 4 {
                let _ = harness.flush();
                harness.engine.as_ref().unwrap().run_pending();
            }
            if n == 30 {
                let _ = harness
                    .log()
                    .trim_prefix(Offset::new(20))
                    .map(|_| harness.model.start = 20);
            }
            assert!(harness.log().offline.get().is_none(), "spare {spare}, {n}");
            harness.model.durable = harness.model.durable.max(harness.log().durable_end().get());
        }
        harness.check("full");
        harness.crash(&mut Dice::new(spare));
        harness.disk.set_capacity(None);
        harness
            .open()
            .unwrap_or_else(|error| panic!("spare {spare}: {error}"));
        harness.check_recovered(&format!("spare {spare}"));
        harness.append(3, 2, 700).unwrap();
        harness.flush().unwrap();
    }
}
