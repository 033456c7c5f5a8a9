//! What a start says of the life before it, on a disk that loses power and on a real one.

use std::path::Path;
use std::sync::Arc;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{
    BrokerEpoch, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName,
};

use super::*;
use crate::disk::{DiskFile, FsDisk};
use crate::sim_disk::{Dice, SimDisk};
use crate::{
    Background, Durability, Engine, EngineOptions, Log, LogOptions, PartitionMeta, RecoveryReport,
};

fn data() -> &'static Path {
    Path::new("/data")
}

fn meta() -> PartitionMeta {
    PartitionMeta {
        topic_id: TopicId::from_bytes([9; 16]),
        topic: TopicName::new("lives").unwrap(),
        partition: PartitionId::new(0),
    }
}

fn options() -> LogOptions {
    LogOptions {
        durability: Durability::Replicated,
        ..LogOptions::default()
    }
}

fn start(disk: &SimDisk) -> Arc<Engine> {
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        background: Background::Manual,
        ..EngineOptions::default()
    };
    Engine::open(data(), options).unwrap()
}

/// Opens all logs and says what they and the directory tell of the last life.
fn look(engine: &Engine) -> (SessionEvidence, Option<(Arc<Log>, RecoveryReport)>) {
    let mut opened = engine.open_logs(&|_| Some(options()), &|_| {});
    let log = opened.pop().and_then(|opened| opened.result.ok());
    (engine.session_evidence(), log)
}

fn batch(tag: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp::from_millis(5), None, Some(&[tag; 700]), &[]);
    builder.build().to_vec()
}

fn append(log: &Log, tag: u8) {
    let now = Timestamp::from_millis(7);
    log.append(&batch(tag), LeaderEpoch::new(1), now).unwrap();
}

fn epoch(number: u64) -> Option<BrokerEpoch> {
    Some(BrokerEpoch::new(number))
}

/// A broker that began life 7 and has appended: nothing of it is synced.
fn lived(disk: &SimDisk) -> (Arc<Engine>, Arc<Log>) {
    let engine = start(disk);
    engine.open_logs(&|_| Some(options()), &|_| {});
    engine.begin_life(BrokerEpoch::new(7)).unwrap();
    let log = engine.create_log(meta(), options()).unwrap();
    append(&log, 1);
    append(&log, 2);
    (engine, log)
}

#[test]
fn the_first_start_has_nothing_to_tell() {
    let disk = SimDisk::new();
    let engine = start(&disk);
    assert_eq!(
        engine.session_evidence().doubt,
        Some(Doubt::NotOpened),
        "asked too early"
    );
    let (evidence, _) = look(&engine);
    assert_eq!(evidence.end, LifeEnd::Unclean);
    assert_eq!(evidence.last_broker_epoch, None);
    assert_eq!(evidence.doubt, Some(Doubt::NoLife));
}

#[test]
fn an_orderly_close_is_clean() {
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    engine.close().unwrap();
    drop((log, engine));
    disk.crash(&mut Dice::new(1));
    let engine = start(&disk);
    let (evidence, _) = look(&engine);
    assert_eq!(evidence.end, LifeEnd::Clean, "{evidence:?}");
    assert_eq!(evidence.last_broker_epoch, epoch(7));
    assert_eq!(evidence.doubt, None);
}

#[test]
fn a_kill_is_a_process_crash_and_what_it_left_is_made_durable() {
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    drop((log, engine));
    disk.restart();
    let engine = start(&disk);
    let (evidence, log) = look(&engine);
    assert_eq!(evidence.end, LifeEnd::ProcessCrash, "{evidence:?}");
    assert_eq!(evidence.last_broker_epoch, epoch(7));
    let (log, _) = log.unwrap();
    assert_eq!(log.end().get(), 2);
    assert_eq!(log.durable_end().get(), 2, "synced before it is reported");
    drop((log, engine));
    // It was: the power may go now.
    for seed in 0..20 {
        disk.crash(&mut Dice::new(seed));
        let engine = start(&disk);
        let (_, log) = look(&engine);
        assert_eq!(log.unwrap().0.end().get(), 2);
    }
}

#[test]
fn a_power_loss_is_unclean() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let (engine, log) = lived(&disk);
        drop((log, engine));
        disk.crash(&mut Dice::new(seed));
        let engine = start(&disk);
        let (evidence, _) = look(&engine);
        assert_eq!(evidence.end, LifeEnd::Unclean);
        assert_eq!(evidence.last_broker_epoch, epoch(7));
        assert_eq!(evidence.doubt, Some(Doubt::OtherBoot));
    }
}

