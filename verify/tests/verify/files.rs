//! Histories on disk.

use std::path::PathBuf;

use highwater_verify::Outcome;
use highwater_verify::event::{Bound, Kind, Op, Phase};
use highwater_verify::file::{FileError, HistoryWriter, read_history};
use highwater_verify::{History, Verdict};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::model;
use crate::story::Story;

fn written(story: &Story) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let mut writer = HistoryWriter::create(&path, &story.header).unwrap();
    for event in &story.events {
        writer.write(event).unwrap();
    }
    writer.flush().unwrap();
    (dir, path)
}

fn story() -> Story {
    let describe = Op::Describe {
        partition: 1,
        leader: None,
        replicas: vec![1, 2],
        isr: vec![2],
    };
    Story::new()
        .fault(1, "kill", Phase::Installed)
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 20), "0:1")
        .polled((21, 22), 0, &[(0, "0:0")])
        .told(1, 3)
        .listed((23, 24), Bound::Latest, 1, 3)
        .event("admin", (25, 26), Kind::Ok, describe)
        .read(100, &[(0, "0:0")])
}

#[test]
fn a_history_comes_back_from_disk() {
    let story = story();
    let (_dir, path) = written(&story);
    let read = read_history(&path).unwrap();
    let kept = History::of(story.header.clone(), story.events.clone()).unwrap();
    assert_eq!(read.header, kept.header);
    assert_eq!(read.faults, kept.faults);
    assert_eq!(read.partitions[0].writes, kept.partitions[0].writes);
    assert_eq!(read.partitions[0].sightings, kept.partitions[0].sightings);
    assert_eq!(read.partitions[0].polls, kept.partitions[0].polls);
    assert_eq!(read.partitions[0].listed, kept.partitions[0].listed);
    assert_eq!(read.partitions[1].described, kept.partitions[1].described);
    Verdict::of(&read).expect_valid();
}

#[test]
fn a_history_that_is_cut_anywhere_never_passes() {
    let (_dir, path) = written(&story());
    let bytes = std::fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        match read_history(&path) {
            Ok(history) => {
                let verdict = Verdict::of(&history);
                assert_eq!(
                    verdict.outcome,
                    Outcome::Insufficient,
                    "{length}: {verdict}"
                );
            }
            Err(FileError::Line { line: 1, .. }) => {}
            Err(error) => panic!("{length}: {error}"),
        }
    }
}

#[test]
fn what_is_no_history_is_refused_with_the_line() {
    let (_dir, path) = written(&story());
    let text = std::fs::read_to_string(&path).unwrap();
    let refusals = [
        (text.replace("\"history\":1", "\"history\":2"), "version 2"),
        (
            text.replace("\"partitions\":2", "\"partitions\":0"),
            "line 1",
        ),
        (
            text.replace("\"partitions\":2", "\"partitions\":4000000000"),
            "line 1",
        ),
        (
            text.replace("\"partition\":0", "\"partition\":2"),
            "no partition 2",
        ),
        (text.replace("\"complete\":20", "\"complete\":9"), "line 3"),
        (text.replace("\"0:0\"", "\"zero\""), "line 3"),
        (text.replace("\"send\"", "\"sent\""), "line 3"),
    ];
    for (text, expected) in refusals {
        std::fs::write(&path, text).unwrap();
        let error = read_history(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let missing = read_history(&path.with_extension("missing")).unwrap_err();
    assert!(matches!(missing, FileError::Io { action: "open", .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(story in model::history(), at: prop::sample::Index, byte: u8) {
        let (_dir, path) = written(&story);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(history) = read_history(&path) {
            let _ = Verdict::of(&history).to_string();
        }
    }
}
