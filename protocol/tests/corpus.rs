//! The fuzz targets of this crate over the checked-in corpus and mutations of it, without nightly
//! tools. The same bytes in every run: a failure is reproduced by running the test again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use highwater_protocol::fuzzing::{TARGETS, Target};

const MUTATIONS: u64 = 3000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = fuzz().join("corpus").join(target);
    let files = names_in(&directory);
    assert!(!files.is_empty(), "no corpus in {}", directory.display());
    files
        .iter()
        .map(|name| std::fs::read(directory.join(name)).unwrap())
        .collect()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One to four small damages, of the kinds that find most bugs.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = at + random.below(bytes.len() - at + 1).min(16);
        match random.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let from = random.below(other.len());
                let to = from + random.below(other.len() - from + 1).min(64);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let number = [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX][random.below(5)];
                let width = bytes.len().min(at + 4) - at;
                bytes[at..at + width].copy_from_slice(&number.to_be_bytes()[..width]);
            }
            _ => bytes.insert(at, random.next() as u8),
        }
    }
}

fn run((name, target): &Target, bytes: &[u8], what: &str) {
    let hex = || {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert!(
        catch_unwind(|| target(bytes)).is_ok(),
        "{name} failed on {what}: {}",
        hex()
    );
}

fn run_all(target: &Target) {
    let corpus = corpus(target.0);
    for bytes in &corpus {
        run(target, bytes, "a file of the corpus");
    }
    run(target, &[], "no bytes");
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let mut bytes = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())];
        mutate(&mut bytes, other, &mut random);
        run(target, &bytes, &format!("mutation {seed}"));
    }
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|(target, _)| *target == name).unwrap()
}

#[test]
fn frame() {
    run_all(target("frame"));
}

#[test]
fn request() {
    run_all(target("request"));
}

#[test]
fn response() {
    run_all(target("response"));
}

#[test]
fn metadata_record() {
    run_all(target("metadata_record"));
}

#[test]
fn record_batch() {
    run_all(target("record_batch"));
}

#[test]
fn decompress() {
    run_all(target("decompress"));
}

#[test]
fn every_target_is_wired_up_and_run_here() {
    let here = include_str!("corpus.rs");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(
            here.contains(&format!("run_all(target(\"{name}\"))")),
            "{name} is not run"
        );
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
    }
}
