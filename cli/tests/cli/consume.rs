//! `highwater consume`

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::harness::{Broker, signal, wait};

/// A topic with the records 0 to 9, a minute apart from midnight of 2026-01-01 on.
fn broker() -> Broker {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "-p", "1"]).ok();
    let records: String = (0..10)
        .map(|n| {
            format!(
                "{{\"key\":\"k{n}\",\"value\":\"{n}\",\"timestamp\":{}}}\n",
                MIDNIGHT + n * 60_000
            )
        })
        .collect();
    broker
        .run_with(&["produce", "t", "--from-json"], records)
        .ok();
    broker
}

const MIDNIGHT: i64 = 1_767_225_600_000;

#[test]
fn every_form_of_the_offset_grammar() {
    let broker = broker();
    let read = |offset: &str, more: &[&str]| {
        let mut args = vec!["consume", "t", "-f", "%v", "-o", offset];
        args.extend_from_slice(more);
        broker.run(&args).ok()
    };
    assert_eq!(read("start", &["-e"]), "0123456789");
    assert_eq!(read("end", &["-e"]), "");
    assert_eq!(read("7", &["-e"]), "789");
    assert_eq!(read("7:", &["-e"]), "789");
    assert_eq!(read("+8", &["-e"]), "89");
    assert_eq!(read("-2", &["-e"]), "89");
    assert_eq!(read("-200", &["-e"]), "0123456789");
    assert_eq!(read("3:6", &[]), "345");
    assert_eq!(read("3:3", &[]), "");
    assert_eq!(read("8:99", &["-e"]), "89");
    assert_eq!(read("99", &["-e"]), "");
    assert_eq!(read(":2", &[]), "01");
    assert_eq!(read(":end", &[]), "0123456789");
    assert_eq!(read("-3:end", &[]), "789");
    assert_eq!(read("@2026-01-01T00:08Z", &["-e"]), "89");
    assert_eq!(read("@1767226080", &["-e"]), "89");
    assert_eq!(read("@2026-01-01T00:02:30Z:2026-01-01T00:05Z", &[]), "34");
    assert_eq!(read("@2026-01-01T00:03Z:2m", &[]), "34");
    assert_eq!(read("@:2026-01-01T00:02Z", &[]), "01");
    assert_eq!(read("@2026-01-01T00:08Z:end", &[]), "89");
    assert_eq!(read("start", &["-n", "4"]), "0123");
    assert_eq!(read("5", &["-n", "1"]), "5");
    assert_eq!(read("start", &["-n", "0"]), "");
}

#[test]
fn formats_and_json() {
    let broker = broker();
    let format = "%t/%p@%o %k %d %T %%\\x21\\n";
    assert_eq!(
        broker
            .run(&["consume", "t", "-o", "3", "-n", "1", "-f", format])
            .ok(),
        "t/0@3 k3 2026-01-01T00:03:00.000Z 1767225780000 %!\n"
    );
    let json = broker
        .run(&["consume", "t", "-o", "3:5", "--output", "json"])
        .ok();
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["offset"], 3);
    assert_eq!(lines[1]["timestamp"], MIDNIGHT + 240_000);
}

#[test]
fn several_partitions() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "m", "-p", "3"]).ok();
    for partition in ["0", "1", "2"] {
        let input: String = (0..100).map(|n| format!("{partition}-{n}\n")).collect();
        broker
            .run_with(&["produce", "m", "-p", partition], input)
            .ok();
    }
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(broker.run(&["consume", "m", "-e"]).ok()).len(), 300);
    let two = sorted(
        broker
            .run(&["consume", "m", "-e", "-p", "0", "-p", "2", "-o", "-1"])
            .ok(),
    );
    assert_eq!(two, ["0-99", "2-99"]);
    let ranges = sorted(broker.run(&["consume", "m", "-p", "0,1", "-o", "5:6"]).ok());
    assert_eq!(ranges, ["0-5", "1-5"]);
    assert_eq!(
        broker
            .run(&["consume", "m", "-e", "-n", "7"])
            .ok()
            .lines()
            .count(),
        7
    );
    let error = broker.run(&["consume", "m", "-p", "3"]).fails(5);
    assert!(error.contains("no partition 3, only 0 to 2"), "{error}");
}

#[test]
fn new_records_are_followed() {
    let broker = broker();
    let mut child = broker
        .command(&["consume", "t", "-o", "9"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "9");
    broker.run_with(&["produce", "t"], "new\n").ok();
    assert_eq!(lines.next().unwrap().unwrap(), "new");
    signal(&child, rustix::process::Signal::INT);
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn an_offset_to_come_is_waited_for() {
    let broker = broker();
    let mut child = broker
        .command(&["consume", "t", "-o", "11:12"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    broker
        .run_with(&["produce", "t"], "ten\neleven\ntwelve\n")
        .ok();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "eleven");
    assert!(lines.next().is_none());
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn whoever_has_read_enough_closes_the_pipe() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "-p", "1"]).ok();
    let input: String = (0..200_000)
        .map(|n| format!("{n} {}\n", "x".repeat(20)))
        .collect();
    broker.run_with(&["produce", "t"], input).ok();
    let mut child = broker
        .command(&["consume", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("0 "));
    drop(lines);
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn what_is_gone_is_said() {
    let broker = broker();
    broker.run(&["topic", "trim", "t", "--before", "4"]).ok();
    let run = broker.run(&["consume", "t", "-o", "2:6"]);
    assert!(
        run.stderr.contains("2 records before offset 4 are gone"),
        "{run:?}"
    );
    assert_eq!(run.ok(), "4\n5\n");
}

/// Nobody reads the output, so the first Ctrl-C cannot end it in order.
#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "-p", "1"]).ok();
    let input: String = (0..50_000)
        .map(|n| format!("{n} {}\n", "x".repeat(20)))
        .collect();
    broker.run_with(&["produce", "t"], input).ok();
    let mut child = broker
        .command(&["consume", "t"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // The first byte tells that it writes, more than the pipe holds.
    std::io::Read::read_exact(&mut stdout, &mut [0]).unwrap();
    let started = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(
            started.elapsed() < std::time::Duration::from_secs(30),
            "it does not end"
        );
        signal(&child, rustix::process::Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(wait(&mut child).code(), Some(130));
}
