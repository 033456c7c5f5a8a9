//! The requests of one connection that wait for their answers.

use std::collections::HashMap;
use std::time::Duration;

use highwater_protocol::api_key::ApiKey;
use highwater_protocol::codec::ApiVersion;
use highwater_protocol::ids::CorrelationId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Completion;

/// A request that waits for its answer.
pub(super) struct Entry {
    pub(super) api: ApiKey,
    pub(super) version: ApiVersion,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// Bytes that the connection had received when the request was sent.
    pub(super) received_before: u64,
    pub(super) completion: Completion,
}

/// All of them, by correlation id.
#[derive(Default)]
pub(super) struct PendingRequests {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<CorrelationId, Entry>,
    next: u32,
    closed: bool,
    close_asked: bool,
    /// Whether the read task has a sweep ahead of it.
    sweep_armed: bool,
}

impl PendingRequests {
    pub(super) fn next_correlation(&self) -> CorrelationId {
        let mut table = self.table.lock();
        let id = table.next;
        table.next = id.wrapping_add(1);
        CorrelationId::new(id)
    }

    /// Adds a request; `Ok(true)` asks the caller to wake the read task, which has no sweep armed.
    pub(super) fn insert(&self, id: CorrelationId, entry: Entry) -> Result<bool, Box<Entry>> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(Box::new(entry));
        }
        table.entries.insert(id, entry);
        Ok(!std::mem::replace(&mut table.sweep_armed, true))
    }

    /// Takes the request that an answer belongs to. `None` where it was given up before.
    pub(super) fn take(&self, id: CorrelationId) -> Option<Entry> {
        self.table.lock().entries.remove(&id)
    }

    /// Takes the requests whose deadline has passed; `None` disarms the sweep, nothing is pending.
    pub(super) fn take_expired(&self, now: Instant) -> Option<Vec<Entry>> {
        let mut table = self.table.lock();
        if table.entries.is_empty() {
            table.sweep_armed = false;
            return None;
        }
        let late = |entry: &Entry| entry.deadline <= now;
        let mut ids: Vec<CorrelationId> = table
            .entries
            .iter()
            .filter(|(_, e)| late(e))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        Some(
            ids.iter()
                .filter_map(|id| table.entries.remove(id))
                .collect(),
        )
    }

    pub(super) fn sweep_is_armed(&self) -> bool {
        self.table.lock().sweep_armed
    }

    pub(super) fn is_open(&self) -> bool {
        let table = self.table.lock();
        !table.closed && !table.close_asked
    }

    /// The last handle is gone: the tasks end the connection.
    pub(super) fn ask_to_close(&self) {
        self.table.lock().close_asked = true;
    }

    pub(super) fn close_is_asked(&self) -> bool {
        self.table.lock().close_asked
    }

    /// Refuses further requests and hands out the pending ones in the order in which they were sent.
    pub(super) fn close(&self) -> Vec<Entry> {
        let mut table = self.table.lock();
        table.closed = true;
        let mut entries: Vec<_> = std::mem::take(&mut table.entries).into_iter().collect();
        let next = table.next;
        drop(table);
        // Ids wrap around: the oldest is the one farthest behind the next.
        entries.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(next.wrapping_sub(id.get())));
        entries.into_iter().map(|(_, entry)| entry).collect()
    }
}
