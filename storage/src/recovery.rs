//! Opening a log: what lies on the disk becomes a log that can be trusted, or a refusal.
//!
//! Sealed segments and everything before the recovery point had been synced; they are not read. From
//! the recovery point on each batch is verified. The first bad one decides:
//!
//! - at or behind the recovery point it is a torn tail: never acknowledged as durable. It is cut,
//!   and what lies behind it, valid or not;
//! - before it, bytes are gone that had been durable: [`Damage`]. Nothing is cut, deleted or
//!   repaired; the log stays closed and its files stay as they are.
//!
//! Recovery is idempotent: interrupted at any step, the next one comes to the same result.

mod one_segment;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater_protocol::ids::{LeaderEpoch, Offset};

use crate::background::Shared;
use crate::checkpoint::{self, Checkpoint, RecoveryPoint};
use crate::disk::Disk;
use crate::epoch_checkpoint::EpochCache;
use crate::error::{Damage, DamageKind, IoError, OpenError, ReadError};
use crate::identity::ClosedLog;
use crate::layout::{self, SegmentFileKind, parse_segment_name, segment_path};
use crate::log::{IndexWritten, Log, LogParts};
use crate::mutant::{Mutant, is_on};
use crate::offset_index;
use crate::options::LogOptions;
use crate::partition_meta::PartitionMeta;
use crate::producer_tracking::{Rebuilt, fitting, rebuild};
use crate::restart;
use crate::scan::{ScanStart, scan};
use crate::seal::Seal;
use crate::segment::Segment;
use crate::trim::remove_if_there;

/// What opening a log found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// It was closed in order and is exactly as it was then.
    pub clean: bool,
    /// A sync had failed in the session before: the page cache was not believed.
    pub was_poisoned: bool,
    /// Segments of the log.
    pub segments: usize,
    /// Bytes of batches that were read and verified.
    pub scanned_bytes: u64,
    /// Bytes behind the last valid batch that were cut: a torn tail.
    pub cut_bytes: u64,
    /// Valid batches behind the first bad one that were cut with it. Never durable; many of them
    /// mean that the disk loses writes.
    pub cut_valid_batches: u64,
    /// What was cut is more than one unfinished batch at the very end, which is all that the end of
    /// a process leaves.
    pub cut_beyond_one_batch: bool,
    /// Whole segments behind the first bad batch that were removed.
    pub removed_segments: usize,
    /// Whether index entries had to be made again.
    pub index_rebuilt: bool,
    /// End of the log.
    pub end: Offset,
    /// Bytes of batches whose headers were read for the state of the producers: those behind its
    /// newest snapshot.
    pub producer_scanned_bytes: u64,
}

/// What all recoveries of a start share.
pub(crate) struct Recovery<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) dir: &'a Path,
    pub(crate) meta: PartitionMeta,
    pub(crate) options: LogOptions,
    pub(crate) closed: Option<ClosedLog>,
    /// Told about bytes that were scanned.
    pub(crate) on_scanned: &'a (dyn Fn(u64) + Sync),
}

/// A segment file that was found.
struct Found {
    base: Offset,
    file_bytes: u64,
    seal: Option<Seal>,
}

/// What the directory of a log holds.
struct Listed {
    /// In the order of their offsets.
    found: Vec<Found>,
    was_poisoned: bool,
    /// Offsets of the snapshots of the producers, in order.
    producers: Vec<Offset>,
}

/// What the small files say.
struct Known {
    checkpoint: Checkpoint,
    /// Everything before it had been synced, by the checkpoint or by a seal.
    point: RecoveryPoint,
    /// `None`: the file is lost, and they have to be found in the batches.
    epochs: Option<EpochCache>,
    /// Where there are snapshots of the producers.
    producers: Vec<Offset>,
}

/// The result while it grows.
struct Progress {
    segments: Vec<Arc<Segment>>,
    epochs: EpochCache,
    expected: Offset,
    epoch: Option<LeaderEpoch>,
    report: RecoveryReport,
    index_written: IndexWritten,
    /// The rest of the segments is not part of the log.
    cut: bool,
}

