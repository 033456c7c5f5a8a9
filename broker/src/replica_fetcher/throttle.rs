//! A bound on how fast replicas that are not in sync are filled, so that they leave room for clients
//! and for those that are in sync.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// As much as this long may be used at once.
const BURST: Duration = Duration::from_millis(500);

/// A token bucket over bytes, shared by all fetchers.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second; `None`: no bound.
    rate: Option<u64>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// May be below zero: the first batch of a fetch comes whole.
    bytes: f64,
    filled: Instant,
}

impl Throttle {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            bucket: Mutex::new(Bucket {
                bytes: rate.map_or(0.0, burst),
                filled: Instant::now(),
            }),
        }
    }

    /// How many bytes may be asked for now; 0: wait.
    pub(super) fn available(&self) -> u64 {
        let Some(rate) = self.rate else {
            return u64::MAX;
        };
        let mut bucket = self.bucket.lock();
        bucket.fill(rate);
        // Truncated towards zero, and nothing below it.
        bucket.bytes.max(0.0) as u64
    }

    /// So many bytes came.
    pub(super) fn used(&self, bytes: usize) {
        if let Some(rate) = self.rate {
            let mut bucket = self.bucket.lock();
            bucket.fill(rate);
            bucket.bytes -= bytes as f64;
        }
    }

    /// How long until there is something again.
    pub(super) fn wait(&self) -> Duration {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else {
            return Duration::from_millis(100);
        };
        let mut bucket = self.bucket.lock();
        bucket.fill(rate);
        let missing = (1.0 - bucket.bytes).max(0.0);
        Duration::from_secs_f64((missing / rate as f64).clamp(0.001, 1.0))
    }
}

fn burst(rate: u64) -> f64 {
    rate as f64 * BURST.as_secs_f64()
}

impl Bucket {
    fn fill(&mut self, rate: u64) {
        let now = Instant::now();
        let passed = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.bytes = (self.bytes + passed * rate as f64).min(burst(rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_much_as_the_rate_allows_and_a_large_batch_is_paid_for_later() {
        let throttle = Throttle::new(Some(1000));
        assert_eq!(throttle.available(), 500);
        throttle.used(1500);
        assert_eq!(throttle.available(), 0);
        let wait = throttle.wait();
        assert!(wait >= Duration::from_millis(1000), "{wait:?}");
        tokio::time::advance(Duration::from_millis(1100)).await;
        assert_eq!(throttle.available(), 100);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(throttle.available(), 500, "what was not used is not kept");
    }

    #[test]
    fn without_a_rate_there_is_no_bound() {
        let throttle = Throttle::new(None);
        throttle.used(usize::MAX);
        assert_eq!(throttle.available(), u64::MAX);
    }
}
