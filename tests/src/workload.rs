//! The workload of `highwater-verify`, for tests: what goes wrong is a panic that says what.

use std::time::{Duration, Instant};

use highwater_verify::event::Phase;
use highwater_verify::{Plan, Stopped, Verdict};

/// A running workload.
#[derive(Debug)]
pub struct Workload(highwater_verify::Workload);

/// What a workload has done.
#[derive(Debug)]
pub struct Outcome {
    stopped: Stopped,
    /// The longest time in which one producer was acknowledged nothing in a partition, in ms.
    pub gap_ms_max: u64,
}

impl Workload {
    /// Starts producers that send to all partitions of a topic until they are stopped, a reader that
    /// follows it, and probes.
    ///
    /// # Panics
    /// When no seed answers.
    pub async fn start(seeds: &[String], topic: &str, partitions: u32, producers: u32) -> Self {
        let mut plan = Plan::new(topic, partitions);
        plan.producers = producers;
        Self::start_plan(seeds, plan).await
    }

    /// Starts what a plan says.
    ///
    /// # Panics
    /// When no seed answers.
    pub async fn start_plan(seeds: &[String], plan: Plan) -> Self {
        if std::env::var_os("HIGHWATER_TEST_LOG").is_some() {
            // Set by the first of several.
            let _ = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_env(
                    "HIGHWATER_TEST_LOG",
                ))
                .try_init();
        }
        let started = highwater_verify::Workload::start_plan(seeds, plan);
        Self(started.await.expect("a seed answers"))
    }

    /// Records acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.0.acked()
    }

    /// Records of a partition acknowledged so far.
    #[must_use]
    pub fn acked_in(&self, partition: u32) -> u64 {
        self.0.acked_in(partition)
    }

    /// Waits until so many more records of each of these partitions are acknowledged.
    ///
    /// # Panics
    /// When that takes longer than `within`.
    pub async fn progress_in(&self, partitions: &[u32], more: u64, within: Duration) {
        let began = Instant::now();
        let wanted = partitions.iter().map(|p| (*p, self.acked_in(*p) + more));
        for (partition, wanted) in wanted.collect::<Vec<_>>() {
            while self.acked_in(partition) < wanted {
                assert!(
                    began.elapsed() < within,
                    "the producers of partition {partition} get nowhere: {} of {wanted} records \
                     after {within:?}",
                    self.acked_in(partition)
                );
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Notes that a fault is there, or is lifted.
    pub fn note_fault(&self, fault: &str, target: &str, phase: Phase) {
        self.0.note_fault(self.0.now(), fault, target, phase, true);
    }

    /// Notes that all faults are lifted, and waits until everything is whole again, or the time for that
    /// is over: the verdict says so then.
    pub async fn settle(&self) {
        self.0.settle().await;
    }

    /// The longest time in which one producer was acknowledged nothing in a partition, in ms, since
    /// this was last asked.
    #[must_use]
    pub fn take_gap_ms_max(&self) -> u64 {
        self.0.take_gap_ms_max()
    }

    /// Waits until so many more records are acknowledged.
    ///
    /// # Panics
    /// When that takes longer than `within`.
    pub async fn progress(&self, more: u64, within: Duration) {
        if let Err(error) = self.0.progress(more, within).await {
            panic!("{error}");
        }
    }

    /// Ends the producers once everything that they sent is settled.
    ///
    /// # Panics
    /// When a producer did.
    pub async fn stop(self) -> Outcome {
        let stopped = self.0.stop().await.expect("all tasks end in order");
        Outcome {
            gap_ms_max: stopped.gap_ms_max,
            stopped,
        }
    }
}

impl Outcome {
    /// Records that were acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.stopped.acked()
    }

    /// Records whose producer was told that they may not be in the log.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        self.stopped.in_doubt()
    }

    /// Reads the topic and judges everything that was asked and told. For how long each partition
    /// acknowledged nothing is printed and not judged: it depends on the machine.
    ///
    /// # Panics
    /// When that is not as it must be, with the evidence.
    pub async fn check(&self, seeds: &[String]) -> Verdict {
        let verdict = self.stopped.check(seeds).await;
        let verdict = verdict.expect("the topic can be read");
        verdict.expect_valid();
        println!(
            "{} records, {} in doubt, {} refused; longest time without an acknowledgement by \
             partition, in ms: {:.0?}",
            verdict.acked, verdict.in_doubt, verdict.refused, verdict.pauses.by_partition_ms
        );
        verdict
    }
}
