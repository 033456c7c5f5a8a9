//! A run that shows nothing does not pass.

use highwater_verify::event::{Kind, Phase};
use highwater_verify::{Outcome, Verdict};

use crate::story::Story;

fn reason(verdict: &Verdict) -> &str {
    assert_eq!(verdict.outcome, Outcome::Insufficient, "{verdict}");
    assert_eq!(verdict.insufficient.len(), 1, "{verdict}");
    &verdict.insufficient[0]
}

#[test]
fn an_empty_run_is_insufficient() {
    let verdict = Story::new().verdict();
    assert_eq!(verdict.outcome, Outcome::Insufficient);
    let nothing = Story::new().read(100, &[]).verdict();
    assert_eq!(nothing.outcome, Outcome::Insufficient);
    let mut careless = Story::new().read(100, &[]);
    careless.header.rules.acked_min = 0;
    assert_eq!(
        careless.verdict().outcome,
        Outcome::Insufficient,
        "not even then"
    );
}

#[test]
fn too_few_records_are_insufficient() {
    let mut story = Story::new()
        .acked((10, 20), "0:0", 0)
        .read(100, &[(0, "0:0")]);
    story.accepted();
    story.header.rules.acked_min = 2;
    assert!(reason(&story.verdict()).contains("fewer than 2"));
}

#[test]
fn more_doubt_than_certainty_is_insufficient() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .in_doubt((10, 20), "1:0");
    story.clone().read(100, &[(0, "0:0")]).accepted();
    let story = story.in_doubt((10, 20), "2:0").read(100, &[(0, "0:0")]);
    assert!(reason(&story.verdict()).contains("in doubt"));
}

#[test]
fn a_history_that_was_torn_off_or_not_read_is_insufficient() {
    let mut story = Story::new()
        .acked((10, 20), "0:0", 0)
        .read(100, &[(0, "0:0"), (1, "0:1")]);
    assert_eq!(story.found(), ["H4"], "nobody sent 0:1");
    story.events.pop();
    // What was on its way when it was torn off is not in it.
    assert!(reason(&story.verdict()).contains("torn off"));
    story.events.pop();
    assert_eq!(story.verdict().insufficient.len(), 2);
}

#[test]
fn a_fault_that_never_happened_is_insufficient() {
    let mut story = Story::new()
        .acked((10, 20), "0:0", 0)
        .fault(21, "pause", Phase::Installed)
        .fault(25, "pause", Phase::Healed)
        .read(100, &[(0, "0:0")]);
    story.header.faults_wanted = vec!["pause".to_owned()];
    story.accepted();
    story.header.faults_wanted.push("kill".to_owned());
    assert!(reason(&story.verdict()).contains("\"kill\""));
    let op = highwater_verify::event::Op::Fault {
        fault: "kill".to_owned(),
        target: "broker 1".to_owned(),
        phase: Phase::Installed,
    };
    let story = story.event("faults", (22, 23), Kind::Fail, op);
    assert!(reason(&story.verdict()).contains("\"kill\""), "it failed");
}

#[test]
fn what_is_wrong_outweighs_what_is_missing() {
    let story = Story::new()
        .acked((10, 20), "0:0", 0)
        .acked((10, 20), "1:0", 0);
    let verdict = story.verdict();
    assert!(!verdict.insufficient.is_empty());
    assert_eq!(verdict.outcome, Outcome::Invalid);
}

#[test]
fn pauses_are_measured_for_each_partition_and_fault() {
    let ms = 1_000_000;
    let story = Story::new()
        .acked((0, ms), "0:0", 0)
        .fault(2 * ms, "kill", Phase::Installed)
        .acked((ms, 401 * ms), "0:1", 1)
        .fault(500 * ms, "kill", Phase::Healed)
        // Nothing was on its way meanwhile.
        .acked((5000 * ms, 5002 * ms), "0:2", 2)
        .read(6000 * ms, &[(0, "0:0"), (1, "0:1"), (2, "0:2")]);
    let verdict = story.verdict();
    assert_eq!(verdict.pauses.by_partition_ms, [400.0, 0.0]);
    assert_eq!(verdict.pauses.max_ms, 400.0);
    assert_eq!(verdict.fault_windows.len(), 1);
    assert_eq!(verdict.fault_windows[0].max_ms, 400.0);
}
