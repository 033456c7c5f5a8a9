//! `highwater produce`

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Broker, signal, wait};

fn topic(broker: &Broker, partitions: &str) {
    broker.run(&["topic", "create", "t", "-p", partitions]).ok();
}

#[test]
fn one_record_a_line_acknowledged_and_counted() {
    let broker = Broker::start();
    topic(&broker, "1");
    let run = broker.run_with(&["produce", "t"], "one\n\nthree");
    assert!(
        run.stderr.starts_with("3 records acknowledged in "),
        "{run:?}"
    );
    assert_eq!(run.ok(), "");
    assert_eq!(broker.run(&["consume", "t", "-e"]).ok(), "one\n\nthree\n");
}

#[test]
fn keys_headers_null_and_partitions() {
    let broker = Broker::start();
    topic(&broker, "3");
    let args = [
        "produce", "t", "-K", "\\t", "--null", "NULL", "-p", "2", "-H", "a=1", "-H", "b=x=y",
    ];
    broker.run_with(&args, "k\tv\nk\tNULL\n").ok();
    let format = "%p %o %k=%v %K %S [%h]\\n";
    let out = broker.run(&["consume", "t", "-e", "-f", format]).ok();
    assert_eq!(out, "2 0 k=v 1 1 [a=1,b=x=y]\n2 1 k= 1 -1 [a=1,b=x=y]\n");
}

#[test]
fn one_key_goes_to_one_partition() {
    let broker = Broker::start();
    topic(&broker, "4");
    let input: String = (0..400).map(|n| format!("key{}:{n}\n", n % 20)).collect();
    broker.run_with(&["produce", "t", "-K", ":"], &input).ok();
    let out = broker
        .run(&["consume", "t", "-e", "-f", "%k %p %v\\n"])
        .ok();
    let mut seen = std::collections::BTreeMap::<String, (String, i64)>::new();
    let mut partitions = std::collections::BTreeSet::new();
    for line in out.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number: i64 = words[2].parse().unwrap();
        let entry = seen
            .entry(words[0].to_owned())
            .or_insert((words[1].to_owned(), -1));
        assert_eq!(entry.0, words[1], "{line}");
        assert!(entry.1 < number, "{line}");
        entry.1 = number;
        partitions.insert(words[1].to_owned());
    }
    assert_eq!((out.lines().count(), seen.len()), (400, 20));
    assert!(partitions.len() > 1);
}

#[test]
fn files_in_order_with_every_codec() {
    let broker = Broker::start();
    topic(&broker, "1");
    let dir = tempfile::tempdir().unwrap();
    let mut expected = String::new();
    let mut files = Vec::new();
    for number in 0..3 {
        let path = dir.path().join(format!("{number}.txt"));
        let text: String = (0..5000)
            .map(|line| format!("file {number} line {line}\n"))
            .collect();
        std::fs::write(&path, &text).unwrap();
        expected.push_str(&text);
        files.push(path.to_str().unwrap().to_owned());
    }
    let mut all = String::new();
    for codec in ["none", "lz4", "zstd", "snappy", "gzip"] {
        let mut args = vec!["produce", "t", "-z", codec, "--acks", "1"];
        args.extend(files.iter().map(String::as_str));
        let run = broker.run(&args);
        assert!(
            run.stderr.starts_with("15000 records acknowledged"),
            "{codec}: {run:?}"
        );
        run.ok();
        all.push_str(&expected);
    }
    assert_eq!(broker.run(&["consume", "t", "-e"]).ok(), all);
}

#[test]
fn a_large_input_arrives_whole_and_in_order() {
    let broker = Broker::start();
    topic(&broker, "1");
    let input: String = (0..300_000)
        .map(|n| format!("record number {n} of many\n"))
        .collect();
    let run = broker.run_with(&["produce", "t"], &input);
    assert!(
        run.stderr.starts_with("300000 records acknowledged"),
        "{run:?}"
    );
    run.ok();
    assert!(
        broker.run(&["consume", "t", "-e"]).ok() == input,
        "the records differ"
    );
}

