//! What recovery does with one segment file.

use std::path::Path;
use std::sync::Arc;

use highwater_protocol::ids::{Offset, Timestamp};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader};

use super::{Found, Known, Progress, Recovery};
use crate::checkpoint::{Checkpoint, RecoveryPoint};
use crate::disk::DiskFile;
use crate::error::{Damage, DamageKind, IoError, OpenError};
use crate::layout::SegmentFileKind;
use crate::log::IndexWritten;
use crate::scan::{ScanStart, look_behind, scan};
use crate::seal::Seal;
use crate::segment::{Segment, SegmentIndex, SegmentState};
use crate::small_file;
use crate::time_index::IndexBuilder;
use crate::{offset_index, time_index};

impl Recovery<'_> {
    /// A sealed segment is believed after a look at its size.
    pub(super) fn take_sealed(
        &self,
        found: &Found,
        seal: Seal,
        known: &Known,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        let path = self.path(found.base, SegmentFileKind::Log);
        if found.file_bytes < seal.log_bytes {
            return Err(Damage {
                file: path,
                position: found.file_bytes,
                offset: found.base,
                recovery_point: seal.end_offset,
                kind: DamageKind::FileTooShort {
                    expected: seal.log_bytes,
                    found: found.file_bytes,
                },
            }
            .into());
        }
        if found.file_bytes > seal.log_bytes {
            // Behind a truncated suffix. Nobody reads it any more.
            let file = self
                .disk()
                .open(&path)
                .map_err(IoError::on("open", &path))?;
            file.set_len(seal.log_bytes)
                .map_err(IoError::on("cut", &path))?;
        }
        match &known.epochs {
            Some(epochs) => progress.take_epochs(epochs, found.base, seal.end_offset),
            None => self.epochs_of_sealed(found.base, &seal, progress)?,
        }
        let state = SegmentState {
            end_offset: seal.end_offset,
            log_bytes: seal.log_bytes,
            max_timestamp_ms: Some(seal.max_timestamp_ms),
            first_append: None,
            last_epoch: Some(seal.last_epoch),
            synced_bytes: seal.log_bytes,
            index: SegmentIndex::Sealed(seal, None),
        };
        progress
            .segments
            .push(Segment::new(Arc::from(self.dir), found.base, state));
        progress.expected = seal.end_offset;
        progress.epoch = Some(seal.last_epoch);
        Ok(())
    }

    /// Epochs of a sealed segment, when their file is lost: usually it has only one.
    fn epochs_of_sealed(
        &self,
        base: Offset,
        seal: &Seal,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        let path = self.path(base, SegmentFileKind::Log);
        let file = self
            .disk()
            .open_read_only(&path)
            .map_err(IoError::on("open", &path))?;
        let first = first_header(&*file).map_err(IoError::on("read", &path))?;
        if let Some(first) = first.filter(|first| first.leader_epoch == Some(seal.last_epoch)) {
            progress.epochs.assign(seal.last_epoch, first.base_offset);
            return Ok(());
        }
        let start = ScanStart {
            position: 0,
            offset: base,
            epoch: None,
            end_offset: Some(seal.end_offset),
            end_position: seal.log_bytes,
        };
        let end = scan(&*file, start, |_, header| {
            progress
                .epochs
                .assign(header.leader_epoch.unwrap_or_default(), header.base_offset);
        });
        (self.on_scanned)(end.scanned_bytes);
        match end.stopped_by {
            None => Ok(()),
            Some(kind) => {
                let (position, offset) = (end.position, end.offset);
                let recovery_point = seal.end_offset;
                Err(Damage {
                    file: path,
                    position,
                    offset,
                    recovery_point,
                    kind,
                }
                .into())
            }
        }
    }

    /// A segment without seal is verified from the recovery point on.
    pub(super) fn take_unsealed(
        &self,
        found: &Found,
        next_base: Option<Offset>,
        known: &Known,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        let point = &known.point;
        let path = self.path(found.base, SegmentFileKind::Log);
        let file = self
            .disk()
            .open(&path)
            .map_err(IoError::on("open", &path))?;
        let resumed = known.epochs.as_ref().and_then(|epochs| {
            self.resume_point(found, &known.checkpoint, point)
                .map(|index| (index, epochs))
        });
        let (mut index, mut newest, mut start) = (
            IndexBuilder::default(),
            None,
            ScanStart {
                position: 0,
                offset: found.base,
                epoch: progress.epoch,
                end_offset: next_base,
                end_position: found.file_bytes,
            },
        );
        match resumed {
            Some((resumed, epochs)) => {
                start.position = point.position;
                start.offset = point.offset;
                let before = epochs
                    .entries()
                    .iter()
                    .rev()
                    .find(|(_, from)| *from < point.offset);
                start.epoch = before.map(|(epoch, _)| *epoch).or(progress.epoch);
                newest = point.max_timestamp_ms;
                index = resumed;
            }
            None => progress.report.index_rebuilt |= found.base < point.offset,
        }
        if let Some(epochs) = &known.epochs {
            progress.take_epochs(epochs, found.base, start.offset);
        }
        let kept_entries = index.clone();
        let interval = self.options.index_interval_bytes;
        let mut last_epoch = start.epoch;
        let base = found.base;
        let epochs = &mut progress.epochs;
        let end = scan(&*file, start, |position, header| {
            let relative = header.base_offset.records_since(base);
            if let (Ok(relative_offset), Ok(position)) =
                (u32::try_from(relative), u32::try_from(position))
            {
                let entry = offset_index::IndexEntry {
                    relative_offset,
                    position,
                };
                index.on_batch(interval, entry, newest);
            }
            newest = newest.max(Some(header.max_timestamp.millis()));
            last_epoch = header.leader_epoch;
            epochs.assign(header.leader_epoch.unwrap_or_default(), header.base_offset);
        });
        (self.on_scanned)(end.scanned_bytes);
        progress.report.scanned_bytes += end.scanned_bytes;
        let unreadable = matches!(end.stopped_by, Some(DamageKind::Unreadable(_)));
        let wanted = point.offset.min(next_base.unwrap_or(Offset::MAX));
        if end.offset < wanted || unreadable {
            let kind = end.stopped_by.unwrap_or(DamageKind::FileTooShort {
                expected: point.position.max(end.position + 1),
                found: end.position,
            });
            let (position, offset) = (end.position, end.offset);
            let recovery_point = point.offset;
            return Err(Damage {
                file: path,
                position,
                offset,
                recovery_point,
                kind,
            }
            .into());
        }
        progress.cut |= next_base.is_some_and(|next| end.offset != next);
        if next_base.is_none() || progress.cut {
            self.cut(
                &*file,
                &path,
                found,
                end.position,
                end.stopped_by.as_ref(),
                progress,
            )?;
        }
        if end.position == 0 {
            // Begun and never written. The next append begins it again.
            drop(file);
            self.remove_segment(found.base)?;
            // Or its name comes back and hides what is appended to the segment before it.
            self.disk()
                .sync_dir(self.dir)
                .map_err(IoError::on("sync", self.dir))?;
            return Ok(());
        }
        let first = first_header(&*file).map_err(IoError::on("read", &path))?;
        let synced_bytes = if end.offset <= point.offset {
            end.position
        } else if point.segment == found.base {
            point.position
        } else {
            0
        };
        let state = SegmentState {
            end_offset: end.offset,
            log_bytes: end.position,
            max_timestamp_ms: newest,
            first_append: first.map(|first| Timestamp::from_millis(first.max_timestamp.millis())),
            last_epoch,
            synced_bytes: synced_bytes.min(end.position),
            index: SegmentIndex::Memory(index),
        };
        progress
            .segments
            .push(Segment::new(Arc::from(self.dir), found.base, state));
        progress.expected = end.offset;
        progress.epoch = last_epoch;
        progress.index_written = IndexWritten::of(found.base, &kept_entries);
        Ok(())
    }

    /// Cuts a file behind its last valid batch, and reports what was there.
    fn cut(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        found: &Found,
        position: u64,
        stopped_by: Option<&DamageKind>,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        if found.file_bytes <= position {
            return Ok(());
        }
        let leftover = look_behind(file, position, found.file_bytes).unwrap_or_default();
        progress.report.cut_bytes += leftover.bytes;
        progress.report.cut_valid_batches += leftover.valid_batches;
        progress.report.cut_beyond_one_batch |= leftover.beyond_one_batch;
        if let Some(kind) = stopped_by {
            tracing::info!(
                path = %path.display(), position, bytes = leftover.bytes,
                valid_batches = leftover.valid_batches, reason = %kind,
                "cutting a torn tail; it had not been synced"
            );
        }
        file.set_len(position).map_err(IoError::on("cut", path))?;
        if leftover.bytes > 0 {
            // Or it comes back with the next power loss, behind records that were appended since.
            file.sync_data().map_err(IoError::on("sync", path))?;
        }
        Ok(())
    }

    /// The index up to the recovery point, when it can be continued from there.
    fn resume_point(
        &self,
        found: &Found,
        checkpoint: &Checkpoint,
        point: &RecoveryPoint,
    ) -> Option<IndexBuilder> {
        if point.segment != found.base || point.position == 0 || point.position > found.file_bytes {
            return None;
        }
        let read = |kind, entries: u32, entry_bytes: usize| {
            let bytes = entries as usize * entry_bytes;
            if bytes == 0 {
                return Some(Vec::new());
            }
            let mut content =
                small_file::read_all(self.disk(), &self.path(found.base, kind)).ok()??;
            content.truncate(bytes);
            (content.len() == bytes).then_some(content)
        };
        let offsets = read(
            SegmentFileKind::Index,
            point.index_entries,
            offset_index::ENTRY_BYTES,
        )?;
        let times = read(
            SegmentFileKind::TimeIndex,
            point.time_entries,
            time_index::ENTRY_BYTES,
        )?;
        let sane = offset_index::sane_entries(&offsets, point.position)
            == point.index_entries as usize
            && time_index::sane_entries(&times) == point.time_entries as usize
            && crc32fast::hash(&offsets) == checkpoint.index_crc
            && crc32fast::hash(&times) == checkpoint.time_index_crc;
        sane.then(|| IndexBuilder::resume(offsets, times))
    }
}

/// The first batch header of a segment file, if there is a valid one.
fn first_header(file: &dyn DiskFile) -> std::io::Result<Option<BatchHeader>> {
    let mut head = [0; BATCH_HEADER_BYTES];
    let filled = file.read_at(&mut head, 0)?;
    Ok(BatchHeader::parse(&head[..filled]).ok())
}
