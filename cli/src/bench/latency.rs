//! Latencies: recorded in nanoseconds, reported in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::median::median;

/// Longest latency told apart; anything longer counts as this.
const NANOS_MAX: u64 = 600_000_000_000;

/// A histogram with three significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, 3)
            .expect("1 ns to 10 min with 3 digits are bounds that a histogram takes");
        Latencies { histogram }
    }

    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Counts one latency for each of `count` records that shared it.
    pub(crate) fn record_many(&mut self, latency: Duration, count: u64) {
        let nanos = u64::try_from(latency.as_nanos())
            .unwrap_or(NANOS_MAX)
            .max(1);
        self.histogram.saturating_record_n(nanos, count);
    }

    /// Adds what another thread or task recorded.
    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("histograms of equal bounds add");
    }

    /// How many latencies were counted.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles that a report prints.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| micros(self.histogram.value_at_quantile(quantile));
        Percentiles {
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.histogram.max()),
            mean: round_tenth(self.histogram.mean() / 1000.0),
        }
    }
}

/// Microseconds, to a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

impl Percentiles {
    /// The median over several runs of each percentile by itself.
    pub(crate) fn median_of(runs: &[Percentiles]) -> Option<Percentiles> {
        let of = |field: fn(&Percentiles) -> f64| median(runs.iter().map(field));
        Some(Percentiles {
            p50: of(|p| p.p50)?,
            p90: of(|p| p.p90)?,
            p99: of(|p| p.p99)?,
            p999: of(|p| p.p999)?,
            max: of(|p| p.max)?,
            mean: of(|p| p.mean)?,
        })
    }
}

#[allow(clippy::cast_precision_loss)] // at most 6e11
fn micros(nanos: u64) -> f64 {
    round_tenth(nanos as f64 / 1000.0)
}

fn round_tenth(micros: f64) -> f64 {
    (micros * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latencies, Percentiles};

    #[test]
    fn percentiles_are_microseconds() {
        let mut latencies = Latencies::new();
        latencies.record_many(Duration::from_micros(10), 99);
        latencies.record(Duration::from_millis(1));
        let percentiles = latencies.percentiles();
        assert!((percentiles.p50 - 10.0).abs() < 0.1, "{percentiles:?}");
        assert!((percentiles.max - 1000.0).abs() < 1.0, "{percentiles:?}");
        assert_eq!(latencies.count(), 100);
    }

    #[test]
    fn the_median_of_runs_is_taken_per_percentile() {
        let run = |micros: f64| Percentiles {
            p50: micros,
            p90: micros,
            p99: 100.0 - micros,
            p999: micros,
            max: micros,
            mean: micros,
        };
        let median = Percentiles::median_of(&[run(1.0), run(50.0), run(2.0)]).unwrap();
        assert_eq!((median.p50, median.p99), (2.0, 98.0));
        assert_eq!(Percentiles::median_of(&[]), None);
    }
}
