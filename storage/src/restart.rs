//! Beginning a log anew at another offset: what a follower does whose leader no longer has, or never
//! had, anything that the follower's log could go on from.
//!
//! ```text
//! 1. write `restart` with the new offset, durably        from here on the old log is gone
//! 2. remove all segments, the leader epochs and what is known of producers
//! 3. write the checkpoint, both slots
//! 4. remove `restart`, durably                           from here on the log takes appends
//! ```
//!
//! A start that finds `restart` goes through 2 to 4 again. So a crash leaves the old log whole, or the
//! new one empty, and never a log that begins behind the end of its own records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater_protocol::ids::Offset;

use crate::checkpoint::{self, Checkpoint, RecoveryPoint};
use crate::disk::Disk;
use crate::error::{Damage, DamageKind, IoError, OfflineReason, OpenError, StorageError};
use crate::layout::{self, parse_producer_snapshot_name, parse_segment_name};
use crate::log::{IndexWritten, Log};
use crate::producer_tracking::ProducerTracking;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::trim::remove_if_there;

const KIND: Kind = *b"HWrs";
const VERSION: u16 = 1;

/// The bytes of a `restart` file.
pub(crate) fn encode(offset: Offset) -> Vec<u8> {
    small_file::wrap(KIND, VERSION, &offset.get().to_le_bytes())
}

/// The offset of a `restart` file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Offset, SmallFileError> {
    let mut fields = Fields::new(small_file::unwrap(KIND, VERSION, bytes)?);
    let offset = Offset::new(fields.u64()?);
    fields.finish()?;
    if offset > Offset::MAX {
        return Err(SmallFileError::Content);
    }
    Ok(offset)
}

/// What is known about an empty log that begins at `offset`.
fn checkpoint_at(offset: Offset, sequence: u64) -> Checkpoint {
    Checkpoint {
        sequence,
        log_start: offset,
        high_watermark: offset,
        recovery_point: RecoveryPoint::at_start(offset),
        index_crc: 0,
        time_index_crc: 0,
    }
}

/// Steps 2 to 4. Returns the checkpoint that was written.
fn carry_out(
    disk: &dyn Disk,
    dir: &Path,
    offset: Offset,
    sequence: u64,
) -> Result<Checkpoint, IoError> {
    let mut files: Vec<_> = disk
        .list(dir)
        .map_err(IoError::on("list", dir))?
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| {
            parse_segment_name(name).is_some() || parse_producer_snapshot_name(name).is_some()
        })
        .collect();
    files.sort();
    for name in files {
        remove_if_there(disk, &dir.join(name))?;
    }
    remove_if_there(disk, &dir.join(layout::LEADER_EPOCHS))?;
    let mut checkpoint = checkpoint_at(offset, sequence);
    // It syncs the directory as well: what was removed stays removed.
    checkpoint::write_both(disk, &dir.join(layout::CHECKPOINT), &mut checkpoint)?;
    remove_if_there(disk, &dir.join(layout::RESTART))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    Ok(checkpoint)
}

/// Before a log is opened: finishes a restart that a crash interrupted.
pub(crate) fn finish_interrupted(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(layout::RESTART);
    let Some(bytes) = small_file::read_all(disk, &path)? else {
        return Ok(());
    };
    let offset = decode(&bytes).map_err(|error| Damage {
        file: path.clone(),
        position: 0,
        offset: Offset::ZERO,
        recovery_point: Offset::ZERO,
        kind: DamageKind::SmallFile(error),
    })?;
    let before = checkpoint::read(disk, &dir.join(layout::CHECKPOINT))?;
    tracing::info!(log = %dir.display(), %offset, "finishing an interrupted restart of the log");
    carry_out(disk, dir, offset, before.map_or(1, |old| old.sequence + 1))?;
    Ok(())
}

impl Log {
    /// Deletes everything and lets the log begin anew, empty, at any `offset`: start, end, durable
    /// end and high watermark are `offset` then, and no leader epoch is known. Durable when this
    /// returns; a crash before leaves the old log or the new one. Readers keep what they have.
    ///
    /// For a follower that cannot go on from what it has, and for a log that is replaced by a
    /// snapshot. The next batch must begin exactly at `offset`. A leader whose log starts in the
    /// middle of a batch sends that batch whole: restart at the batch's base offset then, append it,
    /// and trim to the leader's start.
    ///
    /// The caller sees to it that nobody appends meanwhile.
    ///
    /// # Errors
    /// The log is offline, or goes offline because the operation failed half-way; the disk is full.
    pub fn restart_at(&self, offset: Offset) -> Result<(), StorageError> {
        if offset > Offset::MAX {
            return Err(StorageError::OutOfRange {
                requested: offset,
                start: self.log_start(),
                end: self.end(),
            });
        }
        let mut sync = self.sync.lock();
        self.check_online().map_err(StorageError::Offline)?;
        let disk = self.shared.disk();
        let note = self.dir.join(layout::RESTART);
        if let Err(error) = small_file::replace(disk, &note, &encode(offset)) {
            let kept = error.is_disk_full() || error.is_shortage();
            if kept && remove_if_there(disk, &note).is_ok() {
                return Err(StorageError::Io(error));
            }
            // The next start may find the note or not.
            return Err(StorageError::Offline(
                self.go_offline(OfflineReason::Io(error)),
            ));
        }
        let before = self.durable_end();
        let removed = self.begin_anew(offset);
        for segment in removed.iter() {
            segment.detach_tail();
        }
        let sequence = sync.checkpoint.sequence + 1;
        match carry_out(disk, &self.dir, offset, sequence) {
            Ok(checkpoint) => sync.checkpoint = checkpoint,
            Err(error) => {
                return Err(StorageError::Offline(
                    self.go_offline(OfflineReason::Io(error)),
                ));
            }
        }
        sync.checkpoint_dirty = false;
        sync.last_checkpoint = Some(std::time::Instant::now());
        sync.index_written = IndexWritten::default();
        sync.producer_snapshot = None;
        self.shared
            .counters
            .segments_deleted
            .fetch_add(removed.len() as u64, Ordering::Relaxed);
        self.check_between_appends();
        drop(sync);
        if offset > before {
            self.notify_durable();
        }
        Ok(())
    }

