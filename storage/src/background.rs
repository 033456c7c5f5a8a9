//! The threads of the engine and their queues, and what all logs of an engine share.
//!
//! | thread | does | woken by |
//! |---|---|---|
//! | `hw-prepare` | disk space, present pages and the next segment ahead of need | an append that got near the end of them |
//! | `hw-flush-N` | syncs, shared by all who wait for the same log | `request_flush`, or its timer |
//! | `hw-maintain` | seals, deletions | a roll, a deleted log |
//!
//! A log is in each queue at most once, so the queues are bounded by the number of logs.

use std::collections::{BinaryHeap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;
use crate::log::Log;
use crate::options::{Background, EngineOptions};
use crate::parallel;
use crate::segment::Segment;
use crate::stats::Counters;
use crate::tail::Sizes;

/// Priority of threads that give way; 19 is the lowest.
const GIVE_WAY_NICE: i32 = 15;

/// Called after the durable end of a log moved, and after a log went offline.
pub type DurableCallback = Box<dyn Fn(&Log) + Send + Sync>;

/// What all logs of an engine share.
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) counters: Counters,
    pub(crate) prepare: Queue<Arc<Log>>,
    pub(crate) maintain: Queue<Maintenance>,
    pub(crate) flush: FlushQueue,
    pub(crate) maps: MapCache,
    pub(crate) on_durable: OnceLock<DurableCallback>,
    /// A file operation failed that leaves the state of the disk unknown, and it was noted.
    pub(crate) io_failed: AtomicBool,
    prepared_numbers: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What the maintenance thread does.
#[derive(Debug)]
pub(crate) enum Maintenance {
    /// Seal the finished segments of a log.
    Seal(Arc<Log>),
    /// Verify what a start after a crash did not read.
    Verify(Arc<Log>),
    /// Remove a directory that was renamed for it.
    RemoveDir(PathBuf),
}

impl Shared {
    pub(crate) fn new(options: EngineOptions) -> Arc<Self> {
        let maps = MapCache::new(options.mapped_segments_max);
        Arc::new(Self {
            options,
            counters: Counters::default(),
            prepare: Queue::default(),
            maintain: Queue::default(),
            flush: FlushQueue::default(),
            maps,
            on_durable: OnceLock::new(),
            io_failed: AtomicBool::new(false),
            prepared_numbers: AtomicU64::new(0),
        })
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.options.disk
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.options.background == Background::Threads
    }

    /// How many logs to work on at the same time.
    pub(crate) fn log_threads(&self) -> usize {
        match self.options.recovery_threads {
            // A run that can be replayed has one thread.
            _ if !self.has_threads() => 1,
            0 => parallel::THREADS_MAX,
            threads => threads,
        }
    }

    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            allocation_min: self.options.allocation_bytes_min.max(1),
            allocation_max: self.options.allocation_bytes_max,
            prefault_ahead: self.options.prefault_ahead_bytes,
        }
    }

    pub(crate) fn next_prepared_number(&self) -> u64 {
        self.prepared_numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// A queue that threads wait on.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<(VecDeque<T>, bool)>,
    ready: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new((VecDeque::new(), false)),
            ready: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&self, item: T) {
        let mut state = self.state.lock();
        // After the end nobody would take it out again.
        if !state.1 {
            state.0.push_back(item);
            self.ready.notify_one();
        }
    }

    /// The next item without waiting.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.state.lock().0.pop_front()
    }

    /// The next item; `None` when stopped and empty.
    fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.0.pop_front() {
                return Some(item);
            }
            if state.1 {
                return None;
            }
            self.ready.wait(&mut state);
        }
    }

    /// Whether the end has come: only what must be done is still done.
    fn is_stopped(&self) -> bool {
        self.state.lock().1
    }

    fn stop(&self, discard: bool) {
        let mut state = self.state.lock();
        state.1 = true;
        if discard {
            state.0.clear();
        }
        self.ready.notify_all();
    }
}

/// Why a log is to be synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushReason {
    /// Somebody waits for it.
    Requested,
    /// It has been dirty for long enough; the checkpoint is written as well.
    Timer,
}

#[derive(Debug)]
struct Timer {
    at: Instant,
    log: Weak<Log>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    /// The earliest is the greatest, because a heap gives out the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

#[derive(Debug, Default)]
struct FlushState {
    requests: VecDeque<Arc<Log>>,
    timers: BinaryHeap<Timer>,
    stopped: bool,
}

/// Logs that want a sync now or later.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    state: Mutex<FlushState>,
    ready: Condvar,
}

impl FlushQueue {
    pub(crate) fn request(&self, log: Arc<Log>) {
        let mut state = self.state.lock();
        if !state.stopped {
            state.requests.push_back(log);
            drop(state);
            self.ready.notify_one();
        }
    }

    pub(crate) fn arm(&self, log: Weak<Log>, after: Duration) {
        let at = Instant::now() + after;
        let mut state = self.state.lock();
        let earliest = state.timers.peek().is_none_or(|timer| at < timer.at);
        state.timers.push(Timer { at, log });
        drop(state);
        if earliest {
            self.ready.notify_one();
        }
    }

