//! What the engine counted, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`EngineStats::sync_latency_buckets`], in microseconds; one more
/// bucket holds what is above all of them.
pub const SYNC_LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
    819_200, 1_638_400,
];

/// Counters since the engine was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Syncs of log data that succeeded.
    pub syncs: u64,
    /// Syncs that failed: each took a log offline.
    pub sync_failures: u64,
    /// Bytes that were covered by syncs.
    pub synced_bytes: u64,
    /// How many syncs took how long, by [`SYNC_LATENCY_BOUNDS_US`].
    pub sync_latency_buckets: [u64; SYNC_LATENCY_BOUNDS_US.len() + 1],
    /// Sum of the durations of all syncs, in microseconds.
    pub sync_latency_sum_us: u64,
    /// Segments that were ready when they were needed.
    pub segments_prepared: u64,
    /// Segments that an append had to create itself.
    pub segments_created_inline: u64,
    /// Times that an append had to get disk space itself.
    pub inline_growths: u64,
    /// Appends refused because the disk was full.
    pub disk_full_refusals: u64,
    /// Segments sealed.
    pub segments_sealed: u64,
    /// Segments deleted by retention, trimming and truncation.
    pub segments_deleted: u64,
    /// Sealed segments that are mapped right now.
    pub mapped_segments: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) sync_latency_buckets: [AtomicU64; SYNC_LATENCY_BOUNDS_US.len() + 1],
        }

        impl Counters {
            pub(crate) fn snapshot(&self, mapped_segments: u64) -> EngineStats {
                EngineStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    sync_latency_buckets:
                        std::array::from_fn(|n| self.sync_latency_buckets[n].load(Ordering::Relaxed)),
                    mapped_segments,
                }
            }
        }
    };
}

counters!(
    syncs,
    sync_failures,
    synced_bytes,
    sync_latency_sum_us,
    segments_prepared,
    segments_created_inline,
    inline_growths,
    disk_full_refusals,
    segments_sealed,
    segments_deleted
);

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn on_sync(&self, bytes: u64, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        count(&self.sync_latency_buckets[bucket]);
        count(&self.syncs);
        self.synced_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sync_latency_sum_us.fetch_add(us, Ordering::Relaxed);
    }
}
