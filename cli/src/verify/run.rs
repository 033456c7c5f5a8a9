//! `highwater verify run`

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use highwater_client::Client;
use highwater_verify::event::{AckLevel, Rules};
use highwater_verify::{Outcome as Judged, Plan, Stopped, Verdict, Workload, WorkloadError};
use tokio::time::{Instant, sleep_until};

use super::brokers::Brokers;
use super::faults::{Fault, FaultKind, Faults};
use super::{report, topic};
use crate::args::{ConnectArgs, parse_assignment, parse_duration};
use crate::cleanup::Cleanup;
use crate::connect::connect;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;

/// How often what is going on is shown on a terminal, and how often else.
const SHOWN_EVERY: Duration = Duration::from_millis(500);
const LOGGED_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Producers send records with values of which each is sent once; a reader follows them, and probes ask
again and again where partitions end, while brokers fail by your hand or by its own. Then all
partitions are read from their start, and everything that was told is judged: no acknowledged record
lost, none twice, none that nobody sent, all in order, no outdated end shown, whole again afterwards.

Ctrl-C and SIGTERM end the run early; it is judged all the same. Exit status: 0 valid, 2 invalid
(with evidence, and the topic is kept), 6 insufficient: too little happened to prove anything.

Examples:
  highwater verify run -b b1:7171 -d 10m                     break something meanwhile
  highwater verify run --spawn 3 --faults kill,pause -d 1m   brokers of its own
  highwater verify run --spawn 3 --faults kill,pause,stop --seed 7 --history h.jsonl
  highwater verify run -b b1:7171 -d 5m --fault-every 30s \\
      --fault-command 'docker kill hw-2' --heal-command 'docker start hw-2'")]
pub(super) struct RunArgs {
    /// How long to go on; each fault that was asked for happens at least once
    #[arg(short, long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    duration: Duration,
    /// Name of the topic, which must not exist [default: verify- and a number]
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
    /// Partitions of the topic
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) partitions: u32,
    /// Copies of each partition [default: 3, or as many as there are brokers]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) replicas: Option<u16>,
    /// A setting of the topic; may be given several times
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = parse_assignment)]
    pub(super) configs: Vec<(String, String)>,
    /// Leave the topic there
    #[arg(long)]
    keep: bool,
    /// Producers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: u32,
    /// Readers that follow all partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    readers: u32,
    /// Records a second of all producers together; about 250 bytes of memory each
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Size of a value
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    value_bytes: u32,
    /// When a record counts as acknowledged; less than `all` promises less, and less is asked
    #[arg(long, value_name = "LEVEL", default_value = "all")]
    acks: AcksArg,
    /// Producers that are not idempotent: values may be there twice
    #[arg(long)]
    no_idempotence: bool,
    /// Write the history to this file
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Start so many brokers in a temporary directory, and use them
    #[arg(long, value_name = "N", conflicts_with = "bootstrap", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) spawn: Option<u16>,
    /// A setting of these brokers; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "spawn")]
    set: Vec<String>,
    /// What to do to these brokers, one at a time
    #[arg(long, value_name = "FAULT", value_delimiter = ',', requires = "spawn")]
    faults: Vec<FaultKind>,
    /// A command that breaks something
    #[arg(long, value_name = "COMMAND")]
    fault_command: Option<String>,
    /// The command that mends it
    #[arg(long, value_name = "COMMAND", requires = "fault_command")]
    heal_command: Option<String>,
    /// How long to wait before a fault
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    fault_every: Duration,
    /// How long a fault lasts
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    fault_for: Duration,
    /// Which faults hit whom: the same for the same number [default: the time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How long the cluster may take to be whole again
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    heal_within: Duration,
    /// For how long an outdated end of a partition may be shown. While leaderships are moved in order,
    /// some ms are no fault [default: 0ms for brokers of its own that fail, 1s otherwise]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    stale_max: Option<Duration>,
}

/// As in `produce --acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all")]
    All,
}

impl RunArgs {
    fn fault_kinds(&self) -> Vec<Fault> {
        let of_brokers = self.faults.iter().map(|kind| Fault::Broker(*kind));
        let of_user = self.fault_command.iter().map(|fault| Fault::Command {
            fault: fault.clone(),
            heal: self.heal_command.clone(),
        });
        of_brokers.chain(of_user).collect()
    }

    fn stale_max(&self) -> Duration {
        let moves_leaders = self.spawn.is_none()
            || self.fault_command.is_some()
            || self.faults.contains(&FaultKind::Stop);
        self.stale_max.unwrap_or(if moves_leaders {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        })
    }

    fn plan(&self, topic: &str) -> Plan {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let acks = match self.acks {
            AcksArg::None => AckLevel::None,
            AcksArg::Leader => AckLevel::Leader,
            AcksArg::All => AckLevel::All,
        };
        let mut plan = Plan::new(topic, self.partitions);
        plan.producers = self.producers;
        plan.readers = self.readers;
        plan.rate = Some(self.rate);
        plan.value_bytes = self.value_bytes as usize;
        plan.rules = Rules {
            acks,
            // Without acknowledgements there is no such thing.
            idempotent: !self.no_idempotence && acks != AckLevel::None,
            stale_ms_max: ms(self.stale_max()),
            heal_ms_max: ms(self.heal_within),
            ..Rules::default()
        };
        let kinds = self.fault_kinds();
        plan.faults_wanted = kinds.iter().map(|kind| kind.name().to_owned()).collect();
        plan.file.clone_from(&self.history);
        plan
    }
}

