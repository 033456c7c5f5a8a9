//! `highwater config` and `highwater log`: no broker runs.

use std::path::{Path, PathBuf};

use crate::harness::{Broker, highwater, run, run_command};

#[test]
fn a_right_configuration_and_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let right = dir.path().join("right.toml");
    std::fs::write(&right, "retention.ms = \"3d\"\n[network]\nthreads = 2\n").unwrap();
    run(&["config", "check", right.to_str().unwrap()]).ok();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(
        &wrong,
        "retention.msx = 5\nlisten = 7\nlog.cleaner.threads = 4\n",
    )
    .unwrap();
    let found = run(&["config", "check", wrong.to_str().unwrap()]);
    assert_eq!(found.status, 2, "{found:?}");
    assert_eq!(
        found
            .stdout
            .lines()
            .filter(|line| line.starts_with("fault: "))
            .count(),
        3,
        "{found:?}"
    );
    let found = run(&["config", "check", wrong.to_str().unwrap(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((found.status, &json["ok"]), (2, &false.into()));
    let missing = run(&["config", "check", "/nowhere.toml"]);
    assert_eq!(missing.status, 2, "{missing:?}");
}

#[test]
fn settings_are_explained() {
    let text = run(&["config", "explain", "retention.ms"]).ok();
    assert!(
        text.contains("HIGHWATER_RETENTION_MS") && text.contains("default"),
        "{text}"
    );
    let json = run(&["config", "explain", "retention.ms", "-o", "json"]).json();
    assert_eq!(
        (&json["key"], &json["topic"]),
        (&"retention.ms".into(), &true.into())
    );
    let mut command = highwater();
    command.args(["config", "explain", "retention.ms", "-o", "json"]);
    let json = run_command(command.env("HIGHWATER_RETENTION_MS", "1d"), b"").json();
    assert_eq!(
        (
            &json["value"],
            json["origin"].to_string().contains("HIGHWATER")
        ),
        (&"1d".into(), true)
    );
    assert!(run(&["config", "explain"]).ok().lines().count() > 30);
    let unknown = run(&["config", "explain", "retention.sm"]).fails(5);
    assert!(unknown.contains("did you mean `retention.ms`"), "{unknown}");
}

/// Stops a broker that has stored some records; its segment files.
fn stopped_broker() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(dir.path(), &[]);
    broker.run(&["topic", "create", "t", "-p", "1"]).ok();
    for batch in ["a\nb\nc\n", "d\ne\n"] {
        broker.run_with(&["produce", "t", "-k", "key"], batch).ok();
    }
    assert_eq!(broker.stop().code(), Some(0));
    let mut segments = Vec::new();
    find_segments(dir.path(), &mut segments);
    (dir, segments)
}

fn find_segments(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_segments(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
}

/// The segment that holds the records of the topic: the only one with the key in it.
fn segment_with_records(segments: &[PathBuf]) -> &PathBuf {
    let holds_key = |path: &&PathBuf| {
        std::fs::read(path)
            .unwrap()
            .windows(3)
            .any(|window| window == b"key")
    };
    segments.iter().find(holds_key).unwrap()
}

#[test]
fn batches_and_records_are_dumped() {
    let (_dir, segments) = stopped_broker();
    let segment = segment_with_records(&segments).to_str().unwrap().to_owned();
    let text = run(&["log", "dump", &segment]).ok();
    assert!(text.contains("BASE"), "{text}");
    let json = run(&["log", "dump", &segment, "--records", "-o", "json"]).ok();
    let values: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(values, ["a", "b", "c", "d", "e"]);
    run(&["log", "dump", "/nowhere"]).fails(5);
}

#[test]
fn damage_is_found_and_nothing_is_changed() {
    let (dir, segments) = stopped_broker();
    let root = dir.path().to_str().unwrap();
    let intact = run(&["log", "verify", root]);
    assert_eq!(intact.status, 0, "{intact:?}");
    let segment = segment_with_records(&segments);
    let mut bytes = std::fs::read(segment).unwrap();
    // In the first batch's records: "key" is only there.
    let at = bytes
        .windows(3)
        .position(|window| window == b"key")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(segment, &bytes).unwrap();
    let found = run(&["log", "verify", root]);
    assert_eq!(found.status, 2, "{found:?}");
    assert!(
        found
            .stdout
            .contains(segment.file_name().unwrap().to_str().unwrap()),
        "{found:?}"
    );
    let json = run(&["log", "verify", root, "-o", "json"]);
    assert_eq!(json.status, 2);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(std::fs::read(segment).unwrap(), bytes);
}

#[test]
fn seals_and_indexes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_in(dir.path(), &[]);
    let settings = ["-c", "segment.bytes=1MiB", "-c", "max.message.bytes=64KiB"];
    broker
        .run(&[&["topic", "create", "t", "-p", "1"][..], &settings].concat())
        .ok();
    let input: String = (0..40_000)
        .map(|n| format!("{n} {}\n", "x".repeat(90)))
        .collect();
    broker.run_with(&["produce", "t"], input).ok();
    assert_eq!(broker.stop().code(), Some(0));
    let root = dir.path().to_str().unwrap();
    let intact = run(&["log", "verify", root, "-o", "json"]).json();
    assert!(
        intact["checked"]["sealed"].as_u64().unwrap() >= 3,
        "{intact}"
    );
    assert_eq!(intact["findings"], serde_json::json!([]));

    let mut segments = Vec::new();
    find_segments(dir.path(), &mut segments);
    let sealed = segments
        .iter()
        .find(|path| path.with_extension("seal").exists())
        .unwrap();
    for (extension, kind) in [("index", "index"), ("timeindex", "index"), ("seal", "seal")] {
        let path = sealed.with_extension(extension);
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let found = run(&["log", "verify", root, "-o", "json"]);
        assert_eq!(found.status, 2, "{extension}: {found:?}");
        let found: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!(found["findings"][0]["kind"], kind, "{extension}: {found}");
        std::fs::write(&path, &before).unwrap();
    }
    run(&["log", "verify", root]).ok();
}
