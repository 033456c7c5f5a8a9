//! One segment: a file of batches, what is known about it, and how its bytes are found and read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use highwater_protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader};
use parking_lot::{Mutex, RwLock};

use crate::disk::Disk;
use crate::error::{Damage, DamageKind, IoError, ReadError};
use crate::layout::{SegmentFileKind, segment_path};
use crate::map::Map;
use crate::offset_index::{self, IndexEntry};
use crate::seal::Seal;
use crate::tail::{Tail, to_usize};
use crate::time_index::{self, IndexBuilder};

/// No record was seen yet.
const NO_TIMESTAMP: i64 = i64::MIN;

/// What is known about a segment when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct SegmentState {
    pub(crate) end_offset: Offset,
    pub(crate) log_bytes: u64,
    pub(crate) max_timestamp_ms: Option<i64>,
    /// When its first batch came, as far as known.
    pub(crate) first_append: Option<Timestamp>,
    pub(crate) last_epoch: Option<LeaderEpoch>,
    pub(crate) synced_bytes: u64,
    pub(crate) index: SegmentIndex,
}

/// Where the index of a segment is.
#[derive(Debug, Clone)]
pub(crate) enum SegmentIndex {
    /// In memory: the segment grows, or its seal was not written yet.
    Memory(IndexBuilder),
    /// In files that fit this seal; loaded when needed.
    Sealed(Seal, Option<Arc<MappedIndex>>),
}

/// Index files of a sealed segment.
#[derive(Debug)]
pub(crate) enum MappedIndex {
    /// The files.
    Files {
        offsets: Option<Arc<Map>>,
        times: Option<Arc<Map>>,
    },
    /// The files were bad, so the index was made from the batches.
    Rebuilt(IndexBuilder),
}

impl MappedIndex {
    fn offsets(&self) -> &[u8] {
        match self {
            Self::Files { offsets, .. } => whole(offsets.as_ref()),
            Self::Rebuilt(builder) => &builder.offsets,
        }
    }

    fn times(&self) -> &[u8] {
        match self {
            Self::Files { times, .. } => whole(times.as_ref()),
            Self::Rebuilt(builder) => &builder.times,
        }
    }
}

fn whole(map: Option<&Arc<Map>>) -> &[u8] {
    map.map_or(&[], |map| map.bytes(0..map.length()))
}

/// A segment. The last one of a log may grow; all others are finished.
pub(crate) struct Segment {
    pub(crate) base: Offset,
    dir: Arc<Path>,
    /// End of the published batches, exclusive.
    end: AtomicU64,
    /// Bytes of the published batches. A map may hold more behind a truncated suffix.
    log_bytes: AtomicU64,
    /// Bytes that a sync has covered.
    pub(crate) synced_bytes: AtomicU64,
    max_timestamp_ms: AtomicI64,
    pub(crate) first_append: AtomicI64,
    pub(crate) last_epoch: AtomicU32,
    index: RwLock<SegmentIndex>,
    content: RwLock<Option<Arc<Map>>>,
    /// While the file is open for writing.
    tail: Mutex<Option<Arc<Tail>>>,
    /// Whether there is one, without a lock.
    has_tail: AtomicBool,
    /// Bytes before this lay on the disk when the segment was opened: they may not be in memory.
    cold_bytes: AtomicU64,
    /// Used since the cache of maps looked last.
    pub(crate) touched: AtomicBool,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("base", &self.base)
            .field("end", &self.end())
            .field("log_bytes", &self.log_bytes())
            .finish_non_exhaustive()
    }
}

/// Where one batch lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPlace {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl BatchPlace {
    pub(crate) fn end_position(&self) -> u64 {
        self.position + u64::from(self.header.batch_bytes)
    }
}

impl Segment {
    pub(crate) fn new(dir: Arc<Path>, base: Offset, state: SegmentState) -> Arc<Self> {
        Arc::new(Self {
            base,
            dir,
            end: AtomicU64::new(state.end_offset.get()),
            log_bytes: AtomicU64::new(state.log_bytes),
            synced_bytes: AtomicU64::new(state.synced_bytes),
            max_timestamp_ms: AtomicI64::new(state.max_timestamp_ms.unwrap_or(NO_TIMESTAMP)),
            first_append: AtomicI64::new(
                state.first_append.map_or(NO_TIMESTAMP, Timestamp::millis),
            ),
            last_epoch: AtomicU32::new(state.last_epoch.map_or(0, LeaderEpoch::get)),
            index: RwLock::new(state.index),
            content: RwLock::new(None),
            tail: Mutex::new(None),
            has_tail: AtomicBool::new(false),
            cold_bytes: AtomicU64::new(state.log_bytes),
            touched: AtomicBool::new(false),
        })
    }

