//! `highwater bench`: the broker measured beside what this machine can do at all.
//!
//! A figure of a broker says nothing without the limit of the machine it was taken on, and on a
//! virtual machine that limit moves from minute to minute. So every run measures both in turn:
//! [`pipelines`], [`disk`] and [`echo`] are the bare limits (`bench limits` prints them all),
//! [`produce`], [`consume`] and [`e2e`] are the workloads, and [`report`] sets one against the
//! other. Broker and client are two processes ([`broker_process`]), as they are in real life.
//! [`warm`] and [`median`] keep the hypervisor and chance out of the result.

mod args;
mod broker_process;
mod brokers;
mod consume;
mod cpu;
mod disk;
mod e2e;
mod echo;
pub(crate) mod latency;
mod limit;
mod limits;
mod load;
mod median;
mod meter;
mod pace;
mod payload;
mod peer;
mod pipelines;
mod produce;
mod producer;
mod report;
mod result;
mod scratch;
mod target;
mod warm;

use std::process::ExitCode;

use anyhow::Result;

pub(crate) use crate::bench::args::BenchArgs;
use crate::bench::args::BenchCommand;

/// Runs the benchmark.
///
/// Cancel safety: dropped, it leaves the measuring thread to itself.
pub(crate) async fn run(args: BenchArgs) -> Result<ExitCode> {
    // On a thread of its own: it blocks, and it brings its own runtimes, one per measured thread.
    crate::cleanup::run_until_interrupted("bench", move |cleanup| {
        let json = args.output.json();
        match args.command {
            BenchCommand::Limits(workload) => {
                report::print_limits(&limits::measure_limits(&workload, cleanup)?, json)?;
            }
            BenchCommand::Peer(peer) => peer::run_peer(&peer)?,
            BenchCommand::Produce(workload) => {
                report::print_workload(&produce::measure_produce(&workload, cleanup)?, json)?;
            }
            BenchCommand::Consume(workload) => {
                report::print_workload(&consume::measure_consume(&workload, cleanup)?, json)?;
            }
            BenchCommand::E2e(workload) => {
                report::print_workload(&e2e::measure_e2e(&workload, cleanup)?, json)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}
