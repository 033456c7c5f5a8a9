//! Waking those who wait for a partition to get somewhere.
//!
//! A request that waits (a long poll, an acknowledgement) brings one [`Notify`] and registers it with
//! every partition that it waits for. Registering comes before checking: whoever moves a partition
//! afterwards finds the registration, and `notify_one` keeps a permit, so that no move is missed. Who waits
//! for very many partitions has them marked instead, and need not look at all of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::dirty_keys::DirtyKeys;
use crate::partitions::Key;

/// Who waits for one partition.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    watchers: Arc<Mutex<Watchers>>,
}

#[derive(Debug, Default)]
struct Watchers {
    next_id: u64,
    waiting: Vec<(u64, Waiter)>,
}

#[derive(Debug)]
enum Waiter {
    Notify(Arc<Notify>),
    Mark(Arc<DirtyKeys>, Key),
}

impl Progress {
    /// Registers a waiter until the returned guard is dropped.
    pub(crate) fn watch(&self, notify: &Arc<Notify>) -> Watch {
        self.register(Waiter::Notify(Arc::clone(notify)))
    }

    /// Has `key` marked whenever the partition gets somewhere, until the returned guard is dropped.
    pub(crate) fn mark(&self, marks: &Arc<DirtyKeys>, key: Key) -> Watch {
        self.register(Waiter::Mark(Arc::clone(marks), key))
    }

    fn register(&self, waiter: Waiter) -> Watch {
        let mut watchers = self.watchers.lock();
        let id = watchers.next_id;
        watchers.next_id += 1;
        watchers.waiting.push((id, waiter));
        drop(watchers);
        Watch {
            watchers: Arc::clone(&self.watchers),
            id,
        }
    }

    /// Wakes everyone who waits; they check for themselves whether it was enough.
    pub(crate) fn moved(&self) {
        for (_, waiter) in &self.watchers.lock().waiting {
            match waiter {
                Waiter::Notify(notify) => notify.notify_one(),
                Waiter::Mark(marks, key) => marks.mark(*key),
            }
        }
    }
}

/// A registration with [`Progress`].
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Arc<Mutex<Watchers>>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.watchers.lock();
        if let Some(place) = watchers.waiting.iter().position(|(id, _)| *id == self.id) {
            watchers.waiting.swap_remove(place);
        }
    }
}
