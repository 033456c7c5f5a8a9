//! A file in memory, written behind its published end and read before it. The only `unsafe` code.
//!
//! ```text
//! 0            published                writable                    length
//! |------------|------------------------|---------------------------|
//!  immutable:   one writer, no reader     address space without a
//!  any reader                             file behind it: never touched
//! ```
//!
//! The invariants that every block below leans on:
//!
//! - **M1** Bytes before `published` never change again while the map lives. `published` only grows
//!   ([`MapWriter::publish`]), and only who holds the one [`MapWriter`] of a map writes at or behind
//!   it: through the map, or through the file while it holds no slice of the map.
//! - **M2** `published <= writable <= length`, checked where each is set.
//! - **M3** The file behind the map is never made shorter than `published` while the map lives, and
//!   nobody else writes to it: the directory lock keeps other processes of ours out, and the
//!   segment only cuts a file behind its published end. A foreign process that shrinks the file
//!   turns a read into `SIGBUS`; that ends the process, it does not corrupt memory.
//! - **M4** `writable` is only raised after the file system gave the space, so that a store never
//!   meets a hole on a full disk.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};

/// Maps of this process that live right now, for metrics and tests.
static LIVE: AtomicU64 = AtomicU64::new(0);

/// How many maps live in this process.
#[must_use]
pub fn live_maps() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// A mapped file: see the module.
pub struct Map {
    raw: MmapRaw,
    length: usize,
    published: AtomicUsize,
    writable: AtomicUsize,
    has_writer: AtomicBool,
}

impl Map {
    /// Maps the first `length` bytes of a file for reading and writing. The file may be shorter: it
    /// grows under the map. Its first `published` bytes are readable at once.
    ///
    /// # Errors
    /// Of the system call.
    pub fn of_file(file: &File, length: usize, published: usize) -> io::Result<Arc<Self>> {
        let raw = MmapOptions::new().len(length).map_raw(file)?;
        Ok(Self::over(raw, length, published))
    }

    /// Maps the first `length` bytes of a file that does not change any more.
    ///
    /// # Errors
    /// Of the system call.
    pub fn of_finished_file(file: &File, length: usize) -> io::Result<Arc<Self>> {
        let raw = MmapOptions::new().len(length).map_raw_read_only(file)?;
        let map = Self::over(raw, length, length);
        map.has_writer.store(true, Ordering::Relaxed);
        Ok(map)
    }

    /// Memory without a file, for simulated disks; `content` is published.
    ///
    /// # Errors
    /// Of the system call.
    pub fn anonymous(length: usize, content: &[u8]) -> io::Result<Arc<Self>> {
        assert!(content.len() <= length, "the content fits the map");
        let raw = MmapOptions::new()
            .len(length.max(1))
            .no_reserve_swap()
            .map_anon()?;
        let map = Self::over(MmapRaw::from(raw), length, 0);
        map.set_writable(content.len());
        let mut writer = MapWriter::claim(&map).expect("a new map has no writer");
        writer.tail(content.len()).copy_from_slice(content);
        writer.publish(content.len());
        map.has_writer.store(false, Ordering::Relaxed);
        Ok(map)
    }

