//! Waking those who wait for a partition to get somewhere.
//!
//! A request that waits (a long poll, an acknowledgement) brings one [`Notify`] and registers it with
//! every partition that it waits for. Registering comes before checking: whoever moves a partition
//! afterwards finds the registration, and `notify_one` keeps a permit, so that no move is missed.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who waits for one partition.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    watchers: Arc<Mutex<Watchers>>,
}

#[derive(Debug, Default)]
struct Watchers {
    next_id: u64,
    waiting: Vec<(u64, Arc<Notify>)>,
}

impl Progress {
    /// Registers a waiter until the returned guard is dropped.
    pub(crate) fn watch(&self, notify: &Arc<Notify>) -> Watch {
        let mut watchers = self.watchers.lock();
        let id = watchers.next_id;
        watchers.next_id += 1;
        watchers.waiting.push((id, Arc::clone(notify)));
        drop(watchers);
        Watch {
            watchers: Arc::clone(&self.watchers),
            id,
        }
    }

    /// Wakes everyone who waits; they check for themselves whether it was enough.
    pub(crate) fn moved(&self) {
        for (_, notify) in &self.watchers.lock().waiting {
            notify.notify_one();
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
