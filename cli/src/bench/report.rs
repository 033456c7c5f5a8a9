//! What is printed: a table for people, or one JSON object per workload.

use anyhow::Result;

use crate::bench::latency::Percentiles;
use crate::bench::limit::Limit;
use crate::bench::limits::LimitsReport;
use crate::bench::result::WorkloadReport;
use crate::output::{Column, Rows, bytes, count, print, print_json};

/// Prints the limits of the machine.
pub(crate) fn print_limits(report: &LimitsReport, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(report)?);
    }
    let mut rates = Rows::new(&[Column::Text("LIMIT"), Column::Number("GB/s")]);
    for (name, rate) in [
        ("loopback, 1 stream", report.loopback_1),
        ("loopback, 2 streams", report.loopback_2),
        ("memcpy", report.memcpy),
        ("sequential write", report.seq_write),
        ("sequential write, fdatasync per MiB", report.seq_write_sync),
        ("sink: loopback to a fresh file", report.sink),
        ("source: cached file to loopback", report.source),
    ] {
        rates.push([name.to_owned(), gigabytes(rate)]);
    }
    let bytes = report.record_bytes;
    let mut latencies = latency_rows();
    push_latency(
        &mut latencies,
        &format!("TCP echo of {bytes} B"),
        &report.echo_us,
    );
    push_latency(
        &mut latencies,
        &format!("append of {bytes} B and fdatasync"),
        &report.fdatasync_us,
    );
    Ok(print(format_args!(
        "{rates}\n{latencies}\nMedian of {}.\n",
        count(report.runs.into(), "run")
    ))?)
}

fn latency_rows() -> Rows {
    Rows::new(&[
        Column::Text("LATENCY µs"),
        Column::Number("p50"),
        Column::Number("p90"),
        Column::Number("p99"),
        Column::Number("p99.9"),
        Column::Number("max"),
    ])
}

fn push_latency(rows: &mut Rows, name: &str, percentiles: &Percentiles) {
    let Percentiles {
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = *percentiles;
    let figures = [p50, p90, p99, p999, max].map(|micros| format!("{micros:.1}"));
    rows.push(std::iter::once(name.to_owned()).chain(figures));
}

/// Gigabytes (10^9) with the digits that a benchmark can stand behind.
fn gigabytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e9)
}

/// Prints what a workload came to.
pub(crate) fn print_workload(report: &WorkloadReport, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(report)?);
    }
    let mut rates = Rows::new(&[
        Column::Text("WORKLOAD"),
        Column::Number("RECORDS/s"),
        Column::Number("MB/s"),
        Column::Text("LIMIT"),
        Column::Number("LIMIT MB/s"),
        Column::Number("RATIO"),
        Column::Number("BROKERS CPU s/GB"),
        Column::Number("CLIENT CPU s/GB"),
    ]);
    rates.push([
        report.workload.to_owned(),
        format!("{:.0}", report.records_per_s),
        megabytes(report.bytes_per_s),
        limit_name(report.limit).to_owned(),
        megabytes(report.limit_bytes_per_s),
        format!("{:.2}", report.ratio),
        report
            .broker_cpu_s_per_gb
            .map_or_else(|| "?".to_owned(), |cpu| format!("{cpu:.2}")),
        format!("{:.2}", report.client_cpu_s_per_gb),
    ]);
    let mut latencies = latency_rows();
    push_latency(&mut latencies, report.workload, &report.latency_us);
    if let Some(limit) = &report.limit_latency_us {
        push_latency(&mut latencies, limit_name(report.limit), limit);
    }
    let mut notes = format!(
        "{} of {} B, {}, {}, {}, acks {}, {}, compression {}.\n",
        count(report.records, "record"),
        report.record_bytes,
        count(report.producers.into(), "producer"),
        count(report.partitions.into(), "partition"),
        count(report.replicas.into(), "replica"),
        report.acks,
        report.durability,
        report.compression,
    );
    if let Some(ratio) = report.latency_ratio {
        notes.push_str(&format!(
            "Latency against {}: p50 {:.2}x, p99 {:.2}x.\n",
            limit_name(report.limit),
            ratio.p50,
            ratio.p99
        ));
    }
    if let Some(memory) = report.broker_memory_bytes {
        notes.push_str(&format!(
            "Memory of a broker besides mapped files: at most {}.\n",
            bytes(memory)
        ));
    }
    let runs = count(report.runs as u64, "run");
    Ok(print(format_args!(
        "{rates}\n{latencies}\n{notes}Median of {runs}.\n"
    ))?)
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Sink => "sink",
        Limit::Source => "source",
        Limit::SeqWriteSync => "write + fdatasync",
        Limit::Echo => "echo",
        Limit::Fdatasync => "fdatasync",
        Limit::Alone => "one broker alone",
    }
}

fn megabytes(bytes: f64) -> String {
    let megabytes = bytes / 1e6;
    if megabytes < 10.0 {
        format!("{megabytes:.2}")
    } else {
        format!("{megabytes:.0}")
    }
}
