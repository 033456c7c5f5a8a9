//! `highwater demo`: the whole product at work on real data, with a verdict.
//!
//! ```text
//! /proc ----- feed --- lanes (one per partition) --- broker(s) --- follow --- verdict
//! files --/      \                                                  /
//!                 +---------- chain of fingerprints ---------------+
//! ```
//!
//! [`machine`] and [`files`] are where the data comes from and [`feed`] sends it; a [`lane`] brings
//! it into one partition strictly in order; [`follow`] reads it back and compares it with the
//! [`chain`] of what was sent. [`one_broker`] kills its broker half-way and starts it again;
//! [`failover`] kills one of several, and [`cluster_watch`] writes what the others make of that on
//! the [`board`].

mod ack_clock;
mod args;
mod board;
mod chain;
mod chunk;
mod cluster_watch;
mod failover;
mod feed;
mod files;
mod follow;
mod lane;
mod machine;
mod one_broker;
mod screen;
mod stage;
mod track;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

pub(crate) use crate::demo::args::DemoArgs;
use crate::demo::files::FileSet;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{bytes, note, print};

/// Less would leave no time for a kill in the middle.
const DURATION_MIN: Duration = Duration::from_secs(2);
/// More brokers on one machine show nothing new.
const NODES_MAX: u32 = 9;

/// Runs the demo.
///
/// Cancel safety: dropped, it leaves the brokers' threads and temporary directories to the end of
/// the process.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    check(&args)?;
    let mut interrupt = Interrupt::listen()?;
    let files = FileSet::find(args.files.as_deref())?;
    let verdict = if args.nodes == 1 {
        one_broker::run(&args, files, &mut interrupt).await?
    } else {
        failover::run(&args, files, &mut interrupt).await?
    };
    print(&verdict)?;
    if verdict.passed() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

fn check(args: &DemoArgs) -> Result<(), Failure> {
    let nodes = args.nodes;
    if nodes == 0 || nodes > NODES_MAX || nodes.is_multiple_of(2) {
        return Err(Failure::usage(format!(
            "--nodes {nodes}: the demo runs on 1, 3, 5, 7 or 9 brokers"
        ))
        .hint("an even number of brokers survives no more failures than one broker less: try 3"));
    }
    if args.duration < DURATION_MIN {
        return Err(Failure::usage("--duration must be at least 2s"));
    }
    Ok(())
}

fn describe_feeds(files: &FileSet) {
    note(format_args!(
        "Sending the counters of /proc five times a second, and {} of text from {} files in {}",
        bytes(files.bytes()),
        files.len(),
        files.root().display()
    ));
}

fn interrupted() -> Failure {
    Failure::new(
        Exit::Interrupted,
        "interrupted",
        "stopped before the verdict",
    )
}
