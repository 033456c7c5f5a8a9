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

/// A running broker of ours; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: Child,
    address: String,
    log: PathBuf,
    cleanup: Cleanup,
}

impl BrokerProcess {
    /// Starts `highwater broker` on free ports and waits until it serves.
    pub(crate) fn start(
        scratch: &Scratch,
        settings: &[String],
        cleanup: &Cleanup,
    ) -> Result<BrokerProcess> {
        let log = scratch.path("broker.log");
        let program = std::env::current_exe().context("finding the bench's own executable")?;
        let mut command = Command::new(program);
        command
            .arg("broker")
            .arg("--data-dir")
            .arg(scratch.path("data"));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
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
        let mut broker = BrokerProcess {
            child,
            address: String::new(),
            log,
            cleanup: cleanup.clone(),
        };
        broker.address = broker.wait_until_ready(stdout)?;
        Ok(broker)
    }

    /// Where its clients connect.
    pub(crate) fn address(&self) -> &str {
        &self.address
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

    fn wait_until_ready(&mut self, stdout: ChildStdout) -> Result<String> {
        let (found, address) = mpsc::channel();
        // The thread goes on reading to the end, so that the broker never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = client_address(&line) {
                    // Nobody waits any more only if the broker took too long.
                    let _ = found.send(address.to_owned());
                }
            }
        });
        match address.recv_timeout(START_TIMEOUT) {
            Ok(address) => Ok(address),
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

/// The client address in `highwater broker 1 ready: client HOST:PORT admin HOST:PORT data DIR`.
fn client_address(line: &str) -> Option<&str> {
    let (_, rest) = line
        .strip_prefix("highwater broker ")?
        .split_once(" ready: client ")?;
    rest.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::client_address;

    #[test]
    fn the_address_is_found_in_the_line_of_a_ready_broker() {
        let line = "highwater broker 1 ready: client 127.0.0.1:4711 admin 127.0.0.1:1 data /a b";
        assert_eq!(client_address(line), Some("127.0.0.1:4711"));
        assert_eq!(client_address("highwater broker 1 starting"), None);
    }
}
