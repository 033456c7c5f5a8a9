//! How long to wait before trying again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Exponential backoff with jitter: the n-th wait is between half of and the whole of
/// `first * 2^(n-1)`, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest the first wait can be.
    pub first: Duration,
    /// The longest any wait can be.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            max: Duration::from_secs(1),
        }
    }
}

impl Backoff {
    /// The wait before attempt `attempt + 1`, when `attempt` attempts (from 1) have failed.
    #[must_use]
    pub fn wait(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(self.max);
        let half = whole / 2;
        half + half.mul_f64(random_fraction())
    }
}

/// Uniform in 0..1. Only spreads retries over time, so the hasher's random keys are good enough.
fn random_fraction() -> f64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one(call) >> 11;
    random as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let backoff = Backoff {
            first: Duration::from_millis(8),
            max: Duration::from_millis(100),
        };
        for (attempt, whole) in [(1, 8), (2, 16), (3, 32), (4, 64), (5, 100), (90, 100)] {
            for _ in 0..50 {
                let wait = backoff.wait(attempt);
                let whole = Duration::from_millis(whole);
                assert!(wait >= whole / 2 && wait <= whole, "{attempt}: {wait:?}");
            }
        }
    }
}
