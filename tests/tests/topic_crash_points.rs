//! What a crash between the steps of creating or deleting a topic leaves, and what the next start
//! makes of it.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::path::{Path, PathBuf};

use highwater_broker::EmbeddedBroker;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::{Acks, DeleteTopicsRequest, MetadataRequest};
use highwater_tests::raw::{RawClient, batch_of};

const ZERO: PartitionId = PartitionId::ZERO;

fn partition_dir(data_dir: &Path, topic: TopicId) -> PathBuf {
    data_dir.join(format!("{topic}-0"))
}

fn append(client: &mut RawClient, topic: TopicId, value: &str) {
    let batch = batch_of([value.as_bytes()]);
    client
        .produce(topic, ZERO, Acks::All, batch)
        .unwrap()
        .unwrap();
}

fn delete(client: &mut RawClient, name: &str) {
    let request = DeleteTopicsRequest {
        topics: vec![name.to_owned()],
    };
    let response = client.call(&request).unwrap();
    assert_eq!(response.topics[0].error, ErrorCode::None);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match std::fs::copy(entry.path(), to.join(entry.file_name())) {
            // A checkpoint is written under another name first.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => assert!(copied.is_ok(), "{copied:?}"),
        }
    }
}

#[tokio::test]
async fn a_partition_that_lost_its_directory_is_offline_and_never_begins_anew() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let lost = client.create_topic("lost", 1);
    let whole = client.create_topic("whole", 1);
    append(&mut client, lost, "a");
    append(&mut client, whole, "a");
    broker.kill().await.unwrap();
    std::fs::remove_dir_all(partition_dir(broker.data_dir(), lost)).unwrap();
    broker.restart().await.unwrap();

    let mut client = RawClient::hello(broker.address());
    let refused = client
        .produce(lost, ZERO, Acks::All, batch_of([&b"b"[..]]))
        .unwrap()
        .unwrap_err();
    assert_eq!(
        refused.code,
        ErrorCode::PartitionOffline,
        "{}",
        refused.message
    );
    assert!(refused.message.contains("missing"), "{}", refused.message);
    let all = client.call(&MetadataRequest { topics: None }).unwrap();
    let errors: Vec<_> = all.topics.iter().map(|t| t.partitions[0].error).collect();
    assert_eq!(errors, [ErrorCode::PartitionOffline, ErrorCode::None]);
    append(&mut client, whole, "b");

    // The way out that the message names.
    delete(&mut client, "lost");
    let new = client.create_topic("lost", 1);
    append(&mut client, new, "c");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_deletion_left_behind_is_removed_by_the_next_start() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    append(&mut client, topic, "a");
    let dir = partition_dir(broker.data_dir(), topic);
    let aside = broker.data_dir().join("aside");
    copy_dir(&dir, &aside);
    delete(&mut client, "t");
    broker.kill().await.unwrap();
    // As if the kill had come after the metadata and before the directory.
    std::fs::rename(&aside, &dir).unwrap();
    broker.restart().await.unwrap();
    assert!(!dir.exists(), "the data of a deleted topic is removed");
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn of_a_creation_that_was_cut_off_nothing_stays_but_records_are_never_removed() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    let topic = client.create_topic("t", 1);
    append(&mut client, topic, "a");
    let dir = partition_dir(broker.data_dir(), topic);
    let stray = |id: TopicId, with_records: bool| {
        let to = partition_dir(broker.data_dir(), id);
        copy_dir(&dir, &to);
        let meta = to.join("partition.toml");
        let text = std::fs::read_to_string(&meta).unwrap();
        std::fs::write(&meta, text.replace(&topic.to_string(), &id.to_string())).unwrap();
        if !with_records {
            for entry in std::fs::read_dir(&to).unwrap() {
                let path = entry.unwrap().path();
                if path != meta {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        to
    };
    let empty = stray(TopicId::from_bytes([7; 16]), false);
    let full = stray(TopicId::from_bytes([8; 16]), true);
    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    assert!(!empty.exists(), "a cut-off creation is cleaned up");
    assert!(full.exists(), "records of an unknown topic are kept");
    let mut client = RawClient::hello(broker.address());
    assert_eq!(client.read_all(topic, ZERO, Offset::ZERO).len(), 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_without_its_metadata_is_refused() {
    let mut broker = EmbeddedBroker::start().await.unwrap();
    let mut client = RawClient::hello(broker.address());
    client.create_topic("t", 1);
    broker.stop().await.unwrap();
    let metadata = std::fs::read_dir(broker.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            std::fs::read_to_string(path.join("partition.toml"))
                .is_ok_and(|text| text.contains("__metadata"))
        })
        .unwrap();
    std::fs::remove_dir_all(metadata).unwrap();
    let error = broker.restart().await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("metadata log") && error.contains("missing"),
        "{error}"
    );
}
