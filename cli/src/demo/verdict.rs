//! How the demo ends: what was done, what was found, and whether it is right.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_client::NodeId;

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

/// What a cluster made of the death of one of its brokers.
#[derive(Debug, Clone)]
pub(crate) struct Failover {
    /// Since the start.
    pub(crate) at: Duration,
    /// Who was killed.
    pub(crate) victim: NodeId,
    /// Records under way at that moment.
    pub(crate) unacknowledged: u64,
    /// Partitions that it led.
    pub(crate) led: Vec<String>,
    /// Who was the active controller before and after.
    pub(crate) controllers: (Option<NodeId>, Option<NodeId>),
    /// From the kill until every partition was seen to have another leader.
    pub(crate) elected: Duration,
    /// Longest time in which nothing was acknowledged on a partition that it led.
    pub(crate) silence_of_led: Duration,
    /// The same on a partition that others led.
    pub(crate) silence_of_others: Duration,
    /// How long the broker was down.
    pub(crate) down: Duration,
    /// From its start until it served.
    pub(crate) serving: Duration,
    /// From its start until all its replicas were in sync.
    pub(crate) in_sync: Duration,
}

/// What was done to the brokers.
#[derive(Debug, Clone)]
pub(crate) enum Incident {
    /// The only broker died and recovered.
    Recovery {
        /// Its death and return.
        outage: Outage,
        /// What senders had to find out because of it.
        doubts: Doubts,
    },
    /// One of several died, others took over, and it came back.
    Failover(Failover),
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Verdict {
    elapsed: Duration,
    incident: Incident,
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
    pub(crate) fn new(elapsed: Duration, incident: Incident, tracks: Vec<Arc<Track>>) -> Verdict {
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
            incident,
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

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incident::Recovery { outage, doubts } => {
                outage.fmt(f)?;
                doubts.fmt(f)
            }
            Incident::Failover(failover) => failover.fmt(f),
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Killed after {:.1} s with {} not yet acknowledged; gone after {}, recovered and \
             serving again {} later.",
            self.at.as_secs_f64(),
            count(self.unacknowledged, "record"),
            millis(self.death),
            millis(self.recovery)
        )
    }
}

impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.chunks == 0 {
            return Ok(());
        }
        writeln!(
            f,
            "The fate of {} was in doubt: the senders read back the tail, found that {} had \
             landed, and sent only the other {} again.",
            count(self.landed + self.sent_again, "record"),
            self.landed,
            self.sent_again
        )
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victim = self.victim;
        writeln!(
            f,
            "Killed broker {victim} after {:.1} s with {} not yet acknowledged. It led\n{}.",
            self.at.as_secs_f64(),
            count(self.unacknowledged, "record"),
            self.led.join(", ")
        )?;
        let name = |node: Option<NodeId>| {
            node.map_or_else(|| "unknown".to_owned(), |node| format!("broker {node}"))
        };
        match self.controllers {
            (before, after) if before == after => {
                writeln!(f, "Controller: {} throughout.", name(before))?;
            }
            (before, after) => {
                writeln!(f, "Controller: {}, then {}.", name(before), name(after))?;
            }
        }
        writeln!(
            f,
            "Failover: other leaders after {:.0} ms.\n\
             Unavailable: {:.0} ms on partitions that it led, {:.0} ms on the others\n\
             (the longest time between two acknowledgements).",
            self.elected.as_secs_f64() * 1e3,
            self.silence_of_led.as_secs_f64() * 1e3,
            self.silence_of_others.as_secs_f64() * 1e3
        )?;
        writeln!(
            f,
            "Broker {victim} was down for {:.1} s. Started again, it served after {}, and was\n\
             in sync with all partitions after {}.",
            self.down.as_secs_f64(),
            millis(self.serving),
            millis(self.in_sync)
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.incident)?;
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
