//! Partitions that want something done for them, each at most once, and somebody who does it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::partitions::Key;

/// A set of partitions that one task works off. Bounded by the number of partitions.
#[derive(Debug, Default)]
pub(crate) struct DirtyKeys {
    keys: Mutex<BTreeSet<Key>>,
    notify: Notify,
}

impl DirtyKeys {
    /// This partition wants something done.
    pub(crate) fn mark(&self, key: Key) {
        if self.keys.lock().insert(key) {
            self.notify.notify_one();
        }
    }

    /// Everything that was marked since the last call.
    pub(crate) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.keys.lock())
    }

    /// Waits until something is marked.
    ///
    /// Cancel safety: a mark is not lost; the next call returns at once.
    pub(crate) async fn marked(&self) {
        while self.keys.lock().is_empty() {
            self.notify.notified().await;
        }
    }
}
