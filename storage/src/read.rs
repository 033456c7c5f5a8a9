//! Reading: slices of the maps, found by the indexes, not copied.
//!
//! What was written a moment ago is read without a system call and without a lock that waits for
//! anybody. What may lie on the disk only is asked for in a way that reports a disk error as an
//! error; [`Log::bring_in`] does that for the bytes of a slice, on a thread that may block.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use highwater_protocol::ids::{Offset, Timestamp};
use highwater_protocol::record::{RecordIter, RecordLimits};

use crate::error::{IoError, ReadError};
use crate::layout::SegmentFileKind;
use crate::log::Log;
use crate::map::Map;
use crate::offset_index;
use crate::segment::{BatchPlace, Segment, Walk};
use crate::tail::to_usize;
use crate::time_index;

/// How much further a reader of cold data will probably want.
const READ_AHEAD_BYTES: usize = 4 << 20;

/// What a read found.
#[derive(Debug, Clone)]
pub struct ReadSlice {
    /// Whole batches, from the one that holds the asked offset. They share the memory of the map
    /// and keep it alive.
    pub records: Bytes,
    /// Offset after the last batch: where to read on. The asked offset when nothing was found.
    pub next: Offset,
    /// Whether all of it is in memory, so that touching it does not wait for the disk.
    pub resident: bool,
    source: Option<(Arc<Map>, Range<usize>, Arc<Segment>)>,
}

impl Log {
    /// Reads whole batches from the one that holds `from`, up to about `bytes_max` bytes, but at
    /// least one batch, all of one segment. Batches that start at or behind `bound` are not given
    /// out; at the bound the slice is empty.
    ///
    /// The first batch may begin before `from`: it is given whole.
    ///
    /// # Errors
    /// An offset outside of the log; a log that is offline; a failing disk or damaged bytes.
    pub fn read(
        &self,
        from: Offset,
        bound: Offset,
        bytes_max: usize,
    ) -> Result<ReadSlice, ReadError> {
        self.check_online()?;
        let (start, end) = (self.log_start(), self.end());
        if from < start || from > end {
            return Err(ReadError::OutOfRange {
                requested: from,
                start,
                end,
            });
        }
        let bound = bound.min(end);
        if from >= bound {
            return Ok(ReadSlice {
                records: Bytes::new(),
                next: from,
                resident: true,
                source: None,
            });
        }
        let segments = self.segment_list();
        let segment = segment_of(&segments, from).ok_or(ReadError::OutOfRange {
            requested: from,
            start,
            end,
        })?;
        let map = self.map_of(segment)?;
        let log_bytes = segment.log_bytes();
        let Some(first) = self.find_batch(segment, &map, from, log_bytes)? else {
            // Truncated since the end was looked at.
            let (start, end) = (self.log_start(), self.end());
            return Err(ReadError::OutOfRange {
                requested: from,
                start,
                end,
            });
        };
        let limit = first
            .position
            .saturating_add(bytes_max as u64)
            .min(log_bytes);
        let last = self.last_batch(segment, &map, first, limit, bound, log_bytes)?;

        let (from_position, to_position) = (first.position, last.end_position());
        let range = to_usize(from_position)..to_usize(to_position);
        let resident = segment.is_hot(from_position..to_position) || map.is_resident(range.clone());
        Ok(ReadSlice {
            records: Segment::slice(&map, from_position, to_position),
            next: last.header.next_offset(),
            resident,
            source: (!resident).then(|| (Arc::clone(&map), range, Arc::clone(segment))),
        })
    }

    /// Brings the bytes of a slice into memory. Blocks while the disk works: not for a thread that
    /// others wait for. Cheap when they are there.
    ///
    /// # Errors
    /// What the disk answered; the bytes must not be touched then.
    pub fn bring_in(&self, slice: &ReadSlice) -> Result<(), ReadError> {
        let Some((map, range, segment)) = &slice.source else {
            return Ok(());
        };
        map.will_need(
            range.end
                ..range
                    .end
                    .saturating_add(READ_AHEAD_BYTES)
                    .min(map.published()),
        );
        map.populate_read(range.clone()).map_err(|source| {
            let path = segment.path(SegmentFileKind::Log);
            ReadError::Io(IoError {
                action: "read",
                path,
                source,
            })
        })
    }

    /// Whether all bytes of a slice are in memory right now.
    #[must_use]
    pub fn is_resident(&self, slice: &ReadSlice) -> bool {
        slice
            .source
            .as_ref()
            .is_none_or(|(map, range, _)| map.is_resident(range.clone()))
    }

    /// The first record at or after a time, among those before `bound`: its offset and timestamp.
    ///
    /// May read from the disk: not for a thread that others wait for.
    ///
    /// # Errors
    /// A log that is offline; a failing disk or damaged bytes.
    pub fn offset_at_time(
        &self,
        timestamp: Timestamp,
        bound: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        self.check_online()?;
        let start = self.log_start();
        let bound = bound.min(self.end());
        for segment in self.segment_list().iter() {
            if segment.base >= bound {
                break;
            }
            if segment.end() <= start
                || segment
                    .max_timestamp_ms()
                    .is_none_or(|newest| newest < timestamp.millis())
            {
                continue;
            }
            if let Some(found) = self.time_in_segment(segment, timestamp, start)? {
                return Ok(Some(found).filter(|(offset, _)| *offset < bound));
            }
        }
        Ok(None)
    }

