//! What is asked for only when somebody scrapes: partitions, storage, what is in flight.

mod cluster;

use std::fmt;

use highwater_protocol::ids::TopicName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The state of a broker at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    /// Topics that exist.
    pub(crate) topics: u64,
    /// Partitions that are online here.
    pub(crate) partitions: Vec<PartitionScrape>,
    /// Partitions whose storage failed or is damaged.
    pub(crate) partitions_offline: u64,
    /// Request bytes that are paid for.
    pub(crate) in_flight_bytes: u64,
    /// `network.in.flight.bytes.max`
    pub(crate) in_flight_bytes_max: u64,
    /// Connections that wait until request bytes are given back.
    pub(crate) admission_waiting: u64,
    /// Whether appends are refused because the disk is nearly full.
    pub(crate) disk_is_low: bool,
    /// The storage engine, once it is open.
    pub(crate) storage: Option<StorageScrape>,
    /// The cluster as this broker sees it, once it takes part.
    pub(crate) cluster: Option<ClusterScrape>,
}

pub(crate) use self::cluster::{ClusterScrape, ControllerScrape};

/// One partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionScrape {
    /// Its topic.
    pub(crate) topic: TopicName,
    /// Its number.
    pub(crate) partition: u32,
    /// First offset that is kept.
    pub(crate) log_start: u64,
    /// Offset behind the last record that readers see.
    pub(crate) high_watermark: u64,
    /// Offset behind the last record.
    pub(crate) log_end: u64,
    /// Offset behind the last record that the disk has.
    pub(crate) durable_end: u64,
    /// Bytes of its segments.
    pub(crate) size_bytes: u64,
    /// Segments.
    pub(crate) segments: u64,
}

/// The storage engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct StorageScrape {
    /// How long syncs took.
    pub(crate) sync_durations: DurationBuckets,
    /// Syncs that failed.
    pub(crate) sync_failures: u64,
    /// Segments that were ready before they were needed.
    pub(crate) segments_prepared: u64,
    /// Times that an append had to make room or memory ready itself.
    pub(crate) segments_late: u64,
    /// Appends that found no space on the disk.
    pub(crate) disk_full: u64,
}

/// A histogram that someone else keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct DurationBuckets {
    /// Upper bound in seconds and count of each bucket, not cumulated, rising; the last bound is
    /// infinite, and is added if it is missing.
    pub(crate) buckets: Vec<(f64, u64)>,
    /// Sum of all, in seconds.
    pub(crate) sum_seconds: f64,
}

/// Labels of a partition, borrowed: there may be very many.
#[derive(Debug)]
struct PartitionLabels<'a> {
    topic: &'a str,
    partition: u32,
}

impl EncodeLabelSet for PartitionLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        ("topic", self.topic).encode(encoder.encode_label())?;
        ("partition", self.partition).encode(encoder.encode_label())
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name, help, value: u64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        gauge(&mut encoder, "topics", "Topics that exist", self.topics)?;
        let online = self.partitions.len() as u64;
        gauge(
            &mut encoder,
            "partitions",
            "Partitions that are online here",
            online,
        )?;
        let help = "Partitions whose storage failed or is damaged";
        gauge(
            &mut encoder,
            "partitions_offline",
            help,
            self.partitions_offline,
        )?;
        let help = "Request bytes in flight that are paid for";
        gauge(&mut encoder, "in_flight_bytes", help, self.in_flight_bytes)?;
        let help = "Most request bytes that may be in flight";
        gauge(
            &mut encoder,
            "in_flight_bytes_limit",
            help,
            self.in_flight_bytes_max,
        )?;
        let help = "Connections that wait until request bytes are given back";
        gauge(
            &mut encoder,
            "admission_waiting",
            help,
            self.admission_waiting,
        )?;
        let help = "Whether appends are refused because the disk is nearly full";
        gauge(&mut encoder, "disk_low", help, u64::from(self.disk_is_low))?;
        self.encode_partitions(&mut encoder)?;
        if let Some(storage) = &self.storage {
            storage.encode(&mut encoder)?;
        }
        if let Some(cluster) = &self.cluster {
            cluster.encode(&mut encoder)?;
        }
        Ok(())
    }
}

impl Scrape {
    fn encode_partitions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&PartitionScrape) -> u64;
        let families: [(&str, &str, Read); 6] = [
            ("partition_log_start", "First offset that is kept", |p| {
                p.log_start
            }),
            (
                "partition_high_watermark",
                "Offset behind the last record that readers see",
                |p| p.high_watermark,
            ),
            ("partition_log_end", "Offset behind the last record", |p| {
                p.log_end
            }),
            (
                "partition_durable_end",
                "Offset behind the last record that the disk has",
                |p| p.durable_end,
            ),
            (
                "partition_size_bytes",
                "Bytes of the partition's segments",
                |p| p.size_bytes,
            ),
            ("partition_segments", "Segments of the partition", |p| {
                p.segments
            }),
        ];
        for (name, help, read) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for partition in &self.partitions {
                let labels = PartitionLabels {
                    topic: partition.topic.as_str(),
                    partition: partition.partition,
                };
                ConstGauge::new(read(partition)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl StorageScrape {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters = [
            (
                "sync_failures",
                "Syncs of segment files that failed",
                self.sync_failures,
            ),
            (
                "segments_prepared",
                "Segments that were ready before they were needed",
                self.segments_prepared,
            ),
            (
                "segments_late",
                "Times that an append had to make a segment ready itself",
                self.segments_late,
            ),
            (
                "disk_full",
                "Appends that found no space on the disk",
                self.disk_full,
            ),
        ];
        for (name, help, value) in counters {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let help = "How long syncs of segment files took";
        let mut metric = encoder.encode_descriptor(
            "sync_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        let mut buckets = self.sync_durations.buckets.clone();
        if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
            buckets.push((f64::INFINITY, 0));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.sync_durations.sum_seconds;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
