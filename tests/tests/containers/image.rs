//! The image alone: one broker, as `docker run` starts it.

use std::process::Command;

use crate::command::{Run, docker, image, run, unique, wait_until};

/// A container and its volume. Both go when it is dropped.
struct Container {
    name: String,
}

impl Container {
    fn start() -> Self {
        let (name, _) = unique();
        let container = Self { name };
        let volume = format!("{}:/var/lib/highwater", container.name);
        // No port is published: whoever asks does so from within.
        docker(&[
            "run",
            "--detach",
            "--name",
            &container.name,
            "--read-only",
            "--cap-drop",
            "ALL",
            "--volume",
            &volume,
            image(),
        ])
        .ok();
        container
    }

    fn inspect(&self, format: &str) -> String {
        let shown = docker(&["inspect", "--format", format, &self.name]).ok();
        shown.trim().to_owned()
    }

    fn wait_until_healthy(&self) {
        wait_until(
            &format!("{} is healthy", self.name),
            || self.inspect("{{.State.Status}} {{.State.Health.Status}}"),
            |state| state == "running healthy",
        );
    }

    fn exec(&self, args: &[&str], input: &str) -> Run {
        let mut command = Command::new("docker");
        command
            .args(["exec", "--interactive", &self.name, "highwater"])
            .args(args);
        run(&mut command, input)
    }

    fn records(&self) -> String {
        self.exec(&["consume", "t", "-e"], "").ok()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = docker(&["logs", &self.name]);
            eprintln!("{}{}", logs.stdout, logs.stderr);
        }
        let _ = docker(&["rm", "--force", &self.name]);
        let _ = docker(&["volume", "rm", "--force", &self.name]);
    }
}

#[test]
fn one_container_is_a_broker_that_keeps_its_data() {
    let container = Container::start();
    container.wait_until_healthy();
    container
        .exec(&["topic", "create", "t", "-p", "1", "-r", "1"], "")
        .ok();
    container.exec(&["produce", "t"], "one\ntwo\n").ok();

    // In order: SIGTERM reaches the broker, not a shell.
    docker(&["stop", "--time", "60", &container.name]).ok();
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "0");
    docker(&["start", &container.name]).ok();
    container.wait_until_healthy();
    container.exec(&["produce", "t"], "three\n").ok();
    assert_eq!(container.records(), "one\ntwo\nthree\n");

    docker(&["kill", &container.name]).ok();
    docker(&["start", &container.name]).ok();
    container.wait_until_healthy();
    assert_eq!(container.records(), "one\ntwo\nthree\n");
}

#[test]
fn a_broker_that_does_not_answer_is_unhealthy() {
    let container = Container::start();
    container.wait_until_healthy();
    // The process stops, the container does not.
    docker(&["kill", "--signal", "STOP", &container.name]).ok();
    let health = container.exec(&["health", "--timeout", "500ms"], "");
    docker(&["kill", "--signal", "CONT", &container.name]).ok();
    assert!(
        !health.ok && health.stderr.contains("no answer"),
        "{health:?}"
    );
    wait_until(
        "it answers again",
        || container.exec(&["health"], "").ok,
        |ok| *ok,
    );
}

#[test]
fn the_broker_is_nobody_special() {
    let container = Container::start();
    container.wait_until_healthy();
    assert_eq!(container.inspect("{{.Config.User}}"), "7171:7171");
    let status = docker(&["exec", &container.name, "cat", "/proc/1/status"]).ok();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("Name:"), ["highwater"]);
    assert_eq!(line("Uid:"), ["7171"; 4]);
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
    // 2: a filter, the engine's default one.
    assert_eq!(line("Seccomp:"), ["2"]);
    let written = docker(&["exec", &container.name, "touch", "/usr/local/bin/x"]);
    assert!(
        !written.ok && written.stderr.contains("Read-only"),
        "{written:?}"
    );
}