#[test]
fn json_makes_the_round_trip() {
    let broker = Broker::start();
    topic(&broker, "1");
    broker.run(&["topic", "create", "u", "-p", "1"]).ok();
    let mut input = b"k:text\nk2:".to_vec();
    input.extend_from_slice(&[0xff, 0x00, b'\n']);
    broker
        .run_with(&["produce", "t", "-K", ":", "-H", "h=1"], &input)
        .ok();
    let lines = broker.run(&["consume", "t", "-e", "--output", "json"]).ok();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["key"], &first["value"]),
        (&"k".into(), &"text".into())
    );
    assert_eq!(first["headers"][0]["name"], "h");
    broker
        .run_with(&["produce", "u", "--from-json"], &lines)
        .ok();
    let copied = broker.run(&["consume", "u", "-e", "--output", "json"]).ok();
    assert_eq!(copied, lines.replace("\"topic\":\"t\"", "\"topic\":\"u\""));
}

#[test]
fn limits_and_rates() {
    let broker = Broker::start();
    topic(&broker, "1");
    broker
        .run_with(&["produce", "t", "-n", "2"], "1\n2\n3\n")
        .ok();
    broker
        .run_with(&["produce", "t", "--rate", "1000/s"], "4\n5\n")
        .ok();
    broker.run_with(&["produce", "t", "-D", ";"], "6;7;").ok();
    broker
        .run_with(&["produce", "t", "-k", "fixed", "--acks", "0"], "8\n")
        .ok();
    let mut out = String::new();
    // Nobody acknowledges the last one: it may take a moment.
    for _ in 0..200 {
        out = broker.run(&["consume", "t", "-e"]).ok();
        if out.ends_with("8\n") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(out, "1\n2\n4\n5\n6\n7\n8\n");
}

#[test]
fn wrong_input_is_named_and_what_came_before_is_sent() {
    let broker = Broker::start();
    topic(&broker, "1");
    let run = broker.run_with(&["produce", "t", "-K", ":"], "a:1\nb:2\nnokey\nc:3\n");
    assert!(run.stderr.contains("2 records acknowledged"), "{run:?}");
    let error = run.fails(1);
    assert!(
        error.contains("stdin: record 3 is none: it lacks the key separator"),
        "{error}"
    );
    assert_eq!(broker.run(&["consume", "t", "-e"]).ok(), "1\n2\n");
    let error = broker
        .run_with(&["produce", "t", "--from-json"], "{\"value\":\"3\"}\nx\n")
        .fails(1);
    assert!(error.contains("record 2"), "{error}");
}

#[test]
fn what_cannot_be_sent_fails() {
    let broker = Broker::start();
    let error = broker.run_with(&["produce", "nothere"], "x\n").fails(5);
    assert!(error.contains("highwater topic create nothere"), "{error}");
    topic(&broker, "1");
    broker
        .run_with(&["produce", "t", "-p", "7"], "x\n")
        .fails(5);
    broker.run(&["produce", "t", "/nowhere/file"]).fails(5);
    broker.run(&["produce", "t", "/"]).fails(1);
    broker
        .run(&[
            "topic",
            "create",
            "small",
            "-p",
            "1",
            "-c",
            "max.message.bytes=1KiB",
        ])
        .ok();
    let run = broker.run_with(
        &["produce", "small"],
        format!("a\n{}\n", "x".repeat(100_000)),
    );
    assert_ne!(run.status, 0, "{run:?}");
}

#[test]
fn a_typed_line_does_not_wait_for_the_end_of_the_input() {
    let broker = Broker::start();
    topic(&broker, "1");
    let mut child = broker
        .command(&["produce", "t"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    assert_eq!(broker.run(&["consume", "t", "-n", "1"]).ok(), "first\n");
    stdin.write_all(b"second\n").unwrap();
    drop(stdin);
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(broker.run(&["consume", "t", "-e"]).ok(), "first\nsecond\n");
}

#[test]
fn ctrl_c_delivers_what_was_read() {
    let broker = Broker::start();
    topic(&broker, "1");
    let mut child = broker
        .command(&["produce", "t"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    broker.run(&["consume", "t", "-n", "1"]).ok();
    signal(&child, rustix::process::Signal::INT);
    assert_eq!(wait(&mut child).code(), Some(130));
    drop(stdin);
    assert_eq!(broker.run(&["consume", "t", "-e"]).ok(), "first\n");
}