    /// A segment without content that begins at `base`.
    pub(crate) fn empty(dir: Arc<Path>, base: Offset) -> Arc<Self> {
        Self::new(
            dir,
            base,
            SegmentState {
                end_offset: base,
                log_bytes: 0,
                max_timestamp_ms: None,
                first_append: None,
                last_epoch: None,
                synced_bytes: 0,
                index: SegmentIndex::Memory(IndexBuilder::default()),
            },
        )
    }

    pub(crate) fn path(&self, kind: SegmentFileKind) -> PathBuf {
        segment_path(&self.dir, self.base, kind)
    }

    pub(crate) fn end(&self) -> Offset {
        Offset::new(self.end.load(Ordering::Acquire))
    }

    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp_ms(&self) -> Option<i64> {
        let newest = self.max_timestamp_ms.load(Ordering::Relaxed);
        (newest != NO_TIMESTAMP).then_some(newest)
    }

    pub(crate) fn first_append(&self) -> Option<Timestamp> {
        let first = self.first_append.load(Ordering::Relaxed);
        (first != NO_TIMESTAMP).then(|| Timestamp::from_millis(first))
    }

    /// Whether its seal is on the disk.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(*self.index.read(), SegmentIndex::Sealed(..))
    }

    /// Its seal, once that is on the disk.
    pub(crate) fn seal(&self) -> Option<Seal> {
        match &*self.index.read() {
            SegmentIndex::Sealed(seal, _) => Some(*seal),
            SegmentIndex::Memory(_) => None,
        }
    }

    // ---- growing ----

    pub(crate) fn attach_tail(&self, tail: Arc<Tail>) {
        *self.content.write() = Some(Arc::clone(&tail.map));
        *self.tail.lock() = Some(tail);
        self.has_tail.store(true, Ordering::Release);
    }

    pub(crate) fn tail(&self) -> Option<Arc<Tail>> {
        self.tail.lock().clone()
    }

    pub(crate) fn detach_tail(&self) {
        self.has_tail.store(false, Ordering::Release);
        *self.tail.lock() = None;
    }

    /// Adds index entries for batches that are about to be published, then publishes their end.
    pub(crate) fn publish(
        &self,
        batches: &[BatchPlace],
        index_interval: u32,
        log_bytes: u64,
        end: Offset,
    ) {
        let mut newest = self.max_timestamp_ms();
        if let SegmentIndex::Memory(builder) = &mut *self.index.write() {
            for place in batches {
                builder.on_batch(index_interval, self.entry(place), newest);
                newest = newest.max(Some(place.header.max_timestamp.millis()));
            }
        }
        if let Some(last) = batches.last() {
            let epoch = last.header.leader_epoch.map_or(0, LeaderEpoch::get);
            self.last_epoch.store(epoch, Ordering::Relaxed);
        }
        self.max_timestamp_ms
            .store(newest.unwrap_or(NO_TIMESTAMP), Ordering::Relaxed);
        self.log_bytes.store(log_bytes, Ordering::Release);
        self.end.store(end.get(), Ordering::Release);
    }

    pub(crate) fn entry(&self, place: &BatchPlace) -> IndexEntry {
        let relative = place.header.base_offset.records_since(self.base);
        IndexEntry {
            relative_offset: u32::try_from(relative).expect("an append keeps offsets in 32 bits"),
            position: u32::try_from(place.position).expect("an append keeps positions in 32 bits"),
        }
    }

    /// Entries in the index while it is in memory.
    pub(crate) fn index_counts(&self) -> (u32, u32) {
        match &*self.index.read() {
            SegmentIndex::Memory(builder) => builder.counts(),
            SegmentIndex::Sealed(seal, _) => (
                seal.index_bytes / offset_index::ENTRY_BYTES as u32,
                seal.time_index_bytes / time_index::ENTRY_BYTES as u32,
            ),
        }
    }

    /// The index while it is in memory, from the given numbers of bytes on.
    pub(crate) fn index_since(&self, offsets: usize, times: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        match &*self.index.read() {
            SegmentIndex::Memory(builder) => Some((
                builder.offsets.get(offsets..).unwrap_or(&[]).to_vec(),
                builder.times.get(times..).unwrap_or(&[]).to_vec(),
            )),
            SegmentIndex::Sealed(..) => None,
        }
    }

    /// Replaces the index, when it was cut or went to its files.
    pub(crate) fn set_index(&self, index: SegmentIndex) {
        *self.index.write() = index;
    }

    /// Ends the segment earlier: a suffix was truncated. Readers keep what they have.
    pub(crate) fn cut(&self, state: SegmentState) {
        self.set_index(state.index);
        self.end.store(state.end_offset.get(), Ordering::Release);
        self.log_bytes.store(state.log_bytes, Ordering::Release);
        self.synced_bytes
            .fetch_min(state.log_bytes, Ordering::AcqRel);
        self.max_timestamp_ms.store(
            state.max_timestamp_ms.unwrap_or(NO_TIMESTAMP),
            Ordering::Relaxed,
        );
        self.last_epoch.store(
            state.last_epoch.map_or(0, LeaderEpoch::get),
            Ordering::Relaxed,
        );
    }

    // ---- reading ----

    /// The map, opened when needed. `opened` is told when it was not there.
    pub(crate) fn map(
        self: &Arc<Self>,
        disk: &dyn Disk,
        opened: impl FnOnce(&Arc<Self>),
    ) -> Result<Arc<Map>, ReadError> {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        if let Some(map) = &*self.content.read() {
            return Ok(Arc::clone(map));
        }
        let map = {
            let mut content = self.content.write();
            if let Some(map) = &*content {
                return Ok(Arc::clone(map));
            }
            let path = self.path(SegmentFileKind::Log);
            let file = disk
                .open_read_only(&path)
                .map_err(IoError::on("open", &path))?;
            let found = file.size().map_err(IoError::on("stat", &path))?;
            let expected = self.log_bytes();
            if found < expected {
                let kind = DamageKind::FileTooShort { expected, found };
                return Err(self.damage(found, self.base, kind).into());
            }
            let map = file
                .map_finished(to_usize(expected))
                .map_err(IoError::on("map", &path))?;
            *content = Some(Arc::clone(&map));
            map
        };
        opened(self);
        Ok(map)
    }

    /// Lets go of the map and the index, unless the segment is being written.
    pub(crate) fn unmap(&self) {
        if self.tail.lock().is_some() {
            return;
        }
        *self.content.write() = None;
        if let SegmentIndex::Sealed(_, loaded) = &mut *self.index.write() {
            *loaded = None;
        }
    }

    /// Lets go of the map if nobody else has it. Says whether there is none any more; one that is
    /// opened later covers the present length only.
    pub(crate) fn release_map(&self) -> bool {
        let mut content = self.content.write();
        if content
            .as_ref()
            .is_some_and(|map| Arc::strong_count(map) > 1)
        {
            return false;
        }
        *content = None;
        true
    }

    /// Whether a range was written by this process not long ago, so that it is in memory.
    pub(crate) fn is_hot(&self, range: std::ops::Range<u64>) -> bool {
        const RECENT: u64 = 64 << 20;
        range.start >= self.cold_bytes.load(Ordering::Relaxed)
            && range.start + RECENT >= self.log_bytes()
            && self.has_tail.load(Ordering::Acquire)
    }

    /// Runs something on the index of the segment.
    pub(crate) fn with_index<T>(
        self: &Arc<Self>,
        disk: &dyn Disk,
        map: &Arc<Map>,
        use_it: impl FnOnce(&[u8], &[u8]) -> T,
    ) -> Result<T, ReadError> {
        let seal = match &*self.index.read() {
            SegmentIndex::Memory(builder) => {
                return Ok(use_it(&builder.offsets, &builder.times));
            }
            SegmentIndex::Sealed(_, Some(loaded)) => {
                return Ok(use_it(loaded.offsets(), loaded.times()));
            }
            SegmentIndex::Sealed(seal, None) => *seal,
        };
        let loaded = Arc::new(self.load_index(disk, map, &seal)?);
        if let SegmentIndex::Sealed(_, slot) = &mut *self.index.write() {
            *slot = Some(Arc::clone(&loaded));
        }
        Ok(use_it(loaded.offsets(), loaded.times()))
    }

    fn load_index(
        self: &Arc<Self>,
        disk: &dyn Disk,
        map: &Arc<Map>,
        seal: &Seal,
    ) -> Result<MappedIndex, ReadError> {
        let load = |kind, bytes: u32, crc: u32| {
            if bytes == 0 {
                return Some(None);
            }
            let file = disk.open_read_only(&self.path(kind)).ok()?;
            let length = u64::from(bytes);
            if file.size().ok()? < length {
                return None;
            }
            let index = file.map_finished(to_usize(length)).ok()?;
            index.populate_read(0..to_usize(length)).ok()?;
            (crc32fast::hash(index.bytes(0..to_usize(length))) == crc).then_some(Some(index))
        };
        let offsets = load(SegmentFileKind::Index, seal.index_bytes, seal.index_crc);
        let times = load(
            SegmentFileKind::TimeIndex,
            seal.time_index_bytes,
            seal.time_index_crc,
        );
        if let (Some(offsets), Some(times)) = (offsets, times) {
            return Ok(MappedIndex::Files { offsets, times });
        }
        let path = self.path(SegmentFileKind::Index);
        tracing::warn!(path = %path.display(), "index does not fit its seal; rebuilt in memory");
        self.rebuild_index(map, seal.log_bytes, seal.index_interval_bytes)
            .map(MappedIndex::Rebuilt)
    }

    /// Makes the index from the headers of the batches.
    pub(crate) fn rebuild_index(
        &self,
        map: &Map,
        log_bytes: u64,
        interval: u32,
    ) -> Result<IndexBuilder, ReadError> {
        let mut builder = IndexBuilder::default();
        let mut newest = None;
        let mut walk = Walk::new(self, map, 0, log_bytes);
        while let Some(place) = walk.next()? {
            builder.on_batch(interval, self.entry(&place), newest);
            newest = newest.max(Some(place.header.max_timestamp.millis()));
        }
        Ok(builder)
    }

    /// Damage at a place of this segment.
    pub(crate) fn damage(&self, position: u64, offset: Offset, kind: DamageKind) -> Damage {
        Damage {
            file: self.path(SegmentFileKind::Log),
            position,
            offset,
            recovery_point: self.end(),
            kind,
        }
    }

    /// Bytes of the segment that keep its map alive.
    pub(crate) fn slice(map: &Arc<Map>, from: u64, to: u64) -> Bytes {
        map.slice(to_usize(from)..to_usize(to))
    }
}

