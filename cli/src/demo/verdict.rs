//! How the demo ends: what was done, what was found, and whether it is right.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bench::latency::Percentiles;
use crate::demo::chain::Faults;
use crate::demo::lane::Doubts;
use crate::demo::track::{Counts, Track, millis};
use crate::output::{bytes, count};

/// The broker's death and return.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    /// Since the start.
    pub(crate) at: Duration,
    /// Records under way at that moment.
    pub(crate) unacknowledged: u64,
    /// Until the last of it was gone.
    pub(crate) death: Duration,
    /// From then until it served again.
    pub(crate) recovery: Duration,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Verdict {
    elapsed: Duration,
    outage: Outage,
    doubts: Doubts,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: &'static str,
    counts: Counts,
    faults: Faults,
    latency: Percentiles,
}

impl Verdict {
    /// Looks at the topics for the last time.
    pub(crate) fn new(
        elapsed: Duration,
        outage: Outage,
        doubts: Doubts,
        tracks: Vec<Arc<Track>>,
    ) -> Verdict {
        let topics = tracks
            .into_iter()
            .map(|track| Topic {
                name: track.name(),
                counts: track.counts(),
                faults: track.final_faults(),
                latency: track.total_latencies(),
            })
            .collect();
        Verdict {
            elapsed,
            outage,
            doubts,
            topics,
        }
    }

    /// Whether everything that was sent was acknowledged and came back once, in order, unchanged.
    pub(crate) fn passed(&self) -> bool {
        self.topics.iter().all(|topic| {
            let Counts {
                sent,
                acknowledged,
                received,
                ..
            } = topic.counts;
            topic.faults.none() && sent == acknowledged && sent == received && sent > 0
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outage {
            at,
            unacknowledged,
            death,
            recovery,
        } = self.outage;
        writeln!(
            f,
            "\nKilled after {:.1} s with {} not yet acknowledged; gone after {}, recovered and \
             serving again {} later.",
            at.as_secs_f64(),
            count(unacknowledged, "record"),
            millis(death),
            millis(recovery)
        )?;
        if self.doubts.chunks > 0 {
            writeln!(
                f,
                "The fate of {} was in doubt: the senders read back the tail, found that {} had \
                 landed, and sent only the other {} again.",
                count(self.doubts.landed + self.doubts.sent_again, "record"),
                self.doubts.landed,
                self.doubts.sent_again
            )?;
        }
        let mut total = Faults::default();
        let mut received = 0;
        for Topic {
            name,
            counts,
            faults,
            latency,
        } in &self.topics
        {
            writeln!(
                f,
                "{name}: {} sent, {} acknowledged, {} read back ({}); end to end p50 {:.1} ms, \
                 p99 {:.1} ms, longest {:.1} ms (across the kill)",
                count(counts.sent, "record"),
                counts.acknowledged,
                counts.received,
                bytes(counts.bytes),
                latency.p50 / 1e3,
                latency.p99 / 1e3,
                latency.max / 1e3,
            )?;
            total = total.plus(*faults);
            received += counts.received;
        }
        let word = if self.passed() { "PASSED" } else { "FAILED" };
        writeln!(
            f,
            "{word}: {} verified in {:.1} s, {} lost, {} duplicated, {} reordered, {} altered.",
            count(received, "record"),
            self.elapsed.as_secs_f64(),
            total.lost,
            total.duplicated,
            total.reordered,
            total.altered
        )
    }
}
