//! The demo with one broker: it is killed half-way and recovers what it had acknowledged.

use std::time::Instant;

use anyhow::{Context, Result};
use highwater_broker::EmbeddedBroker;
use tokio::task::JoinSet;

use crate::demo::args::DemoArgs;
use crate::demo::files::FileSet;
use crate::demo::interrupted;
use crate::demo::screen::{Phase, Screen};
use crate::demo::stage::{Plan, Stage};
use crate::demo::track::millis;
use crate::demo::verdict::{Incident, Outage, Verdict};
use crate::interrupt::Interrupt;
use crate::output::note;

/// Text that is sent per second: a load, but not one that makes records wait for each other.
const TEXT_BYTES_PER_SECOND: f64 = 48e6;

/// Runs the demo.
///
/// Cancel safety: dropped, it leaves the broker's threads and a temporary directory to the end of
/// the process.
pub(super) async fn run(
    args: &DemoArgs,
    files: FileSet,
    interrupt: &mut Interrupt,
) -> Result<Verdict> {
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
    super::describe_feeds(&files);
    let verdict = tokio::select! {
        verdict = perform(args, files, &mut broker) => verdict,
        () = interrupt.wait() => Err(interrupted().into()),
    };
    // Also after a failure: the directory is either kept and named, or removed.
    finish(broker, args.keep).await?;
    verdict
}

/// Streams, kills, recovers and checks.
async fn perform(args: &DemoArgs, files: FileSet, broker: &mut EmbeddedBroker) -> Result<Verdict> {
    let start = Instant::now();
    let plan = Plan {
        seeds: vec![broker.address().to_string()],
        replicas: 1,
        text_bytes_per_second: TEXT_BYTES_PER_SECOND,
        resolves_doubts: true,
    };
    let mut stage = Stage::set(plan, files).await?;
    let phase = Phase::new("streaming, and reading everything back");
    let screen = Screen::new(stage.tracks(), phase.clone(), args.duration);
    // Stops drawing when dropped, too.
    let mut drawing = JoinSet::new();
    drawing.spawn(screen.run());

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
    let incident = Incident::Recovery { outage, doubts };
    let verdict = Verdict::new(start.elapsed(), incident, stage.tracks());
    drawing.shutdown().await;
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
