//! What a process has used so far: CPU time and memory of its own, from `/proc`.

use std::fs;
use std::time::Duration;

/// `USER_HZ`: the unit of the times in `/proc/PID/stat`. 100 on every architecture we build for;
/// it is part of the kernel's interface to programs, not the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of all threads, the ended ones included; `None` if the process is gone.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// CPU time of this process.
pub(crate) fn own_cpu_time() -> Option<Duration> {
    cpu_time(std::process::id())
}

/// Resident bytes that belong to the process alone: no file mappings.
pub(crate) fn resident_anonymous(pid: u32) -> Option<u64> {
    parse_resident_anonymous(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold spaces and parentheses: count fields behind the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some(Duration::from_millis(
        ticks.checked_mul(1000 / TICKS_PER_SECOND)?,
    ))
}

fn parse_resident_anonymous(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{own_cpu_time, parse_cpu_time, parse_resident_anonymous};

    #[test]
    fn cpu_time_is_found_behind_any_process_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu_time("12 (a) S 1 2"), None);
        assert!(own_cpu_time().is_some());
    }

    #[test]
    fn resident_memory_leaves_file_mappings_out() {
        let status = "VmRSS:\t 900 kB\nRssAnon:\t     12 kB\nRssFile:\t 800 kB\n";
        assert_eq!(parse_resident_anonymous(status), Some(12 * 1024));
    }
}
