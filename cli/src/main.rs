//! `highwater`: the broker, its tools, its benchmark and its demo in one binary.
//!
//! [`args`] declares what can be typed, one module per verb does it, [`exit`] says how it ends. A
//! verb returns an [`exit::Outcome`]; only this file turns that into text on stderr and a status.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod demo;
mod exit;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Verb};
use crate::exit::{Exit, Failure, Outcome};

fn main() -> ExitCode {
    let color = args::color_choice(std::env::args_os(), std::env::var_os("NO_COLOR"));
    let parsed = Cli::command()
        .color(color)
        .try_get_matches()
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return exit.into();
        }
    };
    let json = cli.verb.reports_json();
    match run(cli.verb) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report(json, color);
            failure.exit.into()
        }
    }
}

fn run(verb: Verb) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("no async runtime: {error}")))?;
    runtime.block_on(dispatch(verb))
}

async fn dispatch(verb: Verb) -> Outcome {
    match verb {
        Verb::Bench(args) => Ok(bench::run(args).await?.into()),
        Verb::Demo(args) => Ok(demo::run(args).await?.into()),
    }
}
