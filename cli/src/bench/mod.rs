//! `highwater bench`.

use std::process::ExitCode;

/// Arguments of `highwater bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {}

/// Runs the benchmark.
#[expect(
    clippy::unused_async,
    reason = "the signature that the dispatcher awaits"
)]
pub(crate) async fn run(_: BenchArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no benchmark")
}
