//! A cluster of real broker processes, to be killed, paused and restarted.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use highwater_broker::free_loopback_addresses;
use tempfile::TempDir;

use crate::broker_process::BrokerProcess;
use crate::namespaces::Namespaces;

/// Timeouts short enough for a test, and long enough for a busy machine.
pub const QUICK: &[&str] = &[
    "cluster.heartbeat.interval=100ms",
    "cluster.session.timeout=1500ms",
    "cluster.election.timeout=500ms",
    "replica.lag.time.max=2s",
    "replica.fetch.wait.max=200ms",
    "leader.balance.interval=7d",
];

/// What brokers log, to find out what happened when a test failed.
const LOG: &str = "log.level=info,openraft=off";

/// Lines of each broker's log that are shown when a test failed.
const LINES_SHOWN: usize = 40;

/// Port of brokers that have a network of their own.
const PORT: u16 = 9092;

/// Broker processes that form one cluster. Killed when dropped; their logs are kept when a test failed.
#[derive(Debug)]
pub struct ClusterProcess {
    brokers: Vec<Node>,
    seeds: Vec<String>,
    settings: Vec<String>,
    dir: Option<TempDir>,
    /// Where the brokers are, if not on this host's loopback interface. Dropped after the brokers.
    namespaces: Option<Namespaces>,
}

#[derive(Debug)]
struct Node {
    listen: String,
    data_dir: PathBuf,
    log: PathBuf,
    prefix: Vec<String>,
    settings: Vec<String>,
    process: Option<BrokerProcess>,
}

impl ClusterProcess {
    /// Starts brokers, each on a loopback address of its own, so that one that was ended gets its port
    /// back.
    ///
    /// # Panics
    /// When they do not serve.
    #[must_use]
    pub fn start(brokers: usize, settings: &[&str]) -> Self {
        Self::start_prepared(brokers, settings, |_, _| Vec::new())
    }

    /// Starts brokers whose empty data directories were prepared by `prepare`, which returns what stands
    /// before the command line of that broker.
    ///
    /// # Panics
    /// When they do not serve.
    #[must_use]
    pub fn start_prepared(
        brokers: usize,
        settings: &[&str],
        prepare: impl FnMut(usize, &Path) -> Vec<String>,
    ) -> Self {
        Self::start_at(&free_addresses(brokers), settings, None, prepare)
    }

    /// Starts brokers, each in a network namespace of its own.
    ///
    /// # Panics
    /// When the namespaces cannot be made (it takes root), or the brokers do not serve.
    #[must_use]
    pub fn start_in_namespaces(brokers: usize, settings: &[&str]) -> Self {
        let namespaces = Namespaces::new(brokers);
        let places = 0..brokers;
        let listen: Vec<String> = places
            .clone()
            .map(|index| format!("{}:{PORT}", namespaces.address(index)))
            .collect();
        let mut prefixes = places
            .map(|index| namespaces.enter(index))
            .collect::<Vec<_>>();
        let prefix = |index: usize, _: &Path| std::mem::take(&mut prefixes[index]);
        Self::start_at(&listen, settings, Some(namespaces), prefix)
    }

