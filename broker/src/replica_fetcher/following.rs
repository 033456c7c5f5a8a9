//! Which partitions are followed, by leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater_protocol::ids::{LeaderEpoch, NodeId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::dirty_keys::DirtyKeys;
use crate::partition::Partition;
use crate::partitions::Key;

/// The partitions that this broker follows. Written when metadata changes, read by the fetchers.
#[derive(Debug, Default)]
pub(crate) struct Following {
    inner: Mutex<Inner>,
    new_leader: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    sources: BTreeMap<NodeId, Arc<Source>>,
    leaders: BTreeMap<Key, NodeId>,
}

/// A broker that leads something which is followed here.
#[derive(Debug)]
pub(super) struct Source {
    leader: NodeId,
    partitions: Mutex<BTreeMap<Key, Followed>>,
    changed: Notify,
    changes: AtomicUsize,
    /// Counts how often a partition joined the in-sync replicas or left them.
    joins: AtomicUsize,
    /// Partitions whose logs became durable further.
    reports: Arc<DirtyKeys>,
}

/// What is followed at a leader, as often as it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revision {
    changes: usize,
    joins: usize,
}

/// A followed partition.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) partition: Arc<Partition>,
    /// The leader epoch in which it was last told to follow.
    epoch: LeaderEpoch,
    /// As the metadata says.
    pub(super) in_sync: bool,
}

impl Following {
    /// Follows a partition at this leader, and at no other.
    pub(crate) fn follow(&self, leader: NodeId, partition: Arc<Partition>, in_sync: bool) {
        let key = partition.key();
        let mut inner = self.inner.lock();
        let before = inner.leaders.insert(key, leader);
        if let Some(other) = before.filter(|before| *before != leader)
            && let Some(other) = inner.sources.get(&other)
        {
            other.remove(key);
        }
        let mut is_new = false;
        let source = inner.sources.entry(leader).or_insert_with(|| {
            is_new = true;
            Arc::new(Source::new(leader))
        });
        let source = Arc::clone(source);
        drop(inner);
        partition.report_to(Arc::clone(&source.reports));
        let epoch = partition.leader_epoch();
        source.put(
            key,
            Followed {
                partition,
                epoch,
                in_sync,
            },
        );
        if is_new {
            self.new_leader.notify_one();
        }
    }

    /// Follows a partition no more.
    pub(crate) fn unfollow(&self, key: Key) {
        let mut inner = self.inner.lock();
        if let Some(leader) = inner.leaders.remove(&key)
            && let Some(source) = inner.sources.get(&leader)
        {
            source.remove(key);
        }
    }

    pub(super) fn sources(&self) -> Vec<Arc<Source>> {
        self.inner.lock().sources.values().map(Arc::clone).collect()
    }

    /// Waits for a leader that was not there before.
    ///
    /// Cancel safety: one that turned up meanwhile is not missed.
    pub(super) async fn new_leader(&self) {
        self.new_leader.notified().await;
    }
}

impl Source {
    fn new(leader: NodeId) -> Self {
        Self {
            leader,
            partitions: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
            changes: AtomicUsize::new(0),
            joins: AtomicUsize::new(0),
            reports: Arc::new(DirtyKeys::default()),
        }
    }

    pub(super) fn leader(&self) -> NodeId {
        self.leader
    }

    pub(super) fn reports(&self) -> &DirtyKeys {
        &self.reports
    }

    /// Everything that is followed at this leader, in order.
    pub(super) fn partitions(&self) -> Vec<(Key, Followed)> {
        let partitions = self.partitions.lock();
        partitions
            .iter()
            .map(|(key, followed)| (*key, followed.clone()))
            .collect()
    }

    pub(super) fn partition(&self, key: Key) -> Option<Arc<Partition>> {
        let partitions = self.partitions.lock();
        partitions
            .get(&key)
            .map(|followed| Arc::clone(&followed.partition))
    }

    /// Counts the changes of what is followed here.
    pub(super) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// Tells whether anything about what is followed here changed, also who is in sync.
    pub(super) fn revision(&self) -> Revision {
        Revision {
            changes: self.changes(),
            joins: self.joins.load(Ordering::Acquire),
        }
    }

    /// Waits until there were more changes than `seen`.
    ///
    /// Cancel safety: a change is not missed.
    pub(super) async fn changed(&self, seen: usize) {
        while self.changes() == seen {
            self.changed.notified().await;
        }
    }

    /// The task that serves this source is woken when something is asked in another way now: what it
    /// asked before may not be answered for long.
    fn put(&self, key: Key, followed: Followed) {
        let (ptr, epoch) = (Arc::as_ptr(&followed.partition), followed.epoch);
        let in_sync = followed.in_sync;
        let before = self.partitions.lock().insert(key, followed);
        if before
            .as_ref()
            .is_some_and(|before| before.in_sync != in_sync)
        {
            self.joins.fetch_add(1, Ordering::AcqRel);
        }
        let is_same = before
            .is_some_and(|before| Arc::as_ptr(&before.partition) == ptr && before.epoch == epoch);
        if !is_same {
            self.note_change();
        }
    }

    fn remove(&self, key: Key) {
        if self.partitions.lock().remove(&key).is_some() {
            self.note_change();
        }
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }
}
