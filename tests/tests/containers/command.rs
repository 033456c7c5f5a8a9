//! Commands with a deadline, and the images they need.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use highwater_tests::workspace_root;

/// No command and no condition takes this long unless something hangs. Building an image may.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Run {
    command: String,
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// That it went well; its output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(
            self.ok,
            "{} failed:\n{}{}",
            self.command, self.stdout, self.stderr
        );
        self.stdout
    }
}

/// A command that runs, with everything it prints being read.
#[derive(Debug)]
pub(crate) struct Running {
    command: String,
    child: Child,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self {
            command: shown,
            child,
            stdout: read_all(stdout),
            stderr: read_all(stderr),
        }
    }

    /// Its input; dropping it is its end.
    pub(crate) fn take_stdin(&mut self) -> impl std::io::Write + Send + use<> {
        self.child.stdin.take().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self, limit: Duration) -> Run {
        drop(self.child.stdin.take());
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{} hangs", self.command);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Run {
            command: self.command,
            ok: status.success(),
            stdout: self.stdout.join().unwrap(),
            stderr: self.stderr.join().unwrap(),
        }
    }
}

fn read_all(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a command to its end, with this input.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &str) -> Run {
    let mut running = Running::start(command);
    let mut stdin = running.take_stdin();
    let input = input.to_owned();
    // Whoever does not read all of it closes the pipe.
    let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let run = running.wait(DEADLINE);
    writing.join().unwrap();
    run
}

/// `docker ARGS`
#[track_caller]
pub(crate) fn docker(args: &[&str]) -> Run {
    run(Command::new("docker").args(args), "")
}

/// Repeats an observation until it is as wanted; panics with the last one when it never is.
#[track_caller]
pub(crate) fn wait_until<T: std::fmt::Debug>(
    what: &str,
    mut observe: impl FnMut() -> T,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let started = Instant::now();
    loop {
        let observed = observe();
        if wanted(&observed) {
            println!("{what}: after {:.1?}", started.elapsed());
            return observed;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "not within {DEADLINE:?}: {what}; last seen: {observed:#?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The image under test: `HIGHWATER_TEST_IMAGE`, or one that is built here.
pub(crate) fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let engine = Command::new("docker")
            .args(["version", "--format", "{{.Server.Version}}"])
            .output();
        assert!(
            engine.as_ref().is_ok_and(|output| output.status.success()),
            "the container tests need a Docker Engine that this user may use (`docker version` must \
             show a server): {engine:?}"
        );
        if let Ok(image) = std::env::var("HIGHWATER_TEST_IMAGE") {
            return image;
        }
        let image = "highwater-test".to_owned();
        let mut build = Command::new("docker");
        build
            .args(["build", "--build-arg", "PROFILE=dev", "--tag", &image, "."])
            .current_dir(workspace_root());
        println!("{build:?}");
        Running::start(&mut build).wait(BUILD_DEADLINE).ok();
        image
    })
}

/// docker-compose: the Python program of old, or the plugin of today.
pub(crate) fn compose_program() -> &'static [String] {
    static PROGRAM: OnceLock<Vec<String>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let candidates = [&["docker-compose"][..], &["docker", "compose"]];
        for candidate in candidates {
            let mut version = Command::new(candidate[0]);
            version.args(&candidate[1..]).arg("version");
            if version.output().is_ok_and(|output| output.status.success()) {
                return candidate.iter().map(|&word| word.to_owned()).collect();
            }
        }
        panic!("the container tests need docker-compose, 1.28 or newer, or `docker compose`");
    })
}

/// A name that no other run has, and a loopback address of which that is as good as true.
pub(crate) fn unique() -> (String, String) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let prefix = std::env::var("HIGHWATER_TEST_PREFIX").unwrap_or_else(|_| "highwater-test".into());
    let pid = std::process::id();
    let address = format!("127.{}.{}.{}", 64 + pid % 64, pid / 64 % 256, 1 + number);
    (format!("{prefix}-{pid}-{number}"), address)
}

/// Where the compose file is.
pub(crate) fn compose_file() -> PathBuf {
    workspace_root().join("docker-compose.yml")
}
