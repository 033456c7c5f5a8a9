//! `highwater broker`: runs a broker until it is told to stop.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use highwater_broker::Broker;
use highwater_config::{BrokerConfig, Flag, LoadOptions, LogFormat, load};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args;
use crate::config::fault_lines;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Arguments of `highwater broker`.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from the file, then HIGHWATER_… variables, then --set, then the flags above; what
comes later wins. `highwater config explain` lists them all.

On SIGTERM or Ctrl-C the broker stops in order and leaves a clean marker; a second signal ends it at
once, and the next start recovers the logs. Log lines go to stderr; when the broker serves, stdout
gets one line: `highwater broker ID ready: client HOST:PORT admin HOST:PORT data DIR`.

Examples:
  highwater broker
  highwater broker --data-dir /var/lib/highwater --listen 0.0.0.0:7171
  highwater broker --config highwater.toml --set retention.ms=3d --set log.format=json
  highwater broker --listen 127.0.0.1:0 --admin 127.0.0.1:0      any free ports")]
pub(crate) struct BrokerArgs {
    /// The configuration file
    #[arg(short = 'c', long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    /// Where the data lies [default: ./highwater-data]
    #[arg(short = 'd', long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:7171]
    #[arg(short = 'l', long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where the admin HTTP endpoint listens, or `off` [default: 127.0.0.1:7180]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// The number of this broker in its cluster [default: the one in the data directory, or 1]
    #[arg(long, value_name = "N")]
    node_id: Option<u32>,
    /// A broker of the cluster to join; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    seed: Vec<String>,
    /// Any setting; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl BrokerArgs {
    fn load_options(&self) -> Result<LoadOptions, Failure> {
        let data_dir = match &self.data_dir {
            None => None,
            Some(dir) => Some(
                dir.to_str()
                    .ok_or_else(|| Failure::usage("--data-dir must be valid UTF-8"))?
                    .to_owned(),
            ),
        };
        let mut options = LoadOptions::from_process(self.config.clone())
            .flag("--data-dir", "data.dir", data_dir)
            .flag("--listen", "listen", self.listen.clone())
            .flag("--admin", "admin.listen", self.admin.clone())
            .flag(
                "--node-id",
                "node.id",
                self.node_id.map(|id| id.to_string()),
            );
        options.sets.clone_from(&self.set);
        if !self.seed.is_empty() {
            let values = self.seed.clone();
            options.flags.push(Flag {
                flag: "--seed",
                key: "cluster.seeds",
                values,
            });
        }
        Ok(options)
    }
}

/// Runs the broker. It brings its own threads and runtimes; the one made here only waits for signals.
pub(crate) fn run(args: &BrokerArgs) -> Outcome {
    let loaded = load(&args.load_options()?).map_err(|errors| {
        let faults = fault_lines(&errors);
        for fault in &faults {
            output::note(format_args!("fault: {fault}"));
        }
        let number = output::count(faults.len() as u64, "fault");
        Failure::new(
            Exit::Error,
            "invalid_config",
            format!("the configuration has {number}"),
        )
        .hint("`highwater config explain KEY` tells what a setting means")
    })?;
    start_logging(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::error(format!("no async runtime: {error}")))?;
    runtime.block_on(serve(loaded.config))
}

async fn serve(config: BrokerConfig) -> Outcome {
    // Before the start: a signal during a long recovery must not kill us half-way.
    let mut signals = StopSignals::new()?;
    let data_dir = config.data_dir.clone();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        data_dir = %data_dir.display(),
        "highwater broker starts"
    );
    let broker = tokio::select! {
        started = Broker::start(config) => started.map_err(|error| {
            Failure::new(Exit::Error, "start_failed", format!("the broker did not start: {}", chain(&error)))
        })?,
        name = signals.next() => {
            tracing::info!("{name} during the start: nothing was served yet, so there is nothing to hand over");
            return Ok(Exit::Ok);
        }
    };
    let admin = match broker.admin_address() {
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    output::print(format_args!(
        "highwater broker {} ready: client {} admin {admin} data {}\n",
        broker.node_id(),
        broker.address(),
        data_dir.display(),
    ))?;
    let name = signals.next().await;
    tracing::info!("{name}: shutting down in order; a second signal ends it at once");
    let shutdown = tokio::select! {
        result = broker.shutdown() => result,
        name = signals.next() => {
            tracing::warn!("{name} again: ended at once, the next start will recover the logs");
            std::process::exit(130);
        }
    };
    match shutdown {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(Exit::Ok)
        }
        Err(error) => Err(Failure::new(
            Exit::Error,
            "shutdown_failed",
            format!("the shutdown was not clean: {}", chain(&error)),
        )
        .hint("the next start recovers the logs")),
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::error(format!("cannot handle signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn start_logging(config: &BrokerConfig) -> Result<(), Failure> {
    // Raft's library reports every node that is down as an error, again and again; what matters of that
    // is logged by the broker itself.
    let filter = EnvFilter::try_new(format!("openraft=off,{}", config.log.level))
        .map_err(|error| Failure::error(format!("log.level: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && args::may_color())
        .with_writer(std::io::stderr);
    let installed = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map_err(|error| Failure::error(format!("cannot start logging: {error}")))
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
