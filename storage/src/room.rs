//! Room for appends: the segment that grows, its space, and the one after it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use highwater_protocol::ids::{Offset, Timestamp};

use crate::error::{AppendError, IoError, OfflineReason, StorageError, is_disk_full};
use crate::layout::{self, SegmentFileKind};
use crate::log::{Active, Log, Writer};
use crate::map::MapWriter;
use crate::options::LogOptions;
use crate::segment::Segment;
use crate::stats::count;
use crate::tail::{Prepared, Tail};

impl Log {
    /// Leaves an active segment with space for `bytes` that end at `end_offset`.
    pub(crate) fn make_room(
        &self,
        writer: &mut Writer,
        bytes: u64,
        end_offset: Offset,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let bytes_max = LogOptions::SEGMENT_BYTES_MAX;
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        if writer.active.is_none() {
            self.resume_last(writer)?;
        }
        let fits = writer.active.as_ref().is_some_and(|active| {
            let limit = writer
                .options
                .segment_bytes_bounded()
                .min(active.tail.capacity());
            let aged = active.segment.first_append().is_some_and(|first| {
                now.millis().saturating_sub(first.millis()) >= writer.options.segment_ms
            });
            active.position + bytes <= limit
                && end_offset.records_since(active.segment.base) <= u64::from(u32::MAX)
                && !(aged && active.position > 0)
        });
        if !fits {
            self.begin_segment(writer, bytes)?;
        }
        let active = writer.active.as_ref().expect("just made");
        let end = active.position + bytes;
        if !active.tail.has_room(end) {
            count(&self.shared.counters.inline_growths);
            let path = active.segment.path(SegmentFileKind::Log);
            active
                .tail
                .make_room(&path, end)
                .map_err(|error| self.refused(error, bytes))?;
        }
        Ok(())
    }

    /// Turns a failure to get space into the error of the append.
    pub(crate) fn refused(&self, error: IoError, bytes: u64) -> AppendError {
        if is_disk_full(&error.source) {
            self.disk_full.store(true, Ordering::Relaxed);
            count(&self.shared.counters.disk_full_refusals);
            AppendError::DiskFull {
                path: error.path,
                bytes,
            }
        } else {
            AppendError::Io(error)
        }
    }

    /// Opens the last segment for writing again, if it was not finished.
    fn resume_last(&self, writer: &mut Writer) -> Result<(), AppendError> {
        let Some(segment) = self.segments.read().last().map(Arc::clone) else {
            return Ok(());
        };
        if segment.is_sealed() || segment.tail().is_some() {
            return Ok(());
        }
        let position = segment.log_bytes();
        let capacity = writer.options.segment_bytes_bounded().max(position);
        let path = segment.path(SegmentFileKind::Log);
        let tail = Tail::resume(
            self.shared.disk(),
            &path,
            capacity,
            position,
            self.shared.sizes(),
        )
        .map_err(|error| self.refused(error, 0))?;
        self.activate(writer, segment, tail, position);
        Ok(())
    }

    fn activate(&self, writer: &mut Writer, segment: Arc<Segment>, tail: Tail, position: u64) {
        let tail = Arc::new(tail);
        let map_writer = MapWriter::claim(&tail.map).expect("a new map has no writer");
        segment.attach_tail(Arc::clone(&tail));
        writer.active = Some(Active {
            segment,
            tail,
            writer: map_writer,
            position,
        });
    }

    /// Finishes the active segment and begins the next one.
    pub(crate) fn begin_segment(&self, writer: &mut Writer, bytes: u64) -> Result<(), AppendError> {
        let base = self.end();
        let capacity = writer.options.segment_bytes_bounded().max(bytes);
        let segment = Segment::empty(Arc::clone(&self.dir), base);
        let path = segment.path(SegmentFileKind::Log);
        let disk = self.shared.disk();
        let prepared = writer.prepared.take().filter(|prepared| {
            if prepared.tail.capacity() >= bytes {
                return true;
            }
            // Left to be removed with other leftovers if this fails.
            let _ = disk.remove_file(&prepared.path);
            false
        });
        let tail = match prepared {
            Some(prepared) => {
                disk.rename(&prepared.path, &path)
                    .map_err(IoError::on("rename", &path))
                    .map_err(|error| self.refused(error, bytes))?;
                count(&self.shared.counters.segments_prepared);
                prepared.tail
            }
            None => {
                count(&self.shared.counters.segments_created_inline);
                // One that was filled, not one that was closed because it was old.
                let busy = writer
                    .active
                    .as_ref()
                    .is_some_and(|active| active.position >= capacity / 2);
                Tail::create(disk, &path, capacity, bytes, self.shared.sizes(), busy)
                    .map_err(|error| self.refused(error, bytes))?
            }
        };
        writer.names_dirty = true;
        writer.producers.on_roll(base);
        self.finish_active(writer);
        let mut list = self.segments.write();
        let mut segments = Vec::with_capacity(list.len() + 1);
        segments.extend(list.iter().map(Arc::clone));
        segments.push(Arc::clone(&segment));
        *list = Arc::new(segments);
        drop(list);
        self.activate(writer, segment, tail, 0);
        Ok(())
    }

