//! A torn tail is cut; damage below the recovery point is reported and never cut, and takes one
//! partition offline, not the broker.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::Acks;
use highwater_tests::broker_process::BrokerProcess;
use highwater_tests::raw::{RawClient, batch_of};

const HEALTHY: PartitionId = PartitionId::new(0);
const HURT: PartitionId = PartitionId::new(1);
const BATCHES: u64 = 50;
const DEADLINE: Duration = Duration::from_secs(60);

fn log_file(data_dir: &Path, topic: TopicId, partition: PartitionId) -> PathBuf {
    let dir = data_dir.join(format!("{topic}-{partition}"));
    let mut logs: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    assert_eq!(logs.len(), 1, "one segment in {}", dir.display());
    logs.remove(0)
}

fn produce(client: &mut RawClient, topic: TopicId, from: u64) {
    for partition in [HEALTHY, HURT] {
        for number in from..from + BATCHES {
            let value = format!("record {number}");
            let batch = batch_of([value.as_bytes()]);
            let base = client
                .produce(topic, partition, Acks::All, batch)
                .unwrap()
                .unwrap();
            assert_eq!(base, Offset::new(number));
        }
    }
}

fn assert_reads(client: &mut RawClient, topic: TopicId, partition: PartitionId, count: u64) {
    let read = client.read_all(topic, partition, Offset::ZERO);
    assert_eq!(read.len() as u64, count);
    for (number, (_, value)) in read.iter().enumerate() {
        assert_eq!(value, format!("record {number}").as_bytes());
    }
}

/// A data directory whose broker was killed, with everything of it below the recovery point: that is
/// where the last orderly stop put it.
fn killed_with_everything_synced(dir: &Path) -> TopicId {
    let broker = BrokerProcess::start(dir, &[]);
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 2);
    produce(&mut client, topic, 0);
    drop(client);
    broker.terminate();
    BrokerProcess::start(dir, &[]).kill();
    topic
}

#[test]
fn damage_below_the_recovery_point_takes_one_partition_offline_and_is_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let topic = killed_with_everything_synced(dir.path());
    let path = log_file(dir.path(), topic, HURT);
    let before = fs::read(&path).unwrap();
    let at = before
        .windows(9)
        .position(|window| window == b"record 20")
        .unwrap() as u64;
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"R", at)
        .unwrap();
    let damaged = fs::read(&path).unwrap();

    for _ in 0..2 {
        let broker = BrokerProcess::start(dir.path(), &[]);
        let mut client = RawClient::hello(broker.address());
        assert_reads(&mut client, topic, HEALTHY, BATCHES);
        // What the start did not read is verified while the broker serves already.
        let deadline = Instant::now() + DEADLINE;
        let refused = loop {
            match client.fetch(topic, HURT, Offset::ZERO) {
                Ok(_) => assert!(Instant::now() < deadline, "the damage is not noticed"),
                Err(refused) => break refused,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(refused.code, ErrorCode::PartitionOffline);
        assert!(refused.message.contains("damaged"), "{}", refused.message);
        let refused = client
            .produce(topic, HURT, Acks::All, batch_of([&b"x"[..]]))
            .unwrap();
        assert_eq!(refused.unwrap_err().code, ErrorCode::PartitionOffline);
        broker.kill();
        assert!(
            fs::read(&path).unwrap() == damaged,
            "the damaged file is left as it is"
        );
    }

    // Repaired by hand, it is served again.
    fs::write(&path, &before).unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    assert_reads(&mut client, topic, HURT, BATCHES);
    produce(&mut client, topic, BATCHES);
    broker.terminate();
}

#[test]
fn a_torn_tail_is_cut_and_appends_go_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let topic = killed_with_everything_synced(dir.path());
    let path = log_file(dir.path(), topic, HURT);
    let end = {
        let bytes = fs::read(&path).unwrap();
        highwater_protocol::record_batch::Batches::new(&bytes)
            .map_while(Result::ok)
            .map(|(header, _)| u64::from(header.batch_bytes))
            .sum::<u64>()
    };
    // Half of a batch, as a crash in the middle of write-back leaves it.
    let torn = batch_of([&[b'z'; 500][..]]);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&torn[..300], end).unwrap();
    drop(file);

    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    assert_reads(&mut client, topic, HURT, BATCHES);
    produce(&mut client, topic, BATCHES);
    assert_reads(&mut client, topic, HURT, 2 * BATCHES);
    broker.kill();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let mut client = RawClient::hello(broker.address());
    assert_reads(&mut client, topic, HURT, 2 * BATCHES);
    broker.terminate();
}

#[test]
fn a_second_broker_is_kept_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start(dir.path(), &[]);
    let output = std::process::Command::new(highwater_tests::broker_process::binary())
        .args([
            "broker",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("in use by another process"), "{said}");
    RawClient::hello(broker.address()).assert_served();
    broker.terminate();
}
