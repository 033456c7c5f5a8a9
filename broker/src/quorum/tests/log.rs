//! The log store over restarts, failures and damage.

use std::path::Path;
use std::sync::Arc;

use highwater_protocol::ids::NodeId;
use highwater_protocol::record_batch::BatchHeader;
use highwater_storage::disk::Disk;
use highwater_storage::sim_disk::{Dice, SimDisk};
use highwater_storage::{Background, Engine, EngineOptions};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, EntryPayload, LogIdOptionExt, RaftLogReader};

use super::super::log_store::{
    LogStore, LogStoreError, decode_slice, raft_log_options, raft_partition,
};
use super::super::types::{Entry, LogId, Vote};

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Blank,
    }
}

fn dir() -> &'static Path {
    Path::new("/data/raft")
}

fn open(disk: &Arc<SimDisk>) -> Result<LogStore, LogStoreError> {
    let options = EngineOptions {
        disk: Arc::clone(disk) as Arc<dyn Disk>,
        background: Background::Manual,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Path::new("/data"), options).unwrap();
    for opened in engine.open_logs(
        &|meta| (*meta == raft_partition()).then(raft_log_options),
        &|_| {},
    ) {
        opened.result.unwrap();
    }
    disk.create_dir_all(dir()).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    LogStore::open(&engine, dir(), NodeId::new(7))
}

async fn all(store: &mut LogStore) -> Vec<LogId> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id).collect()
}

#[tokio::test]
async fn what_was_answered_survives_a_power_loss() {
    for seed in 0..20 {
        let disk = Arc::new(SimDisk::new());
        let mut store = open(&disk).unwrap();
        store.save_vote(&Vote::new(1, 1)).await.unwrap();
        let entries = (0..10).map(|index| entry(1, index));
        store.blocking_append(entries).await.unwrap();
        store.truncate(log_id(1, 7)).await.unwrap();
        store.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
        store
            .blocking_append([entry(2, 7), entry(2, 8)])
            .await
            .unwrap();
        store.purge(log_id(1, 3)).await.unwrap();
        store.close().await;
        drop(store);
        disk.crash(&mut Dice::new(seed));
        disk.restart();
        let mut store = open(&disk).unwrap();
        assert_eq!(
            store.read_vote().await.unwrap(),
            Some(Vote::new_committed(2, 1))
        );
        let expected = [(1, 4), (1, 5), (1, 6), (2, 7), (2, 8)];
        assert_eq!(
            all(&mut store).await,
            expected.map(|(term, index)| log_id(term, index))
        );
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(1, 3)));
        assert_eq!(state.last_log_id, Some(log_id(2, 8)));
        store.close().await;
    }
}

#[tokio::test]
async fn a_power_loss_at_any_step_leaves_a_prefix_that_includes_what_was_answered() {
    let mut steps = 0;
    for step in 0.. {
        let disk = Arc::new(SimDisk::new());
        let mut store = open(&disk).unwrap();
        store.save_vote(&Vote::new(1, 1)).await.unwrap();
        store
            .blocking_append([entry(1, 0), entry(1, 1)])
            .await
            .unwrap();
        disk.lose_power_at(disk.operations() + step);
        let mut acknowledged = vec![log_id(1, 1)];
        let mut voted = Vote::new(1, 1);
        let mut purged = None;
        let outcome: Result<(), super::super::types::StorageError> = async {
            store.blocking_append([entry(1, 2)]).await?;
            acknowledged.push(log_id(1, 2));
            store.save_vote(&Vote::new(2, 1)).await?;
            voted = Vote::new(2, 1);
            store.blocking_append([entry(2, 3)]).await?;
            acknowledged.push(log_id(2, 3));
            store.purge(log_id(1, 1)).await?;
            purged = Some(log_id(1, 1));
            // As after a snapshot: behind the end of the log.
            store.purge(log_id(2, 9)).await?;
            purged = Some(log_id(2, 9));
            store.blocking_append([entry(2, 10)]).await?;
            acknowledged.push(log_id(2, 10));
            Ok(())
        }
        .await;
        store.close().await;
        drop(store);
        disk.crash(&mut Dice::new(step));
        disk.restart();
        let mut store = open(&disk).unwrap_or_else(|error| panic!("step {step}: {error}"));
        let state = store.get_log_state().await.unwrap();
        let found_vote = store.read_vote().await.unwrap().unwrap();
        assert!(found_vote >= voted, "step {step}");
        assert!(state.last_purged_log_id >= purged, "step {step}");
        assert!(
            state.last_log_id >= acknowledged.last().copied(),
            "step {step}"
        );
        let entries = all(&mut store).await;
        let from = state.last_purged_log_id.next_index();
        let indexes: Vec<_> = entries.iter().map(|id| id.index).collect();
        let expected: Vec<_> = (from..state.last_log_id.next_index()).collect();
        assert_eq!(indexes, expected, "step {step}: no holes");
        // And it can be written to.
        let next = state.last_log_id.next_index();
        store.save_vote(&Vote::new(3, 1)).await.unwrap();
        store.blocking_append([entry(3, next)]).await.unwrap();
        store.close().await;
        steps = step;
        if outcome.is_ok() {
            break;
        }
    }
    assert!(steps > 20, "{steps}");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = Arc::new(SimDisk::new());
    let mut store = open(&disk).unwrap();
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    store.blocking_append([entry(1, 0)]).await.unwrap();
    disk.fail_sync_after(0);
    assert!(store.blocking_append([entry(1, 1)]).await.is_err());
    assert!(store.save_vote(&Vote::new(2, 1)).await.is_err());
    assert!(store.purge(log_id(1, 0)).await.is_err());
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new(1, 1)));
    store.close().await;
}