impl Progress {
    /// Takes the epochs that began in a part of the log from their file.
    fn take_epochs(&mut self, known: &EpochCache, from: Offset, to: Offset) {
        for (epoch, start) in known.entries() {
            if *start >= from && *start < to {
                self.epochs.assign(*epoch, *start);
            }
        }
    }
}

impl Recovery<'_> {
    fn disk(&self) -> &dyn Disk {
        self.shared.disk()
    }

    fn path(&self, base: Offset, kind: SegmentFileKind) -> std::path::PathBuf {
        segment_path(self.dir, base, kind)
    }

    /// Opens the log.
    pub(crate) fn run(self) -> Result<(Arc<Log>, RecoveryReport), OpenError> {
        let disk = self.disk();
        restart::finish_interrupted(disk, self.dir)?;
        let Listed {
            mut found,
            was_poisoned,
            producers,
        } = self.find_segments()?;
        if was_poisoned {
            self.distrust_cache(&found)?;
        }
        let checkpoint = checkpoint::read(disk, &self.dir.join(layout::CHECKPOINT))?;
        let epochs = EpochCache::read(disk, &self.dir.join(layout::LEADER_EPOCHS))?;
        let log_start = match (&checkpoint, found.first()) {
            (Some(checkpoint), _) => checkpoint.log_start,
            (None, first) => first.map_or(Offset::ZERO, |first| first.base),
        };
        let checkpoint = checkpoint.unwrap_or(Checkpoint {
            log_start,
            recovery_point: RecoveryPoint::at_start(log_start),
            ..Checkpoint::default()
        });
        let point = self.durable_point(&checkpoint, &found);
        self.remove_trimmed(&mut found, log_start)?;
        if let Some(first) = found.first().filter(|first| first.base > log_start) {
            return Err(self.missing(log_start, first.base, point.offset).into());
        }
        let epochs = if found.is_empty() {
            Some(epochs.unwrap_or_default())
        } else {
            epochs
        };
        let known = Known {
            checkpoint,
            point,
            epochs,
            producers,
        };
        let mut progress = Progress {
            segments: Vec::with_capacity(found.len()),
            epochs: EpochCache::default(),
            expected: found.first().map_or(log_start, |first| first.base),
            epoch: None,
            report: RecoveryReport {
                was_poisoned,
                ..RecoveryReport::default()
            },
            index_written: IndexWritten::default(),
            cut: false,
        };
        if let Some(epochs) = &known.epochs {
            progress.take_epochs(epochs, Offset::ZERO, progress.expected);
        }
        self.take_segments(&found, &known, &mut progress)?;
        if progress.expected < point.offset || progress.expected < log_start {
            let at = progress.expected;
            return Err(self.missing(at, at, point.offset.max(log_start)).into());
        }
        self.finish(known, progress)
    }

    /// Lists the directory and removes leftovers of unfinished operations.
    fn find_segments(&self) -> Result<Listed, OpenError> {
        let disk = self.disk();
        let mut was_poisoned = false;
        let mut producers = Vec::new();
        let mut kinds: BTreeMap<Offset, Vec<SegmentFileKind>> = BTreeMap::new();
        for entry in disk.list(self.dir).map_err(IoError::on("list", self.dir))? {
            was_poisoned |= entry.name == layout::POISONED;
            if layout::is_leftover(&entry.name) {
                let path = self.dir.join(&entry.name);
                remove_if_there(disk, &path)?;
            } else if let Some((base, kind)) = parse_segment_name(&entry.name) {
                kinds.entry(base).or_default().push(kind);
            } else if let Some(offset) = layout::parse_producer_snapshot_name(&entry.name) {
                producers.push(offset);
            }
        }
        producers.sort_unstable();
        let mut found = Vec::with_capacity(kinds.len());
        for (base, kinds) in kinds {
            if !kinds.contains(&SegmentFileKind::Log) {
                // Left over from a removed segment.
                for kind in kinds {
                    remove_if_there(disk, &self.path(base, kind))?;
                }
                continue;
            }
            let path = self.path(base, SegmentFileKind::Log);
            let file_bytes = disk.file_bytes(&path).map_err(IoError::on("stat", &path))?;
            let seal = if kinds.contains(&SegmentFileKind::Seal) {
                Seal::read(disk, &self.path(base, SegmentFileKind::Seal))?
                    .filter(|seal| seal.base_offset == base)
            } else {
                None
            };
            found.push(Found {
                base,
                file_bytes,
                seal,
            });
        }
        Ok(Listed {
            found,
            was_poisoned,
            producers,
        })
    }

    /// After a failed sync the cache may show bytes that the disk does not have.
    fn distrust_cache(&self, found: &[Found]) -> Result<(), OpenError> {
        for segment in found.iter().filter(|segment| segment.seal.is_none()) {
            let path = self.path(segment.base, SegmentFileKind::Log);
            let file = self
                .disk()
                .open(&path)
                .map_err(IoError::on("open", &path))?;
            file.drop_cache()
                .map_err(IoError::on("drop the cache of", &path))?;
        }
        Ok(())
    }

    /// Everything before it had been synced: by the checkpoint, or by the newest seal.
    fn durable_point(&self, checkpoint: &Checkpoint, found: &[Found]) -> RecoveryPoint {
        if is_on(Mutant::DamageCut) {
            return RecoveryPoint::at_start(checkpoint.log_start);
        }
        let sealed = found
            .iter()
            .filter_map(|segment| segment.seal)
            .map(|seal| seal.end_offset)
            .max();
        match sealed {
            Some(end) if end > checkpoint.recovery_point.offset => RecoveryPoint::at_start(end),
            _ => checkpoint.recovery_point,
        }
    }

    /// Removes segments before the start of the log, whose removal was interrupted.
    fn remove_trimmed(&self, found: &mut Vec<Found>, log_start: Offset) -> Result<(), OpenError> {
        while found.len() > 1 && found[1].base <= log_start {
            let trimmed = found.remove(0);
            self.remove_segment(trimmed.base)?;
        }
        Ok(())
    }

    fn remove_segment(&self, base: Offset) -> Result<(), OpenError> {
        // The batches first, as in a removal that is not interrupted.
        for kind in SegmentFileKind::ALL {
            remove_if_there(self.disk(), &self.path(base, kind))?;
        }
        Ok(())
    }

    /// Takes one segment after the other, as long as they follow each other.
    fn take_segments(
        &self,
        found: &[Found],
        known: &Known,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        let point = &known.point;
        for (n, segment) in found.iter().enumerate() {
            if segment.base != progress.expected || progress.cut {
                if progress.expected < point.offset {
                    return Err(self
                        .missing(progress.expected, segment.base, point.offset)
                        .into());
                }
                self.remove_rest(&found[n..], progress)?;
                break;
            }
            let next_base = found.get(n + 1).map(|next| next.base);
            match segment.seal {
                Some(seal) if next_base.is_none_or(|next| next == seal.end_offset) => {
                    self.take_sealed(segment, seal, known, progress)?;
                }
                _ => self.take_unsealed(segment, next_base, known, progress)?,
            }
        }
        Ok(())
    }

    /// Newest first, so that an interruption leaves a log without gap.
    fn remove_rest(&self, rest: &[Found], progress: &mut Progress) -> Result<(), OpenError> {
        for segment in rest.iter().rev() {
            tracing::warn!(
                path = %self.path(segment.base, SegmentFileKind::Log).display(),
                bytes = segment.file_bytes,
                "removing a segment behind the end of the valid log; it had not been synced"
            );
            progress.report.cut_bytes += segment.file_bytes;
            progress.report.removed_segments += 1;
            progress.report.cut_beyond_one_batch = true;
            self.remove_segment(segment.base)?;
        }
        self.disk()
            .sync_dir(self.dir)
            .map_err(IoError::on("sync", self.dir))?;
        Ok(())
    }

    fn missing(&self, expected: Offset, at: Offset, recovery_point: Offset) -> Damage {
        Damage {
            file: self.path(at, SegmentFileKind::Log),
            position: 0,
            offset: expected,
            recovery_point,
            kind: DamageKind::SegmentMissing { expected },
        }
    }

    /// Puts the log together and makes durable what has to be.
    fn finish(
        &self,
        known: Known,
        progress: Progress,
    ) -> Result<(Arc<Log>, RecoveryReport), OpenError> {
        let Known {
            mut checkpoint,
            point,
            epochs: known_epochs,
            producers,
        } = known;
        let known_epochs = known_epochs.unwrap_or_default();
        let Progress {
            segments,
            mut epochs,
            expected: end,
            mut report,
            index_written,
            ..
        } = progress;
        // An epoch that began at the very end and has no record is known from its file only.
        for (epoch, start) in known_epochs
            .entries()
            .iter()
            .filter(|(_, start)| *start == end)
        {
            if epochs.latest().is_none_or(|latest| latest < *epoch) {
                epochs.assign(*epoch, *start);
            }
        }
        epochs.truncate_prefix(checkpoint.log_start);
        checkpoint.recovery_point = point;
        checkpoint.high_watermark = checkpoint.high_watermark.min(end);
        let producers = self.producers(&producers, &segments, end)?;
        report.producer_scanned_bytes = producers.scanned_bytes;
        report.segments = segments.len();
        report.end = end;
        let last_batch_is_good = self.closed.is_none() || self.check_last_batch(&segments)?;
        report.clean = last_batch_is_good
            && self.closed.is_some_and(|closed| {
                closed.log_start == checkpoint.log_start
                    && closed.end == end
                    && segments
                        .last()
                        .map_or((end, 0), |last| (last.base, last.log_bytes()))
                        == (closed.last_segment, closed.last_segment_bytes)
            });
        // A start of the log that was read from the page cache only must not go back later.
        // Nor may what was found behind the recovery point count as durable before its names are.
        let dirty = epochs != known_epochs
            || end > point.offset
            || report.cut_bytes > 0
            || report.removed_segments > 0
            || (!report.clean && checkpoint.log_start > Offset::ZERO);
        let log = Log::new(
            self.shared,
            LogParts {
                meta: self.meta.clone(),
                dir: Arc::from(self.dir),
                options: self.options.clone(),
                segments,
                epochs,
                checkpoint,
                end,
                index_written,
                dirty,
                producers,
            },
        );
        log.check();
        Ok((log, report))
    }

    /// The producers at the end of the log, and no snapshot left that does not fit it.
    fn producers(
        &self,
        saved: &[Offset],
        segments: &[Arc<Segment>],
        end: Offset,
    ) -> Result<Rebuilt, OpenError> {
        let fitting = fitting(saved, segments, end);
        for offset in saved.iter().filter(|offset| !fitting.contains(offset)) {
            let path = layout::producer_snapshot_path(self.dir, *offset);
            remove_if_there(self.disk(), &path)?;
        }
        if saved.last().is_some_and(|newest| *newest > end) {
            // Left by a truncation that was interrupted. It must not come back when other batches
            // have taken those offsets.
            self.disk()
                .sync_dir(self.dir)
                .map_err(IoError::on("sync", self.dir))?;
        }
        rebuild(self.disk(), self.dir, segments, fitting, end).map_err(|error| match error {
            ReadError::Damaged(damage) => damage.into(),
            ReadError::Io(error) => error.into(),
            other => IoError::on("read", self.dir)(std::io::Error::other(other.to_string())).into(),
        })
    }

    /// A log that was closed in order must end with a valid batch.
    fn check_last_batch(&self, segments: &[Arc<Segment>]) -> Result<bool, OpenError> {
        let Some(last) = segments.last().filter(|last| !last.is_sealed()) else {
            return Ok(true);
        };
        let path = last.path(SegmentFileKind::Log);
        let file = self
            .disk()
            .open_read_only(&path)
            .map_err(IoError::on("open", &path))?;
        let log_bytes = last.log_bytes();
        let Some((offsets, _)) = last.index_since(0, 0) else {
            return Ok(true);
        };
        let floor = offset_index::floor_of_position(&offsets, u32::MAX);
        let start = ScanStart {
            position: u64::from(floor.position),
            offset: Offset::new(last.base.get() + u64::from(floor.relative_offset)),
            epoch: None,
            end_offset: None,
            end_position: log_bytes,
        };
        let end = scan(&*file, start, |_, _| {});
        if end.position == log_bytes && end.stopped_by.is_none() {
            return Ok(true);
        }
        let kind = end.stopped_by.unwrap_or(DamageKind::FileTooShort {
            expected: log_bytes,
            found: end.position,
        });
        let (position, offset) = (end.position, end.offset);
        Err(Damage {
            file: path,
            position,
            offset,
            recovery_point: last.end(),
            kind,
        }
        .into())
    }
}
