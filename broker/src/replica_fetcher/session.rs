//! A fetch session with a leader: it remembers what was asked, and only what changed is told.
//!
//! A session begins when everything that is followed at a leader is in order: in sync, and without errors.
//! It ends with the first thing that is not, or that is not followed any more; then all is asked in full,
//! until another session can begin.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{FetchPartitionResult, FetchResponse, FetchSession};

use super::following::Revision;
use super::request::{Asked, Draft, PARTITION_BYTES_MAX};
use crate::partitions::Key;

/// What a leader was told.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    round: u32,
    asked: BTreeMap<Key, Asked>,
    /// Partitions that got something since they were told of.
    changed: BTreeSet<Key>,
    /// Of what is followed, when the session began.
    revision: Revision,
}

impl Session {
    /// Begins one with everything that is asked for in `draft`.
    pub(super) fn begin(draft: &mut Draft, revision: Revision) -> Self {
        let session = Self {
            id: RandomState::new().build_hasher().finish(),
            round: 0,
            asked: draft.take_asked(),
            changed: BTreeSet::new(),
            revision,
        };
        session.name(draft);
        session
    }

    /// Goes on with it: what changed is asked for anew. `None`: it is over.
    pub(super) fn go_on(
        mut self,
        draft: &mut Draft,
        leader: NodeId,
        revision: Revision,
    ) -> Option<Self> {
        if revision != self.revision {
            return None;
        }
        self.round = self.round.checked_add(1)?;
        for key in std::mem::take(&mut self.changed) {
            let partition = Arc::clone(&self.asked.get(&key)?.partition);
            let (ask, durable_end) = partition.ask().filter(|(ask, _)| ask.leader == leader)?;
            let asked = Asked {
                partition,
                ask,
                in_sync: true,
            };
            draft.push(asked.clone(), durable_end, PARTITION_BYTES_MAX);
            self.asked.insert(key, asked);
        }
        self.name(draft);
        Some(self)
    }

    fn name(&self, draft: &mut Draft) {
        draft.name(FetchSession {
            id: self.id,
            round: self.round,
        });
    }

    /// Puts the results of an answer beside what was asked. `None`: it answers something else.
    pub(super) fn paired(
        &mut self,
        response: FetchResponse,
    ) -> Option<Vec<(Asked, FetchPartitionResult)>> {
        let mut paired = Vec::new();
        for topic in response.topics {
            for result in topic.partitions {
                let key = (topic.topic_id, result.partition);
                let asked = self.asked.get(&key)?.clone();
                let is_error = result.error != ErrorCode::None;
                if is_error || result.diverging.is_some() || !result.records.is_empty() {
                    self.changed.insert(key);
                }
                paired.push((asked, result));
            }
        }
        Some(paired)
    }
}
