//! Brokers of our own to break: processes of this very binary in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use highwater_broker::free_loopback_addresses;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::cleanup::Cleanup;
use crate::exit::{Exit, Failure};

/// How long one may take to start, or to stop in order.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short timeouts, so that a run of seconds sees whole failovers. `--set` comes after them.
const SETTINGS: [&str; 5] = [
    "cluster.heartbeat.interval=100ms",
    "cluster.session.timeout=1500ms",
    "cluster.election.timeout=500ms",
    "replica.lag.time.max=2s",
    "replica.fetch.wait.max=200ms",
];

/// A cluster of broker processes. They are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Brokers {
    all: Vec<Broker>,
    settings: Vec<String>,
    dir: TempDir,
    cleanup: Cleanup,
}

#[derive(Debug)]
struct Broker {
    listen: String,
    data_dir: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pid: Pid,
    /// Kept open: the broker may write to it at any time.
    _stdout: BufReader<ChildStdout>,
}

impl Brokers {
    /// Starts them and waits until all serve.
    pub(super) async fn start(
        count: u16,
        settings: &[String],
        cleanup: &Cleanup,
    ) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("highwater-verify-")
            .tempdir()
            .map_err(|error| Failure::error(format!("no temporary directory: {error}")))?;
        cleanup.add_directory(dir.path().to_owned());
        let listen = free_loopback_addresses(count.into())
            .map_err(|error| Failure::error(format!("no free port: {error}")))?;
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        let mut own: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        own.push(format!("cluster.seeds={}", listen.join(",")));
        own.extend(settings.iter().cloned());
        let brokers = listen.into_iter().enumerate().map(|(at, listen)| Broker {
            listen,
            data_dir: dir.path().join(format!("data-{}", at + 1)),
            log: dir.path().join(format!("broker-{}.log", at + 1)),
            process: None,
        });
        let mut brokers = Self {
            all: brokers.collect(),
            settings: own,
            dir,
            cleanup: cleanup.clone(),
        };
        // None serves before there is a quorum, so all are begun before one is waited for.
        let mut begun = Vec::new();
        for at in 0..brokers.all.len() {
            begun.push(brokers.begin(at)?);
        }
        for (at, process) in begun.into_iter().enumerate() {
            brokers.finish(at, process).await?;
        }
        Ok(brokers)
    }

    /// Where clients connect.
    pub(super) fn seeds(&self) -> Vec<String> {
        self.all
            .iter()
            .map(|broker| broker.listen.clone())
            .collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Their directory, which stays when they are gone.
    pub(super) fn keep(mut self) -> PathBuf {
        for broker in &mut self.all {
            end(broker, &self.cleanup);
        }
        // The only other owner of it.
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) async fn kill(&mut self, at: usize) -> Result<(), Failure> {
        let mut process = self.take(at)?;
        process
            .child
            .kill()
            .await
            .map_err(|error| Failure::error(format!("broker {} cannot be killed: {error}", at + 1)))
    }

    /// SIGTERM, and waits for an orderly end.
    pub(super) async fn stop(&mut self, at: usize) -> Result<(), Failure> {
        let mut process = self.take(at)?;
        signal(&process, Signal::TERM)?;
        match timeout(PATIENCE, process.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failed(at, &format!("ended with {status}"))),
            Ok(Err(error)) => Err(self.failed(at, &format!("cannot be waited for: {error}"))),
            Err(_) => Err(self.failed(at, "does not stop")),
        }
    }

    /// SIGSTOP.
    pub(super) fn pause(&self, at: usize) -> Result<(), Failure> {
        signal(self.running(at)?, Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn resume(&self, at: usize) -> Result<(), Failure> {
        signal(self.running(at)?, Signal::CONT)
    }

    /// Starts one again on its data and its address.
    pub(super) async fn restart(&mut self, at: usize) -> Result<(), Failure> {
        let process = self.begin(at)?;
        self.finish(at, process).await
    }

    fn running(&self, at: usize) -> Result<&Process, Failure> {
        let process = self.all[at].process.as_ref();
        process.ok_or_else(|| Failure::error(format!("broker {} does not run", at + 1)))
    }

    fn take(&mut self, at: usize) -> Result<Process, Failure> {
        let process = self.all[at].process.take();
        let process =
            process.ok_or_else(|| Failure::error(format!("broker {} does not run", at + 1)))?;
        self.cleanup.remove_process(id(process.pid));
        Ok(process)
    }

    fn begin(&self, at: usize) -> Result<Process, Failure> {
        let broker = &self.all[at];
        let failed = |error| Failure::error(format!("broker {} cannot start: {error}", at + 1));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&broker.log)
            .map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["broker", "--listen", &broker.listen])
            .args(["--admin", "127.0.0.1:0", "--node-id"])
            .arg((at + 1).to_string())
            .arg("--data-dir")
            .arg(&broker.data_dir);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C ends the run in order; the brokers are needed for that.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let (Some(pid), Some(stdout)) = (pid, child.stdout.take()) else {
            return Err(self.failed(at, "ended at once"));
        };
        self.cleanup.add_process(id(pid));
        Ok(Process {
            child,
            pid,
            _stdout: BufReader::new(stdout),
        })
    }

    async fn finish(&mut self, at: usize, mut process: Process) -> Result<(), Failure> {
        let mut line = String::new();
        match timeout(PATIENCE, process._stdout.read_line(&mut line)).await {
            Ok(Ok(_)) if line.contains(" ready: ") => {
                self.all[at].process = Some(process);
                Ok(())
            }
            Ok(_) => Err(self.failed(at, "ended before it served")),
            Err(_) => Err(self.failed(at, "does not serve")),
        }
    }

    fn failed(&self, at: usize, what: &str) -> Failure {
        let message = format!("broker {} {what}", at + 1);
        let last = last_line(&self.all[at].log);
        Failure::new(Exit::Error, "broker_failed", message).hint(format!("its log ends: {last}"))
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in &mut self.all {
            end(broker, &self.cleanup);
        }
    }
}

/// The processes are killed as they are dropped.
fn end(broker: &mut Broker, cleanup: &Cleanup) {
    if let Some(mut process) = broker.process.take() {
        // One that is gone already is as good.
        let _ = process.child.start_kill();
        cleanup.remove_process(id(process.pid));
    }
}

fn id(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn signal(process: &Process, signal: Signal) -> Result<(), Failure> {
    kill_process(process.pid, signal)
        .map_err(|error| Failure::error(format!("a broker cannot be signalled: {error}")))
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}
