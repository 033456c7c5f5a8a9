//! A disk in memory that can lose power, fail a sync, and be full. For tests.
//!
//! It keeps what a real one keeps apart: what programs see, and what would be there after a power
//! loss. A crash ([`SimDisk::crash`]) leaves, at random:
//! - of each file, any subset of the pages that were not synced, and its old or new size;
//! - of the operations on names that were not synced, any prefix.
//!
//! A file that was cut and grew again may not show new bytes behind the cut unless the cut survived
//! as well: journals keep that order, and recovery relies on it.
//!
//! Every operation has a number; [`SimDisk::lose_power_at`] lets all operations from one of them on
//! fail, so that a test can crash a run at each of its steps.

mod dice;
mod inode;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{DirEntry, Disk, DiskFile};
use crate::map::Map;

pub use self::dice::Dice;
use self::inode::Inode;

/// What is written in one piece or not at all.
pub const PAGE_BYTES: usize = 4096;

type InodeId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(InodeId),
}

#[derive(Debug, Clone)]
enum NameOp {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameOp {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Put(path, _) | Self::Remove(path) => path.parent() == Some(dir),
            Self::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Put(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                let moved: Vec<_> = names
                    .iter()
                    .filter(|(path, _)| path.starts_with(from))
                    .map(|(path, node)| (path.clone(), *node))
                    .collect();
                for (path, node) in moved {
                    names.remove(&path);
                    let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
                    let target = if rest.as_os_str().is_empty() {
                        to.clone()
                    } else {
                        to.join(rest)
                    };
                    names.insert(target, node);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Sim {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    journal: Vec<NameOp>,
    locks: HashSet<PathBuf>,
    generation: u64,
    power_losses: u64,
    operations: u64,
    power_off_at: Option<u64>,
    capacity_bytes: Option<u64>,
    failing_syncs: Option<u64>,
}

impl Sim {
    /// Counts an operation, unless the power is off.
    fn step(&mut self) -> io::Result<()> {
        if self.power_off_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("simulated power loss"));
        }
        self.operations += 1;
        Ok(())
    }

    fn name(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.journal.push(op);
    }

    fn file(&self, path: &Path) -> io::Result<InodeId> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn inode(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id as usize]
    }

    fn used_bytes(&self) -> u64 {
        let mut used = 0;
        for node in self.names.values() {
            if let Node::File(id) = node {
                used += self.inodes[*id as usize].cached.len() as u64;
            }
        }
        used
    }

    fn grow(&mut self, id: InodeId, to: usize) -> io::Result<()> {
        let now = self.inode(id).cached.len();
        if to <= now {
            return Ok(());
        }
        if self
            .capacity_bytes
            .is_some_and(|max| self.used_bytes() + (to - now) as u64 > max)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inode(id).cached.resize(to, 0);
        Ok(())
    }

    fn sync(&mut self, id: InodeId, range: Range<usize>) -> io::Result<()> {
        if let Some(left) = &mut self.failing_syncs {
            if *left == 0 {
                self.failing_syncs = None;
                let inode = self.inode(id);
                inode.refresh();
                inode
                    .lost
                    .extend(range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES));
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            *left -= 1;
        }
        self.inode(id).sync(range);
        Ok(())
    }
}

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Sim>>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power and comes back: what was not synced is there in part. Open files and locks are
    /// gone.
    pub fn crash(&self, dice: &mut Dice) {
        let mut sim = self.0.lock();
        let surviving = dice.below(sim.journal.len() as u64 + 1) as usize;
        let journal: Vec<_> = sim.journal.drain(..).take(surviving).collect();
        for op in journal {
            op.apply(&mut sim.durable_names);
        }
        sim.names = sim.durable_names.clone();
        for inode in &mut sim.inodes {
            inode.crash(dice);
        }
        sim.locks.clear();
        sim.generation += 1;
        sim.power_losses += 1;
        sim.power_off_at = None;
        sim.failing_syncs = None;
    }

    /// The process ends and another one starts: the cache is as it was.
    pub fn restart(&self) {
        let mut sim = self.0.lock();
        for inode in &mut sim.inodes {
            inode.refresh();
            inode.map = None;
            inode.map_seen = 0;
            inode.finished.clear();
        }
        sim.locks.clear();
        sim.generation += 1;
        sim.power_off_at = None;
        sim.failing_syncs = None;
    }

