//! A broker process in a temporary directory, and runs of the binary with a deadline.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Nothing in these tests takes this long, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The binary with a clean environment.
pub(crate) fn highwater() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// That it went well; its output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    /// That it failed with this status; what it said.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.stderr
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Runs the binary without a broker.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Run {
    run_command(highwater().args(args), b"")
}

/// Runs a command with this input, and kills it when it hangs.
#[track_caller]
pub(crate) fn run_command(command: &mut Command, input: &[u8]) -> Run {
    run_command_within(command, input, DEADLINE)
}

/// The same with another deadline.
#[track_caller]
pub(crate) fn run_command_within(command: &mut Command, input: &[u8], deadline: Duration) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || {
        // Whoever does not read all of it closes the pipe.
        let _ = stdin.write_all(&input);
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let reading_errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let status = wait_within(&mut child, deadline);
    writing.join().unwrap();
    Run {
        status: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&reading.join().unwrap()).into_owned(),
        stderr: String::from_utf8_lossy(&reading_errors.join().unwrap()).into_owned(),
    }
}

/// Waits for the end of a process, at most until the deadline.
#[track_caller]
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    wait_within(child, DEADLINE)
}

#[track_caller]
fn wait_within(child: &mut Child, deadline: Duration) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A running broker. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
    pub(crate) admin: String,
    pub(crate) ready_line: String,
    dir: Option<tempfile::TempDir>,
    data_dir: PathBuf,
}

impl Broker {
    /// Starts one in a new directory.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let mut broker = Self::start_in(&data_dir, &[]);
        broker.dir = Some(dir);
        broker
    }

    /// Starts one in this directory.
    #[track_caller]
    pub(crate) fn start_in(data_dir: &Path, args: &[&str]) -> Self {
        let mut child = highwater()
            .args([
                "broker",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(data_dir)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(DEADLINE).unwrap_or_default();
        if line.is_empty() {
            let _ = child.kill();
            panic!("the broker did not start: {:?}", child.wait());
        }
        let word_after = |name: &str| {
            let mut words = line.split_whitespace();
            words.find(|word| *word == name);
            words
                .next()
                .unwrap_or_else(|| panic!("no {name} in {line:?}"))
                .to_owned()
        };
        let (address, admin) = (word_after("client"), word_after("admin"));
        let data_dir = data_dir.to_owned();
        Self {
            child,
            address,
            admin,
            ready_line: line,
            dir: None,
            data_dir,
        }
    }

    /// A command against this broker.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = highwater();
        command.args(args).env("HIGHWATER_BOOTSTRAP", &self.address);
        command
    }

    /// Runs the binary against this broker.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run_command(&mut self.command(args), b"")
    }

    /// Runs the binary against this broker with input.
    #[track_caller]
    pub(crate) fn run_with(&self, args: &[&str], input: impl AsRef<[u8]>) -> Run {
        run_command(&mut self.command(args), input.as_ref())
    }

    /// Where its data lies.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Stops it in order and waits for that; its directory stays.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(&self.child, rustix::process::Signal::TERM);
        wait(&mut self.child)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
