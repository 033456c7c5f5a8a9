//! Writing to the socket from whichever task has something to write.
//!
//! One writer at a time owns the socket: whoever finds it free writes at once, without handing over
//! to another task; others only append to the queue, which the owner takes over when its own bytes
//! are through. When the socket is full, the ownership goes to the write task, which waits for room.
//! No lock is held while the system copies bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Called with whether everything before it was written.
type Mark = Box<dyn FnOnce(bool) + Send>;

enum Item {
    Bytes(Bytes),
    Mark(Mark),
}

/// Slices handed to one system call.
const SLICES_MAX: usize = 64;

/// What is still to be written.
pub(super) struct WriteQueue {
    state: Mutex<State>,
    /// Gives the ownership of the socket to the write task.
    blocked: Notify,
}

struct State {
    /// Gone when the queue is closed, so that the peer sees the end at once.
    socket: Option<Arc<OwnedWriteHalf>>,
    items: VecDeque<Item>,
    /// Somebody owns the socket.
    owned: bool,
    /// The owner is the write task, because the socket was full.
    with_task: bool,
    /// The first write error; then nothing is written any more.
    failed: Option<io::ErrorKind>,
}

enum Progress {
    Drained,
    Blocked,
    Failed(io::Error),
}

impl WriteQueue {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        let state = State {
            socket: Some(Arc::new(socket)),
            items: VecDeque::new(),
            owned: false,
            with_task: false,
            failed: None,
        };
        Self {
            state: Mutex::new(state),
            blocked: Notify::new(),
        }
    }

    /// Writes, or queues what cannot be written now. Returns `true` if the connection turned out to
    /// be broken, so that the read task should be woken to end it.
    pub(super) fn write(&self, frame: Vec<Bytes>, mark: Option<Mark>) -> bool {
        let mut mine: VecDeque<Item> = frame.into_iter().map(Item::Bytes).collect();
        mine.extend(mark.map(Item::Mark));
        let socket = {
            let mut state = self.state.lock();
            match state.socket.clone() {
                Some(socket) if state.failed.is_none() => {
                    if state.owned {
                        state.items.append(&mut mine);
                        return false;
                    }
                    state.owned = true;
                    socket
                }
                _ => {
                    drop(state);
                    // Requests with an answer are completed by the read task; marks live only here.
                    run_marks(mine, false);
                    return true;
                }
            }
        };
        self.write_owned(&socket, mine)
    }

    /// Writes as owner of the socket until everything is through or the socket is full.
    fn write_owned(&self, socket: &OwnedWriteHalf, mut mine: VecDeque<Item>) -> bool {
        loop {
            let progress = write_some(socket, &mut mine);
            let mut state = self.state.lock();
            if state.socket.is_none() {
                drop(state);
                run_marks(mine, false);
                return true;
            }
            match progress {
                Progress::Drained if state.items.is_empty() => {
                    state.owned = false;
                    state.with_task = false;
                    return false;
                }
                Progress::Drained => std::mem::swap(&mut mine, &mut state.items),
                Progress::Blocked => {
                    mine.append(&mut state.items);
                    state.items = mine;
                    if !std::mem::replace(&mut state.with_task, true) {
                        self.blocked.notify_one();
                    }
                    return false;
                }
                Progress::Failed(error) => {
                    state.failed = Some(error.kind());
                    mine.append(&mut state.items);
                    drop(state);
                    run_marks(mine, false);
                    return true;
                }
            }
        }
    }

    /// The write task: finishes what callers could not write. Ends when the queue is closed; returns
    /// `true` if the connection is broken.
    pub(super) async fn run(&self) -> bool {
        loop {
            self.blocked.notified().await;
            loop {
                let Some(socket) = self.state.lock().socket.clone() else {
                    return false;
                };
                if !self.state.lock().with_task {
                    break;
                }
                tokio::select! {
                    ready = socket.writable() => {
                        if ready.is_err() {
                            return true;
                        }
                    }
                    // While the task owns the socket, only `close` notifies.
                    () = self.blocked.notified() => continue,
                }
                let mine = std::mem::take(&mut self.state.lock().items);
                if self.write_owned(&socket, mine) {
                    return true;
                }
            }
        }
    }

    /// How a write failed, if one did.
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        self.state.lock().failed
    }

    /// Drops what is queued; returns the marks, which the caller runs.
    pub(super) fn close(&self) -> Vec<Mark> {
        let items = {
            let mut state = self.state.lock();
            state.socket = None;
            std::mem::take(&mut state.items)
        };
        self.blocked.notify_one();
        items
            .into_iter()
            .filter_map(|item| match item {
                Item::Mark(written) => Some(written),
                Item::Bytes(_) => None,
            })
            .collect()
    }
}

fn write_some(socket: &OwnedWriteHalf, items: &mut VecDeque<Item>) -> Progress {
    loop {
        while let Some(Item::Mark(_)) = items.front() {
            if let Some(Item::Mark(written)) = items.pop_front() {
                written(true);
            }
        }
        if items.is_empty() {
            return Progress::Drained;
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for item in items.iter().take(SLICES_MAX) {
            let Item::Bytes(bytes) = item else { break };
            slices[count] = IoSlice::new(bytes);
            count += 1;
        }
        match socket.try_write_vectored(&slices[..count]) {
            Ok(written) => consume(items, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Progress::Failed(error),
        }
    }
}

fn run_marks(items: VecDeque<Item>, written: bool) {
    for item in items {
        if let Item::Mark(mark) = item {
            mark(written);
        }
    }
}

/// Drops `written` bytes off the front.
fn consume(items: &mut VecDeque<Item>, mut written: usize) {
    while written > 0 {
        let Some(Item::Bytes(front)) = items.front_mut() else {
            unreachable!("the system wrote no more than it was given");
        };
        if front.len() > written {
            front.advance(written);
            return;
        }
        written -= front.len();
        items.pop_front();
    }
}
