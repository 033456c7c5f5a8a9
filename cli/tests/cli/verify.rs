//! `highwater verify`: against brokers of its own and others, and histories that were falsified.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Broker, Run, highwater, run, run_command_within, signal, wait};

/// A busy machine may take its time to heal.
const DEADLINE: Duration = Duration::from_secs(300);

fn verify(args: &[&str]) -> Run {
    run_command_within(highwater().arg("verify").args(args), b"", DEADLINE)
}

fn check(history: &Path) -> Run {
    run(&["verify", "check", history.to_str().unwrap(), "-o", "json"])
}

/// Writes the history anew, each line as `change` says, and judges it.
fn falsified(history: &Path, mut change: impl FnMut(&mut Value)) -> Value {
    let text = std::fs::read_to_string(history).unwrap();
    let lines = text.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        change(&mut event);
        format!("{event}\n")
    });
    let other = history.with_extension("falsified");
    std::fs::write(&other, lines.collect::<String>()).unwrap();
    let run = check(&other);
    assert_eq!(run.status, 2, "{run:?}");
    serde_json::from_str(&run.stdout).unwrap()
}

fn found(verdict: &Value) -> Vec<&str> {
    let checks = verdict["checks"].as_array().unwrap().iter();
    let found = checks.filter(|check| check["found"].as_u64() > Some(0));
    found.map(|check| check["id"].as_str().unwrap()).collect()
}

#[test]
fn brokers_of_its_own_are_killed_and_paused_and_a_falsified_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history");
    let run = verify(&[
        "run",
        "--spawn",
        "3",
        "--faults",
        "kill,pause",
        "--duration",
        "10s",
        "--seed",
        "3",
        "--heal-within",
        "2m",
        "--history",
        history.to_str().unwrap(),
        "-o",
        "json",
    ]);
    let verdict = run.json();
    assert_eq!(verdict["outcome"], "valid");
    assert!(verdict["faults"].as_u64() >= Some(2), "{verdict}");
    assert!(verdict["acked"].as_u64() > Some(100), "{verdict}");
    let checks = verdict["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["excused"].is_null()));
    assert_eq!(check(&history).json()["acked"], verdict["acked"]);

    // An acknowledgement that was never given.
    let mut at = None;
    let told = falsified(&history, |event| {
        let Some(send) = event.pointer_mut("/op/send") else {
            return;
        };
        if at.is_none() && send["offset"].as_u64() > Some(10) {
            at = send["partition"].as_u64();
            send["offset"] = 1_000_000.into();
        }
    });
    assert!(found(&told).contains(&"H3"), "{told}");
    let checks = told["checks"].as_array().unwrap();
    let lost = checks.iter().find(|check| check["id"] == "H3").unwrap();
    let finding = &lost["findings"][0];
    assert_eq!(finding["partition"].as_u64(), at);
    assert_eq!(finding["offset"], 1_000_000);
    assert!(
        finding["evidence"][0]["what"]
            .as_str()
            .unwrap()
            .contains("acknowledged")
    );

    // An end from the past, as a leader that was deposed would tell it.
    let stale = falsified(&history, |event| {
        let Some(listed) = event.pointer_mut("/op/list_offsets") else {
            return;
        };
        if listed["bound"] == "latest" && listed["offset"].as_u64() > Some(100) {
            listed["offset"] = 1.into();
        }
    });
    assert!(found(&stale).contains(&"H9"), "{stale}");
}

#[test]
fn a_cluster_of_somebody_else_is_left_as_it_was() {
    let broker = Broker::start();
    let address = broker.address.as_str();
    let run = verify(&["run", "-b", address, "-d", "2s", "-p", "2", "--rate", "400"]);
    let (said, verdict) = (run.stderr.clone(), run.ok());
    assert!(verdict.contains("VALID"), "{verdict}");
    assert!(said.contains("topic verify-"), "{said}");
    let topics = broker.run(&["topic", "list", "-o", "json"]).json();
    assert_eq!(topics.as_array().map(Vec::len), Some(0), "{topics}");

    verify(&[
        "run", "-b", address, "-d", "1s", "--topic", "mine", "--keep",
    ]);
    let topics = broker.run(&["topic", "list", "-o", "json"]).json();
    assert_eq!(topics[0]["name"], "mine", "{topics}");
    // Records of others would be taken for damage.
    let again = verify(&["run", "-b", address, "-d", "1s", "--topic", "mine"]);
    again.fails(1);
}

#[test]
fn a_run_in_which_too_little_happened_does_not_pass() {
    let broker = Broker::start();
    let address = broker.address.as_str();
    let few = verify(&["run", "-b", address, "-d", "500ms", "--rate", "10"]);
    assert!(few.stdout.contains("INSUFFICIENT"), "{few:?}");
    few.fails(6);
    let mut child = highwater()
        .args(["verify", "run", "-b", address, "-d", "1h"])
        .args(["--fault-command", "false", "--fault-every", "100ms"])
        .args(["--fault-for", "1s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    while !said.contains("exit status: 1") {
        let mut bytes = [0; 1024];
        let count = stderr.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    // Stopped early, it judges all the same.
    signal(&child, Signal::TERM);
    assert_eq!(wait(&mut child).code(), Some(6));
    let mut verdict = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut verdict).unwrap();
    assert!(
        verdict.contains("\"command\" was asked for and never happened"),
        "{verdict}"
    );
}

#[test]
fn what_is_no_history_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    check(&missing).fails(5);
    let other = dir.path().join("other");
    std::fs::write(&other, "{\"history\":1}\n").unwrap();
    let said = check(&other).fails(1);
    assert!(said.contains("line 1"), "{said}");
}