    /// The restart in memory. Returns the segments that are not part of the log any more.
    fn begin_anew(&self, offset: Offset) -> Arc<Vec<Arc<crate::segment::Segment>>> {
        let mut writer = self.writer.lock();
        writer.active = None;
        writer.names_dirty = false;
        writer.epochs_dirty = false;
        writer.latest_epoch = None;
        writer.unrequested_bytes = 0;
        writer.producers = ProducerTracking::default();
        *self.epochs.write() = crate::epoch_checkpoint::EpochCache::default();
        let removed = std::mem::take(&mut *self.segments.write());
        // In an order in which start and durable end are never seen past the end.
        let to = offset.get();
        self.durable.fetch_min(to, Ordering::AcqRel);
        self.start.fetch_min(to, Ordering::AcqRel);
        self.end.store(to, Ordering::Release);
        self.durable.store(to, Ordering::Release);
        self.start.store(to, Ordering::Release);
        self.high_watermark.store(to, Ordering::Release);
        removed
    }
}

#[cfg(test)]
mod tests {
    use highwater_protocol::batch_builder::BatchBuilder;
    use highwater_protocol::compression::Compression;
    use highwater_protocol::ids::{LeaderEpoch, PartitionId, Timestamp, TopicId, TopicName};
    use highwater_protocol::record_batch::stamp;

    use super::*;
    use crate::{
        AppendError, Background, Engine, EngineOptions, LogOptions, OpenError, PartitionMeta,
    };

    fn meta() -> PartitionMeta {
        PartitionMeta {
            topic_id: TopicId::from_bytes([7; 16]),
            topic: TopicName::new("restarted").unwrap(),
            partition: PartitionId::new(3),
        }
    }

    fn engine(dir: &Path) -> Arc<Engine> {
        let options = EngineOptions {
            background: Background::Manual,
            ..EngineOptions::default()
        };
        Engine::open(dir, options).unwrap()
    }

    fn replicated(base: u64, epoch: u32) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        builder.push(Timestamp::from_millis(5), None, Some(b"value"), &[]);
        let mut batch = builder.build().to_vec();
        stamp(&mut batch, Offset::new(base), LeaderEpoch::new(epoch));
        batch
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(9)
    }

    #[test]
    fn a_follower_goes_on_at_any_offset_and_epoch_and_finds_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let begun = engine(dir.path());
        let log = begun.create_log(meta(), LogOptions::default()).unwrap();
        for base in 0..3 {
            log.append_replicated(&replicated(base, 5), now()).unwrap();
        }
        let kept = log.read(Offset::ZERO, log.end(), 10_000).unwrap();
        log.restart_at(Offset::new(1000)).unwrap();
        assert_eq!(kept.records.len(), replicated(0, 5).len() * 3, "readers");
        let refused = log.append_replicated(&replicated(3, 5), now()).unwrap_err();
        assert!(
            matches!(refused, AppendError::NotContiguous { .. }),
            "{refused}"
        );
        // An earlier epoch than before: nothing is left that it could contradict.
        log.append_replicated(&replicated(1000, 2), now()).unwrap();
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch::new(2)));
        begun.close().unwrap();
        drop((log, begun));

        let again = engine(dir.path());
        let mut opened = again.open_logs(&|_| Some(LogOptions::default()), &|_| {});
        let (log, report) = opened.pop().unwrap().result.unwrap();
        assert!(report.clean);
        assert_eq!((log.log_start().get(), log.end().get()), (1000, 1001));
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch::new(2)));
        log.restart_at(Offset::ZERO).unwrap();
        assert_eq!((log.log_start().get(), log.end().get()), (0, 0));
        log.append_replicated(&replicated(0, 1), now()).unwrap();
        assert!(log.restart_at(Offset::new(u64::MAX)).is_err());
        assert_eq!(log.end().get(), 1);
    }

    /// A note that cannot be read says that the old log is gone and not what came instead.
    #[test]
    fn a_damaged_note_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let begun = engine(dir.path());
        let log = begun.create_log(meta(), LogOptions::default()).unwrap();
        let mut note = encode(Offset::new(3));
        note[14] ^= 1;
        std::fs::write(log.dir().join(layout::RESTART), note).unwrap();
        drop((log, begun));
        let again = engine(dir.path());
        let mut opened = again.open_logs(&|_| Some(LogOptions::default()), &|_| {});
        let error = opened.pop().unwrap().result.unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
}
