//! Network namespaces: a network between brokers, and one between each broker and its clients, that can
//! be cut independently of each other.
//!
//! ```text
//!            hub namespace: bridge                  198.19.N.128/25
//!          /         |          \
//!   broker 1      broker 2      broker 3            each in a namespace, listens on 198.18.N.i
//!          \         |          /
//!            the test's own namespace: clients      198.19.N.4i/30
//! ```
//!
//! The addresses are those that are set aside for benchmarks: nothing leaves this machine. A cut link
//! swallows packets without a word, as a broken switch does. So does a path from one broker to another
//! that is cut in one direction: the receiver drops what comes from that address. A link can be slow as
//! well, in both directions, with a queue in front of it as slow links have.

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names of everything that is made here begin with it: what a run that was killed has left behind can
/// be told by it.
const PREFIX: &str = "hwt";

/// More would not fit into the addresses between clients and brokers.
const BROKERS_MAX: usize = 16;

/// How long a packet may wait in front of a slow link before it is dropped.
const QUEUE_MS_MAX: u32 = 400;

/// Where the rules that drop packets stand: in front of the one that delivers them.
const DROP_RULE: u32 = 10;
const DELIVER_RULE: u32 = 100;

/// Networks are chosen and made one at a time.
static MAKING: Mutex<()> = Mutex::new(());

/// Namespaces of brokers and the links between them. Removed when dropped.
#[derive(Debug)]
pub struct Namespaces {
    /// Third part of every address.
    number: u8,
    /// Of the namespaces: the hub, then one for each broker.
    names: Vec<String>,
}

impl Namespaces {
    /// Makes the network of so many brokers.
    ///
    /// # Panics
    /// When it cannot be made: it takes root and the `ip` program, and a test that was skipped for want
    /// of them would pass for one that succeeded.
    #[must_use]
    pub fn new(brokers: usize) -> Self {
        assert!(brokers <= BROKERS_MAX);
        let _turn: MutexGuard<'_, ()> = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        install();
        remove_leftovers();
        let number = claim_number();
        let name = |what: &str| format!("{PREFIX}-{}-{number}-{what}", std::process::id());
        let names = std::iter::once(name("hub"))
            .chain((1..=brokers).map(|broker| name(&broker.to_string())));
        // From here on, whatever fails: what was made is removed.
        let made = Self {
            number,
            names: names.collect(),
        };
        for name in &made.names {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        ip(&format!("-n {} link add bridge type bridge", made.hub()));
        ip(&format!("-n {} link set bridge up", made.hub()));
        for index in 0..brokers {
            made.connect(index, brokers);
        }
        made
    }

    fn connect(&self, index: usize, brokers: usize) {
        let (name, hub, number) = (self.name(index), self.hub(), self.number);
        let address = self.address(index);
        ip(&format!("-n {name} addr add {address}/32 dev lo"));
        // The rule of the system stands in front of all others, and with it packets that are to be
        // dropped would be delivered.
        ip(&format!(
            "-n {name} rule add pref {DELIVER_RULE} lookup local"
        ));
        ip(&format!("-n {name} rule del pref 0"));
        // Questions for a neighbour come from the address of the link: they are never dropped.
        let announce = "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce";
        run("ip", &["netns", "exec", name, "sh", "-c", announce]);

        ip(&format!(
            "-n {name} link add brokers type veth peer name b{index} netns {hub}"
        ));
        ip(&format!("-n {hub} link set b{index} master bridge up"));
        let at = |index: usize| format!("198.19.{number}.{}", 129 + index);
        ip(&format!("-n {name} addr add {}/25 dev brokers", at(index)));
        ip(&format!("-n {name} link set brokers up"));
        for other in (0..brokers).filter(|other| *other != index) {
            let (to, via) = (self.address(other), at(other));
            ip(&format!(
                "-n {name} route add {to} via {via} dev brokers src {address}"
            ));
        }

        let link = self.client_link(index);
        let (ours, theirs) = (4 * index + 1, 4 * index + 2);
        ip(&format!(
            "link add {link} type veth peer name clients netns {name}"
        ));
        ip(&format!(
            "-n {name} addr add 198.19.{number}.{theirs}/30 dev clients"
        ));
        ip(&format!("-n {name} link set clients up"));
        ip(&format!("addr add 198.19.{number}.{ours}/30 dev {link}"));
        ip(&format!("link set {link} up"));
        ip(&format!(
            "route add {address} via 198.19.{number}.{theirs} dev {link}"
        ));
    }

    /// Address of a broker, for clients and for other brokers.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn address(&self, index: usize) -> Ipv4Addr {
        let last = u8::try_from(index + 1).expect("few brokers");
        Ipv4Addr::new(198, 18, self.number, last)
    }

    /// What stands before a command that is to run in a broker's namespace.
    #[must_use]
    pub fn enter(&self, index: usize) -> Vec<String> {
        ["ip", "netns", "exec", self.name(index)]
            .map(str::to_owned)
            .to_vec()
    }

