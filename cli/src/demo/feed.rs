//! What is sent: the counters of this machine, and the text of its files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use highwater_protocol::partitioner::partition_for_key;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::demo::chunk::Chunk;
use crate::demo::files::FileSet;
use crate::demo::machine::Machine;

/// Five times a second.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// How often a feeder that has nothing to send looks whether it shall stop.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// A line longer than this is cut: it is not text.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The entrances to the partitions of a topic.
#[derive(Debug)]
pub(crate) struct Entrances(pub(crate) Vec<mpsc::Sender<Chunk>>);

impl Entrances {
    /// Each entrance by itself.
    pub(crate) fn each(self) -> impl Iterator<Item = (u32, Entrance)> {
        let partitions = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        (0..partitions)
            .zip(self.0)
            .map(move |(partition, chunks)| (partition, Entrance { chunks, partitions }))
    }
}

/// The entrance to one of a topic's partitions.
#[derive(Debug)]
pub(crate) struct Entrance {
    chunks: mpsc::Sender<Chunk>,
    partitions: u32,
}

impl Entrance {
    fn partition_of(&self, key: &[u8]) -> u32 {
        partition_for_key(key, self.partitions).get()
    }

    /// Hands a chunk over, waiting for room; `false` when nobody takes it any more.
    fn send(&self, chunk: Chunk) -> bool {
        chunk.is_empty() || self.chunks.blocking_send(chunk).is_ok()
    }
}

/// Sends the counters of the machine that belong to a partition several times a second, one record
/// per counter.
pub(crate) fn feed_counters(
    machine: &Machine,
    entrance: &Entrance,
    partition: u32,
    stop: &AtomicBool,
) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut chunk = Chunk::new(due);
        for counter in machine.sample() {
            let key = counter.name.as_bytes();
            if entrance.partition_of(key) == partition {
                chunk.push(key, counter.value.to_string().as_bytes());
            }
        }
        if !entrance.send(chunk) {
            return;
        }
        due += SAMPLE_INTERVAL;
        sleep_until(due);
    }
}

/// Sends the text of the files that belong to a partition again and again, one record per line,
/// keyed `file:line`. The lines of a file stay in one partition and so in order.
pub(crate) fn feed_text(
    files: &FileSet,
    entrance: &Entrance,
    partition: u32,
    pace: &Pace,
    stop: &AtomicBool,
) {
    let own: Vec<usize> = (0..files.len())
        .filter(|&index| entrance.partition_of(files.name(index).as_bytes()) == partition)
        .collect();
    while own.is_empty() && !stop.load(Ordering::Relaxed) {
        thread::sleep(IDLE_PAUSE);
    }
    for index in own.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some((name, content)) = files.read(index) else {
            // All of them may be gone.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let mut chunk = Chunk::new(pace.wait());
        for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
            let line = &line[..line.len().min(LINE_BYTES_MAX)];
            chunk.push(format!("{name}:{}", number + 1).as_bytes(), line);
            if chunk.is_full() {
                pace.add(chunk.bytes());
                let next = Chunk::new(pace.wait());
                if !entrance.send(std::mem::replace(&mut chunk, next)) {
                    return;
                }
            }
        }
        pace.add(chunk.bytes());
        if !entrance.send(chunk) {
            return;
        }
    }
}

/// Keeps all text together at its rate, or below it where the brokers take less: what could not be
/// sent in time is not made up for, since nobody produced it yet.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Mutex<Instant>,
    bytes_per_second: f64,
}

impl Pace {
    /// A pace that begins now.
    pub(crate) fn new(bytes_per_second: f64) -> Pace {
        Pace {
            due: Mutex::new(Instant::now()),
            bytes_per_second,
        }
    }

    /// Waits until more may be sent and returns when that is.
    fn wait(&self) -> Instant {
        let due = *self.due.lock();
        sleep_until(due);
        let now = Instant::now();
        let mut due = self.due.lock();
        *due = (*due).max(now);
        now
    }

    fn add(&self, bytes: usize) {
        *self.due.lock() += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
    }
}

fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}