    /// The kernel writes some pages back by itself.
    pub fn write_back_some(&self, dice: &mut Dice) {
        let mut sim = self.0.lock();
        for inode in &mut sim.inodes {
            inode.refresh();
            if inode.cut_to.is_some() {
                continue;
            }
            for page in 0..inode.cached.len().div_ceil(PAGE_BYTES) {
                if dice.one_in(3) {
                    inode.write_back(page);
                }
            }
        }
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Lets all operations from the given number on fail.
    pub fn lose_power_at(&self, operation: u64) {
        self.0.lock().power_off_at = Some(operation);
    }

    /// Lets the sync after the next `after` ones fail, once.
    pub fn fail_sync_after(&self, after: u64) {
        self.0.lock().failing_syncs = Some(after);
    }

    /// How large the disk is; `None`: without limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Content of a file as programs see it.
    ///
    /// # Errors
    /// There is none.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut sim = self.0.lock();
        let id = sim.file(path)?;
        let inode = sim.inode(id);
        inode.refresh();
        Ok(inode.cached.clone())
    }

    /// Changes bytes of a file on the disk itself, as a failing medium does.
    ///
    /// # Errors
    /// There is no such file.
    pub fn corrupt(&self, path: &Path, position: usize, flip: u8) -> io::Result<()> {
        let mut sim = self.0.lock();
        let id = sim.file(path)?;
        let inode = sim.inode(id);
        inode.refresh();
        for bytes in [&mut inode.cached, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(position) {
                *byte ^= flip;
            }
        }
        Ok(())
    }

    /// Puts a file onto the disk, durably, whatever was there.
    pub fn plant(&self, path: &Path, content: &[u8]) {
        let mut sim = self.0.lock();
        let id = sim.inodes.len() as InodeId;
        sim.inodes.push(Inode {
            cached: content.to_vec(),
            durable: content.to_vec(),
            ..Inode::default()
        });
        for names in [0, 1] {
            let names = if names == 0 {
                &mut sim.names
            } else {
                &mut sim.durable_names
            };
            for dir in path.ancestors().skip(1) {
                names.insert(dir.to_owned(), Node::Dir);
            }
            names.insert(path.to_owned(), Node::File(id));
        }
    }

    /// Removes a file from the disk, durably.
    pub fn lose_file(&self, path: &Path) {
        let mut sim = self.0.lock();
        sim.names.remove(path);
        sim.durable_names.remove(path);
    }

    /// All files, by path.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let sim = self.0.lock();
        let files = sim
            .names
            .iter()
            .filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    fn handle(&self, sim: &Sim, inode: InodeId) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            inode,
            generation: sim.generation,
        })
    }
}

