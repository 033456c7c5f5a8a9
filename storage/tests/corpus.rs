//! The fuzz targets of this crate over the checked-in corpus and mutations of it, without nightly
//! tools. The same bytes in every run: a failure is reproduced by running the test again.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::ids::{BrokerEpoch, ProducerEpoch, ProducerId, Sequence};
use highwater_protocol::record_batch::ProducerStamp;
use highwater_storage::fuzzing::{TARGETS, Target};
use highwater_storage::sim_disk::{Dice, SimDisk};
use highwater_storage::{Background, Engine, EngineOptions, LogOptions, durable_file, layout};
use support::{at, batch, epoch, meta, ms};

const MUTATIONS: u64 = 1500;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = fuzz().join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", directory.display());
    files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// One to four small damages.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let below =
        |dice: &mut Dice, end: usize| usize::try_from(dice.below(end.max(1) as u64)).unwrap();
    for _ in 0..=below(dice, 4) {
        let place = below(dice, bytes.len());
        match below(dice, 6) {
            0 | 1 if !bytes.is_empty() => bytes[place] ^= 1 << below(dice, 8),
            2 if !bytes.is_empty() => bytes[place] = [0, 1, 0x7f, 0x80, 0xff][below(dice, 5)],
            3 => bytes.truncate(place),
            4 => {
                let end = place + below(dice, bytes.len() - place + 1).min(64);
                let piece = bytes[place..end].to_vec();
                bytes.splice(place..place, piece);
            }
            _ => bytes.extend((0..below(dice, 100)).map(|_| 0)),
        }
    }
}

fn run_all(target: &Target) {
    let (name, run) = target;
    let corpus = corpus(name);
    for (path, bytes) in &corpus {
        assert!(catch_unwind(|| run(bytes)).is_ok(), "{}", path.display());
    }
    for seed in 0..MUTATIONS {
        let mut dice = Dice::new(seed);
        let (path, bytes) = &corpus[usize::try_from(seed).unwrap() % corpus.len()];
        let mut bytes = bytes.clone();
        mutate(&mut bytes, &mut dice);
        let answer = catch_unwind(|| run(&bytes));
        assert!(
            answer.is_ok(),
            "{name}: mutation {seed} of {}",
            path.display()
        );
    }
}

#[test]
fn every_target_holds_over_its_corpus_and_mutations() {
    if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
        write_corpus();
    }
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let name = target.0;
        assert!(
            manifest.contains(&format!("\nname = \"{name}\"\n")),
            "{name} is no [[bin]]"
        );
        let wrapper = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        let wrapper = std::fs::read_to_string(wrapper).unwrap();
        assert!(
            wrapper.contains(&format!("fuzzing::{name}(data)")),
            "{name}"
        );
        run_all(target);
    }
}

/// Writes the corpus anew: `HIGHWATER_TEST_BLESS=1 cargo test -p highwater-storage --test corpus`.
fn write_corpus() {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let directory = fuzz().join("corpus").join(target);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), bytes).unwrap();
    };
    let disk = SimDisk::new();
    let options = EngineOptions {
        disk: Arc::new(disk.clone()),
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Path::new("/data"), options).unwrap();
    let log_options = LogOptions {
        index_interval_bytes: 100,
        ..LogOptions::default()
    };
    let log = engine.create_log(meta(0), log_options).unwrap();
    log.append(&batch(3, 40, 5, 1), epoch(1), ms(5)).unwrap();
    let snapshot = |kinds: &[&str]| {
        let mut bytes = Vec::new();
        for path in disk.files() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let base = u8::from(name.contains('3')) * 8;
            let extension = name.rsplit('.').next().unwrap();
            let which = [
                "",
                "log",
                "index",
                "timeindex",
                "seal",
                "checkpoint",
                "leader-epochs",
            ]
            .iter()
            .position(|known| *known == extension);
            let Some(which) = which.filter(|_| kinds.contains(&extension)) else {
                continue;
            };
            let mut content = disk.content(&path).unwrap();
            let used = content
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            content.truncate(used.next_multiple_of(8).min(content.len()));
            bytes.push(u8::try_from(which).unwrap() | base);
            bytes.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&content);
        }
        bytes
    };
    let all = [
        "log",
        "index",
        "timeindex",
        "seal",
        "checkpoint",
        "leader-epochs",
    ];
    write("segment_recovery", "one_unsynced", &snapshot(&all));
    log.flush().unwrap();
    write("segment_recovery", "one_synced", &snapshot(&all));
    log.roll().unwrap();
    engine.run_pending();
    for n in 0..6 {
        log.append(&batch(2, 60, 10 + n, 2), epoch(2), ms(10 + n))
            .unwrap();
    }
    write("segment_recovery", "sealed_and_unsynced", &snapshot(&all));
    log.flush().unwrap();
    log.append(&batch(1, 60, 30, 3), epoch(4), ms(30)).unwrap();
    write(
        "segment_recovery",
        "sealed_and_half_synced",
        &snapshot(&all),
    );
    write("segment_recovery", "only_batches", &snapshot(&["log"]));
    write("segment_recovery", "no_epochs", &snapshot(&all[..5]));
    write(
        "segment_recovery",
        "no_seal",
        &snapshot(&["log", "checkpoint", "leader-epochs"]),
    );
    write("segment_recovery", "empty", b"");
    log.trim_prefix(at(3)).unwrap();
    write("segment_recovery", "trimmed", &snapshot(&all));
    engine.begin_life(BrokerEpoch::new(3)).unwrap();
    let restart = Path::new("/data/restart");
    durable_file::replace(&disk, restart, *b"HWrs", 1, &9u64.to_le_bytes()).unwrap();
    for path in disk.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let content = disk.content(&path).unwrap();
        if name.ends_with("index") {
            let bytes = [&7u32.to_le_bytes()[..], &content].concat();
            write("storage_index", name, &bytes);
        } else if !name.ends_with(".log") && !content.is_empty() {
            write("storage_small_file", name, &content);
        }
    }
    let mut producer = BatchBuilder::new(Compression::None, None);
    for sequence in 0..6 {
        producer.set_producer(Some(ProducerStamp {
            id: ProducerId::new(4000),
            epoch: ProducerEpoch::new(1),
            base_sequence: Some(Sequence::new(sequence)),
        }));
        producer.push(ms(40), None, Some(b"once"), &[]);
        let batch = producer.build();
        log.append(&batch, epoch(4), ms(40)).unwrap();
    }
    log.roll().unwrap();
    log.flush().unwrap();
    let path = layout::producer_snapshot_path(log.dir(), log.end());
    let snapshot = disk.content(&path).unwrap();
    write("storage_small_file", "producers", &snapshot);
    engine.close().unwrap();
    let marker = disk.content(Path::new("/data/clean-shutdown")).unwrap();
    write("storage_small_file", "clean-shutdown", &marker);
}
