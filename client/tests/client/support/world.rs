//! What the fake brokers of one cluster share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use bytes::Bytes;
use highwater_client::{ClusterId, ErrorCode, PartitionId, TopicId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::log::Topics;
use super::server::Script;

/// A batch of a lost connection that is appended all the same.
pub(super) struct Late {
    /// The number of the produce call in front of which it is appended.
    pub(super) due: usize,
    pub(super) topic_id: TopicId,
    pub(super) partition: PartitionId,
    pub(super) records: Bytes,
}

pub(super) struct World {
    pub(super) cluster: Mutex<ClusterId>,
    pub(super) topics: Mutex<Topics>,
    pub(super) script: Mutex<Option<Script>>,
    pub(super) calls: AtomicUsize,
    pub(super) appended: Notify,
    /// Where the brokers listen that do.
    pub(super) live: Mutex<BTreeMap<u32, String>>,
    pub(super) next_producer: AtomicU64,
    pub(super) refuse_ids: Mutex<Vec<ErrorCode>>,
    pub(super) refuse_changes: Mutex<Vec<ErrorCode>>,
    pub(super) beyond_end: Mutex<Option<ErrorCode>>,
    pub(super) late: Mutex<Vec<Late>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            cluster: Mutex::new(ClusterId::random()),
            topics: Mutex::default(),
            script: Mutex::default(),
            calls: AtomicUsize::new(0),
            appended: Notify::new(),
            live: Mutex::default(),
            next_producer: AtomicU64::new(1000),
            refuse_ids: Mutex::default(),
            refuse_changes: Mutex::default(),
            beyond_end: Mutex::default(),
            late: Mutex::default(),
        }
    }
}

impl World {
    /// Appends what is late enough, in the order in which it was sent.
    pub(super) fn append_late(&self, number: usize) {
        let mut late = self.late.lock();
        let (due, rest) = late.drain(..).partition(|late| late.due <= number);
        *late = rest;
        drop(late);
        let due: Vec<Late> = due;
        let mut topics = self.topics.lock();
        for late in due {
            if let Some(topic) = topics.values_mut().find(|topic| topic.id == late.topic_id) {
                let log = &mut topic.partitions[late.partition.get() as usize];
                // Nobody waits for the answer.
                let _ = log.append(&late.records);
            }
        }
    }
}
