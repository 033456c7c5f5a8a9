//! What is sent: the counters of this machine, and the text of its files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use highwater_protocol::partitioner::partition_for_key;
use tokio::sync::mpsc;

use crate::demo::chunk::Chunk;
use crate::demo::files::FileSet;
use crate::demo::machine::Machine;

/// Five times a second.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// Text that is sent per second: a load, but not one that makes records wait for each other.
const TEXT_BYTES_PER_SECOND: f64 = 48e6;
/// A line longer than this is cut: it is not text.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The entrances to the partitions of a topic.
#[derive(Debug)]
pub(crate) struct Entrances(pub(crate) Vec<mpsc::Sender<Chunk>>);

impl Entrances {
    fn chunks(&self, due: Instant) -> Vec<Chunk> {
        self.0.iter().map(|_| Chunk::new(due)).collect()
    }

    fn partition_of(&self, key: &[u8]) -> usize {
        let partitions = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        partition_for_key(key, partitions).get() as usize
    }

    /// Hands a chunk over, waiting for room; `false` when nobody takes it any more.
    fn send(&self, partition: usize, chunk: Chunk) -> bool {
        chunk.is_empty() || self.0[partition].blocking_send(chunk).is_ok()
    }
}

/// Sends every counter of the machine several times a second, one record per counter.
pub(crate) fn feed_counters(machine: &Machine, entrances: &Entrances, stop: &AtomicBool) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut chunks = entrances.chunks(due);
        for counter in machine.sample() {
            let key = counter.name.as_bytes();
            chunks[entrances.partition_of(key)].push(key, counter.value.to_string().as_bytes());
        }
        for (partition, chunk) in chunks.into_iter().enumerate() {
            if !entrances.send(partition, chunk) {
                return;
            }
        }
        due += SAMPLE_INTERVAL;
        sleep_until(due);
    }
}

/// Sends the text of the files again and again, one record per line, keyed `file:line`. The lines
/// of a file stay in one partition and so in order.
pub(crate) fn feed_text(files: &FileSet, entrances: &Entrances, stop: &AtomicBool) {
    let mut pace = Pace {
        due: Instant::now(),
    };
    for index in (0..files.len()).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some((name, content)) = files.read(index) else {
            continue;
        };
        let partition = entrances.partition_of(name.as_bytes());
        let mut chunk = Chunk::new(pace.wait());
        for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
            let line = &line[..line.len().min(LINE_BYTES_MAX)];
            chunk.push(format!("{name}:{}", number + 1).as_bytes(), line);
            if chunk.is_full() {
                pace.add(chunk.bytes());
                let next = Chunk::new(pace.wait());
                if !entrances.send(partition, std::mem::replace(&mut chunk, next)) {
                    return;
                }
            }
        }
        pace.add(chunk.bytes());
        if !entrances.send(partition, chunk) {
            return;
        }
    }
}

/// Keeps text at its rate, or below it where the broker takes less: what could not be sent in time
/// is not made up for, since nobody produced it yet.
struct Pace {
    due: Instant,
}

impl Pace {
    /// Waits until more may be sent and returns when that is.
    fn wait(&mut self) -> Instant {
        sleep_until(self.due);
        let now = Instant::now();
        self.due = self.due.max(now);
        now
    }

    fn add(&mut self, bytes: usize) {
        self.due += Duration::from_secs_f64(bytes as f64 / TEXT_BYTES_PER_SECOND);
    }
}

fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}
