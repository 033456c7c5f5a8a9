//! `highwater demo`: the main job, in little.

use crate::harness::run;

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
    let clusters = run(&["demo", "--nodes", "3"]).fails(64);
    assert!(clusters.contains("--nodes 3"), "{clusters}");
    run(&["demo", "--duration", "1s"]).fails(64);
    run(&["demo", "--files", "/nowhere"]).fails(1);
}
