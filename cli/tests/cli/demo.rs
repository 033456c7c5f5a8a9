//! `highwater demo`: the main job, in little.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::harness::{highwater, run, run_command, signal, wait};

/// Files enough that every partition gets some of them.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let text = format!("line of {number}\n\nand another\n").repeat(100);
        std::fs::write(dir.path().join(format!("{number}.txt")), text).unwrap();
    }
    dir
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// The number in front of ` ms` behind this text.
#[track_caller]
fn ms_behind(text: &str, before: &str) -> u64 {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before:?} in {text}"));
    let (number, _) = rest.split_once(" ms").unwrap();
    number.trim().parse().unwrap()
}

#[test]
fn the_demo_survives_its_own_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("poem.txt"),
        "one line\n\nand another\n".repeat(500),
    )
    .unwrap();
    let files = dir.path().to_str().unwrap();
    let demo = run(&["demo", "--duration", "3s", "--files", files]);
    let verdict = demo.ok();
    assert!(verdict.contains("Killed after"), "{verdict}");
    assert!(verdict.contains("PASSED"), "{verdict}");
    assert!(
        verdict.contains("0 lost, 0 duplicated, 0 reordered, 0 altered"),
        "{verdict}"
    );
}

#[test]
fn a_cluster_survives_the_death_of_a_leader() {
    let (files, temporary) = (files(), tempfile::tempdir().unwrap());
    let mut command = highwater();
    command.args(["demo", "--nodes", "3", "--duration", "4s", "--files"]);
    command.arg(files.path()).env("TMPDIR", temporary.path());
    let demo = run_command(&mut command, b"");
    let told = demo.stderr.clone();
    let verdict = demo.ok();
    assert!(verdict.contains("PASSED"), "{verdict}");
    assert!(
        verdict.contains("0 lost, 0 duplicated, 0 reordered, 0 altered"),
        "{verdict}"
    );
    assert!(verdict.contains("in sync with all partitions"), "{verdict}");
    let unavailable = ms_behind(&verdict, "Unavailable:");
    assert!(unavailable > 0, "{verdict}");
    let (_, rest) = verdict.split_once("Killed broker ").unwrap();
    let victim = rest.split_whitespace().next().unwrap();
    // The partitions that it led, each of which somebody else took over.
    let (_, led) = rest.split_once("It led\n").unwrap();
    let (led, _) = led.split_once('.').unwrap();
    for partition in led.split(", ") {
        let moved = format!("{partition}: leader {victim} -> ");
        assert!(told.contains(&moved), "{moved:?} is not in {told}");
    }
    assert!(told.contains("in sync 1,2,3"), "{told}");
    assert!(told.contains("cluster.session.timeout"), "{told}");
    assert!(is_empty(temporary.path()), "nothing is left behind");
}

#[test]
fn a_cluster_that_is_interrupted_leaves_nothing_behind() {
    let (files, temporary) = (files(), tempfile::tempdir().unwrap());
    let mut command = highwater();
    command.args(["demo", "--nodes", "3", "--duration", "10m", "--files"]);
    command.arg(files.path()).env("TMPDIR", temporary.path());
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let streams = lines.any(|line| line.unwrap().contains("Controller: broker"));
    assert!(streams, "it shows the cluster: {:?}", child.wait());
    assert!(!is_empty(temporary.path()), "the data lies here");
    signal(&child, rustix::process::Signal::INT);
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(wait(&mut child).code(), Some(130), "{rest:?}");
    assert!(is_empty(temporary.path()), "nothing is left behind");
}

#[test]
fn the_kept_directories_of_a_cluster_can_be_verified() {
    let (files, temporary) = (files(), tempfile::tempdir().unwrap());
    let mut command = highwater();
    command.args([
        "demo",
        "--nodes",
        "3",
        "--duration",
        "2s",
        "--keep",
        "--files",
    ]);
    command.arg(files.path()).env("TMPDIR", temporary.path());
    let demo = run_command(&mut command, b"");
    let told = demo.stderr.clone();
    demo.ok();
    let kept: Vec<_> = told
        .lines()
        .filter_map(|line| line.split_once(" is kept in "))
        .map(|(_, directory)| directory)
        .collect();
    assert_eq!(kept.len(), 3, "{told}");
    for directory in kept {
        assert!(Path::new(directory).starts_with(temporary.path()));
        run(&["log", "verify", directory]).ok();
    }
}

#[test]
fn a_kept_directory_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "text\n".repeat(100)).unwrap();
    let files = dir.path().to_str().unwrap();
    let demo = run(&["demo", "--duration", "2s", "--keep", "--files", files]);
    let (_, rest) = demo
        .stderr
        .split_once("The data is kept in ")
        .expect("it says where");
    let kept = rest.lines().next().unwrap().to_owned();
    demo.ok();
    run(&["log", "verify", &kept]).ok();
    std::fs::remove_dir_all(kept).unwrap();
}

#[test]
fn what_the_demo_cannot_do_it_refuses() {
    for nodes in ["0", "2", "4", "11"] {
        let refusal = run(&["demo", "--nodes", nodes]).fails(64);
        assert!(refusal.contains(&format!("--nodes {nodes}")), "{refusal}");
        assert!(refusal.contains("1, 3, 5, 7 or 9"), "{refusal}");
    }
    run(&["demo", "--duration", "1s"]).fails(64);
    run(&["demo", "--files", "/nowhere"]).fails(1);
}