/// Does it.
pub(super) async fn run(args: &RunArgs, connect_args: &ConnectArgs, json: bool) -> Outcome {
    let cleanup = Cleanup::default();
    let of_signals = cleanup.clone();
    let interrupt = Interrupt::listen_and(move || of_signals.run())?;
    let seed = args.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or_default())
    });
    let mut brokers = match args.spawn {
        Some(count) => Some(Brokers::start(count, &args.set, &cleanup).await?),
        None => None,
    };
    let mut connect_args = connect_args.clone();
    if let Some(brokers) = &brokers {
        connect_args.bootstrap = brokers.seeds();
    }
    let client = connect(&connect_args).await?;
    let name = topic::create(&client.admin(), args, seed).await?;
    output::note(format_args!("topic {name}, seed {seed}"));
    let cluster = Cluster {
        client,
        seeds: connect_args.bootstrap,
    };
    let verdict = judge(args, &cluster, &name, seed, brokers.as_mut(), interrupt).await;
    let is_evidence = !matches!(&verdict, Ok(verdict) if verdict.outcome != Judged::Invalid);
    if is_evidence || args.keep {
        output::note(format_args!("topic {name} is kept"));
        if let Some(brokers) = brokers {
            let dir = brokers.keep();
            output::note(format_args!("the brokers' files are in {}", dir.display()));
        }
    } else if brokers.is_none() {
        cluster.client.admin().delete_topic(&name).await?;
    }
    let verdict = verdict?;
    report::print(&verdict, json)?;
    Ok(report::exit(&verdict))
}

struct Cluster {
    client: Client,
    seeds: Vec<String>,
}

async fn judge(
    args: &RunArgs,
    cluster: &Cluster,
    topic: &str,
    seed: u64,
    brokers: Option<&mut Brokers>,
    mut interrupt: Interrupt,
) -> Result<Verdict, Failure> {
    let load = Workload::start_plan(&cluster.seeds, args.plan(topic));
    let load = load.await.map_err(failure)?;
    break_things(args, &load, seed, brokers, &mut interrupt).await?;
    let stopped = if args.acks == AcksArg::None {
        load.stop().await.map_err(failure)?
    } else {
        output::note(format_args!("{} waits until all is whole", load.now()));
        let whole = load.settle().await;
        let said = if whole { "whole" } else { "not whole in time" };
        output::note(format_args!("{} {said}; reads everything", load.now()));
        load.stop().await.map_err(failure)?
    };
    read_and_judge(&stopped, &cluster.seeds).await
}

/// A cluster that cannot be read any more leaves a verdict all the same.
async fn read_and_judge(stopped: &Stopped, seeds: &[String]) -> Result<Verdict, Failure> {
    match stopped.check(seeds).await {
        Ok(verdict) => Ok(verdict),
        Err(
            error @ (WorkloadError::Connect(_)
            | WorkloadError::Ends { .. }
            | WorkloadError::FinalRead { .. }),
        ) => {
            output::note(format_args!("the last reading failed: {error}"));
            stopped.check_unread().map_err(failure)
        }
        Err(error) => Err(failure(error)),
    }
}

/// Goes on until the time is over and each fault has happened, or the user has had enough.
async fn break_things(
    args: &RunArgs,
    load: &Workload,
    seed: u64,
    mut brokers: Option<&mut Brokers>,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let mut faults = Faults::new(args.fault_kinds(), seed, args.fault_for);
    let end = Instant::now() + args.duration;
    let shown = show(load);
    tokio::pin!(shown);
    loop {
        let now = Instant::now();
        if interrupt.is_set() || (now >= end && faults.have_all_happened()) {
            return Ok(());
        }
        let until = if faults.are_none() {
            end
        } else {
            now + args.fault_every
        };
        tokio::select! {
            () = interrupt.wait() => return Ok(()),
            () = sleep_until(until) => {}
            () = &mut shown => {}
        }
        if faults.are_none() || (Instant::now() >= end && faults.have_all_happened()) {
            continue;
        }
        let mut cut_short = interrupt.clone();
        let fault = faults.one(load, brokers.as_deref_mut(), cut_short.wait());
        tokio::select! {
            done = fault => done?,
            () = &mut shown => {}
        }
    }
}

/// Shows what is going on, for ever.
async fn show(load: &Workload) {
    let line = Progress::message();
    let every = if line.is_shown() {
        SHOWN_EVERY
    } else {
        LOGGED_EVERY
    };
    let mut before = load.state();
    loop {
        tokio::time::sleep(every).await;
        let state = load.state();
        let rate = (state.acked - before.acked) as f64 / every.as_secs_f64();
        let text = format!(
            "{} acknowledged, {rate:.0}/s, {} in doubt, {} refused, silent for {} ms",
            state.acked,
            state.in_doubt,
            state.refused,
            state.silent_for.as_millis()
        );
        if line.is_shown() {
            line.say(text);
        } else {
            output::note(format_args!("{} {text}", load.now()));
        }
        before = state;
    }
}

fn failure(error: WorkloadError) -> Failure {
    match error {
        WorkloadError::Connect(error) => error.into(),
        error => Failure::new(Exit::Error, "workload_failed", error.to_string()),
    }
}
