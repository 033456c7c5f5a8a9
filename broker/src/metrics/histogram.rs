//! A histogram of durations that is only atomics: observing takes no lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Bucket `i` holds what took at most `2^i` microseconds: from 1 µs to 67 s, then one for the rest.
const BOUNDED: usize = 27;

/// How long something took, in buckets that double.
#[derive(Debug)]
pub(super) struct DurationHistogram {
    buckets: [AtomicU64; BOUNDED + 1],
    sum_nanos: AtomicU64,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUNDED + 1],
            sum_nanos: AtomicU64::new(0),
        }
    }
}

impl DurationHistogram {
    pub(super) fn observe(&self, took: Duration) {
        self.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = (0..)
            .zip(&self.buckets)
            .map(|(place, count)| (upper_bound_seconds(place), count.load(Ordering::Relaxed)))
            .collect();
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        // From the very buckets that are written, so that they agree while others observe.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    let exponent = micros
        .checked_next_power_of_two()
        .map_or(64, u64::trailing_zeros);
    (exponent as usize).min(BOUNDED)
}

fn upper_bound_seconds(place: u32) -> f64 {
    if place as usize >= BOUNDED {
        f64::INFINITY
    } else {
        f64::from(1_u32 << place) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_its_bound() {
        for (nanos, expected) in [
            (0, 0),
            (1, 0),
            (1000, 0),
            (1001, 1),
            (2000, 1),
            (2001, 2),
            (1_000_000, 10),
            (67_108_864_000, 26),
            (67_108_864_001, 27),
            (u64::MAX, 27),
        ] {
            let took = Duration::from_nanos(nanos);
            let place = bucket(took);
            assert_eq!(place, expected, "{took:?}");
            assert!(took.as_secs_f64() <= upper_bound_seconds(place as u32));
        }
        assert_eq!(bucket(Duration::MAX), BOUNDED);
        assert!((upper_bound_seconds(10) - 0.001_024).abs() < 1e-12);
    }
}
