//! Every broker is restarted in order, one after the other, under load: producers see no error, and
//! hardly a pause.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::time::Duration;

use highwater_tests::cluster_process::{ClusterProcess, QUICK};
use highwater_tests::health::Health;
use highwater_tests::workload::Workload;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The longest that nothing may be acknowledged: leaderships are handed over before a broker stops, so
/// that no session has to end. With room for a busy machine. How short it really is, is printed.
const PAUSE_MAX_MS: u64 = 3_000;

const TOPIC: &str = "t";
const PARTITIONS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_see_no_error_when_all_brokers_are_restarted_in_turn() {
    // A session that ends would take longer than the pause that is allowed.
    let settings: Vec<&str> = QUICK
        .iter()
        .copied()
        .filter(|setting| !setting.starts_with("cluster.session.timeout"))
        .collect();
    let mut cluster = ClusterProcess::start(3, &settings);
    let health = Health::of(cluster.seeds(), DEADLINE).await;
    health.create(TOPIC, PARTITIONS, &[]).await;
    let load = Workload::start(cluster.seeds(), TOPIC, PARTITIONS, 3).await;
    for broker in 0..3 {
        load.progress(300, DEADLINE).await;
        tokio::task::block_in_place(|| cluster.terminate(broker));
        load.progress(300, DEADLINE).await;
        tokio::task::block_in_place(|| cluster.restart(broker));
        health.whole(TOPIC).await;
    }
    load.progress(300, DEADLINE).await;
    let outcome = load.stop().await;
    assert_eq!(outcome.in_doubt(), 0, "records whose producer saw an error");
    assert!(
        outcome.gap_ms_max < PAUSE_MAX_MS,
        "nothing was acknowledged for {} ms",
        outcome.gap_ms_max
    );
    outcome.check(cluster.seeds()).await;
}
