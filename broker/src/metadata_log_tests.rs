//! Changes of the metadata on a disk that fails at the worst moment.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_storage::EngineOptions;
use highwater_storage::disk::{DirEntry, Disk, DiskFile, FsDisk};
use highwater_storage::map::Map;

use super::*;

/// The real disk, until it is told to fail.
#[derive(Debug, Default)]
struct FailingDisk {
    /// Small files cannot be replaced, as on a disk without a free block.
    small_files: AtomicBool,
    /// Data cannot be synced.
    syncs: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    syncs: Arc<AtomicBool>,
}

impl FailingDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let syncs = Arc::clone(&self.syncs);
        Arc::new(FailingFile { file, syncs })
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let is_small = path.extension().is_some_and(|ext| ext == "tmp");
        if is_small && self.small_files.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.wrap(FsDisk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(FsDisk.open(path)?))
    }
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        FsDisk.open_read_only(path)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        FsDisk.file_bytes(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FsDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        FsDisk.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        FsDisk.create_dir_all(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        FsDisk.remove_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        FsDisk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        FsDisk.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        FsDisk.lock(path)
    }
}

impl DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.file.allocate(range)
    }
    fn map(&self, length: usize, published: usize) -> io::Result<Arc<Map>> {
        self.file.map(length, published)
    }
    fn map_finished(&self, length: usize) -> io::Result<Arc<Map>> {
        self.file.map_finished(length)
    }
    fn sync_mapped(&self, map: &Map, range: Range<usize>) -> io::Result<()> {
        if self.syncs.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.file.sync_mapped(map, range)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

const NOW: Timestamp = Timestamp::from_millis(1);

fn created(id: u8, name: &str) -> Vec<MetadataRecord> {
    vec![MetadataRecord::TopicCreated {
        id: TopicId::from_bytes([id; 16]),
        name: TopicName::new(name).unwrap(),
        partitions: 1,
        replicas: 1,
        isr_min: 1,
        configs: Vec::new(),
    }]
}

fn engine(dir: &Path, disk: &Arc<FailingDisk>) -> Arc<Engine> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let options = EngineOptions {
        disk,
        ..EngineOptions::default()
    };
    Engine::open(dir, options).unwrap()
}

fn reopened(dir: &Path) -> MetadataLog {
    let engine = engine(dir, &Arc::default());
    let opened = engine.open_logs(&|_| Some(metadata_options()), &|_| {});
    let (log, _) = opened.into_iter().next().unwrap().result.unwrap();
    MetadataLog::replay(log).unwrap()
}

#[test]
fn a_change_that_is_durable_is_made_even_if_the_checkpoint_after_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let engine = engine(dir.path(), &disk);
    let mut metadata = MetadataLog::create(&engine).unwrap();
    disk.small_files.store(true, Ordering::SeqCst);
    // Were this an error, a client would try again under another id, and the two records would
    // contradict each other at every later start.
    metadata.commit(&created(1, "t"), NOW).unwrap();
    assert!(metadata.image().topic("t").is_some());
    let image = metadata.image().clone();
    drop((metadata, engine));
    assert_eq!(reopened(dir.path()).image(), &image);
}

#[test]
fn a_change_in_doubt_is_not_made_and_ends_all_changes_until_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let engine = engine(dir.path(), &disk);
    let mut metadata = MetadataLog::create(&engine).unwrap();
    metadata.commit(&created(1, "before"), NOW).unwrap();
    disk.syncs.store(true, Ordering::SeqCst);
    let error = metadata.commit(&created(2, "t"), NOW).unwrap_err();
    assert!(matches!(error, MetadataLogError::InDoubt(_)), "{error}");
    assert!(metadata.image().topic("t").is_none());
    disk.syncs.store(false, Ordering::SeqCst);
    let error = metadata.commit(&created(3, "t"), NOW).unwrap_err();
    assert!(matches!(error, MetadataLogError::Append(_)), "{error}");
    drop((metadata, engine));
    assert!(reopened(dir.path()).image().topic("before").is_some());
}

#[test]
fn a_replay_knows_which_topics_were_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path(), &Arc::default());
    let mut metadata = MetadataLog::create(&engine).unwrap();
    metadata.commit(&created(1, "kept"), NOW).unwrap();
    metadata.commit(&created(2, "gone"), NOW).unwrap();
    let id = TopicId::from_bytes([2; 16]);
    let records = [MetadataRecord::TopicDeleted { id }];
    metadata.commit(&records, NOW).unwrap();
    drop((metadata, engine));
    let metadata = reopened(dir.path());
    assert!(metadata.was_deleted(id));
    assert!(!metadata.was_deleted(TopicId::from_bytes([1; 16])));
}