    /// The newest record of all before `bound`, by its timestamp.
    ///
    /// # Errors
    /// As [`Log::offset_at_time`].
    pub fn max_timestamp(&self, bound: Offset) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let segments = self.segment_list();
        let newest = segments
            .iter()
            .filter(|segment| segment.base < bound)
            .filter_map(|segment| segment.max_timestamp_ms())
            .max();
        let Some(newest) = newest else {
            return Ok(None);
        };
        self.offset_at_time(Timestamp::from_millis(newest), bound)
    }

    fn time_in_segment(
        &self,
        segment: &Arc<Segment>,
        timestamp: Timestamp,
        start: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let map = self.map_of(segment)?;
        let position = segment.with_index(self.shared.disk(), &map, |offsets, times| {
            let relative = time_index::scan_start(times, timestamp.millis());
            offset_index::floor_of_offset(offsets, relative).position
        })?;
        let mut walk = Walk::new(segment, &map, u64::from(position), segment.log_bytes());
        while let Some(place) = walk.next()? {
            if place.header.max_timestamp < timestamp || place.header.next_offset() <= start {
                continue;
            }
            let range = to_usize(place.position)..to_usize(place.end_position());
            map.populate_read(range).map_err(|source| {
                let path = segment.path(SegmentFileKind::Log);
                IoError {
                    action: "read",
                    path,
                    source,
                }
            })?;
            let batch = Segment::slice(&map, place.position, place.end_position());
            if let Some(found) = record_at_time(&place, batch, timestamp, start) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(crate) fn map_of(&self, segment: &Arc<Segment>) -> Result<Arc<Map>, ReadError> {
        segment.map(self.shared.disk(), |segment| {
            self.shared.maps.on_mapped(segment);
        })
    }

    /// The batch that holds an offset.
    pub(crate) fn find_batch(
        &self,
        segment: &Arc<Segment>,
        map: &Arc<Map>,
        wanted: Offset,
        log_bytes: u64,
    ) -> Result<Option<BatchPlace>, ReadError> {
        let relative = u32::try_from(wanted.records_since(segment.base)).unwrap_or(u32::MAX);
        let floor = segment.with_index(self.shared.disk(), map, |offsets, _| {
            offset_index::floor_of_offset(offsets, relative)
        })?;
        let mut walk = walk(segment, map, u64::from(floor.position), log_bytes);
        while let Some(place) = walk.next()? {
            if place.header.next_offset() > wanted {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The last batch, not before `first`, that ends by `limit` and starts before `bound`.
    fn last_batch(
        &self,
        segment: &Arc<Segment>,
        map: &Arc<Map>,
        first: BatchPlace,
        limit: u64,
        bound: Offset,
        log_bytes: u64,
    ) -> Result<BatchPlace, ReadError> {
        if first.end_position() >= limit || first.header.next_offset() >= bound {
            return Ok(first);
        }
        // Jump close to whichever bound comes first, then go batch by batch.
        let relative = u32::try_from(bound.records_since(segment.base)).unwrap_or(u32::MAX);
        let limit_position = u32::try_from(limit).unwrap_or(u32::MAX);
        let jump = segment.with_index(self.shared.disk(), map, |offsets, _| {
            let by_offset = offset_index::floor_of_offset(offsets, relative.saturating_sub(1));
            let by_position = offset_index::floor_of_position(offsets, limit_position);
            // One entry earlier than the position's, whose batch may reach past the limit.
            let before = by_position.position.saturating_sub(1);
            let by_position = offset_index::floor_of_position(offsets, before);
            u64::from(by_offset.position.min(by_position.position))
        })?;
        let mut last = first;
        let mut walk = walk(segment, map, jump.max(first.end_position()), log_bytes);
        while let Some(place) = walk.next()? {
            if place.end_position() > limit || place.header.base_offset >= bound {
                break;
            }
            last = place;
        }
        Ok(last)
    }
}

/// A walk that asks the kernel for nothing where the bytes were just written.
fn walk<'a>(segment: &'a Segment, map: &'a Map, position: u64, log_bytes: u64) -> Walk<'a> {
    if segment.is_hot(position..position) {
        Walk::hot(segment, map, position, log_bytes)
    } else {
        Walk::new(segment, map, position, log_bytes)
    }
}

/// The segment in which an offset lies.
pub(crate) fn segment_of(segments: &[Arc<Segment>], offset: Offset) -> Option<&Arc<Segment>> {
    if let Some(last) = segments.last().filter(|last| last.base <= offset) {
        return Some(last);
    }
    let after = segments.partition_point(|segment| segment.base <= offset);
    after.checked_sub(1).map(|index| &segments[index])
}

/// The first record of a batch at or after a time and an offset. A batch whose records cannot be
/// read is answered by what its header says.
fn record_at_time(
    place: &BatchPlace,
    batch: Bytes,
    timestamp: Timestamp,
    start: Offset,
) -> Option<(Offset, Timestamp)> {
    let by_header = || {
        let offset = place.header.base_offset.max(start);
        Some((offset, place.header.max_timestamp))
    };
    let Ok(mut records) = RecordIter::new(batch, RecordLimits::default()) else {
        return by_header();
    };
    while let Some(record) = records.next_ref() {
        let Ok(record) = record else {
            return by_header();
        };
        if record.timestamp >= timestamp && record.offset >= start {
            return Some((record.offset, record.timestamp));
        }
    }
    None
}
