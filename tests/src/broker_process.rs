//! The real binary as a child process, with a real data directory.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a broker may take to start or stop before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// Path of the `highwater` binary, built in the profile of the running test.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/PROFILE/deps/test-hash
        let profile_dir = test
            .ancestors()
            .nth(2)
            .expect("tests run out of the target directory");
        let target_dir = profile_dir
            .parent()
            .expect("a profile lies in the target directory");
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--package", "highwater", "--target-dir"])
            .arg(target_dir)
            .current_dir(crate::workspace_root());
        if profile_dir.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be run");
        assert!(status.success(), "building the highwater binary failed");
        profile_dir.join("highwater")
    })
}

/// A running broker process. Killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    /// Kept open: the broker may write to it at any time.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    admin_address: SocketAddr,
}

impl BrokerProcess {
    /// Starts a broker on free ports and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(data_dir: &Path, settings: &[&str]) -> Self {
        Self::start_on(data_dir, "127.0.0.1:0", settings)
    }

    /// Starts a broker that listens on `listen`.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start_on(data_dir: &Path, listen: &str, settings: &[&str]) -> Self {
        Self::start_behind(&[], data_dir, listen, settings)
    }

    /// Starts a broker whose command line stands behind `prefix` (empty, or a program that becomes what
    /// it is told to run).
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start_behind(
        prefix: &[String],
        data_dir: &Path,
        listen: &str,
        settings: &[&str],
    ) -> Self {
        let mut command = command(prefix);
        command.args(arguments(data_dir, listen, settings));
        command.stderr(Stdio::inherit());
        Self::wait_until_it_serves(command)
    }

    /// Like [`Self::start_behind`], and appends what the broker logs to a file.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start_logged(
        prefix: &[String],
        data_dir: &Path,
        listen: &str,
        settings: &[&str],
        log: &Path,
    ) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file can be opened");
        let mut command = command(prefix);
        command.args(arguments(data_dir, listen, settings));
        command.stderr(log);
        Self::wait_until_it_serves(command)
    }

    /// Starts a broker that must not come to serve, waits until it gives up, and returns what it logged.
    ///
    /// # Panics
    /// When it serves, or ends as if all were well.
    #[must_use]
    pub fn refused(data_dir: &Path, listen: &str, settings: &[&str]) -> String {
        let patience = DEADLINE.as_secs().to_string();
        let mut command = command(&["timeout".to_owned(), patience]);
        command.args(arguments(data_dir, listen, settings));
        let output = command.stdin(Stdio::null()).output();
        let output = output.expect("the broker can be started");
        let served = String::from_utf8_lossy(&output.stdout);
        assert!(served.is_empty(), "the broker served: {served}");
        assert!(!output.status.success(), "{}", output.status);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Sets or lifts the limit of a broker that was started behind [`file_limit`].
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn set_file_limit(&self, bytes_max: Option<u64>) {
        use rustix::process::{Resource, Rlimit, prlimit};
        let limit = Rlimit {
            current: bytes_max,
            maximum: None,
        };
        let pid = Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Fsize, limit).expect("the soft limit can be set");
    }

    fn wait_until_it_serves(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the broker can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .expect("the broker's output can be read");
        let Some((address, admin_address)) = addresses(&line) else {
            let status = child.wait();
            panic!("the broker did not start: {line:?}, {status:?}");
        };
        Self {
            child,
            _stdout: stdout,
            address,
            admin_address,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin endpoint listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory besides mapped files, in bytes: what the kernel calls anonymous.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn anonymous_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .expect("the kernel tells RssAnon");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("RssAnon is a number of kB");
        kib * 1024
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("the broker can be killed");
        self.child.wait().expect("the broker can be reaped");
    }

    /// SIGSTOP, and waits until no thread of it runs: time goes on, and it does not notice.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("the broker can be paused");
        let deadline = Instant::now() + DEADLINE;
        while !self.has_stopped() {
            assert!(Instant::now() < deadline, "the broker is not paused");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("the broker goes on");
    }

    fn has_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.pid());
        let tasks = std::fs::read_dir(tasks).expect("the process is there");
        tasks.flatten().all(|task| {
            // A thread that has just ended is no thread that runs.
            let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
                return true;
            };
            // PID (NAME) STATE ..., and a name may contain anything.
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Panics
    /// When it takes longer than a minute or ends with an error.
    pub fn terminate(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the broker can be signalled");
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the broker can be reaped") {
                assert!(status.success(), "the broker ended with {status}");
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the broker did not stop within a minute"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Already gone after `kill` and `terminate`; errors do not matter then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands before a broker's command line so that its files cannot grow beyond a size (in bytes), as
/// if a quota held them. `None`: until [`BrokerProcess::set_file_limit`] sets one.
#[must_use]
pub fn file_limit(bytes_max: Option<u64>) -> Vec<String> {
    // The shell ignores the signal that a file beyond the limit raises, and so does what it becomes: the
    // broker then sees an error, as it would from a full disk. The limit stays soft, so that it can be
    // raised later.
    let script = "trap '' XFSZ; ulimit -S -f \"$0\"; exec \"$@\"";
    let limit = bytes_max.map_or("unlimited".to_owned(), |bytes| (bytes / 1024).to_string());
    ["bash", "-c", script, &limit].map(str::to_owned).to_vec()
}

fn command(prefix: &[String]) -> Command {
    match prefix {
        [] => Command::new(binary()),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary());
            command
        }
    }
}

fn arguments(data_dir: &Path, listen: &str, settings: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["broker", "--listen", listen, "--admin", "127.0.0.1:0"]
        .into_iter()
        .map(OsString::from)
        .collect();
    arguments.push("--data-dir".into());
    arguments.push(data_dir.into());
    for setting in settings {
        arguments.push("--set".into());
        arguments.push(setting.into());
    }
    arguments
}

/// `highwater broker 1 ready: client HOST:PORT admin HOST:PORT data DIR`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let place = words.iter().position(|w| *w == word)?;
        words.get(place + 1)?.parse().ok()
    };
    Some((after("client")?, after("admin")?))
}