    fn over(raw: MmapRaw, length: usize, published: usize) -> Arc<Self> {
        assert!(published <= length, "M2: published within the map");
        LIVE.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            raw,
            length,
            published: AtomicUsize::new(published),
            writable: AtomicUsize::new(published),
            has_writer: AtomicBool::new(false),
        })
    }

    /// End of the readable bytes.
    #[must_use]
    pub fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Size of the address range.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Says that the file has space up to `end`, so that it may be written. Never goes back.
    pub fn set_writable(&self, end: usize) {
        assert!(end <= self.length, "M2: writable within the map");
        self.writable.fetch_max(end, Ordering::AcqRel);
    }

    /// Published bytes, borrowed.
    ///
    /// # Panics
    /// When the range is not published.
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= self.published(),
            "{range:?} is published (end {})",
            self.published()
        );
        // SAFETY: the range lies in the mapping (M2) and before the published end, where bytes are
        // initialised and never change while the map lives (M1, M3); the borrow keeps it alive.
        unsafe {
            std::slice::from_raw_parts(self.raw.as_ptr().add(range.start), range.end - range.start)
        }
    }

    /// Published bytes that keep the map alive.
    ///
    /// # Panics
    /// When the range is not published.
    #[must_use]
    pub fn slice(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        assert!(range.end <= self.published(), "{range:?} is published");
        Bytes::from_owner(MapSlice {
            map: Arc::clone(self),
            range,
        })
    }

    /// Makes the pages of a range present for reading. A disk error is an error here, where a load
    /// would be a `SIGBUS`.
    ///
    /// # Errors
    /// What the disk answered.
    pub fn populate_read(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(Advice::PopulateRead, range)
    }

    /// Makes the pages of a range present for writing, before somebody has to wait for them.
    ///
    /// # Errors
    /// A full or failing disk.
    pub fn populate_write(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(Advice::PopulateWrite, range)
    }

    /// Asks for read-ahead of a range; does not wait.
    pub fn will_need(&self, range: Range<usize>) {
        // Only a hint: without it the range is read when it is used.
        let _ = self.advise(Advice::WillNeed, range);
    }

    fn advise(&self, advice: Advice, range: Range<usize>) -> io::Result<()> {
        let end = range.end.min(self.length);
        if range.start >= end {
            return Ok(());
        }
        match self
            .raw
            .advise_range(advice, range.start, end - range.start)
        {
            // Kernels before 5.14 do not know the populate calls: the pages come when touched.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            answer => answer,
        }
    }

    /// Whether all pages of a range are in memory right now. A snapshot: they may go at any time.
    #[must_use]
    pub fn is_resident(&self, range: Range<usize>) -> bool {
        const PAGE: usize = 4096;
        let start = range.start / PAGE * PAGE;
        let end = range.end.min(self.length);
        if start >= end {
            return true;
        }
        let mut pages = [0u8; 1024];
        let mut at = start;
        while at < end {
            let step = (end - at).min(pages.len() * PAGE);
            // SAFETY: `at` is page aligned (the mapping is, and `start` and the step are multiples
            // of the page), the range lies in the mapping, and `pages` has a byte for each page of
            // it. The call only writes to `pages`.
            let answer = unsafe {
                libc::mincore(
                    self.raw.as_mut_ptr().add(at).cast::<libc::c_void>(),
                    step,
                    pages.as_mut_ptr(),
                )
            };
            if answer != 0
                || pages[..step.div_ceil(PAGE)]
                    .iter()
                    .any(|page| page & 1 == 0)
            {
                return false;
            }
            at += step;
        }
        true
    }

    /// Makes a range durable, and with it what the file system needs to find it again.
    ///
    /// # Errors
    /// What the disk answered. After an error nothing may be assumed about the range.
    pub fn sync_range(&self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.raw.flush_range(range.start, range.end - range.start)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("length", &self.length)
            .field("published", &self.published())
            .field("writable", &self.writable.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// What [`Bytes`] owns when it is a piece of a map.
struct MapSlice {
    map: Arc<Map>,
    range: Range<usize>,
}

impl AsRef<[u8]> for MapSlice {
    fn as_ref(&self) -> &[u8] {
        self.map.bytes(self.range.clone())
    }
}

/// The right to write to a map; there is at most one.
pub struct MapWriter {
    map: Arc<Map>,
}

impl MapWriter {
    /// Takes the right to write, unless somebody has it or the map is read-only.
    #[must_use]
    pub fn claim(map: &Arc<Map>) -> Option<Self> {
        (!map.has_writer.swap(true, Ordering::AcqRel)).then(|| Self {
            map: Arc::clone(map),
        })
    }

    /// The published end: where the next byte goes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.map.published.load(Ordering::Relaxed)
    }

    /// The next `length` bytes behind the published end, to be filled.
    ///
    /// # Panics
    /// When the file has no space there yet.
    pub fn tail(&mut self, length: usize) -> &mut [u8] {
        let start = self.map.published.load(Ordering::Relaxed);
        let writable = self.map.writable.load(Ordering::Acquire);
        assert!(
            writable
                .checked_sub(start)
                .is_some_and(|room| length <= room),
            "M2: {length} bytes behind {start} are writable (end {writable})"
        );
        // SAFETY: the range lies in the mapping (M2) and behind the published end, where no reader
        // looks (M1); `&mut self` of the only writer excludes other writers; the file has space
        // there (M4). File pages are initialised memory.
        unsafe { std::slice::from_raw_parts_mut(self.map.raw.as_mut_ptr().add(start), length) }
    }

    /// Copies bytes behind the published end. They are not readable before they are published.
    ///
    /// # Panics
    /// When the file has no space there yet.
    pub fn stage(&mut self, bytes: &[u8]) -> &mut [u8] {
        let tail = self.tail(bytes.len());
        tail.copy_from_slice(bytes);
        tail
    }

    /// Lets readers see everything before `end`.
    ///
    /// # Panics
    /// When the end would go back, or past the space of the file.
    pub fn publish(&mut self, end: usize) {
        assert!(
            end >= self.map.published.load(Ordering::Relaxed)
                && end <= self.map.writable.load(Ordering::Relaxed),
            "M1, M2: the published end only grows, within the space of the file"
        );
        self.map.published.store(end, Ordering::Release);
    }
}

impl fmt::Debug for MapWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapWriter").field(&self.map).finish()
    }
}

