//! Everything that can be typed after `highwater`.

use std::ffi::OsString;

use clap::{ColorChoice, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::demo::DemoArgs;

/// Highwater: an append-only distributed log broker.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// No colours (also: set NO_COLOR).
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Measure the broker against what this machine can do at all.
    Bench(BenchArgs),
    /// See it work: a broker, real data, a kill and a recovery, and every record checked.
    Demo(DemoArgs),
}

impl Verb {
    /// Whether results, and so errors too, are asked for as JSON.
    pub(crate) fn reports_json(&self) -> bool {
        match self {
            Self::Bench(_) | Self::Demo(_) => false,
        }
    }
}

/// Whether output may be coloured. Looked up before the arguments are parsed, because the parser's
/// own messages obey it too.
pub(crate) fn color_choice(
    mut args: impl Iterator<Item = OsString>,
    no_color: Option<OsString>,
) -> ColorChoice {
    if no_color.is_some_and(|value| !value.is_empty()) || args.any(|arg| arg == "--no-color") {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    }
}
