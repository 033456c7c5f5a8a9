//! The growing end of a segment file: where its disk space comes from, and when.
//!
//! The map covers the whole segment from the start, so the file can grow under it. Disk space is
//! taken in pieces that double, from `Sizes::allocation_min` to `Sizes::allocation_max`, and
//! pages are made present a distance ahead of the end that grows with what was written: a log that
//! holds one record takes one small piece, a busy one never waits. A background thread does both
//! (`Tail::prepare`); an append that outruns it does it itself (`Tail::make_room`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, WRITE_BYTES_MIN};
use crate::error::{IoError, is_disk_full};
use crate::map::Map;

/// Pages are made present in pieces of this size, so that one busy log does not hold up others.
const PREFAULT_STEP: u64 = 2 << 20;
/// Ends of allocations are multiples of this.
const ALLOCATION_UNIT: u64 = 4096;

/// How space is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) allocation_min: u64,
    pub(crate) allocation_max: u64,
    pub(crate) prefault_ahead: u64,
}

/// An open segment file with its map.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) map: Arc<Map>,
    sizes: Sizes,
    /// The log is known to be busy: no small beginnings.
    busy: bool,
    /// Recent appends were large ones, which are written and need no pages made present.
    large_appends: AtomicBool,
    /// Held while the file changes its size.
    space: Mutex<Space>,
    /// End of the space the file has. Only grows until the tail is closed.
    allocated: AtomicU64,
    /// End of the pages that were made present.
    prefaulted: AtomicU64,
    /// The background thread wants to know when the published end gets here.
    wake_at: AtomicU64,
}

#[derive(Debug)]
struct Space {
    /// Nothing is appended any more; the file was cut to its content.
    closed: bool,
}