    /// Everything that is due or armed, without waiting.
    pub(crate) fn try_pop(&self) -> Option<(Arc<Log>, FlushReason)> {
        let mut state = self.state.lock();
        if let Some(log) = state.requests.pop_front() {
            return Some((log, FlushReason::Requested));
        }
        while let Some(timer) = state.timers.pop() {
            if let Some(log) = timer.log.upgrade() {
                return Some((log, FlushReason::Timer));
            }
        }
        None
    }

    fn pop(&self) -> Option<(Arc<Log>, FlushReason)> {
        let mut state = self.state.lock();
        loop {
            if let Some(log) = state.requests.pop_front() {
                return Some((log, FlushReason::Requested));
            }
            if state.stopped {
                return None;
            }
            match state.timers.peek().map(|timer| timer.at) {
                None => self.ready.wait(&mut state),
                Some(at) if at > Instant::now() => {
                    self.ready.wait_until(&mut state, at);
                }
                Some(_) => {
                    if let Some(log) = state.timers.pop().and_then(|timer| timer.log.upgrade()) {
                        return Some((log, FlushReason::Timer));
                    }
                }
            }
        }
    }

    fn stop(&self, discard: bool) {
        let mut state = self.state.lock();
        state.stopped = true;
        if discard {
            state.requests.clear();
        }
        state.timers.clear();
        self.ready.notify_all();
    }
}

/// Which sealed segments are mapped; lets go of the ones that were not used for longest.
#[derive(Debug)]
pub(crate) struct MapCache {
    max: usize,
    mapped: Mutex<VecDeque<Weak<Segment>>>,
}

impl MapCache {
    fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            mapped: Mutex::new(VecDeque::new()),
        }
    }

    /// A segment was mapped. Too many of them make others go: those not touched since they were
    /// looked at last, in the order in which they came.
    pub(crate) fn on_mapped(&self, segment: &Arc<Segment>) {
        let mut victims = Vec::new();
        {
            let mut mapped = self.mapped.lock();
            mapped.push_back(Arc::downgrade(segment));
            // Each round looks at every segment once at most, plus once more when all were used.
            let mut looks = mapped.len() * 2;
            while mapped.len() > self.max && looks > 0 {
                looks -= 1;
                let Some(oldest) = mapped.pop_front() else {
                    break;
                };
                let Some(candidate) = oldest.upgrade() else {
                    continue;
                };
                if candidate.touched.swap(false, Ordering::Relaxed) {
                    mapped.push_back(oldest);
                } else {
                    victims.push(candidate);
                }
            }
        }
        for victim in victims {
            victim.unmap();
        }
    }

    pub(crate) fn mapped(&self) -> u64 {
        self.mapped.lock().len() as u64
    }
}

/// Lets the calling thread run on what others leave of the processor: sealing reads whole segments,
/// a sixth of all work at full speed, and nobody waits for it.
fn give_way() {
    // On Linux this is of the thread alone. Where it is refused, the thread just does not give way.
    let _ = rustix::process::nice(GIVE_WAY_NICE);
}

/// The running threads; they end when this is stopped.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    handles: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let mut threads = Self::default();
        if !shared.has_threads() {
            return Ok(threads);
        }
        threads.spawn("hw-prepare", shared, |shared| {
            while let Some(log) = shared.prepare.pop() {
                log.prepare();
            }
        })?;
        threads.spawn("hw-maintain", shared, |shared| {
            give_way();
            while let Some(job) = shared.maintain.pop() {
                run_maintenance(shared, job);
            }
        })?;
        for n in 0..shared.options.flush_threads.max(1) {
            threads.spawn(&format!("hw-flush-{n}"), shared, |shared| {
                while let Some((log, reason)) = shared.flush.pop() {
                    log.run_flush(reason);
                }
            })?;
        }
        Ok(threads)
    }

    fn spawn(
        &mut self,
        name: &str,
        shared: &Arc<Shared>,
        run: impl FnOnce(&Shared) + Send + 'static,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.handles.push(thread.spawn(move || run(&shared))?);
        Ok(())
    }

    /// Lets the threads end and waits for them. What is queued is done first, or dropped.
    pub(crate) fn stop(&mut self, shared: &Shared, discard: bool) {
        shared.flush.stop(discard);
        shared.prepare.stop(true);
        shared.maintain.stop(discard);
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
    }
}

/// Does one piece of maintenance.
pub(crate) fn run_maintenance(shared: &Shared, job: Maintenance) {
    match job {
        Maintenance::Seal(log) => log.seal_finished(),
        Maintenance::Verify(log) => {
            // An orderly end does not wait for it.
            if !shared.maintain.is_stopped() {
                log.verify_last_segment();
            }
        }
        Maintenance::RemoveDir(path) => {
            if let Err(error) = crate::engine::remove_dir(shared.disk(), &path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a deleted log; the next start tries again");
            }
        }
    }
}
