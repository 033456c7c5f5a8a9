//! What is known about one topic while the demo runs: its chains, and what the screen shows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::bench::latency::{Latencies, Percentiles};
use crate::demo::ack_clock::AckClock;
use crate::demo::chain::{Chain, Faults};

/// A topic of the demo.
#[derive(Debug)]
pub(crate) struct Track {
    name: &'static str,
    chains: Vec<Mutex<Chain>>,
    acks: Vec<Mutex<AckClock>>,
    bytes: AtomicU64,
    latencies: Mutex<TwoSpans>,
}

/// Latencies of the whole run and since the last look.
#[derive(Debug)]
struct TwoSpans {
    total: Latencies,
    recent: Latencies,
}

/// Counts of one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) received: u64,
    pub(crate) bytes: u64,
    pub(crate) outstanding: u64,
    pub(crate) faults: Faults,
}

impl Track {
    /// A topic without records.
    pub(crate) fn new(name: &'static str, partitions: u32) -> Track {
        Track {
            name,
            chains: (0..partitions).map(|_| Mutex::default()).collect(),
            acks: (0..partitions).map(|_| Mutex::default()).collect(),
            bytes: AtomicU64::new(0),
            latencies: Mutex::new(TwoSpans {
                total: Latencies::new(),
                recent: Latencies::new(),
            }),
        }
    }

    /// Name of the topic.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The chain of a partition, locked.
    pub(crate) fn chain(&self, partition: u32) -> MutexGuard<'_, Chain> {
        self.chains[partition as usize].lock()
    }

    /// Number of partitions.
    pub(crate) fn partitions(&self) -> u32 {
        // Made of a u32.
        self.chains.len() as u32
    }

    /// Notes records that the broker acknowledged.
    pub(crate) fn acknowledged(&self, partition: u32, records: u64) {
        self.acks[partition as usize]
            .lock()
            .tick(Instant::now(), records);
    }

    /// From now on the longest time without an acknowledgement is wanted.
    pub(crate) fn watch_silences(&self) {
        for acks in &self.acks {
            acks.lock().watch();
        }
    }

    /// The acknowledgements of a partition as they are now.
    pub(crate) fn acks(&self, partition: u32) -> AckClock {
        *self.acks[partition as usize].lock()
    }

    /// Notes bytes that came back.
    pub(crate) fn received_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes how long records took that were received at `now`.
    pub(crate) fn latencies(&self, now: Instant, due: impl Iterator<Item = Instant>) {
        let mut latencies = self.latencies.lock();
        // Records of one chunk were due together: few distinct values, counted in runs.
        let mut run: Option<(Instant, u64)> = None;
        for due in due {
            match &mut run {
                Some((of_run, count)) if *of_run == due => *count += 1,
                _ => {
                    if let Some((due, count)) = run.replace((due, 1)) {
                        latencies
                            .recent
                            .record_many(now.saturating_duration_since(due), count);
                    }
                }
            }
        }
        if let Some((due, count)) = run {
            latencies
                .recent
                .record_many(now.saturating_duration_since(due), count);
        }
    }

    /// Latencies since the last call of this.
    pub(crate) fn recent_latencies(&self) -> Option<Percentiles> {
        let mut latencies = self.latencies.lock();
        let recent = std::mem::replace(&mut latencies.recent, Latencies::new());
        latencies.total.merge(&recent);
        (recent.count() > 0).then(|| recent.percentiles())
    }

    /// Latencies since the start.
    pub(crate) fn total_latencies(&self) -> Percentiles {
        // Takes the recent ones in.
        self.recent_latencies();
        self.latencies.lock().total.percentiles()
    }

    /// Counts as they are now.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts {
            acknowledged: self.acks.iter().map(|acks| acks.lock().records()).sum(),
            bytes: self.bytes.load(Ordering::Relaxed),
            ..Counts::default()
        };
        for chain in &self.chains {
            let chain = chain.lock();
            counts.sent += chain.sent();
            counts.received += chain.received();
            counts.outstanding += chain.outstanding() as u64;
            counts.faults = counts.faults.plus(chain.faults());
        }
        counts
    }

    /// Faults now that nothing more will come.
    pub(crate) fn final_faults(&self) -> Faults {
        self.chains.iter().fold(Faults::default(), |faults, chain| {
            faults.plus(chain.lock().final_faults())
        })
    }
}

/// Milliseconds for people.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 100.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}
