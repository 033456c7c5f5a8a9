//! Makes the hypervisor back the memory that a measured run is about to use.
//!
//! On a virtual machine, memory that was freed goes back to the host within a second or so, and
//! its first touch afterwards costs two to three times as much as everything a broker does with
//! it. A run that starts on memory that went back measures the hypervisor.

use std::fs;
use std::hint::black_box;

/// Most that is touched: more than one run writes, little enough to take half a second.
const WARM_BYTES_MAX: u64 = 4 << 30;

/// What is released at a time.
const CHUNK_BYTES: usize = 32 << 20;

/// What is kept released during a run: more than all brokers together take between two looks.
const RELEASED_BYTES: u64 = 384 << 20;

const PAGE: usize = 4096;

/// Memory that was touched and is still held, to be released bit by bit while a run takes it.
#[derive(Debug)]
pub(crate) struct WarmMemory {
    chunks: Vec<Vec<u8>>,
    /// What shall be free.
    level: u64,
}

impl WarmMemory {
    /// Touches up to 4 GiB, and never more than half of what is available.
    pub(crate) fn take() -> WarmMemory {
        let read = |field| meminfo().and_then(|text| parse(&text, field));
        let bytes =
            read("MemAvailable:").map_or(0, |available| (available / 2).min(WARM_BYTES_MAX));
        let count = usize::try_from(bytes).map_or(0, |bytes| bytes / CHUNK_BYTES);
        let chunks: Vec<_> = std::iter::repeat_with(warm_chunk).take(count).collect();
        WarmMemory {
            level: read("MemFree:").map_or(0, |free| free + RELEASED_BYTES),
            chunks,
        }
    }

    /// Releases as much as was taken since the last look. The kernel gives out first what was released
    /// last, so a run gets warm memory however long it lasts, while there is some left.
    pub(crate) fn release(&mut self) {
        let Some(free) = meminfo().and_then(|text| parse(&text, "MemFree:")) else {
            return;
        };
        let missing = self.level.saturating_sub(free);
        let count = missing.div_ceil(CHUNK_BYTES as u64);
        let keep = self
            .chunks
            .len()
            .saturating_sub(usize::try_from(count).unwrap_or(0));
        self.chunks.truncate(keep);
    }
}

/// Touches and releases up to 4 GiB, for a run that is over before any of it has gone back.
pub(crate) fn warm_memory() {
    drop(WarmMemory::take());
}

fn warm_chunk() -> Vec<u8> {
    // Zeroed memory of this size comes as an untouched mapping: the loop is the first touch.
    let mut memory = vec![0_u8; CHUNK_BYTES];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    black_box(memory)
}

fn meminfo() -> Option<String> {
    fs::read_to_string("/proc/meminfo").ok()
}

/// Bytes of a line of `/proc/meminfo`.
fn parse(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:       24000 kB\nMemFree:  1 kB\nMemAvailable:   23000 kB\n";
        assert_eq!(parse(text, "MemAvailable:"), Some(23_000 * 1024));
        assert_eq!(parse(text, "MemFree:"), Some(1024));
        assert_eq!(parse("MemTotal: 1 kB\n", "MemFree:"), None);
    }
}
