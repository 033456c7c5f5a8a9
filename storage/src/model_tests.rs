//! The engine against a model, on a disk that loses power.
//!
//! What is held here (`docs/STORAGE.md` has the list):
//! - S1 after a crash the log is a prefix of what was written, on batch boundaries, with everything
//!   before the durable end
//! - S2 recovery comes to the same result when it is interrupted at any of its steps and repeated
//! - S3 indexes and epochs are what a rebuild from the batches gives
//! - S4 the durable end is never ahead of what survives
//! - S8 the start never goes back
//! - S9 what is known of producers is what the log says of them

mod any_run;
mod crash_points;
mod damage;
mod failures;
mod producers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName};
use highwater_protocol::record_batch::{BatchHeader, Batches, ProducerStamp, verify_batch};
use proptest::prelude::*;

use crate::epoch_checkpoint::EpochCache;
use crate::error::{DamageKind, OpenError};
use crate::layout::SegmentFileKind;
use crate::producer_state::Producers;
use crate::sim_disk::{Dice, SimDisk};
use crate::{
    AppendError, Background, Durability, Engine, EngineOptions, IdempotentAppend, Log, LogOptions,
    OfflineReason, PartitionMeta, RecoveryReport, StorageError,
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
    batch_of(None, records, bytes, timestamp, tag)
}

fn batch_of(
    producer: Option<ProducerStamp>,
    records: usize,
    bytes: usize,
    timestamp: i64,
    tag: u64,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.set_producer(producer);
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
    /// A restart that was interrupted: it happened as a whole or not at all.
    restarting: Option<u64>,
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

    fn restart_at(&mut self, to: u64) {
        self.batches.clear();
        self.start = to;
        self.empty_end = to;
        self.durable = to;
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
            producer_snapshot_bytes: 5000,
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
        let mut producers = producers::replay(&self.model.batches);
        for _ in 0..batches {
            self.model.tag += 1;
            let tag = self.model.tag;
            let timestamp = i64::try_from(tag).unwrap();
            let producer = producers::stamp_of(tag, &producers);
            let mut one = batch_of(producer, records, bytes, timestamp, tag);
            input.extend_from_slice(&one);
            let base = next;
            next += records as u64;
            let epoch = LeaderEpoch::new(self.model.epoch);
            highwater_protocol::record_batch::stamp(&mut one, Offset::new(base), epoch);
            producers.record(&BatchHeader::parse(&one).unwrap(), None);
            written.push(Written {
                base,
                next,
                bytes: one,
                epoch: self.model.epoch,
            });
        }
        let now = Timestamp::from_millis(i64::try_from(self.model.tag).unwrap());
        let epoch = LeaderEpoch::new(self.model.epoch);
        let appended = match self.log().append_idempotent(&input, epoch, now)? {
            IdempotentAppend::Appended(appended) => appended,
            duplicate => panic!("{duplicate:?}"),
        };
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

    fn restart_at(&mut self, to: u64) -> Result<(), StorageError> {
        self.model.restarting = Some(to);
        self.log().restart_at(Offset::new(to))?;
        self.model.restarting = None;
        self.model.restart_at(to);
        let log = self.log();
        assert_eq!(log.durable_end().get(), to);
        assert_eq!(log.high_watermark_checkpoint().get(), to);
        assert_eq!(log.latest_epoch(), None);
        Ok(())
    }

    /// The log is a prefix of the model; the model becomes what the log is.
    fn check_recovered(&mut self, context: &str) {
        let log = Arc::clone(self.log());
        let end = log.end().get();
        let start = log.log_start().get();
        if let Some(to) = self.model.restarting.take()
            && start == to
            && end == to
        {
            assert_eq!(log.latest_epoch(), None, "{context}");
            self.model.restart_at(to);
        }
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
        self.check_producers(context);
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
