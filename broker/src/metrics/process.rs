//! What the kernel knows about this process, under the names that every program uses.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks a second of the times in `/proc`: the kernel's interface has it fixed for all but one
/// architecture that nobody runs this on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

#[derive(Debug, Default, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    started_after_boot_seconds: f64,
    virtual_bytes: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    resident_bytes: Option<u64>,
    resident_anonymous_bytes: Option<u64>,
    resident_file_bytes: Option<u64>,
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let stat = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| parse_stat(&text));
        let status = fs::read_to_string("/proc/self/status")
            .map(|text| parse_status(&text))
            .unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| parse_boot_time(&text));
        let limits = fs::read_to_string("/proc/self/limits").ok();

        let bytes = |value: Option<u64>| value.map(|bytes| bytes as f64);
        let name = "process_resident_memory_bytes";
        gauge(
            name,
            "Resident memory, mapped files included",
            bytes(status.resident_bytes),
        )?;
        let name = "process_resident_anonymous_bytes";
        let help = "Resident memory that is no file's";
        gauge(name, help, bytes(status.resident_anonymous_bytes))?;
        let name = "process_resident_file_bytes";
        let help = "Resident memory of mapped files: page cache that the kernel can take back";
        gauge(name, help, bytes(status.resident_file_bytes))?;
        let virtual_bytes = bytes(stat.as_ref().map(|stat| stat.virtual_bytes));
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            virtual_bytes,
        )?;
        let threads = bytes(stat.as_ref().map(|stat| stat.threads));
        gauge("process_threads", "Threads", threads)?;
        gauge(
            "process_open_fds",
            "Open file descriptors",
            bytes(open_fds()),
        )?;
        let max_fds = bytes(limits.as_deref().and_then(parse_max_fds));
        gauge(
            "process_max_fds",
            "Most file descriptors that may be open",
            max_fds,
        )?;
        let started = boot
            .zip(stat.as_ref())
            .map(|(boot, stat)| boot + stat.started_after_boot_seconds);
        gauge(
            "process_start_time_seconds",
            "Start, in seconds since the Unix epoch",
            started,
        )?;

        if let Some(stat) = stat {
            let help = "CPU time used";
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(stat.cpu_seconds).encode(metric)?;
        }
        Ok(())
    }
}

/// The second field is the program's name and may contain anything, so fields count from behind the
/// last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text
        .get(text.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .collect();
    // Numbered from 1 in proc(5), and the first field here is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        threads: field(20)?,
        started_after_boot_seconds: field(22)? as f64 / TICKS_PER_SECOND,
        virtual_bytes: field(23)?,
    })
}

fn parse_status(text: &str) -> Status {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Status {
        resident_bytes: field("VmRSS"),
        resident_anonymous_bytes: field("RssAnon"),
        resident_file_bytes: field("RssFile"),
    }
}

fn parse_boot_time(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// The soft limit: the first of the two numbers.
fn parse_max_fds(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Newer kernels tell the number as the size of the directory, older ones make one count.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => Some(fs::read_dir(directory).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_contain_anything() {
        let text = "7 (a) b) 9) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 13 0 4200 8192 99 18446744073709551615";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                cpu_seconds: 2.0,
                threads: 13,
                started_after_boot_seconds: 42.0,
                virtual_bytes: 8192
            })
        );
        for bad in [
            "",
            ")",
            "1 (a) S 1",
            "1 a S",
            "(x) S x x x x x x x x x x x x x",
        ] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn memory_and_limits_are_found() {
        let status = parse_status("Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t1024 kB\nRssFile: x\n");
        assert_eq!(status.resident_bytes, Some(2 << 20));
        assert_eq!(status.resident_anonymous_bytes, Some(1 << 20));
        assert_eq!(status.resident_file_bytes, None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  524288  files\n";
        assert_eq!(parse_max_fds(limits), Some(1024));
        assert_eq!(
            parse_max_fds("Max open files unlimited unlimited files"),
            None
        );
        assert_eq!(
            parse_boot_time("cpu 1\nbtime 1700000000\n"),
            Some(1_700_000_000.0)
        );
    }

    #[test]
    fn this_process_is_there() {
        assert!(open_fds().is_some_and(|count| count > 2));
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(parse_stat(&text).is_some_and(|stat| stat.threads > 0));
    }
}
