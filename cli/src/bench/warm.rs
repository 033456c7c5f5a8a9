//! Makes the hypervisor back the memory that a measured run is about to use.
//!
//! On a virtual machine, memory that was freed goes back to the host within a second or so, and
//! its first touch afterwards costs two to three times as much as everything a broker does with
//! it. A run that starts on memory that went back measures the hypervisor.

use std::fs;
use std::hint::black_box;

/// Most that is touched: more than one run writes, little enough to take half a second.
const WARM_BYTES_MAX: u64 = 4 << 30;
const PAGE: usize = 4096;

/// Touches and releases up to 4 GiB, and never more than half of what is available.
pub(crate) fn warm_memory() {
    let bytes = available_memory().map_or(0, |available| (available / 2).min(WARM_BYTES_MAX));
    let Ok(bytes) = usize::try_from(bytes) else {
        return;
    };
    // Zeroed memory of this size comes as an untouched mapping: the loop is the first touch.
    let mut memory = vec![0_u8; bytes];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    black_box(&memory);
}

/// What the kernel says can be had without swapping.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    parse_available(&text)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::parse_available;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:       24000 kB\nMemFree:  1 kB\nMemAvailable:   23000 kB\n";
        assert_eq!(parse_available(text), Some(23_000 * 1024));
        assert_eq!(parse_available("MemTotal: 1 kB\n"), None);
    }
}
