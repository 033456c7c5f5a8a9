//! What is counted of replication.

use highwater_coordination::partition_health::LeaderEvents;
use prometheus_client::metrics::counter::Counter;

/// Counters of replication; only atomics.
#[derive(Debug, Default)]
pub(crate) struct ReplicationCounters {
    bytes_in: Counter,
    bytes_out: Counter,
    catchup_waits: Counter,
    leaders_elected: Counter,
    unclean_elections: Counter,
    isr_shrinks: Counter,
    isr_expands: Counter,
    isr_proposals_failed: Counter,
}

impl ReplicationCounters {
    /// Makes each with `counter`, which registers it under a name with a help text.
    pub(super) fn new(counter: &mut impl FnMut(&str, &str) -> Counter) -> Self {
        Self {
            bytes_in: counter(
                "replication_received_bytes",
                "Bytes of record batches fetched from leaders",
            ),
            bytes_out: counter(
                "replication_sent_bytes",
                "Bytes of record batches sent to followers",
            ),
            catchup_waits: counter(
                "replication_catchup_waits",
                "Fetches that left replicas out because replication.catchup.rate was used up",
            ),
            leaders_elected: counter(
                "leaders_elected",
                "Times that this broker was made the leader of a partition that had another or none",
            ),
            unclean_elections: counter(
                "unclean_elections",
                "Times that this broker was made the leader of a partition without having all that was committed",
            ),
            isr_shrinks: counter(
                "isr_shrinks",
                "Times that replicas fell out of the in-sync replicas of a partition that is led here",
            ),
            isr_expands: counter(
                "isr_expands",
                "Times that replicas came into the in-sync replicas of a partition that is led here",
            ),
            isr_proposals_failed: counter(
                "isr_proposals_failed",
                "Proposals for in-sync replicas that the controller refused or did not answer",
            ),
        }
    }

    /// Records came from a leader.
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.inc_by(bytes as u64);
    }

    /// Records are on their way to a follower.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.inc_by(bytes as u64);
    }

    /// A fetch left out replicas that are not in sync, for the sake of others.
    pub(crate) fn catchup_waits(&self) {
        self.catchup_waits.inc();
    }

    /// The metadata changed what this broker leads.
    pub(crate) fn leader_events(&self, events: LeaderEvents) {
        self.leaders_elected.inc_by(events.elected);
        self.unclean_elections.inc_by(events.elected_unclean);
        self.isr_shrinks.inc_by(events.isr_shrinks);
        self.isr_expands.inc_by(events.isr_expands);
    }

    /// So many proposals were refused, or were not answered.
    pub(crate) fn isr_proposals_failed(&self, proposals: usize) {
        self.isr_proposals_failed.inc_by(proposals as u64);
    }
}
