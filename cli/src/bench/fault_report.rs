//! What is printed of a cluster that lost brokers: tables for people, or one JSON object.

use anyhow::Result;

use crate::bench::catch_up::CatchUpReport;
use crate::bench::failover::{FailoverReport, Fault};
use crate::bench::partitions::PartitionsReport;
use crate::output::{Column, Rows, bytes, count, print, print_json};

/// Prints how long faults kept a producer waiting.
pub(crate) fn print_failover(report: &FailoverReport, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(report)?);
    }
    let mut rows = Rows::new(&[
        Column::Text("LEADER IS"),
        Column::Text("CONTROLLER TOO"),
        Column::Number("TIMES"),
        Column::Number("UNAVAILABLE ms p50"),
        Column::Number("max"),
        Column::Number("ERRORS"),
    ]);
    for fault in &report.faults {
        let name = match fault.fault {
            Fault::Kill => "killed",
            Fault::Stop => "stopped",
        };
        rows.push([
            name.to_owned(),
            if fault.is_controller { "yes" } else { "no" }.to_owned(),
            fault.unavailable_ms.len().to_string(),
            format!("{:.0}", fault.unavailable_ms_p50),
            format!("{:.0}", fault.unavailable_ms_max),
            fault.errors.to_string(),
        ]);
    }
    let acknowledged = count(report.acknowledged, "record");
    Ok(print(format_args!(
        "{rows}\n{}{acknowledged} acknowledged, all of them there.\n",
        with_settings(&report.settings)
    ))?)
}

/// Prints how fast a broker caught up.
pub(crate) fn print_catch_up(report: &CatchUpReport, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(report)?);
    }
    let mut rows = Rows::new(&[
        Column::Text("WORKLOAD"),
        Column::Number("MB/s"),
        Column::Text("LIMIT"),
        Column::Number("LIMIT MB/s"),
        Column::Number("RATIO"),
        Column::Number("SERVES AFTER s"),
        Column::Number("IN SYNC AFTER s"),
    ]);
    rows.push([
        "catch-up".to_owned(),
        format!("{:.0}", report.bytes_per_s / 1e6),
        "sink".to_owned(),
        format!("{:.0}", report.limit_bytes_per_s / 1e6),
        format!("{:.2}", report.ratio),
        format!("{:.2}", report.served_s),
        format!("{:.2}", report.whole_s),
    ]);
    let throttle = report.throttle.map_or("no throttle".to_owned(), |rate| {
        format!("throttle {}/s", bytes(rate))
    });
    Ok(print(format_args!(
        "{rows}\n{}{}, {}, {throttle}; counted from the start of the process.\nMedian of {}.\n",
        with_settings(&report.settings),
        bytes(report.bytes),
        count(report.partitions.into(), "partition"),
        count(report.runs.into(), "run"),
    ))?)
}

/// Prints how a cluster fared with its many partitions.
pub(crate) fn print_partitions(report: &PartitionsReport, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(report)?);
    }
    let mut times = Rows::new(&[Column::Text("STEP"), Column::Number("SECONDS")]);
    let mut time = |step: String, seconds: f64| times.push([step, format!("{seconds:.2}")]);
    time("topic created".to_owned(), report.created_s);
    time("all replicas in sync".to_owned(), report.whole_s);
    time("first record in each partition".to_owned(), report.filled_s);
    for loss in &report.losses {
        let who = if loss.was_controller {
            "controller"
        } else {
            "leader"
        };
        time(format!("{who} killed: others lead all"), loss.led_s);
        time(format!("{who} killed: all took a record"), loss.writable_s);
        time(format!("{who} started again: serves"), loss.served_s);
        time(format!("{who} started again: all in sync"), loss.whole_s);
    }
    let mut idle = Rows::new(&[
        Column::Number("IDLE BROKER"),
        Column::Text("CONTROLLER"),
        Column::Number("CPU s"),
        Column::Number("CPU %"),
        Column::Number("MEMORY"),
    ]);
    for broker in &report.idle {
        idle.push([
            broker.node_id.to_string(),
            if broker.is_controller { "yes" } else { "no" }.to_owned(),
            format!("{:.2}", broker.cpu_s),
            format!("{:.1}", broker.cpu_s / report.idle_s * 100.0),
            bytes(broker.memory_bytes),
        ]);
    }
    Ok(print(format_args!(
        "{times}\n{idle}\n{}{} with three replicas each; idle for {} s.\n",
        with_settings(&report.settings),
        count(report.partitions.into(), "partition"),
        report.idle_s
    ))?)
}

fn with_settings(settings: &[String]) -> String {
    if settings.is_empty() {
        String::new()
    } else {
        format!("With {}.\n", settings.join(", "))
    }
}
