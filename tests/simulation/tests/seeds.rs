//! Thousands of clusters: no seed breaks a rule, and the same seed is the same run.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use highwater_simulation::{Outcome, run};

/// How many seeds.
const SEEDS: u64 = 2000;
/// So many of them run twice.
const SEEDS_TWICE: u64 = 20;

#[test]
fn no_seed_of_a_whole_cluster_breaks_a_rule() {
    let next = AtomicU64::new(0);
    let committed = AtomicUsize::new(0);
    let acknowledged = AtomicUsize::new(0);
    let failed: Mutex<Vec<Outcome>> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS || failed.lock().unwrap().len() >= 3 {
                return;
            }
            let outcome = run(seed, false);
            committed.fetch_add(outcome.committed, Ordering::Relaxed);
            acknowledged.fetch_add(outcome.acknowledged, Ordering::Relaxed);
            if outcome.violation.is_some() {
                failed.lock().unwrap().push(outcome);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    for outcome in &failed {
        let violation = outcome.violation.as_ref().unwrap();
        println!(
            "{}\n{} broken: {}",
            outcome.last.join("\n"),
            violation.rule,
            violation.what
        );
        println!("{}", outcome.command());
    }
    let commands: Vec<_> = failed.iter().map(Outcome::command).collect();
    assert!(failed.is_empty(), "{}", commands.join("\n"));
    // A simulation in which nothing ever works would find nothing wrong.
    let (committed, acknowledged) = (committed.into_inner(), acknowledged.into_inner());
    println!("{SEEDS} seeds: {committed} batches committed, {acknowledged} acknowledged");
    assert!(committed as u64 > 20 * SEEDS && acknowledged as u64 > 20 * SEEDS);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..SEEDS_TWICE {
        let (one, other) = (run(seed, false), run(seed, false));
        assert_eq!(
            (one.trace_lines, one.trace_hash),
            (other.trace_lines, other.trace_hash),
            "seed {seed}"
        );
        assert!(one.trace_lines > 100);
    }
}