#[tokio::test]
async fn a_node_that_lost_its_log_or_its_vote_does_not_start() {
    let disk = Arc::new(SimDisk::new());
    let mut store = open(&disk).unwrap();
    store.save_vote(&Vote::new(5, 1)).await.unwrap();
    store.blocking_append([entry(5, 0)]).await.unwrap();
    store.close().await;
    drop(store);
    disk.remove_file(&dir().join("vote")).unwrap();
    let error = open(&disk).expect_err("a log without a vote");
    assert!(matches!(error, LogStoreError::Lost(_)), "{error}");

    let disk = Arc::new(SimDisk::new());
    disk.create_dir_all(dir()).unwrap();
    let mut store = open(&disk).unwrap();
    store.save_vote(&Vote::new(5, 1)).await.unwrap();
    store.close().await;
    drop(store);
    let log = Path::new("/data").join(raft_partition().dir_name());
    for name in disk.list(&log).unwrap() {
        disk.remove_file(&log.join(name.name)).unwrap();
    }
    disk.remove_dir(&log).unwrap();
    let error = open(&disk).expect_err("a vote without a log");
    assert!(matches!(error, LogStoreError::Lost(_)), "{error}");
}

/// Whichever bit of an entry flips, it is never taken for another entry.
#[tokio::test]
async fn a_flipped_bit_of_an_entry_is_found_when_it_is_read() {
    let disk = Arc::new(SimDisk::new());
    let mut store = open(&disk).unwrap();
    store.save_vote(&Vote::new(5, 1)).await.unwrap();
    store.blocking_append([entry(5, 0)]).await.unwrap();
    store.close().await;
    drop(store);
    let log = Path::new("/data").join(raft_partition().dir_name());
    let names = disk.list(&log).unwrap();
    let segment = names.iter().find(|entry| entry.name.ends_with(".log"));
    let path = log.join(&segment.unwrap().name);
    let mut bytes = vec![0; disk.file_bytes(&path).unwrap() as usize];
    let file = disk.open(&path).unwrap();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let first = BatchHeader::parse(&bytes).unwrap().batch_bytes as usize;
    bytes.truncate(first);
    let mut found = 0;
    for bit in 0..first * 8 {
        let mut rotten = bytes.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        let mut entries = Vec::new();
        match decode_slice(&rotten.into(), 0, &mut entries) {
            Ok(()) => assert_eq!(entries, [entry(5, 0)], "bit {bit}"),
            Err(_) => found += 1,
        }
    }
    // Base offset and leader epoch are beside the checksum, and the entry says both itself.
    assert!(found >= (first - 12) * 8, "{found}");
}

#[tokio::test]
async fn terms_beyond_what_a_batch_can_carry_are_refused() {
    let disk = Arc::new(SimDisk::new());
    let mut store = open(&disk).unwrap();
    let term = u64::from(u32::MAX);
    store.save_vote(&Vote::new(term, 1)).await.unwrap();
    assert!(store.blocking_append([entry(term, 0)]).await.is_err());
    store.close().await;
}

#[tokio::test]
async fn what_is_committed_is_known_after_a_restart() {
    let disk = Arc::new(SimDisk::new());
    let mut store = open(&disk).unwrap();
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    store
        .blocking_append((0..5).map(|index| entry(1, index)))
        .await
        .unwrap();
    for index in 0..4 {
        store.save_committed(Some(log_id(1, index))).await.unwrap();
    }
    store.close().await;
    drop(store);
    let mut store = open(&disk).unwrap();
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 3)));
    store.close().await;
}
