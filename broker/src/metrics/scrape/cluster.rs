//! The cluster and this broker's part in it, at the moment of a scrape.

use std::fmt;
use std::time::Duration;

use highwater_coordination::partition_health::PartitionHealth;
use highwater_protocol::ids::NodeId;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// The cluster as this broker sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterScrape {
    /// What only the active controller knows, if this broker is it.
    pub(crate) controller: Option<ControllerScrape>,
    /// Metadata entries that are applied.
    pub(crate) metadata_applied: u64,
    /// Metadata entries whose consequences on this broker are done.
    pub(crate) metadata_published: u64,
    /// The term of the metadata quorum.
    pub(crate) quorum_term: u64,
    /// Whether a leader of the quorum was heard of lately.
    pub(crate) quorum_has_leader: bool,
    /// Whether this broker votes.
    pub(crate) is_voter: bool,
    /// Whether the metadata says that this broker is kept from serving.
    pub(crate) is_fenced: bool,
    /// How long this broker may answer clients without hearing of the controller.
    pub(crate) lease: Duration,
    /// Time since a heartbeat was sent that was answered, if any was.
    pub(crate) heartbeat_age: Option<Duration>,
    /// Replicas that the metadata gives this broker.
    pub(crate) replicas: u64,
    /// The partitions that this broker leads.
    pub(crate) led: PartitionHealth,
    /// All partitions of the cluster that nobody leads.
    pub(crate) leaderless: u64,
    /// For each follower of what this broker leads: by how many records it is behind, at the partition
    /// where that is most.
    pub(crate) follower_lags: Vec<(NodeId, u64)>,
}

/// What the active controller knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ControllerScrape {
    /// Nothing is moved until the picture has settled.
    pub(crate) safe_mode: bool,
    /// Partitions of which replicas are moved.
    pub(crate) moves_under_way: u64,
    /// Moves that wait for their turn.
    pub(crate) moves_waiting: u64,
    /// Brokers that are registered and fenced.
    pub(crate) brokers_fenced: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FollowerLabel {
    follower: u32,
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

impl ClusterScrape {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauges = [
            (
                "controller_active",
                "Whether this broker is the active controller",
                u64::from(self.controller.is_some()),
            ),
            (
                "metadata_applied_index",
                "Last entry of the metadata log that is applied here",
                self.metadata_applied,
            ),
            (
                "metadata_published_index",
                "Last entry of the metadata log whose consequences here are done",
                self.metadata_published,
            ),
            (
                "quorum_term",
                "Term of the metadata quorum: it grows with every election",
                self.quorum_term,
            ),
            (
                "quorum_leader_known",
                "Whether the leader of the metadata quorum was heard of lately",
                u64::from(self.quorum_has_leader),
            ),
            (
                "quorum_voter",
                "Whether this broker votes in the metadata quorum",
                u64::from(self.is_voter),
            ),
            (
                "broker_fenced",
                "Whether the controller keeps this broker from serving",
                u64::from(self.is_fenced),
            ),
            (
                "replicas",
                "Replicas that this broker is to hold",
                self.replicas,
            ),
            (
                "partitions_led",
                "Partitions that this broker leads",
                self.led.partitions,
            ),
            (
                "partitions_under_replicated",
                "Partitions led here with replicas that are not in sync",
                self.led.under_replicated,
            ),
            (
                "partitions_below_min_isr",
                "Partitions led here with fewer in-sync replicas than min.insync.replicas",
                self.led.below_min_isr,
            ),
            (
                "partitions_leaderless",
                "Partitions of the whole cluster that nobody leads, as far as this broker knows",
                self.leaderless,
            ),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, (name, help), value)?;
        }
        let help = "How long this broker may serve clients without hearing of the controller";
        gauge(
            encoder,
            ("lease_remaining_seconds", help),
            self.lease.as_secs_f64(),
        )?;
        if let Some(age) = self.heartbeat_age {
            let help = "Time since the last heartbeat was sent that the controller answered";
            gauge(encoder, ("heartbeat_age_seconds", help), age.as_secs_f64())?;
        }
        self.encode_lags(encoder)?;
        self.controller
            .map_or(Ok(()), |controller| controller.encode(encoder))
    }

    fn encode_lags(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Records by which a follower is behind, where that is most; all of them if nothing is known of it";
        let mut family =
            encoder.encode_descriptor("follower_lag_records", help, None, MetricType::Gauge)?;
        for (node, lag) in &self.follower_lags {
            let label = FollowerLabel {
                follower: node.get(),
            };
            ConstGauge::new(*lag).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

impl ControllerScrape {
    fn encode(self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauges = [
            (
                "safe_mode",
                "Whether nothing is moved until the picture has settled; only on the controller",
                u64::from(self.safe_mode),
            ),
            (
                "moves_under_way",
                "Partitions whose replicas are being moved; only on the controller",
                self.moves_under_way,
            ),
            (
                "moves_waiting",
                "Moves of replicas that wait for their turn; only on the controller",
                self.moves_waiting,
            ),
            (
                "brokers_fenced",
                "Brokers that are kept from serving; only on the controller",
                self.brokers_fenced,
            ),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, (name, help), value)?;
        }
        Ok(())
    }
}
