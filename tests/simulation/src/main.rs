//! Runs seeds of the simulation.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use highwater_simulation::{Outcome, plan::Plan, run_plan};

/// Runs a whole cluster in virtual time, with faults, and looks for broken rules.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Begins with this seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Lets syncs fail and deletes old records as well.
    #[arg(long)]
    failing_disks: bool,
    /// Prints everything that happens.
    #[arg(long)]
    trace: bool,
    /// Goes on after a broken rule.
    #[arg(long)]
    keep_going: bool,
    /// Breaks this rule on purpose.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Some(name) = &arguments.mutant {
        use highwater_coordination::mutant::{Mutant, switch_on};
        let found = Mutant::ALL
            .into_iter()
            .find(|mutant| format!("{mutant:?}") == *name);
        let Some(mutant) = found else {
            eprintln!("no such mutant: {name}; there are {:?}", Mutant::ALL);
            return ExitCode::FAILURE;
        };
        switch_on(Some(mutant));
    }
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from.saturating_add(arguments.seeds),
    };
    if arguments.seed.is_some() {
        println!("{:?}", Plan::of(seeds.start));
    }
    let began = Instant::now();
    let (mut runs, mut failures) = (0, 0);
    for seed in seeds {
        let plan = if arguments.failing_disks {
            Plan::with_failing_disks(seed)
        } else {
            Plan::of(seed)
        };
        let outcome = run_plan(seed, plan, arguments.trace);
        runs += 1;
        if arguments.seed.is_some() {
            println!(
                "seed {seed}: {} batches committed, {} acknowledged, {} ms, {} lines, trace {:016x}",
                outcome.committed,
                outcome.acknowledged,
                outcome.virtual_ms,
                outcome.trace_lines,
                outcome.trace_hash
            );
        }
        if outcome.violation.is_some() {
            failures += 1;
            report(&outcome, arguments.keep_going);
            if !arguments.keep_going {
                break;
            }
        }
    }
    println!(
        "{runs} seeds, {failures} failures, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(outcome: &Outcome, is_short: bool) {
    if !is_short {
        for line in &outcome.last {
            println!("{line}");
        }
    }
    if let Some(violation) = &outcome.violation {
        println!("{} broken: {}", violation.rule, violation.what);
    }
    println!("{}", outcome.command());
}
