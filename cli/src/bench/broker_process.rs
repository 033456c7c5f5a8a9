//! The bench's own broker: a child process with a fresh data directory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::scratch::Scratch;
use crate::cleanup::Cleanup;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LINES_SHOWN: usize = 12;

/// Where a broker of ours listens, and what its files are called.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    pub(crate) name: String,
    /// For clients.
    pub(crate) address: String,
}

/// A running broker of ours; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: Child,
    log: PathBuf,
    cleanup: Cleanup,
}

impl BrokerProcess {
    /// Starts `highwater broker` and waits until it serves.
    pub(crate) fn start(
        scratch: &Scratch,
        listen: &Listen,
        settings: &[String],
        cleanup: &Cleanup,
    ) -> Result<BrokerProcess> {
        let log = scratch.path(&format!("{}.log", listen.name));
        let program = std::env::current_exe().context("finding the bench's own executable")?;
        let mut command = Command::new(program);
        command
            .arg("broker")
            .arg("--data-dir")
            .arg(scratch.path(&format!("{}-data", listen.name)));
        command.args(["--listen", &listen.address, "--admin", "127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let stderr = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .context("starting the broker process")?;
        cleanup.add_process(child.id());
        let stdout = child
            .stdout
            .take()
            .context("the broker has a piped stdout")?;
        let broker = BrokerProcess {
            child,
            log,
            cleanup: cleanup.clone(),
        };
        broker.wait_until_ready(stdout)?;
        Ok(broker)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("a process has a number")?, Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the broker ended with {status}{}", self.last_log_lines());
            }
            if Instant::now() > deadline {
                bail!(
                    "the broker did not end within {STOP_TIMEOUT:?}{}",
                    self.last_log_lines()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_until_ready(&self, stdout: ChildStdout) -> Result<()> {
        let (found, ready) = mpsc::channel();
        // The thread goes on reading to the end, so that the broker never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if is_ready(&line) {
                    // Nobody waits any more only if the broker took too long.
                    let _ = found.send(());
                }
            }
        });
        match ready.recv_timeout(START_TIMEOUT) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the broker ended before it served{}", self.last_log_lines())
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the broker did not serve within {START_TIMEOUT:?}{}",
                    self.last_log_lines()
                )
            }
        }
    }

    fn last_log_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        if shown.is_empty() {
            String::new()
        } else {
            format!(":\n{}", shown.join("\n"))
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Either may fail only because it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.cleanup.remove_process(self.child.id());
    }
}

/// Whether this is `highwater broker 1 ready: client HOST:PORT admin HOST:PORT data DIR`.
fn is_ready(line: &str) -> bool {
    line.strip_prefix("highwater broker ")
        .is_some_and(|rest| rest.contains(" ready: client "))
}

#[cfg(test)]
mod tests {
    use super::is_ready;

    #[test]
    fn the_line_of_a_ready_broker_is_known() {
        let line = "highwater broker 1 ready: client 127.0.0.1:4711 admin 127.0.0.1:1 data /a b";
        assert!(is_ready(line));
        assert!(!is_ready("highwater broker 1 starting"));
    }
}
