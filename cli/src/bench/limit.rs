//! Which limit of the machine a workload is held against, and measuring it beside the workload.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::bench::args::{DurabilityArg, WorkloadArgs};
use crate::bench::latency::{Latencies, Percentiles};
use crate::bench::limits::PIPELINE_BYTES;
use crate::bench::scratch::Scratch;
use crate::bench::warm::warm_memory;
use crate::bench::{disk, echo, pipelines, produce};
use crate::cleanup::Cleanup;

/// Less is over before a connection is at full speed.
const PIPELINE_BYTES_MIN: u64 = 128 << 20;
const DURATION: Duration = Duration::from_secs(1);

/// What bounds a workload on this machine, or what it is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// One loopback stream received into a fresh file.
    Sink,
    /// A cached file sent over one loopback stream.
    Source,
    /// Sequential writes with one `fdatasync` per MiB.
    SeqWriteSync,
    /// One exchange over loopback at a time.
    Echo,
    /// One `fdatasync` per record, one at a time: what group commit is there to beat.
    Fdatasync,
    /// The same load on one broker that has no followers, with acks=1: what replication costs.
    Alone,
}

/// A limit as it was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredLimit {
    pub(crate) bytes_per_s: f64,
    pub(crate) latency: Option<Percentiles>,
}

impl Limit {
    /// The limit of a produce workload.
    pub(crate) fn of_produce(args: &WorkloadArgs) -> Limit {
        if args.replicas > 1 && args.bootstrap.is_empty() && args.in_flight.is_none() {
            return Limit::Alone;
        }
        match (args.durability, args.in_flight) {
            (DurabilityArg::Synced, Some(_)) => Limit::Fdatasync,
            (DurabilityArg::Synced, None) => Limit::SeqWriteSync,
            (DurabilityArg::Replicated, Some(1)) if args.producers == 1 => Limit::Echo,
            (DurabilityArg::Replicated, _) => Limit::Sink,
        }
    }

    /// Measures it once, for records of the workload's size.
    pub(crate) fn measure(
        self,
        scratch: &Scratch,
        args: &WorkloadArgs,
        cleanup: &Cleanup,
    ) -> Result<MeasuredLimit> {
        let record_bytes = usize::try_from(args.size)?;
        let bytes = comparable_bytes(args);
        if args.warm && self != Limit::Alone {
            warm_memory();
        }
        Ok(match self {
            Limit::Sink => throughput(pipelines::sink(scratch, bytes)?),
            Limit::Source => throughput(pipelines::source(scratch, bytes)?),
            Limit::SeqWriteSync => throughput(disk::sequential_write_synced(
                scratch,
                PIPELINE_BYTES,
                DURATION,
            )?),
            Limit::Echo => one_at_a_time(&echo::echo(record_bytes, DURATION)?, record_bytes),
            Limit::Fdatasync => one_at_a_time(
                &disk::fdatasync(scratch, record_bytes, DURATION)?,
                record_bytes,
            ),
            Limit::Alone => throughput(produce::alone(scratch, args, cleanup)?),
        })
    }
}

/// Bytes that a pipeline moves beside a workload: as many as that does, within bounds.
fn comparable_bytes(args: &WorkloadArgs) -> u64 {
    let workload = args
        .records
        .map(|records| records.saturating_mul(args.size));
    workload.map_or(PIPELINE_BYTES, |bytes| {
        bytes.clamp(PIPELINE_BYTES_MIN, PIPELINE_BYTES)
    })
}

fn throughput(bytes_per_s: f64) -> MeasuredLimit {
    MeasuredLimit {
        bytes_per_s,
        latency: None,
    }
}

#[allow(clippy::cast_precision_loss)] // the size of a record
fn one_at_a_time(latencies: &Latencies, bytes: usize) -> MeasuredLimit {
    let latency = latencies.percentiles();
    MeasuredLimit {
        bytes_per_s: bytes as f64 / (latency.mean / 1e6),
        latency: Some(latency),
    }
}
