//! What a broker counts. One function per observation; a registry per broker, so that several of them
//! can live in one process.
//!
//! The request path only adds to atomics at a known place: no lock, no lookup of labels. What a
//! partition or the storage engine knows anyway is asked for when somebody scrapes ([`Scrape`]).

mod histogram;
mod process;
mod replication;
mod scrape;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_protocol::api_key::ApiKey;
use highwater_protocol::error_code::ErrorCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::histogram::DurationHistogram;
pub(crate) use self::replication::ReplicationCounters;
pub(crate) use self::scrape::{
    ClusterScrape, ControllerScrape, DurationBuckets, PartitionScrape, Scrape, StorageScrape,
};

/// Every name begins with it, those of the process aside, which all programs have.
const PREFIX: &str = "highwater";

/// The counters of one broker.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    apis: Arc<ApiMetrics>,
    received_bytes: Counter,
    sent_bytes: Counter,
    produced_bytes: Counter,
    fetched_bytes: Counter,
    connections: Gauge,
    connections_opened: Counter,
    connections_refused: Counter,
    disk_free_bytes: Gauge,
    scrubbed_bytes: Counter,
    scrubbed_segments: Counter,
    scrub_damaged_segments: Counter,
    replication: Arc<ReplicationCounters>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let apis = Arc::new(ApiMetrics::new());
        registry.register_collector(Box::new(Arc::clone(&apis)));
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The broker's version", build);

        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let received_bytes = counter("received_bytes", "Bytes received from clients");
        let sent_bytes = counter("sent_bytes", "Bytes sent to clients");
        let produced_bytes = counter("produced_bytes", "Bytes of record batches appended");
        let fetched_bytes = counter("fetched_bytes", "Bytes of record batches sent to readers");
        let connections_opened = counter("connections_opened", "Connections accepted");
        let connections_refused = counter(
            "connections_refused",
            "Connections closed at once because there were too many",
        );

        let scrubbed_bytes = counter("scrubbed_bytes", "Bytes of finished segments read again");
        let scrubbed_segments = counter("scrubbed_segments", "Finished segments read again");
        let scrub_damaged_segments = counter(
            "scrub_damaged_segments",
            "Finished segments that were found damaged when they were read again",
        );

        let replication = Arc::new(ReplicationCounters::new(&mut counter));

        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("connections", "Connections open");
        let disk_free_bytes = gauge(
            "disk_free_bytes",
            "Free bytes of the disk that holds the data directory",
        );
        Self {
            registry,
            apis,
            received_bytes,
            sent_bytes,
            produced_bytes,
            fetched_bytes,
            connections,
            connections_opened,
            connections_refused,
            disk_free_bytes,
            scrubbed_bytes,
            scrubbed_segments,
            scrub_damaged_segments,
            replication,
        }
    }

    /// What is counted of replication.
    pub(crate) fn replication(&self) -> &Arc<ReplicationCounters> {
        &self.replication
    }

    /// A response is on its way, this long after its request was there.
    pub(crate) fn request_answered(&self, api: ApiKey, took: Duration) {
        if let Some(api) = self.apis.of(api) {
            api.duration.observe(took);
        }
    }

    /// A request failed as a whole.
    pub(crate) fn request_failed(&self, api: ApiKey, code: ErrorCode) {
        if let Some(api) = self.apis.of(api) {
            self.apis.codes.add(&api.errors, code);
        }
    }

    /// One partition of a produce request was refused.
    pub(crate) fn produce_refused(&self, code: ErrorCode) {
        self.apis.codes.add(&self.apis.produce_refused, code);
    }

    /// Record batches were appended.
    pub(crate) fn produced(&self, bytes: usize) {
        self.produced_bytes.inc_by(bytes as u64);
    }

    /// Record batches are on their way to a reader.
    pub(crate) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }

    /// Bytes came from a socket.
    pub(crate) fn bytes_in(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }

    /// Bytes went into a socket.
    pub(crate) fn bytes_out(&self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// A connection was accepted.
    pub(crate) fn connection_opened(&self) {
        self.connections_opened.inc();
        self.connections.inc();
    }

    /// A connection that was accepted is gone.
    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    /// A connection was closed at once because there were too many.
    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// The disk of the data directory has this much free space.
    pub(crate) fn disk_free(&self, bytes: u64) {
        self.disk_free_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Bytes of a finished segment were read again.
    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrubbed_bytes.inc_by(bytes);
    }

    /// A finished segment was read again to its end, or to where it is damaged.
    pub(crate) fn segment_scrubbed(&self) {
        self.scrubbed_segments.inc();
    }

    /// A finished segment was found damaged.
    pub(crate) fn segment_damaged(&self) {
        self.scrub_damaged_segments.inc();
    }

    /// Everything as OpenMetrics text, with what was asked for at this moment.
    pub(crate) fn render(&self, scrape: Scrape) -> String {
        let mut text = String::with_capacity(16 << 10);
        let mut now = Registry::with_prefix(PREFIX);
        now.register_collector(Box::new(scrape));
        let mut of_process = Registry::default();
        of_process.register_collector(Box::new(process::ProcessCollector));
        let written: fmt::Result = [&self.registry, &now, &of_process]
            .into_iter()
            .try_for_each(|registry| encode_registry(&mut text, registry))
            .and_then(|()| encode_eof(&mut text));
        written.expect("writing to a String does not fail");
        text
    }
}

