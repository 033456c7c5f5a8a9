//! The seam to the file system, narrow enough to be simulated (`sim_disk`).
//!
//! What the rest of the crate relies on, and what the simulated disk tests:
//! - bytes are durable when a sync of them returned; before, any subset of their pages may be;
//! - operations on names are durable when the directory was synced; before, any *prefix* of them
//!   may be (journals keep order);
//! - after a failed sync nothing is known about the bytes.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use crate::map::{Map, MapWriter};

/// Appends from this size on are written, not copied into the map. A write of whole pages takes no
/// zeroed pages, lands in large folios and leaves nothing mapped dirty for a sync to clean: measured
/// at 0.17 CPU seconds a GB against 0.30 for prefaulting and copying. Below it the system call and
/// the partial pages cost more than a copy into pages that are present already.
pub(crate) const WRITE_BYTES_MIN: usize = 32 << 10;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
}

/// The operations on names.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates an empty file for reading and writing; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Size of a file.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Renames; an existing target is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the name of a file. Open files and maps live on.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory, and the missing ones above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a file, created when missing; held until the value is dropped.
    /// [`io::ErrorKind::WouldBlock`] when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>>;
    /// Which start of the operating system this is: what is in the page cache lasts as long. `None`
    /// when it cannot be known.
    fn boot(&self) -> Option<[u8; 16]> {
        None
    }
    /// Which directory this is: the number of its file system and its own. A copy has others. `None`
    /// when it cannot be known.
    fn place(&self, _dir: &Path) -> Option<(u64, u64)> {
        None
    }
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Gets disk space for a range and lets the file end at its end or later. New bytes are zero.
    fn allocate(&self, range: Range<u64>) -> io::Result<()>;
    /// Maps `length` bytes of address space for writing; the first `published` are readable.
    fn map(&self, length: usize, published: usize) -> io::Result<Arc<Map>>;
    /// Maps the first `length` bytes of a file that does not change any more.
    fn map_finished(&self, length: usize) -> io::Result<Arc<Map>>;
    /// Puts bytes behind the published end of a map of this file, where there is space for them.
    /// Nobody sees them before they are published. After an error they may be there in part.
    fn store(&self, writer: &mut MapWriter, bytes: &[u8]) -> io::Result<()> {
        writer.stage(bytes);
        Ok(())
    }
    /// Makes a range of a map of this file durable.
    fn sync_mapped(&self, map: &Map, range: Range<usize>) -> io::Result<()>;
    /// Makes all bytes of the file durable, and its size.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, or lets it grow by a hole of zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reads what is there, up to the size of the buffer; short only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Forgets what is cached and clean, so that the next read asks the disk.
    fn drop_cache(&self) -> io::Result<()>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsDisk;

#[derive(Debug)]
struct FsFile(File);

impl Disk for FsDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Arc::new(FsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FsFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FsFile(File::open(path)?)))
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Names that are not text are none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_dir: entry.file_type()?.is_dir(),
                });
            }
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn boot(&self) -> Option<[u8; 16]> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = uuid::Uuid::parse_str(text.trim()).ok()?;
        (!boot.is_nil()).then(|| boot.into_bytes())
    }

    fn place(&self, dir: &Path) -> Option<(u64, u64)> {
        let metadata = std::fs::metadata(dir).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

impl FsFile {
    /// For file systems without `fallocate`: written zeros hold the space as well.
    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut position = range.start.max(self.0.metadata()?.len());
        while position < range.end {
            let step = (range.end - position).min(ZEROS.len() as u64);
            self.0.write_all_at(
                &ZEROS[..usize::try_from(step).unwrap_or(ZEROS.len())],
                position,
            )?;
            position += step;
        }
        Ok(())
    }
}

impl DiskFile for FsFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        loop {
            let length = range.end - range.start;
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), range.start, length) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::OPNOTSUPP) => return self.write_zeros(range),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn map(&self, length: usize, published: usize) -> io::Result<Arc<Map>> {
        Map::of_file(&self.0, length, published)
    }

    fn map_finished(&self, length: usize) -> io::Result<Arc<Map>> {
        Map::of_finished_file(&self.0, length)
    }

    fn store(&self, writer: &mut MapWriter, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < WRITE_BYTES_MIN {
            writer.stage(bytes);
            return Ok(());
        }
        // The page cache is one: what is written to the file is what the map shows.
        self.0.write_all_at(bytes, writer.position() as u64)
    }

    fn sync_mapped(&self, map: &Map, range: Range<usize>) -> io::Result<()> {
        map.sync_range(range)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .0
                .read_at(&mut buffer[filled..], position + filled as u64)
            {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn drop_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }
}