    fn start_at(
        listen: &[String],
        settings: &[&str],
        namespaces: Option<Namespaces>,
        mut prepare: impl FnMut(usize, &Path) -> Vec<String>,
    ) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("highwater-cluster-")
            .tempdir()
            .expect("a directory");
        let seeds = listen.to_vec();
        let brokers = listen.iter().enumerate().map(|(index, listen)| {
            let mut node = Node::new(dir.path(), index, listen, &seeds);
            std::fs::create_dir(&node.data_dir).expect("a directory");
            node.prefix = prepare(index, &node.data_dir);
            node
        });
        let mut cluster = Self {
            brokers: brokers.collect(),
            seeds,
            settings: settings.iter().map(ToString::to_string).collect(),
            dir: Some(dir),
            namespaces,
        };
        cluster.restart_all();
        cluster
    }

    /// Where clients connect.
    #[must_use]
    pub fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// Where clients connect, without one of the brokers.
    #[must_use]
    pub fn seeds_without(&self, index: usize) -> Vec<String> {
        let mut seeds = self.seeds.clone();
        seeds.remove(index);
        seeds
    }

    /// Where one broker listens.
    ///
    /// # Panics
    /// When it is no address.
    #[must_use]
    pub fn address(&self, index: usize) -> SocketAddr {
        self.seeds[index].parse().expect("an address")
    }

    /// The network of brokers in namespaces.
    ///
    /// # Panics
    /// When they are in none.
    #[must_use]
    pub fn network(&self) -> &Namespaces {
        self.namespaces.as_ref().expect("brokers in namespaces")
    }

    /// The process of a broker.
    ///
    /// # Panics
    /// While it is down.
    #[must_use]
    pub fn broker(&self, index: usize) -> &BrokerProcess {
        let process = self.brokers[index].process.as_ref();
        process.expect("the broker runs")
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When the broker is down.
    pub fn kill(&mut self, index: usize) {
        self.note(index, "SIGKILL");
        self.take(index).kill();
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Panics
    /// When the broker is down or does not end in order.
    pub fn terminate(&mut self, index: usize) {
        self.note(index, "SIGTERM");
        self.take(index).terminate();
    }

    /// SIGSTOP.
    ///
    /// # Panics
    /// When the broker is down.
    pub fn pause(&self, index: usize) {
        self.broker(index).pause();
        self.note(index, "SIGSTOP");
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When the broker is down.
    pub fn resume(&self, index: usize) {
        self.note(index, "SIGCONT");
        self.broker(index).resume();
    }

    /// Starts a broker again that was killed or terminated, on its data and its address.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn restart(&mut self, index: usize) {
        assert!(self.brokers[index].process.is_none(), "the broker is down");
        self.brokers[index].start(&self.settings);
    }

    /// Starts all brokers that are down, at the same time: none can serve before there is a quorum.
    ///
    /// # Panics
    /// When they do not serve.
    pub fn restart_all(&mut self) {
        let settings = &self.settings;
        std::thread::scope(|scope| {
            for broker in &mut self.brokers {
                if broker.process.is_none() {
                    scope.spawn(|| broker.start(settings));
                }
            }
        });
    }

    /// Starts a broker that was killed or terminated, which must not come to serve, and returns what it
    /// logged.
    ///
    /// # Panics
    /// When it serves.
    #[must_use]
    pub fn refused(&self, index: usize) -> String {
        let broker = &self.brokers[index];
        assert!(broker.process.is_none(), "the broker is down");
        let settings = broker.settings(&self.settings);
        BrokerProcess::refused(&broker.data_dir, &broker.listen, &settings)
    }

    /// Starts one more broker, with the next id and an empty directory, and returns its number.
    ///
    /// # Panics
    /// When it does not serve, or the others are in namespaces: there is none for it.
    pub fn add(&mut self) -> usize {
        assert!(self.namespaces.is_none(), "there is no namespace for it");
        let index = self.brokers.len();
        let listen = free_addresses(1).remove(0);
        let dir = self.dir.as_ref().expect("it is there until the end");
        let mut node = Node::new(dir.path(), index, &listen, &self.seeds);
        node.start(&self.settings);
        self.brokers.push(node);
        self.seeds.push(listen);
        index
    }

    /// Where a broker keeps its data.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> &Path {
        &self.brokers[index].data_dir
    }

    /// What a broker has logged so far.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        let log = std::fs::read(&self.brokers[index].log).expect("the log can be read");
        String::from_utf8_lossy(&log).into_owned()
    }

    fn take(&mut self, index: usize) -> BrokerProcess {
        let process = self.brokers[index].process.take();
        process.expect("the broker runs")
    }

    /// Says in a broker's log what is done to it.
    pub fn note(&self, index: usize, what: &str) {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .open(&self.brokers[index].log);
        // A line that is missing breaks no test.
        let _ = log.and_then(|mut log| writeln!(log, "---- {what}"));
    }
}

impl Node {
    fn new(dir: &Path, index: usize, listen: &str, seeds: &[String]) -> Self {
        let number = index + 1;
        Self {
            listen: listen.to_owned(),
            data_dir: dir.join(format!("data-{number}")),
            log: dir.join(format!("broker-{number}.log")),
            prefix: Vec::new(),
            settings: vec![
                format!("node.id={number}"),
                format!("cluster.seeds={}", seeds.join(",")),
                LOG.to_owned(),
            ],
            process: None,
        }
    }

    fn settings<'a>(&'a self, shared: &'a [String]) -> Vec<&'a str> {
        let all = self.settings.iter().chain(shared);
        all.map(String::as_str).collect()
    }

    fn start(&mut self, shared: &[String]) {
        let process = BrokerProcess::start_logged(
            &self.prefix,
            &self.data_dir,
            &self.listen,
            &self.settings(shared),
            &self.log,
        );
        self.process = Some(process);
    }
}

impl Drop for ClusterProcess {
    fn drop(&mut self) {
        for broker in &mut self.brokers {
            broker.process = None;
        }
        if !std::thread::panicking() {
            return;
        }
        if let Some(dir) = self.dir.take() {
            for broker in &self.brokers {
                // What fills the disk, and what nobody looks at first.
                let _ = std::fs::remove_dir_all(&broker.data_dir);
                let log = std::fs::read_to_string(&broker.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
                eprintln!("==== {}\n{}", broker.log.display(), shown.join("\n"));
            }
            eprintln!("==== the logs are kept in {}", dir.keep().display());
        }
    }
}

/// Addresses on which a broker can listen and nobody else does.
fn free_addresses(count: usize) -> Vec<String> {
    let addresses = free_loopback_addresses(count).expect("a loopback address has free ports");
    addresses.iter().map(ToString::to_string).collect()
}