impl Drop for MapWriter {
    fn drop(&mut self) {
        self.map.has_writer.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_was_published_and_keep_it() {
        let map = Map::anonymous(1 << 20, b"abc").unwrap();
        let before = map.slice(0..3);
        map.set_writable(4096);
        let mut writer = MapWriter::claim(&map).unwrap();
        assert!(MapWriter::claim(&map).is_none(), "only one writer");
        writer.stage(b"defg");
        assert_eq!(map.published(), 3);
        writer.publish(7);
        assert_eq!(&map.slice(3..7)[..], b"defg");
        drop(writer);
        let after = map.slice(0..7);
        drop(map);
        assert_eq!(&before[..], b"abc");
        assert_eq!(&after[..], b"abcdefg");
    }

    #[test]
    #[should_panic(expected = "is published")]
    fn unpublished_bytes_cannot_be_read() {
        let map = Map::anonymous(4096, b"abc").unwrap();
        map.set_writable(4096);
        let mut writer = MapWriter::claim(&map).unwrap();
        writer.stage(b"x");
        let _ = map.bytes(3..4);
    }

    #[test]
    #[should_panic(expected = "M2")]
    fn space_that_the_file_does_not_have_cannot_be_written() {
        let map = Map::anonymous(4096, b"").unwrap();
        map.set_writable(10);
        MapWriter::claim(&map).unwrap().stage(&[0; 11]);
    }

    #[test]
    fn a_finished_map_has_no_writer() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[7; 5000]).unwrap();
        let map = Map::of_finished_file(&file, 5000).unwrap();
        assert!(MapWriter::claim(&map).is_none());
        assert_eq!(map.bytes(4990..5000), [7; 10]);
        map.populate_read(0..5000).unwrap();
        assert!(map.is_resident(0..5000));
    }

    #[test]
    fn a_file_grows_under_its_map() {
        let file = tempfile::tempfile().unwrap();
        let map = Map::of_file(&file, 1 << 20, 0).unwrap();
        file.set_len(8192).unwrap();
        map.set_writable(8192);
        map.populate_write(0..8192).unwrap();
        let mut writer = MapWriter::claim(&map).unwrap();
        writer.stage(&[1; 8192]);
        writer.publish(8192);
        map.sync_range(100..8192).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8192);
        assert_eq!(map.bytes(8191..8192), [1]);
    }
}