#[derive(Debug)]
struct SimLock(SimDisk, PathBuf, u64);

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut sim = self.0.0.lock();
        if sim.generation == self.2 {
            sim.locks.remove(&self.1);
        }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.0.lock();
        sim.step()?;
        if let Ok(id) = sim.file(path) {
            sim.inode(id).set_len(0);
            return Ok(self.handle(&sim, id));
        }
        if !path
            .parent()
            .is_some_and(|dir| sim.names.get(dir) == Some(&Node::Dir))
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = sim.inodes.len() as InodeId;
        sim.inodes.push(Inode::default());
        sim.name(NameOp::Put(path.to_owned(), Node::File(id)));
        Ok(self.handle(&sim, id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.0.lock();
        sim.step()?;
        let id = sim.file(path)?;
        Ok(self.handle(&sim, id))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let mut sim = self.0.lock();
        sim.step()?;
        let id = sim.file(path)?;
        Ok(sim.inode(id).cached.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        if !sim.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        sim.name(NameOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        sim.file(path)?;
        sim.name(NameOp::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        let mut dirs: Vec<_> = path.ancestors().map(Path::to_owned).collect();
        dirs.reverse();
        for dir in dirs {
            if !sim.names.contains_key(&dir) {
                sim.name(NameOp::Put(dir, Node::Dir));
            }
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        if sim.names.keys().any(|name| name.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        sim.name(NameOp::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut sim = self.0.lock();
        sim.step()?;
        if sim.names.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = sim
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path));
        Ok(entries
            .filter_map(|(name, node)| {
                let name = name.file_name()?.to_str()?.to_owned();
                Some(DirEntry {
                    name,
                    is_dir: *node == Node::Dir,
                })
            })
            .collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut sim = self.0.lock();
        sim.step()?;
        let through = sim
            .journal
            .iter()
            .rposition(|op| op.touches(path))
            .map_or(0, |last| last + 1);
        let synced: Vec<_> = sim.journal.drain(..through).collect();
        for op in synced {
            op.apply(&mut sim.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut sim = self.0.lock();
        sim.step()?;
        if !sim.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let generation = sim.generation;
        Ok(Box::new(SimLock(self.clone(), path.to_owned(), generation)))
    }

    fn boot(&self) -> Option<[u8; 16]> {
        let boots = u128::from(self.0.lock().power_losses) + 1;
        Some(boots.to_be_bytes())
    }

    fn place(&self, _dir: &Path) -> Option<(u64, u64)> {
        Some((1, 1))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: InodeId,
    generation: u64,
}

impl SimFile {
    fn with<T>(&self, run: impl FnOnce(&mut Sim) -> io::Result<T>) -> io::Result<T> {
        let mut sim = self.disk.0.lock();
        sim.step()?;
        if sim.generation != self.generation {
            return Err(io::Error::other("a file of a process that is gone"));
        }
        run(&mut sim)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|sim| Ok(sim.inode(self.inode).cached.len() as u64))
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|sim| sim.grow(self.inode, range.end as usize))
    }

    fn map(&self, length: usize, published: usize) -> io::Result<Arc<Map>> {
        self.with(|sim| {
            let inode = sim.inode(self.inode);
            inode.refresh();
            let map = Map::anonymous(length, &inode.cached[..published])?;
            inode.map = Some(Arc::clone(&map));
            inode.map_seen = published;
            Ok(map)
        })
    }

    fn map_finished(&self, length: usize) -> io::Result<Arc<Map>> {
        self.with(|sim| {
            let inode = sim.inode(self.inode);
            inode.refresh();
            let map = Map::anonymous(length, &inode.cached[..length])?;
            inode.finished.push(Arc::downgrade(&map));
            Ok(map)
        })
    }

    fn sync_mapped(&self, _map: &Map, range: Range<usize>) -> io::Result<()> {
        self.with(|sim| sim.sync(self.inode, range))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|sim| {
            let inode = sim.inode(self.inode);
            inode.refresh();
            let end = inode.cached.len();
            sim.sync(self.inode, 0..end)
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with(|sim| {
            sim.grow(self.inode, bytes as usize)?;
            sim.inode(self.inode).set_len(bytes as usize);
            Ok(())
        })
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|sim| {
            let inode = sim.inode(self.inode);
            inode.refresh();
            let from = (position as usize).min(inode.cached.len());
            let to = (from + buffer.len()).min(inode.cached.len());
            buffer[..to - from].copy_from_slice(&inode.cached[from..to]);
            Ok(to - from)
        })
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.with(|sim| {
            let (from, to) = (position as usize, position as usize + bytes.len());
            sim.grow(self.inode, to)?;
            let inode = sim.inode(self.inode);
            inode.cached[from..to].copy_from_slice(bytes);
            for page in from / PAGE_BYTES..to.div_ceil(PAGE_BYTES) {
                // Dirty again.
                inode.lost.remove(&page);
            }
            Ok(())
        })
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.with(|sim| {
            let inode = sim.inode(self.inode);
            inode.refresh();
            for page in std::mem::take(&mut inode.lost) {
                let start = page * PAGE_BYTES;
                let end = (start + PAGE_BYTES).min(inode.cached.len());
                for at in start..end {
                    inode.cached[at] = inode.durable.get(at).copied().unwrap_or(0);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..50 {
            let disk = SimDisk::new();
            let dir = Path::new("/d");
            disk.create_dir_all(dir).unwrap();
            let synced = disk.create(&dir.join("synced")).unwrap();
            synced.write_all_at(&[1; 10_000], 0).unwrap();
            synced.sync_data().unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            disk.sync_dir(dir).unwrap();
            synced.write_all_at(&[2; 10_000], 10_000).unwrap();
            disk.create(&dir.join("unsynced")).unwrap();
            disk.crash(&mut Dice::new(seed));
            let content = disk.content(&dir.join("synced")).unwrap();
            assert_eq!(content[..10_000], [1; 10_000]);
            if disk.content(&dir.join("unsynced")).is_ok() {
                kept += 1;
            } else {
                lost += 1;
            }
            assert!(synced.size().is_err(), "an open file does not survive");
        }
        assert!(lost > 0 && kept > 0);
    }

    #[test]
    fn a_failed_sync_leaves_a_cache_that_lies() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.write_all_at(&[1; 100], 0).unwrap();
        disk.fail_sync_after(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.content(Path::new("/d/f")).unwrap(), [1; 100]);
        file.drop_cache().unwrap();
        assert_eq!(disk.content(Path::new("/d/f")).unwrap(), [0; 100]);
    }

    #[test]
    #[should_panic(expected = "SIGBUS")]
    fn cutting_a_file_under_its_map_is_noticed() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.allocate(0..8192).unwrap();
        let map = file.map(1 << 20, 5000).unwrap();
        file.set_len(4999).unwrap();
        drop(map);
    }
}
