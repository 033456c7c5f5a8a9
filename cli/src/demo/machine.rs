//! Counters of the machine this runs on, from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

/// One counter at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    /// For example `disk.vda.sectors_written`.
    pub(crate) name: String,
    pub(crate) value: u64,
}

/// Reads the counters of CPU, memory, disks and network interfaces.
#[derive(Debug)]
pub(crate) struct Machine {
    proc_dir: PathBuf,
}

impl Machine {
    /// The machine whose counters lie below `proc_dir`.
    pub(crate) fn new(proc_dir: &Path) -> Machine {
        Machine {
            proc_dir: proc_dir.to_owned(),
        }
    }

    /// All counters now; those that this kernel or container does not show are left out.
    pub(crate) fn sample(&self) -> Vec<Counter> {
        let mut counters = Vec::with_capacity(256);
        parse_cpu(&self.read("stat"), &mut counters);
        parse_memory(&self.read("meminfo"), &mut counters);
        parse_disks(&self.read("diskstats"), &mut counters);
        parse_network(&self.read("net/dev"), &mut counters);
        counters
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.proc_dir.join(file)).unwrap_or_default()
    }
}

const CPU_FIELDS: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];
const DISK_FIELDS: [&str; 9] = [
    "reads",
    "reads_merged",
    "sectors_read",
    "read_ms",
    "writes",
    "writes_merged",
    "sectors_written",
    "write_ms",
    "in_flight",
];
const NETWORK_FIELDS: [(&str, usize); 8] = [
    ("rx_bytes", 0),
    ("rx_packets", 1),
    ("rx_errors", 2),
    ("rx_dropped", 3),
    ("tx_bytes", 8),
    ("tx_packets", 9),
    ("tx_errors", 10),
    ("tx_dropped", 11),
];

fn parse_cpu(stat: &str, counters: &mut Vec<Counter>) {
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next() else { continue };
        if name.starts_with("cpu") {
            push_all(name, CPU_FIELDS.iter().copied().zip(fields), counters);
        } else if let ("ctxt" | "processes" | "procs_running", Some(value)) = (name, fields.next())
        {
            push("system", name, value, counters);
        }
    }
}

fn parse_memory(meminfo: &str, counters: &mut Vec<Counter>) {
    for line in meminfo.lines() {
        if let Some((name, rest)) = line.split_once(':')
            && let Some(value) = rest.split_ascii_whitespace().next()
        {
            push("memory", name, value, counters);
        }
    }
}

fn parse_disks(diskstats: &str, counters: &mut Vec<Counter>) {
    for line in diskstats.lines() {
        let mut fields = line.split_ascii_whitespace().skip(2);
        if let Some(device) = fields.next() {
            push_all(
                &format!("disk.{device}"),
                DISK_FIELDS.iter().copied().zip(fields),
                counters,
            );
        }
    }
}

fn parse_network(net_dev: &str, counters: &mut Vec<Counter>) {
    for line in net_dev.lines().skip(2) {
        let Some((interface, rest)) = line.split_once(':') else {
            continue;
        };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let named = NETWORK_FIELDS
            .iter()
            .filter_map(|&(name, at)| fields.get(at).map(|field| (name, *field)));
        push_all(&format!("net.{}", interface.trim()), named, counters);
    }
}

fn push_all<'a>(
    prefix: &str,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    counters: &mut Vec<Counter>,
) {
    for (name, value) in fields {
        push(prefix, name, value, counters);
    }
}

fn push(prefix: &str, name: &str, value: &str, counters: &mut Vec<Counter>) {
    if let Ok(value) = value.parse() {
        counters.push(Counter {
            name: format!("{prefix}.{name}"),
            value,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Counter, Machine, parse_cpu, parse_disks, parse_memory, parse_network};

    fn names_and_values(parse: fn(&str, &mut Vec<Counter>), text: &str) -> Vec<(String, u64)> {
        let mut counters = Vec::new();
        parse(text, &mut counters);
        counters
            .into_iter()
            .map(|counter| (counter.name, counter.value))
            .collect()
    }

    fn has(counters: &[(String, u64)], name: &str, value: u64) -> bool {
        counters
            .iter()
            .any(|counter| counter.0 == name && counter.1 == value)
    }

    #[test]
    fn each_file_of_the_kernel_is_understood() {
        let cpu = names_and_values(parse_cpu, "cpu0 1 2 3 4 5 6 7 8 9 10\nintr 5 6\nctxt 77\n");
        assert!(
            has(&cpu, "cpu0.user", 1) && has(&cpu, "cpu0.steal", 8),
            "{cpu:?}"
        );
        assert!(has(&cpu, "system.ctxt", 77));
        let memory = names_and_values(parse_memory, "MemTotal:  100 kB\nHugePages_Total:  0\n");
        assert!(has(&memory, "memory.MemTotal", 100) && has(&memory, "memory.HugePages_Total", 0));
        let disks = names_and_values(parse_disks, " 254 0 vda 10 11 12 13 14 15 16 17 0 18 19\n");
        assert!(has(&disks, "disk.vda.reads", 10) && has(&disks, "disk.vda.sectors_written", 16));
        let net = "Inter-| x\n face | y\n  lo: 5 6 0 0 0 0 0 0 7 8 0 0 0 0 0 0\n";
        let net = names_and_values(parse_network, net);
        assert!(
            has(&net, "net.lo.rx_bytes", 5) && has(&net, "net.lo.tx_bytes", 7),
            "{net:?}"
        );
    }

    #[test]
    fn what_is_missing_or_garbled_is_left_out() {
        assert_eq!(Machine::new(Path::new("/nonexistent")).sample(), []);
        assert!(names_and_values(parse_cpu, "cpu0 x y\n\n").is_empty());
    }
}
