//! `highwater`: the broker, its tools, its benchmark and its demo in one binary.
//!
//! [`args`] declares what can be typed, one module per verb does it, [`exit`] says how it ends. A
//! verb returns an [`exit::Outcome`]; only this file turns that into text on stderr and a status.
//!
//! [`topic`], [`produce`], [`consume`], [`cluster`], [`node`], [`partition`], [`balance`] and
//! [`verify`] are clients of running brokers; [`broker`] is one; [`log`] and [`config`] only look at files. [`output`] prints results, [`progress`] what is
//! going on.
#![forbid(unsafe_code)]

mod args;
mod balance;
mod base64;
mod bench;
mod broker;
mod cleanup;
mod client_failure;
mod cluster;
mod completion;
mod config;
mod connect;
mod consume;
mod demo;
mod escape;
mod exit;
mod health;
mod interrupt;
mod log;
mod moment;
mod node;
mod output;
mod partition;
mod produce;
mod progress;
mod replicas;
mod topic;
mod verify;

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
            failure.report(json);
            failure.exit.into()
        }
    }
}

fn run(verb: Verb) -> Outcome {
    match verb {
        Verb::Broker(args) => broker::run(&args),
        Verb::Topic(args) => block_on(topic::run(&args)),
        Verb::Produce(args) => block_on(produce::run(&args)),
        Verb::Consume(args) => block_on(consume::run(&args)),
        Verb::Cluster(args) => block_on(cluster::run(&args)),
        Verb::Node(args) => block_on(node::run(&args)),
        Verb::Partition(args) => block_on(partition::run(&args)),
        Verb::Balance(args) => block_on(balance::run(&args)),
        Verb::Health(args) => block_on(health::run(&args)),
        Verb::Verify(args) => block_on(verify::run(&args)),
        Verb::Log(args) => log::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Bench(args) => block_on(async { Ok(bench::run(args).await?.into()) }),
        Verb::Demo(args) => block_on(async { Ok(demo::run(args).await?.into()) }),
        Verb::Completion(args) => completion::run(&args),
    }
}

/// Runs a verb that needs the runtime. What is still running when it returns is given up: it has
/// waited for everything that it cares about.
fn block_on(verb: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("no async runtime: {error}")))?;
    let outcome = runtime.block_on(verb);
    runtime.shutdown_background();
    outcome
}
