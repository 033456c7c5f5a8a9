//! `highwater bench`: the fields that scripts rely on, and that nothing is left behind.

use serde_json::Value;

use crate::harness::run;

/// Runs a workload with few records in a directory that must be empty again afterwards.
#[track_caller]
fn bench(workload: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let mut args = vec!["bench"];
    args.extend(workload);
    args.extend([
        "--warm=false",
        "--repeat",
        "1",
        "--data-dir",
        data_dir,
        "-o",
        "json",
    ]);
    let report = run(&args).json();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "{report}"
    );
    report
}

#[track_caller]
fn has_numbers(report: &Value, fields: &[&str]) {
    for field in fields {
        let value = report.pointer(field).and_then(Value::as_f64);
        assert!(
            value.is_some_and(|value| value >= 0.0),
            "{field} in {report}"
        );
    }
}

const WORKLOAD_FIELDS: [&str; 10] = [
    "/records_per_s",
    "/bytes_per_s",
    "/limit_bytes_per_s",
    "/ratio",
    "/latency_us/p50",
    "/latency_us/p99",
    "/latency_us/p999",
    "/latency_us/max",
    "/broker_cpu_s_per_gb",
    "/client_cpu_s_per_gb",
];

#[test]
fn produce_reports_what_was_acknowledged() {
    let report = bench(&[
        "produce",
        "--records",
        "20000",
        "--size",
        "100",
        "--partitions",
        "3",
    ]);
    assert_eq!(report["workload"], "produce");
    assert_eq!(report["limit"], "sink");
    assert_eq!(report["records"], 20_000);
    has_numbers(&report, &WORKLOAD_FIELDS);
}

#[test]
fn produce_one_at_a_time_is_held_against_an_echo() {
    let report = bench(&["produce", "--records", "300", "--in-flight", "1"]);
    assert_eq!(report["limit"], "echo");
    has_numbers(
        &report,
        &[
            "/latency_ratio/p50",
            "/latency_ratio/p99",
            "/limit_latency_us/p50",
        ],
    );
}

#[test]
fn produce_at_a_rate_with_several_producers() {
    let args = [
        "--records",
        "2000",
        "--rate",
        "4000",
        "--producers",
        "3",
        "--acks",
        "all",
    ];
    let report = bench(&[&["produce"], &args[..]].concat());
    assert_eq!(report["records"], 2000);
    let rate = report["records_per_s"].as_f64().unwrap();
    assert!(rate < 4100.0, "{report}");
}

#[test]
fn unacknowledged_records_are_waited_for() {
    let report = bench(&["produce", "--records", "5000", "--acks", "0", "-z", "lz4"]);
    assert_eq!(report["records"], 5000);
}

#[test]
fn consume_reads_everything_back() {
    let report = bench(&["consume", "--records", "20000", "--partitions", "2"]);
    assert_eq!(report["workload"], "consume");
    assert_eq!(report["limit"], "source");
    // One more per producer: its connection is warm when the clock starts.
    assert_eq!(report["records"], 20_001);
    has_numbers(&report, &WORKLOAD_FIELDS);
}

#[test]
fn e2e_measures_every_record_from_when_it_was_due() {
    let report = bench(&["e2e", "--records", "500", "--rate", "1000", "--size", "64"]);
    assert_eq!(report["workload"], "e2e");
    assert_eq!(report["records"], 500);
    has_numbers(&report, &WORKLOAD_FIELDS);
    let too_small = run(&["bench", "e2e", "--size", "4"]).fails(1);
    assert!(too_small.contains("--size"), "{too_small}");
}

#[test]
fn contradictions_are_usage_errors() {
    for args in [
        &["bench", "produce", "--rate", "5", "--in-flight", "2"][..],
        &["bench", "produce", "--size", "0"],
        &["bench", "produce", "--acks", "2"],
        &["bench", "consume", "--producers", "0"],
        &["bench"],
    ] {
        assert_eq!(run(args).status, 64, "{args:?}");
    }
}
