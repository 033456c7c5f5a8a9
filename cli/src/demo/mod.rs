//! `highwater demo`.

use std::process::ExitCode;

/// Arguments of `highwater demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {}

/// Runs the demo.
#[expect(
    clippy::unused_async,
    reason = "the signature that the dispatcher awaits"
)]
pub(crate) async fn run(_: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no demo")
}