impl Tail {
    /// Creates a new, empty file with its first piece of space.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        capacity: u64,
        first_bytes: u64,
        sizes: Sizes,
        busy: bool,
    ) -> Result<Self, IoError> {
        let file = disk.create(path).map_err(IoError::on("create", path))?;
        let tail = Self::over(file, path, capacity, 0, sizes, busy)?;
        if let Err(error) = tail.make_room(path, first_bytes) {
            // Without space the name is of no use, and it must not stand in the way later.
            let _ = disk.remove_file(path);
            return Err(error);
        }
        Ok(tail)
    }

    /// Goes on behind the first `published` bytes of an existing file.
    pub(crate) fn resume(
        disk: &dyn Disk,
        path: &Path,
        capacity: u64,
        published: u64,
        sizes: Sizes,
    ) -> Result<Self, IoError> {
        let file = disk.open(path).map_err(IoError::on("open", path))?;
        Self::over(file, path, capacity, published, sizes, false)
    }

    fn over(
        file: Arc<dyn DiskFile>,
        path: &Path,
        capacity: u64,
        published: u64,
        sizes: Sizes,
        busy: bool,
    ) -> Result<Self, IoError> {
        let map = file
            .map(to_usize(capacity), to_usize(published))
            .map_err(IoError::on("map", path))?;
        Ok(Self {
            file,
            map,
            sizes,
            busy,
            large_appends: AtomicBool::new(false),
            space: Mutex::new(Space { closed: false }),
            allocated: AtomicU64::new(published),
            prefaulted: AtomicU64::new(published),
            wake_at: AtomicU64::new(published),
        })
    }

    /// How far beyond `position` the file should reach after growing.
    fn allocation_ahead(&self, position: u64) -> u64 {
        let most = self.sizes.allocation_max.max(self.sizes.allocation_min);
        if self.busy {
            most
        } else {
            position.clamp(self.sizes.allocation_min, most)
        }
    }

    /// How far beyond `position` pages should be present.
    fn prefault_window(&self, position: u64) -> u64 {
        if self.has_large_appends() {
            return 0;
        }
        let most = self.sizes.prefault_ahead;
        if self.busy { most } else { position.min(most) }
    }

    /// Size of the address space: where the segment is full at the latest.
    pub(crate) fn capacity(&self) -> u64 {
        self.map.length() as u64
    }

    /// Whether the file has space up to `end`.
    pub(crate) fn has_room(&self, end: u64) -> bool {
        end <= self.allocated.load(Ordering::Relaxed)
    }

    /// Whether recent appends were written rather than copied into the map.
    pub(crate) fn has_large_appends(&self) -> bool {
        self.large_appends.load(Ordering::Relaxed)
    }

    /// Takes note of the size of an append. The first small one after large ones wakes the
    /// background thread, so that those after it find their pages.
    pub(crate) fn note_append(&self, bytes: u64) {
        let large = bytes >= WRITE_BYTES_MIN as u64;
        if large != self.has_large_appends() {
            self.large_appends.store(large, Ordering::Relaxed);
            if !large {
                self.wake_at.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Whether the background thread is to be told that the published end is at `end`; at most once
    /// until it was there.
    pub(crate) fn wants_preparation(&self, end: u64) -> bool {
        end >= self.wake_at.load(Ordering::Relaxed)
            && self.wake_at.swap(u64::MAX, Ordering::Relaxed) != u64::MAX
    }

    /// Gets space up to `end`. On a disk that is nearly full it takes no more than that.
    pub(crate) fn make_room(&self, path: &Path, end: u64) -> Result<(), IoError> {
        self.grow(path, end, end.saturating_add(self.allocation_ahead(end)))
    }

    fn grow(&self, path: &Path, least: u64, wanted: u64) -> Result<(), IoError> {
        let space = self.space.lock();
        let allocated = self.allocated.load(Ordering::Relaxed);
        if least <= allocated || space.closed {
            return Ok(());
        }
        let round = |end: u64| end.next_multiple_of(ALLOCATION_UNIT).min(self.capacity());
        let (least, wanted) = (round(least), round(wanted).max(round(least)));
        let end = match self.file.allocate(allocated..wanted) {
            Ok(()) => wanted,
            Err(error) if is_disk_full(&error) && least < wanted => {
                self.file
                    .allocate(allocated..least)
                    .map_err(IoError::on("allocate", path))?;
                least
            }
            Err(error) => return Err(IoError::on("allocate", path)(error)),
        };
        self.map.set_writable(to_usize(end));
        self.allocated.store(end, Ordering::Release);
        Ok(())
    }

    /// Background: gets space and pages ahead of the published end. A full disk is not an error
    /// here, the append that needs the space will say so. `next_segment_at` is where the caller
    /// wants to be woken as well.
    pub(crate) fn prepare(&self, path: &Path, next_segment_at: Option<u64>) -> Result<(), IoError> {
        loop {
            let published = self.map.published() as u64;
            let ahead = self.allocation_ahead(published);
            if self.allocated.load(Ordering::Relaxed) < published + ahead / 2 {
                match self.grow(path, published + ahead / 2, published + ahead) {
                    Ok(()) => {}
                    Err(error) if error.is_disk_full() => {}
                    Err(error) => return Err(error),
                }
            }
            if self.prefault_step(path, published)? {
                continue;
            }
            let next = self.next_wake(published, next_segment_at);
            self.wake_at.store(next, Ordering::SeqCst);
            if (self.map.published() as u64) < next {
                return Ok(());
            }
        }
    }

    /// At which end there is something to do again.
    fn next_wake(&self, published: u64, next_segment_at: Option<u64>) -> u64 {
        let allocated = self.allocated.load(Ordering::Relaxed);
        let prefaulted = self.prefaulted.load(Ordering::Relaxed);
        let mut next = next_segment_at.unwrap_or(u64::MAX);
        if allocated < self.capacity() {
            next = next.min(allocated.saturating_sub(self.allocation_ahead(published) / 2));
        }
        if prefaulted < allocated && !self.has_large_appends() {
            next = next.min(prefaulted.saturating_sub(self.prefault_window(published) / 2));
        }
        // At least a page further, so that a full disk does not make every append wake us.
        next.max(published + ALLOCATION_UNIT)
    }

    /// Makes a piece of the window present. `false` when all of it is.
    fn prefault_step(&self, path: &Path, published: u64) -> Result<bool, IoError> {
        let window_end = (published + self.prefault_window(published))
            .min(self.allocated.load(Ordering::Relaxed));
        let from = self.prefaulted.load(Ordering::Relaxed).max(published);
        if from >= window_end {
            return Ok(false);
        }
        let to = window_end.min(from + PREFAULT_STEP);
        {
            // A closed file may end before the range.
            let space = self.space.lock();
            if space.closed {
                return Ok(false);
            }
            match self.map.populate_write(to_usize(from)..to_usize(to)) {
                Ok(()) => {}
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(IoError::on("prefault", path)(error)),
            }
        }
        self.prefaulted.fetch_max(to, Ordering::Relaxed);
        Ok(true)
    }

    /// Nothing is appended any more: gives back the space behind `length`.
    pub(crate) fn close(&self, path: &Path, length: u64) -> Result<(), IoError> {
        let mut space = self.space.lock();
        if space.closed {
            return Ok(());
        }
        space.closed = true;
        if (self.map.published() as u64) > length {
            // A suffix was truncated: somebody may still be reading it.
            return Ok(());
        }
        self.file.set_len(length).map_err(IoError::on("cut", path))
    }
}

/// Memory is short or a signal came: the pages come when they are touched.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM)
    )
}

/// File positions fit the address space: segments are at most a few GiB, on 64-bit machines.
pub(crate) fn to_usize(position: u64) -> usize {
    usize::try_from(position).expect("positions in a segment fit the address space")
}

/// A file with space and without content that waits to become the next segment.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) path: PathBuf,
    pub(crate) tail: Tail,
}
