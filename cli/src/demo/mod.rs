//! `highwater demo`: the whole product at work on real data, with a verdict.
//!
//! ```text
//! /proc ----- feed --- lanes (one per partition) --- broker --- follow --- verdict
//! files --/      \                                                /
//!                 +---------- chain of fingerprints -------------+
//! ```
//!
//! [`machine`] and [`files`] are where the data comes from and [`feed`] sends it; a [`lane`] brings
//! it into one partition strictly in order; [`follow`] reads it back and compares it with the
//! [`chain`] of what was sent. Half-way [`run`] kills the broker and starts it again.

mod args;
mod chain;
mod chunk;
mod feed;
mod files;
mod follow;
mod lane;
mod machine;
mod screen;
mod stage;
mod track;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_broker::EmbeddedBroker;

pub(crate) use crate::demo::args::DemoArgs;
use crate::demo::files::FileSet;
use crate::demo::screen::{Phase, Screen};
use crate::demo::stage::Stage;
use crate::demo::track::millis;
use crate::demo::verdict::{Outage, Verdict};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{bytes, note, print};

/// Less would leave no time for a kill in the middle.
const DURATION_MIN: Duration = Duration::from_secs(2);

/// Runs the demo.
///
/// Cancel safety: dropped, it leaves the broker's threads and a temporary directory to the end of
/// the process.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    if args.nodes != 1 {
        return Err(Failure::usage(format!(
            "--nodes {}: clusters of several brokers are not in this version",
            args.nodes
        ))
        .hint("run the demo with one broker, which is the default")
        .into());
    }
    if args.duration < DURATION_MIN {
        return Err(Failure::usage("--duration must be at least 2s").into());
    }
    let mut interrupt = Interrupt::listen()?;
    let files = FileSet::find(args.files.as_deref())?;
    let start = Instant::now();
    let mut broker = EmbeddedBroker::start()
        .await
        .context("starting the broker")?;
    note(format_args!(
        "Broker on {} after {}, data in {}",
        broker.address(),
        millis(start.elapsed()),
        broker.data_dir().display()
    ));
    note(format_args!(
        "Sending the counters of /proc five times a second, and {} of text from {} files in {}",
        bytes(files.bytes()),
        files.len(),
        files.root().display()
    ));
    let verdict = tokio::select! {
        verdict = perform(&args, files, &mut broker) => verdict,
        () = interrupt.wait() => Err(
            Failure::new(Exit::Interrupted, "interrupted", "stopped before the verdict").into(),
        ),
    };
    // Also after a failure: the directory is either kept and named, or removed.
    finish(broker, args.keep).await?;
    let verdict = verdict?;
    print(&verdict)?;
    if verdict.passed() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// Streams, kills, recovers and checks.
async fn perform(args: &DemoArgs, files: FileSet, broker: &mut EmbeddedBroker) -> Result<Verdict> {
    let start = Instant::now();
    let mut stage = Stage::set(broker.address(), files).await?;
    let phase = Phase::new("streaming, and reading everything back");
    let screen = Screen::new(stage.tracks(), phase.clone(), args.duration);
    let screen = tokio::spawn(screen.run());

    stage.run_for(args.duration / 2).await?;
    phase.set("killing the broker");
    let unacknowledged = stage.unacknowledged();
    let killed = Instant::now();
    broker.kill().await.context("killing the broker")?;
    let restarted = Instant::now();
    broker.restart().await.context("recovering the broker")?;
    let outage = Outage {
        at: killed.saturating_duration_since(start),
        unacknowledged,
        death: restarted.saturating_duration_since(killed),
        recovery: restarted.elapsed(),
    };
    phase.set("streaming again, after a kill and a recovery");

    stage
        .run_for(args.duration.saturating_sub(start.elapsed()))
        .await?;
    phase.set("waiting for the last records");
    let doubts = stage.finish().await?;
    let verdict = Verdict::new(start.elapsed(), outage, doubts, stage.tracks());
    screen.abort();
    // Cancelled is how it is meant to end.
    let _ = screen.await;
    Ok(verdict)
}

async fn finish(broker: EmbeddedBroker, keep: bool) -> Result<()> {
    if keep {
        let directory = broker
            .shutdown_and_keep()
            .await
            .context("stopping the broker")?;
        let directory = directory.display();
        note(format_args!(
            "The data is kept in {directory}\n\
             Look at it: highwater broker --data-dir {directory}, then highwater topic list"
        ));
        return Ok(());
    }
    broker.shutdown().await.context("stopping the broker")
}
