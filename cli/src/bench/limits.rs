//! `bench limits`: everything this machine can do without a broker, measured in turn.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::args::WorkloadArgs;
use crate::bench::latency::Percentiles;
use crate::bench::median::median;
use crate::bench::scratch::Scratch;
use crate::bench::warm::warm_memory;
use crate::bench::{disk, echo, pipelines};
use crate::cleanup::Cleanup;

/// Bytes that one run of a pipeline moves: long enough to measure, and below what the kernel lets
/// lie dirty in memory before it makes the writer wait for the disk.
pub(crate) const PIPELINE_BYTES: u64 = 2 << 30;
const DURATION_EACH: Duration = Duration::from_secs(1);

/// One JSON object of `bench limits`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LimitsReport {
    pub(crate) workload: &'static str,
    pub(crate) record_bytes: u64,
    pub(crate) runs: u32,
    pub(crate) loopback_1: f64,
    pub(crate) loopback_2: f64,
    pub(crate) memcpy: f64,
    pub(crate) seq_write: f64,
    pub(crate) seq_write_sync: f64,
    pub(crate) sink: f64,
    pub(crate) source: f64,
    pub(crate) echo_us: Percentiles,
    pub(crate) fdatasync_us: Percentiles,
}

/// Measures every limit once per run, in turn, and reports the median of each.
pub(crate) fn measure_limits(args: &WorkloadArgs, cleanup: &Cleanup) -> Result<LimitsReport> {
    let scratch = Scratch::create(args.data_dir.as_deref(), cleanup)?;
    let duration = args.duration.unwrap_or(DURATION_EACH);
    let record_bytes = usize::try_from(args.size)?;
    let before_each = || {
        if args.warm {
            warm_memory();
        }
    };
    let mut rates: [Vec<f64>; 7] = Default::default();
    let (mut echoes, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        before_each();
        rates[0].push(pipelines::loopback(1, PIPELINE_BYTES)?);
        rates[1].push(pipelines::loopback(2, PIPELINE_BYTES)?);
        rates[2].push(disk::memcpy(duration / 4));
        before_each();
        rates[3].push(disk::sequential_write(&scratch, PIPELINE_BYTES)?);
        rates[4].push(disk::sequential_write_synced(
            &scratch,
            PIPELINE_BYTES,
            duration,
        )?);
        before_each();
        rates[5].push(pipelines::sink(&scratch, PIPELINE_BYTES)?);
        before_each();
        rates[6].push(pipelines::source(&scratch, PIPELINE_BYTES)?);
        echoes.push(echo::echo(record_bytes, duration)?.percentiles());
        syncs.push(disk::fdatasync(&scratch, record_bytes, duration)?.percentiles());
    }
    let middle = |index: usize| {
        median(rates[index].iter().copied()).context("no run of a limit gave a figure")
    };
    Ok(LimitsReport {
        workload: "limits",
        record_bytes: args.size,
        runs: args.repeat,
        loopback_1: middle(0)?,
        loopback_2: middle(1)?,
        memcpy: middle(2)?,
        seq_write: middle(3)?,
        seq_write_sync: middle(4)?,
        sink: middle(5)?,
        source: middle(6)?,
        echo_us: Percentiles::median_of(&echoes).context("no echo was measured")?,
        fdatasync_us: Percentiles::median_of(&syncs).context("no fdatasync was measured")?,
    })
}
