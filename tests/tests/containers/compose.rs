//! A cluster of `docker-compose.yml` under a name of its own.

use std::process::Command;

use serde_json::Value;

use crate::command::{
    Run, Running, compose_file, compose_program, docker, image, run, unique, wait_until,
};

/// The brokers of the compose file, by their node ids.
pub(crate) const BROKERS: [u32; 3] = [1, 2, 3];

/// The project. All that belongs to it goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Project {
    name: String,
    publish_on: String,
    files: String,
}

/// One partition as `topic describe` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) leader: Option<u32>,
    pub(crate) isr: Vec<u32>,
    /// `None`: nobody can tell.
    pub(crate) end: Option<u64>,
}

impl Project {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        let (name, publish_on) = unique();
        // As many as the engine can give; the file asks for more than some may.
        let files = docker(&["run", "--rm", image(), "sh", "-c", "ulimit -Hn"]).ok();
        let files = files.trim().parse::<u64>().unwrap_or(65_536).min(65_536);
        Self {
            name,
            publish_on,
            files: files.to_string(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = compose_program();
        let mut command = Command::new(&program[0]);
        command
            .args(&program[1..])
            .arg("--file")
            .arg(compose_file())
            .args(["--project-name", &self.name])
            .args(args)
            .env("IMAGE", image())
            .env("PUBLISH_ON", &self.publish_on)
            .env("NOFILE", &self.files);
        command
    }

    /// `docker-compose ARGS`
    #[track_caller]
    pub(crate) fn compose(&self, args: &[&str]) -> String {
        run(&mut self.command(args), "").ok()
    }

    /// Starts all brokers and waits until they are healthy.
    #[track_caller]
    pub(crate) fn up(&self) {
        self.compose(&["up", "--detach", "--no-build"]);
        for broker in BROKERS {
            self.wait_until_healthy(broker);
        }
    }

    /// A command of the client service that runs until its input ends.
    pub(crate) fn start_client(&self, args: &[&str]) -> Running {
        Running::start(&mut self.client_command(args))
    }

    /// `highwater ARGS` in the client service.
    #[track_caller]
    pub(crate) fn client(&self, args: &[&str]) -> Run {
        run(&mut self.client_command(args), "")
    }

    fn client_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(&["run", "--rm", "-T", "client", "highwater"]);
        command.args(args);
        command
    }

    /// The container of a broker.
    #[track_caller]
    pub(crate) fn container(&self, broker: u32) -> String {
        let id = self.compose(&["ps", "--all", "--quiet", &format!("broker{broker}")]);
        let id = id.trim().to_owned();
        assert!(!id.is_empty(), "there is no broker{broker}");
        id
    }

    /// Something that `docker inspect` knows of a broker.
    #[track_caller]
    pub(crate) fn inspect(&self, broker: u32, format: &str) -> String {
        let shown = docker(&["inspect", "--format", format, &self.container(broker)]).ok();
        shown.trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn wait_until_healthy(&self, broker: u32) {
        wait_until(
            &format!("broker{broker} is healthy"),
            || self.inspect(broker, "{{.State.Status}} {{.State.Health.Status}}"),
            |state| state == "running healthy",
        );
    }

    /// The health check of a broker, run now.
    #[track_caller]
    pub(crate) fn health(&self, broker: u32) -> Run {
        docker(&["exec", &self.container(broker), "highwater", "health"])
    }

    /// SIGKILL; it stays dead until it is started again.
    #[track_caller]
    pub(crate) fn kill(&self, broker: u32) {
        docker(&["kill", &self.container(broker)]).ok();
        wait_until(
            &format!("broker{broker} is dead"),
            || self.inspect(broker, "{{.State.Running}}"),
            |running| running == "false",
        );
    }

    fn network(&self) -> String {
        format!("{}_default", self.name)
    }

    /// Cuts a broker off from everybody.
    #[track_caller]
    pub(crate) fn disconnect(&self, broker: u32) {
        docker(&[
            "network",
            "disconnect",
            &self.network(),
            &self.container(broker),
        ])
        .ok();
    }

    /// Undoes it, with the name that the others know.
    #[track_caller]
    pub(crate) fn connect(&self, broker: u32) {
        let alias = format!("broker{broker}");
        let container = self.container(broker);
        docker(&[
            "network",
            "connect",
            "--alias",
            &alias,
            &self.network(),
            &container,
        ])
        .ok();
    }

    /// The partitions of a topic, or what hinders from seeing them.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<Partition>, String> {
        let args = ["topic", "describe", topic, "--partitions", "-o", "json"];
        let run = self.client(&[&args[..], &["--timeout", "10s"]].concat());
        if !run.ok {
            return Err(run.stderr);
        }
        let described: Value = serde_json::from_str(&run.stdout).map_err(|e| e.to_string())?;
        let partitions = described[0]["partitions"].as_array();
        let partitions = partitions.ok_or_else(|| run.stdout.clone())?;
        Ok(partitions.iter().map(Partition::of).collect())
    }

    /// Waits until every partition of a topic is as wanted.
    #[track_caller]
    pub(crate) fn wait_for_partitions(
        &self,
        what: &str,
        topic: &str,
        wanted: impl Fn(&Partition) -> bool,
    ) -> Vec<Partition> {
        let seen = wait_until(
            what,
            || self.partitions(topic),
            |seen| seen.as_ref().is_ok_and(|seen| seen.iter().all(&wanted)),
        );
        seen.unwrap()
    }

    /// The highwater command on the host's network, where `/etc/hosts` has the names of the brokers.
    #[track_caller]
    pub(crate) fn on_the_host(&self, args: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--network", "host"]);
        for broker in BROKERS {
            let host = format!("broker{broker}:{}", self.publish_on);
            command.args(["--add-host", &host]);
        }
        command.args([image(), "highwater"]).args(args);
        run(&mut command, "").ok()
    }

    /// Everything of the project: containers, volumes, networks.
    pub(crate) fn left_over(&self) -> Vec<(&'static str, String)> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let mut found = Vec::new();
        for (kind, list) in [
            ("container", &["ps", "--all"][..]),
            ("network", &["network", "ls"]),
            ("volume", &["volume", "ls"]),
        ] {
            let names = docker(&[list, &["--quiet", "--filter", &label]].concat());
            found.extend(names.stdout.lines().map(|name| (kind, name.to_owned())));
        }
        found
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for broker in BROKERS {
                let service = format!("broker{broker}");
                let logs = run(&mut self.command(&["logs", "--tail", "100", &service]), "");
                eprintln!("{}{}", logs.stdout, logs.stderr);
            }
        }
        // In this order, each can go: what `down` does not know of, such as clients that still run,
        // would keep the network.
        for (kind, name) in self.left_over() {
            let _ = match kind {
                "container" => docker(&["rm", "--force", "--volumes", &name]),
                kind => docker(&[kind, "rm", &name]),
            };
        }
    }
}

impl Partition {
    fn of(value: &Value) -> Self {
        let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let isr = value["isr"].as_array().into_iter().flatten();
        Self {
            leader: number(&value["leader"]),
            isr: isr.filter_map(number).collect(),
            end: value["end_offset"].as_u64(),
        }
    }
}