    /// Nothing is appended to the active segment any more.
    pub(crate) fn finish_active(&self, writer: &mut Writer) {
        if writer.active.take().is_some() {
            self.queue_seal();
        }
    }

    /// Finishes the active segment, so that the next append begins a new one. Nothing happens when
    /// there is none or it is empty.
    ///
    /// # Errors
    /// The log is offline, or the disk is full or failing.
    pub fn roll(&self) -> Result<(), StorageError> {
        self.check_online().map_err(StorageError::Offline)?;
        let mut writer = self.writer.lock();
        if writer.active.is_none() {
            self.resume_last(&mut writer).map_err(storage_error)?;
        }
        if writer
            .active
            .as_ref()
            .is_some_and(|active| active.position > 0)
        {
            self.begin_segment(&mut writer, 0).map_err(storage_error)?;
        }
        self.check();
        Ok(())
    }

    /// Background: space, pages and the next segment ahead of need.
    pub(crate) fn prepare(&self) {
        self.prepare_queued.store(false, Ordering::Release);
        let (tail, path, next_at, capacity) = {
            let writer = self.writer.lock();
            let Some(active) = &writer.active else { return };
            let capacity = writer.options.segment_bytes_bounded();
            let next_at = active.tail.capacity() / 4 * 3;
            (
                Arc::clone(&active.tail),
                active.segment.path(SegmentFileKind::Log),
                writer.prepared.is_none().then_some(next_at),
                capacity,
            )
        };
        if self.offline.get().is_some() {
            return;
        }
        let mut prepared = None;
        let mut next_at = next_at;
        if next_at.is_some_and(|at| tail.map.published() as u64 >= at) {
            next_at = None;
            prepared = self.prepare_segment(capacity, tail.has_large_appends());
        }
        if let Some(prepared) = prepared {
            let mut writer = self.writer.lock();
            if writer.prepared.is_none() && self.offline.get().is_none() {
                writer.prepared = Some(prepared);
            } else {
                let _ = self.shared.disk().remove_file(&prepared.path);
            }
        }
        if let Err(error) = tail.prepare(&path, next_at) {
            self.go_offline(OfflineReason::Io(error));
        }
    }

    /// A file for the next segment, if there is space for it.
    fn prepare_segment(&self, capacity: u64, large_appends: bool) -> Option<Prepared> {
        let path = self
            .dir
            .join(layout::prepared_name(self.shared.next_prepared_number()));
        let sizes = self.shared.sizes();
        let first = sizes.prefault_ahead.min(capacity);
        match Tail::create(self.shared.disk(), &path, capacity, first, sizes, true) {
            Ok(tail) => {
                if large_appends {
                    tail.note_append(u64::MAX);
                }
                if let Err(error) = tail.prepare(&path, None) {
                    tracing::warn!(%error, "cannot prepare the next segment");
                }
                Some(Prepared { path, tail })
            }
            Err(error) => {
                tracing::debug!(%error, "cannot prepare the next segment");
                None
            }
        }
    }
}

/// An append error that has no meaning of its own outside of appending.
pub(crate) fn storage_error(error: AppendError) -> StorageError {
    match error {
        AppendError::Io(error) => StorageError::Io(error),
        AppendError::Offline { reason } => StorageError::Offline(reason),
        AppendError::DiskFull { path, .. } => StorageError::Io(IoError {
            action: "allocate",
            path,
            source: std::io::ErrorKind::StorageFull.into(),
        }),
        other => StorageError::Io(IoError {
            action: "append to",
            path: Default::default(),
            source: std::io::Error::other(other.to_string()),
        }),
    }
}