/// A marker that was restored, or whose removal the disk forgot, is about the life before the last one.
#[test]
fn a_marker_of_an_earlier_close_proves_nothing_about_a_later_life() {
    let marker = data().join(crate::layout::CLEAN_SHUTDOWN);
    for seed in 0..20 {
        let disk = SimDisk::new();
        let (engine, log) = lived(&disk);
        engine.close().unwrap();
        drop((log, engine));
        disk.restart();
        let old = disk.content(&marker).unwrap();
        let engine = start(&disk);
        let (_, log) = look(&engine);
        engine.begin_life(BrokerEpoch::new(8)).unwrap();
        let (log, _) = log.unwrap();
        append(&log, 3);
        drop((log, engine));
        // With some seeds the log is now exactly as it was when it was closed.
        disk.crash(&mut Dice::new(seed));
        disk.plant(&marker, &old);
        let (evidence, _) = look(&start(&disk));
        assert_eq!(evidence.end, LifeEnd::Unclean, "seed {seed}");
        assert_eq!(evidence.last_broker_epoch, epoch(8));
    }
}

/// Starts that end before they begin a life: what was proved stays proved, and what was not cannot be
/// proved by trying again.
#[test]
fn a_start_without_a_life_passes_on_what_it_found_and_nothing_better() {
    for clean in [true, false] {
        let disk = SimDisk::new();
        let (engine, log) = lived(&disk);
        if clean {
            engine.close().unwrap();
        }
        drop((log, engine));
        disk.restart();
        let first = look(&start(&disk)).0.end;
        disk.restart();
        let (second, _) = look(&start(&disk));
        assert_eq!(first == LifeEnd::Clean, clean);
        assert_eq!(second.end, LifeEnd::ProcessCrash, "{second:?}");
        assert_eq!(second.last_broker_epoch, epoch(7));

        // One that did not look is not passed on, even if it ends in order.
        disk.restart();
        let engine = start(&disk);
        engine.close().unwrap();
        drop(engine);
        disk.restart();
        let (third, _) = look(&start(&disk));
        assert_eq!(third.end, LifeEnd::Unclean);
        assert_eq!(third.doubt, Some(Doubt::LifeNotLast));
    }
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    drop((log, engine));
    disk.crash(&mut Dice::new(3));
    let engine = start(&disk);
    assert_eq!(look(&engine).0.end, LifeEnd::Unclean);
    engine.close().unwrap();
    drop(engine);
    disk.restart();
    let (again, _) = look(&start(&disk));
    assert_eq!(again.end, LifeEnd::Unclean, "closed in order since");
    assert_eq!(again.doubt, Some(Doubt::LifeNotLast));
}

#[test]
fn a_failed_sync_is_remembered_until_the_next_life() {
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    assert!(!engine.has_failed());
    disk.fail_sync_after(0);
    log.flush().unwrap_err();
    assert!(engine.has_failed());
    drop((log, engine));
    disk.restart();
    let engine = start(&disk);
    let (evidence, _) = look(&engine);
    assert_eq!(evidence.end, LifeEnd::Unclean);
    assert_eq!(evidence.doubt, Some(Doubt::IoFailed));
    engine.begin_life(BrokerEpoch::new(8)).unwrap();
    drop(engine);
    disk.restart();
    let (evidence, _) = look(&start(&disk));
    assert_eq!(evidence.end, LifeEnd::ProcessCrash, "{evidence:?}");
    assert_eq!(evidence.last_broker_epoch, epoch(8));
}

/// A disk on which a sync fails, and then no file can be created any more.
#[derive(Debug)]
struct NoNewNames(SimDisk);