    /// Cuts a broker off from the other brokers, or connects it again.
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn set_brokers_link(&self, index: usize, link: Link) {
        ip(&format!(
            "-n {} link set b{index} {}",
            self.hub(),
            link.word()
        ));
    }

    /// Cuts what one broker sends to another, and not what it is sent by it; or lets it through again.
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn set_path(&self, from: usize, to: usize, link: Link) {
        let change = match link {
            Link::Cut => "add",
            Link::Up => "del",
        };
        ip(&format!(
            "-n {} rule {change} pref {} from {} blackhole",
            self.name(to),
            DROP_RULE + u32::try_from(from).expect("few brokers"),
            self.address(from)
        ));
    }

    /// Makes a broker's link to the other brokers slow, in both directions, or as fast as ever.
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn set_brokers_rate(&self, index: usize, kbit_per_second: Option<u32>) {
        let ours = ["-n", self.name(index), "qdisc"];
        let theirs = ["-n", self.hub(), "qdisc"];
        let link = format!("b{index}");
        for (end, device) in [(ours, "brokers"), (theirs, link.as_str())] {
            let change = match kbit_per_second {
                None => format!("del dev {device} root"),
                Some(rate) => format!(
                    "replace dev {device} root tbf rate {rate}kbit burst 16kb latency {QUEUE_MS_MAX}ms"
                ),
            };
            let arguments: Vec<&str> = end.into_iter().chain(change.split(' ')).collect();
            run("tc", &arguments);
        }
    }

    /// Cuts a broker off from clients, or connects it again.
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn set_clients_link(&self, index: usize, link: Link) {
        // At the broker's end: the route to it stays on ours, and swallows.
        ip(&format!(
            "-n {} link set clients {}",
            self.name(index),
            link.word()
        ));
    }

    fn hub(&self) -> &str {
        &self.names[0]
    }

    fn name(&self, index: usize) -> &str {
        &self.names[index + 1]
    }

    fn client_link(&self, index: usize) -> String {
        // A link's name has 15 characters at most.
        format!("{PREFIX}{}c{index}", self.number)
    }
}

/// Whether a link carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It does.
    Up,
    /// It swallows them.
    Cut,
}

impl Link {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Cut => "down",
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Links go with the namespace that has one of their ends. What was not made cannot be removed.
        for name in &self.names {
            let _ = try_ip(&format!("netns del {name}"));
        }
        for index in 0..self.names.len() - 1 {
            let _ = try_ip(&format!("link del {}", self.client_link(index)));
        }
        let _ = try_ip(&format!("route del blackhole {}", services(self.number)));
    }
}

/// Has the `ip` program, one way or another.
fn install() {
    if Command::new("ip").arg("-V").output().is_ok() {
        return;
    }
    let install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2";
    let done = Command::new("sh").args(["-c", install]).output();
    assert!(
        done.as_ref().is_ok_and(|done| done.status.success()),
        "network namespaces take the ip program (package iproute2), which is missing and cannot be \
         installed: {done:?}"
    );
}

/// Removes what runs left behind that were killed.
fn remove_leftovers() {
    let list = ip("netns list");
    for line in list.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let mut parts = name.split('-');
        let (prefix, process, number) = (parts.next(), parts.next(), parts.next());
        let (Some(PREFIX), Some(process), Some(number)) = (prefix, process, number) else {
            continue;
        };
        if std::path::Path::new("/proc").join(process).exists() {
            continue;
        }
        // Its brokers were killed by nobody.
        for pid in ip(&format!("netns pids {name}")).lines() {
            let _ = Command::new("kill").args(["-9", pid]).output();
        }
        let _ = try_ip(&format!("netns del {name}"));
        if let Ok(number) = number.parse() {
            let _ = try_ip(&format!("route del blackhole {}", services(number)));
        }
    }
}

/// Takes a number whose addresses nobody uses. The route that shows it has another use as well: packets
/// for a broker whose link is gone go nowhere, least of all to the default route.
fn claim_number() -> u8 {
    let [.., own] = std::process::id().to_be_bytes();
    let mut last = None;
    for number in (0..=u8::MAX).map(|step| own.wrapping_add(step)) {
        let claim = format!("route add blackhole {}", services(number));
        let claimed = try_ip(&claim).expect("the ip program can be run");
        if claimed.status.success() {
            return number;
        }
        last = Some(String::from_utf8_lossy(&claimed.stderr).into_owned());
    }
    panic!("no network can be made (it takes root, CAP_NET_ADMIN): {last:?}");
}

fn services(number: u8) -> String {
    format!("198.18.{number}.0/24")
}

/// Runs `ip`.
///
/// # Panics
/// When it fails.
fn ip(arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    run("ip", &arguments)
}

/// Runs a program of iproute2.
///
/// # Panics
/// When it fails.
fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    let done = done.expect("programs of iproute2 can be run");
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {} Network namespaces take root (CAP_NET_ADMIN and CAP_SYS_ADMIN).",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn try_ip(arguments: &str) -> std::io::Result<Output> {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
}
