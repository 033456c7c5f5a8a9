//! What the runs of a workload came to.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::args::WorkloadArgs;
use crate::bench::latency::Percentiles;
use crate::bench::limit::{Limit, MeasuredLimit};
use crate::bench::load::LoadOutcome;
use crate::bench::median::median;
use crate::bench::pipelines::rate;

/// One run and the limit that was measured right before it.
#[derive(Debug)]
pub(crate) struct Run {
    limit: MeasuredLimit,
    records: u64,
    seconds: f64,
    records_per_s: f64,
    bytes_per_s: f64,
    latency: Percentiles,
    broker_cpu_s_per_gb: Option<f64>,
    client_cpu_s_per_gb: f64,
    broker_memory: Option<u64>,
}

impl Run {
    /// The figures of one run with values of `record_bytes`.
    #[allow(clippy::cast_precision_loss)] // bytes of one run, below 2^53
    pub(crate) fn new(limit: MeasuredLimit, outcome: &LoadOutcome, record_bytes: u64) -> Run {
        let gigabytes = (outcome.records * record_bytes) as f64 / 1e9;
        let per_gigabyte =
            |cpu: std::time::Duration| cpu.as_secs_f64() / gigabytes.max(f64::MIN_POSITIVE);
        Run {
            limit,
            records: outcome.records,
            seconds: outcome.elapsed.as_secs_f64(),
            records_per_s: rate(outcome.records, outcome.elapsed),
            bytes_per_s: rate(outcome.records * record_bytes, outcome.elapsed),
            latency: outcome.latencies.percentiles(),
            broker_cpu_s_per_gb: outcome.usage.broker_cpu.map(per_gigabyte),
            client_cpu_s_per_gb: per_gigabyte(outcome.usage.client_cpu),
            broker_memory: outcome.usage.broker_memory,
        }
    }
}

/// One JSON object of `bench produce`, `consume` and `e2e`. Every figure is the median of the runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WorkloadReport {
    pub(crate) workload: &'static str,
    pub(crate) record_bytes: u64,
    pub(crate) producers: u32,
    pub(crate) partitions: u32,
    pub(crate) replicas: u16,
    pub(crate) acks: &'static str,
    pub(crate) durability: &'static str,
    pub(crate) compression: String,
    pub(crate) rate: Option<u64>,
    pub(crate) in_flight: Option<u32>,
    pub(crate) runs: usize,
    /// Records of all runs.
    pub(crate) records: u64,
    /// Length of one run.
    pub(crate) seconds: f64,
    pub(crate) records_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Which limit the workload is held against.
    pub(crate) limit: Limit,
    pub(crate) limit_bytes_per_s: f64,
    pub(crate) ratio: f64,
    pub(crate) latency_us: Percentiles,
    /// Latency of the limit, where it has one: `echo` and `fdatasync`.
    pub(crate) limit_latency_us: Option<Percentiles>,
    pub(crate) latency_ratio: Option<LatencyRatio>,
    /// Of all brokers together.
    pub(crate) broker_cpu_s_per_gb: Option<f64>,
    pub(crate) client_cpu_s_per_gb: f64,
    /// Resident memory of a broker besides its mapped files.
    pub(crate) broker_memory_bytes: Option<u64>,
    /// Each run by itself, to show how much the machine wavers.
    pub(crate) bytes_per_s_of_runs: Vec<f64>,
    pub(crate) limit_bytes_per_s_of_runs: Vec<f64>,
}

/// Our latency in units of the limit's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencyRatio {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl WorkloadReport {
    /// The medians of the runs.
    pub(crate) fn of(
        workload: &'static str,
        limit: Limit,
        args: &WorkloadArgs,
        runs: &[Run],
    ) -> Result<WorkloadReport> {
        let middle = |figure: fn(&Run) -> f64| {
            median(runs.iter().map(figure)).context("no run gave a figure")
        };
        let latencies: Vec<_> = runs.iter().map(|run| run.latency).collect();
        let limit_latencies: Vec<_> = runs.iter().filter_map(|run| run.limit.latency).collect();
        let latency_us = Percentiles::median_of(&latencies).context("no latency was measured")?;
        let limit_latency_us = Percentiles::median_of(&limit_latencies);
        let bytes_per_s = middle(|run| run.bytes_per_s)?;
        let limit_bytes_per_s = middle(|run| run.limit.bytes_per_s)?;
        Ok(WorkloadReport {
            workload,
            record_bytes: args.size,
            producers: args.producers,
            partitions: args.partitions,
            replicas: args.replicas,
            acks: args.acks.name(),
            durability: args.durability.name(),
            compression: args.compression.to_string(),
            rate: args.rate,
            in_flight: args.in_flight,
            runs: runs.len(),
            records: runs.iter().map(|run| run.records).sum(),
            seconds: middle(|run| run.seconds)?,
            records_per_s: middle(|run| run.records_per_s)?,
            bytes_per_s,
            limit,
            limit_bytes_per_s,
            ratio: bytes_per_s / limit_bytes_per_s,
            latency_us,
            limit_latency_us,
            latency_ratio: limit_latency_us.map(|limit| LatencyRatio {
                p50: latency_us.p50 / limit.p50,
                p99: latency_us.p99 / limit.p99,
            }),
            broker_cpu_s_per_gb: median(runs.iter().filter_map(|run| run.broker_cpu_s_per_gb)),
            client_cpu_s_per_gb: middle(|run| run.client_cpu_s_per_gb)?,
            broker_memory_bytes: runs.iter().filter_map(|run| run.broker_memory).max(),
            bytes_per_s_of_runs: runs.iter().map(|run| run.bytes_per_s).collect(),
            limit_bytes_per_s_of_runs: runs.iter().map(|run| run.limit.bytes_per_s).collect(),
        })
    }
}