impl Disk for NoNewNames {
    fn create(&self, _: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.0.open(path)
    }
    fn open_read_only(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.0.open_read_only(path)
    }
    fn file_bytes(&self, path: &Path) -> std::io::Result<u64> {
        self.0.file_bytes(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn remove_dir(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove_dir(path)
    }
    fn list(&self, path: &Path) -> std::io::Result<Vec<crate::disk::DirEntry>> {
        self.0.list(path)
    }
    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.0.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        self.0.lock(path)
    }
}

#[test]
fn a_failure_that_cannot_be_noted_takes_the_proof_away() {
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    let sick = NoNewNames(disk.clone());
    note_io_failure(&sick, data(), &AtomicBool::new(false), &"a failed sync");
    drop((log, engine));
    disk.restart();
    let (evidence, _) = look(&start(&disk));
    assert_eq!(evidence.end, LifeEnd::Unclean);
    assert_eq!(evidence.doubt, Some(Doubt::NoLife));
}

/// The tail of a log as a kill may leave it, and as no kill leaves it.
#[test]
fn one_unfinished_batch_is_what_a_kill_leaves_and_more_is_not() {
    let unstamped = batch(3);
    let whole = unstamped.len();
    let cases: [(&str, Vec<u8>, bool); 6] = [
        ("half a batch", unstamped[..whole / 2].to_vec(), true),
        ("half a header", unstamped[..30].to_vec(), true),
        ("a batch without offset and epoch", unstamped.clone(), true),
        ("two of them", unstamped.repeat(2), false),
        (
            "a hole and a batch",
            [&[0; 100][..], &unstamped].concat(),
            false,
        ),
        ("something else", vec![0xa5; 200], false),
    ];
    for (what, tail, is_crash) in cases {
        let disk = SimDisk::new();
        let (engine, log) = lived(&disk);
        let end = log.size_bytes();
        let path = crate::layout::segment_path(
            log.dir(),
            Offset::ZERO,
            crate::layout::SegmentFileKind::Log,
        );
        drop((log, engine));
        disk.restart();
        let file = disk.open(&path).unwrap();
        file.write_all_at(&tail, end).unwrap();
        let engine = start(&disk);
        let (evidence, log) = look(&engine);
        let (log, report) = log.unwrap();
        assert_eq!(log.end().get(), 2, "{what}");
        assert!(report.cut_bytes > 0, "{what}");
        assert_eq!(evidence.end == LifeEnd::ProcessCrash, is_crash, "{what}");
        assert_eq!(
            matches!(evidence.doubt, Some(Doubt::CutTooMuch(_))),
            !is_crash,
            "{what}"
        );
    }
}

#[test]
fn a_log_that_cannot_be_opened_or_is_gone_is_no_orderly_end() {
    for close in [true, false] {
        let disk = SimDisk::new();
        let (engine, log) = lived(&disk);
        let dir = log.dir().to_owned();
        if close {
            engine.close().unwrap();
        }
        drop((log, engine));
        disk.restart();
        disk.lose_file(&dir.join(crate::layout::PARTITION_META));
        let (evidence, log) = look(&start(&disk));
        assert!(log.is_none());
        assert_eq!(evidence.end, LifeEnd::Unclean, "closed: {close}");
    }
    let disk = SimDisk::new();
    let (engine, log) = lived(&disk);
    let dir = log.dir().to_owned();
    engine.close().unwrap();
    drop((log, engine));
    disk.restart();
    disk.rename(&dir, Path::new("/data/elsewhere")).unwrap();
    let (evidence, _) = look(&start(&disk));
    assert_eq!(evidence.doubt, Some(Doubt::NotAsClosed));
}

/// The kernel's boot and the directory's own number: a copy of a directory proves nothing.
#[test]
fn on_a_real_disk_a_kill_is_a_process_crash_and_a_copy_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let (real, copy) = (parent.path().join("real"), parent.path().join("copy"));
    let start = |dir: &Path| {
        let options = EngineOptions {
            background: Background::Manual,
            ..EngineOptions::default()
        };
        Engine::open(dir, options).unwrap()
    };
    assert!(FsDisk.boot().is_some(), "the kernel says which boot it is");
    let engine = start(&real);
    engine.open_logs(&|_| Some(options()), &|_| {});
    engine.begin_life(BrokerEpoch::new(4)).unwrap();
    let log = engine.create_log(meta(), options()).unwrap();
    append(&log, 1);
    drop((log, engine));

    for name in ["data-dir", "broker-epoch"] {
        std::fs::create_dir_all(&copy).unwrap();
        std::fs::copy(real.join(name), copy.join(name)).unwrap();
    }
    let evidence = look(&start(&copy)).0;
    assert_eq!(evidence.end, LifeEnd::Unclean);
    assert_eq!(evidence.doubt, Some(Doubt::OtherDirectory));

    let engine = start(&real);
    let evidence = look(&engine).0;
    assert_eq!(evidence.end, LifeEnd::ProcessCrash, "{evidence:?}");
    assert_eq!(evidence.last_broker_epoch, epoch(4));
    assert_eq!(
        engine.dir_id(),
        start_again(engine, &real).dir_id(),
        "the identity stays"
    );
}

fn start_again(engine: Arc<Engine>, dir: &Path) -> Arc<Engine> {
    drop(engine);
    let options = EngineOptions {
        background: Background::Manual,
        ..EngineOptions::default()
    };
    Engine::open(dir, options).unwrap()
}
