//! `highwater broker` as a process: its start, its end, what it keeps.

use std::process::Stdio;

use crate::harness::{Broker, highwater, run_command};

#[test]
fn the_ready_line_names_all_addresses() {
    let mut broker = Broker::start();
    let data = broker.data_dir().display().to_string();
    let expected = format!(
        "highwater broker 1 ready: client {} admin {} data {data}\n",
        broker.address, broker.admin
    );
    assert_eq!(broker.ready_line, expected);
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut broker = Broker::start_in(dir.path(), &[]);
        broker.run(&["topic", "create", "t", "-p", "1"]).ok();
        broker.run_with(&["produce", "t"], "one\ntwo\n").ok();
        assert_eq!(broker.stop().code(), Some(0));
    }
    {
        // Dropped: killed.
        let broker = Broker::start_in(dir.path(), &[]);
        broker.run_with(&["produce", "t"], "three\n").ok();
    }
    let broker = Broker::start_in(dir.path(), &[]);
    assert_eq!(
        broker.run(&["consume", "t", "-e"]).ok(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn a_data_directory_has_one_broker() {
    let broker = Broker::start();
    let mut second = highwater();
    second
        .args([
            "broker",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
            "--data-dir",
        ])
        .arg(broker.data_dir());
    let error = run_command(&mut second, b"").fails(1);
    assert!(
        error.contains("error: the broker did not start: data directory"),
        "{error}"
    );
}

#[test]
fn all_faults_of_the_configuration_at_once() {
    let mut command = highwater();
    command
        .args([
            "broker",
            "--set",
            "retention.msx=1d",
            "--set",
            "segment.bytes=lots",
            "--listen",
            "x",
        ])
        .env("HIGHWATER_NUM_PARTITIONS", "none");
    let error = run_command(&mut command, b"").fails(1);
    assert_eq!(
        error
            .lines()
            .filter(|line| line.starts_with("fault: "))
            .count(),
        4,
        "{error}"
    );
    assert!(error.contains("did you mean `retention.ms`"), "{error}");
    assert!(
        error.contains("error: the configuration has 4 faults"),
        "{error}"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let mut command = highwater();
    command
        .args([
            "broker",
            "--listen",
            &address,
            "--admin",
            "off",
            "--data-dir",
        ])
        .arg(dir.path())
        .stdout(Stdio::null());
    let error = run_command(&mut command, b"").fails(1);
    assert!(error.contains(&address), "{error}");
}

#[test]
fn flags_win_over_the_file_and_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("highwater.toml");
    std::fs::write(&file, "num.partitions = 2\nretention.ms = \"1d\"\n").unwrap();
    let broker = Broker::start_in(
        &dir.path().join("data"),
        &[
            "--config",
            file.to_str().unwrap(),
            "--set",
            "num.partitions=5",
            "--node-id",
            "7",
        ],
    );
    assert!(
        broker.ready_line.starts_with("highwater broker 7 ready"),
        "{}",
        broker.ready_line
    );
    broker.run(&["topic", "create", "t"]).ok();
    let offsets = broker.run(&["topic", "offsets", "t", "-o", "json"]).json();
    assert_eq!(offsets.as_array().unwrap().len(), 5);
    let configs = broker
        .run(&["topic", "config", "t", "get", "retention.ms", "-o", "json"])
        .json();
    assert_eq!(configs[0]["source"], "broker");
}