/// How much is brought in at once when headers are read one after the other.
const WALK_STEP: u64 = 16 << 10;

/// Steps from batch to batch by their headers.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    map: &'a Map,
    position: u64,
    end: u64,
    /// Everything before this is in memory, as far as one can know.
    present_to: u64,
}

impl<'a> Walk<'a> {
    /// Begins at a batch that starts at `position`.
    pub(crate) const fn new(segment: &'a Segment, map: &'a Map, position: u64, end: u64) -> Self {
        Self {
            segment,
            map,
            position,
            end,
            present_to: position,
        }
    }

    /// As [`Walk::new`] over bytes that are in memory.
    pub(crate) const fn hot(segment: &'a Segment, map: &'a Map, position: u64, end: u64) -> Self {
        Self {
            segment,
            map,
            position,
            end,
            present_to: end,
        }
    }

    /// The batch at the present position; goes on to the next.
    pub(crate) fn next(&mut self) -> Result<Option<BatchPlace>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let header_end = (self.position + BATCH_HEADER_BYTES as u64).min(self.end);
        if header_end > self.present_to {
            let to = (self.position + WALK_STEP).min(self.end);
            self.map
                .populate_read(to_usize(self.position)..to_usize(to))
                .map_err(|source| {
                    let path = self.segment.path(SegmentFileKind::Log);
                    IoError {
                        action: "read",
                        path,
                        source,
                    }
                })?;
            self.present_to = to;
        }
        let bytes = self
            .map
            .bytes(to_usize(self.position)..to_usize(header_end));
        let damaged = |kind| self.segment.damage(self.position, self.segment.base, kind);
        let header = BatchHeader::parse(bytes)
            .map_err(|error| ReadError::Damaged(damaged(DamageKind::Batch(error))))?;
        let place = BatchPlace {
            position: self.position,
            header,
        };
        if place.end_position() > self.end {
            let kind = DamageKind::FileTooShort {
                expected: place.end_position(),
                found: self.end,
            };
            return Err(ReadError::Damaged(damaged(kind)));
        }
        self.position = place.end_position();
        Ok(Some(place))
    }
}
