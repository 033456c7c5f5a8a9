//! Breaks things, one at a time, and mends them.

use std::time::Duration;

use clap::ValueEnum;
use highwater_verify::Workload;
use highwater_verify::event::Phase;
use tokio::process::Command;

use super::brokers::Brokers;
use crate::exit::Failure;
use crate::output;

/// What can be done to a broker of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FaultKind {
    // For --help, in one line each.
    /// SIGKILL, then started again
    Kill,
    /// SIGSTOP, then SIGCONT
    Pause,
    /// SIGTERM, then started again
    Stop,
}

impl FaultKind {
    /// As in histories.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }
}

/// How commands of the user are called in histories.
pub(super) const COMMAND: &str = "command";

/// Something that can be broken.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A broker of ours.
    Broker(FaultKind),
    /// Whatever the user's commands do.
    Command { fault: String, heal: Option<String> },
}

impl Fault {
    /// As in histories.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Broker(kind) => kind.name(),
            Self::Command { .. } => COMMAND,
        }
    }
}

/// The same numbers for the same seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = bound.max(1) as u64;
        usize::try_from((z ^ (z >> 31)) % bound).unwrap_or_default()
    }
}

/// Which fault comes when, and who is hit.
#[derive(Debug)]
pub(super) struct Faults {
    kinds: Vec<Fault>,
    /// Those of this round that are still to come: each has its turn before one comes again.
    left: Vec<Fault>,
    dice: Dice,
    /// How long one lasts.
    lasts: Duration,
    installed: Vec<&'static str>,
}

impl Faults {
    pub(super) fn new(kinds: Vec<Fault>, seed: u64, lasts: Duration) -> Self {
        Self {
            kinds,
            left: Vec::new(),
            dice: Dice::new(seed),
            lasts,
            installed: Vec::new(),
        }
    }

    /// Whether each kind has happened.
    pub(super) fn have_all_happened(&self) -> bool {
        let mut kinds = self.kinds.iter();
        kinds.all(|kind| self.installed.contains(&kind.name()))
    }

    /// Whether there are any.
    pub(super) fn are_none(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Breaks one thing and, after a while or as soon as `cut_short` is ready, mends it.
    pub(super) async fn one(
        &mut self,
        load: &Workload,
        brokers: Option<&mut Brokers>,
        cut_short: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let fault = self.left.swap_remove(self.dice.below(self.left.len()));
        match (&fault, brokers) {
            (Fault::Broker(kind), Some(brokers)) => {
                let at = self.dice.below(brokers.count());
                self.hit(load, brokers, *kind, at, cut_short).await
            }
            (Fault::Broker(_), None) => Err(Failure::usage("there is no broker of ours to break")),
            (Fault::Command { fault, heal }, _) => {
                if command(load, fault, Phase::Installed, fault).await {
                    self.installed.push(COMMAND);
                }
                self.last(cut_short).await;
                if let Some(heal) = heal {
                    command(load, fault, Phase::Healed, heal).await;
                }
                Ok(())
            }
        }
    }

    async fn last(&self, cut_short: impl Future<Output = ()>) {
        tokio::select! {
            () = tokio::time::sleep(self.lasts) => {}
            () = cut_short => {}
        }
    }

    async fn hit(
        &mut self,
        load: &Workload,
        brokers: &mut Brokers,
        kind: FaultKind,
        at: usize,
        cut_short: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let target = format!("broker {}", at + 1);
        let invoke = load.now();
        output::note(format_args!("{invoke} {} {target}", kind.name()));
        match kind {
            FaultKind::Kill => brokers.kill(at).await?,
            FaultKind::Pause => brokers.pause(at)?,
            FaultKind::Stop => brokers.stop(at).await?,
        }
        load.note_fault(invoke, kind.name(), &target, Phase::Installed, true);
        self.installed.push(kind.name());
        self.last(cut_short).await;
        let invoke = load.now();
        match kind {
            FaultKind::Kill | FaultKind::Stop => brokers.restart(at).await?,
            FaultKind::Pause => brokers.resume(at)?,
        }
        load.note_fault(invoke, kind.name(), &target, Phase::Healed, true);
        output::note(format_args!("{} {target} is back", load.now()));
        Ok(())
    }
}

/// Runs a command of the user's and notes, under the name of the fault, whether that went well.
async fn command(load: &Workload, fault: &str, phase: Phase, command: &str) -> bool {
    let invoke = load.now();
    output::note(format_args!("{invoke} {COMMAND}: {command}"));
    let done = shell(command).await;
    if let Err(why) = &done {
        output::note(format_args!("{} {command}: {why}", load.now()));
    }
    load.note_fault(invoke, COMMAND, fault, phase, done.is_ok());
    done.is_ok()
}

async fn shell(command: &str) -> Result<(), String> {
    let status = Command::new("sh").arg("-c").arg(command).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