/// What the text of [`Metrics::render`] is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One API's numbers.
#[derive(Debug)]
struct ApiMetric {
    api: ApiKey,
    duration: DurationHistogram,
    errors: Box<[AtomicU64]>,
}

/// The numbers of all APIs, found by the API's number.
#[derive(Debug)]
struct ApiMetrics {
    by_code: Vec<Option<ApiMetric>>,
    produce_refused: Box<[AtomicU64]>,
    codes: Codes,
}

impl ApiMetrics {
    fn new() -> Self {
        let codes = Codes::new();
        let mut by_code = Vec::new();
        for api in ApiKey::ALL {
            let place = usize::from(api.code());
            if by_code.len() <= place {
                by_code.resize_with(place + 1, || None);
            }
            let (duration, errors) = (DurationHistogram::default(), codes.counters());
            by_code[place] = Some(ApiMetric {
                api: *api,
                duration,
                errors,
            });
        }
        Self {
            by_code,
            produce_refused: codes.counters(),
            codes,
        }
    }

    fn of(&self, api: ApiKey) -> Option<&ApiMetric> {
        self.by_code.get(usize::from(api.code()))?.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = &ApiMetric> {
        self.by_code.iter().flatten()
    }
}

/// A counter for each error code, found by its number. The last is for all that are not known.
#[derive(Debug)]
struct Codes {
    length: usize,
}

impl Codes {
    fn new() -> Self {
        let highest = ErrorCode::ALL
            .iter()
            .map(|code| usize::from(code.code()))
            .max();
        Self {
            length: highest.unwrap_or(0) + 2,
        }
    }

    fn counters(&self) -> Box<[AtomicU64]> {
        (0..self.length).map(|_| AtomicU64::new(0)).collect()
    }

    fn add(&self, counters: &[AtomicU64], code: ErrorCode) {
        let place = usize::from(code.code()).min(self.length - 1);
        counters[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Names and counts of the codes that occurred.
    fn occurred(counters: &[AtomicU64]) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        counters.iter().enumerate().filter_map(|(code, counter)| {
            let count = counter.load(Ordering::Relaxed);
            let code = ErrorCode::from_code(u16::try_from(code).unwrap_or(u16::MAX));
            (count > 0).then(|| (code.name(), count))
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiErrorLabels {
    api: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

impl Collector for ApiMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests answered";
        let mut requests =
            encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for metric in self.all() {
            let label = ApiLabel {
                api: metric.api.name(),
            };
            let count = ConstCounter::new(metric.duration.count());
            count.encode(requests.encode_family(&label)?)?;
        }

        let help = "Requests that failed as a whole";
        let mut errors =
            encoder.encode_descriptor("request_errors", help, None, MetricType::Counter)?;
        for metric in self.all() {
            for (code, count) in Codes::occurred(&metric.errors) {
                let labels = ApiErrorLabels {
                    api: metric.api.name(),
                    code,
                };
                ConstCounter::new(count).encode(errors.encode_family(&labels)?)?;
            }
        }

        let help = "Partitions of produce requests that were refused";
        let mut refused =
            encoder.encode_descriptor("produce_refused", help, None, MetricType::Counter)?;
        for (code, count) in Codes::occurred(&self.produce_refused) {
            ConstCounter::new(count).encode(refused.encode_family(&CodeLabel { code })?)?;
        }

        let help =
            "Time from a request's arrival to its response, waiting that it asked for included";
        let mut durations = encoder.encode_descriptor(
            "request_duration_seconds",
            help,
            None,
            MetricType::Histogram,
        )?;
        for metric in self.all() {
            let label = ApiLabel {
                api: metric.api.name(),
            };
            metric.duration.encode(durations.encode_family(&label)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
