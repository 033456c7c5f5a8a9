//! What memory and disk do by themselves.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::latency::Latencies;
use crate::bench::peer::{CHUNK_BYTES, patterned_bytes};
use crate::bench::pipelines::{fill, rate};
use crate::bench::scratch::Scratch;

/// Larger than any cache, so that memory is measured.
const MEMCPY_BYTES: usize = 128 << 20;
/// Room for the small appends of [`fdatasync`]; whoever fills it within a run has no disk.
const SYNC_FILE_BYTES: u64 = 64 << 20;

/// Bytes per second copied from memory to memory.
pub(crate) fn memcpy(duration: Duration) -> f64 {
    let source = patterned_bytes(MEMCPY_BYTES);
    let mut target = source.clone();
    let start = Instant::now();
    let mut copied = 0;
    while start.elapsed() < duration {
        target.copy_from_slice(black_box(&source));
        black_box(&mut target);
        copied += MEMCPY_BYTES as u64;
    }
    rate(copied, start.elapsed())
}

/// Bytes per second written to a fresh, allocated file in chunks of 1 MiB, never synced.
pub(crate) fn sequential_write(scratch: &Scratch, bytes: u64) -> Result<f64> {
    let file = scratch.allocated_file("sequential", bytes)?;
    let start = Instant::now();
    fill(&file, bytes)?;
    let elapsed = start.elapsed();
    scratch.remove_file("sequential")?;
    Ok(rate(bytes, elapsed))
}

/// Bytes per second written with one `fdatasync` per 1 MiB.
pub(crate) fn sequential_write_synced(
    scratch: &Scratch,
    bytes_max: u64,
    duration: Duration,
) -> Result<f64> {
    let file = scratch.allocated_file("sequential-synced", bytes_max)?;
    let chunk = patterned_bytes(CHUNK_BYTES);
    let start = Instant::now();
    let mut position = 0;
    while position < bytes_max && start.elapsed() < duration {
        file.write_all_at(&chunk, position)?;
        file.sync_data().context("fdatasync")?;
        position += chunk.len() as u64;
    }
    let elapsed = start.elapsed();
    scratch.remove_file("sequential-synced")?;
    Ok(rate(position, elapsed))
}

/// Latency of appending `bytes` bytes to an allocated file and syncing them, one after the other.
pub(crate) fn fdatasync(scratch: &Scratch, bytes: usize, duration: Duration) -> Result<Latencies> {
    let file = scratch.allocated_file("small-appends", SYNC_FILE_BYTES)?;
    let record = patterned_bytes(bytes);
    let mut latencies = Latencies::new();
    let start = Instant::now();
    let mut position = 0;
    while start.elapsed() < duration && position + bytes as u64 <= SYNC_FILE_BYTES {
        let begin = Instant::now();
        file.write_all_at(&record, position)?;
        file.sync_data().context("fdatasync")?;
        latencies.record(begin.elapsed());
        position += bytes as u64;
    }
    scratch.remove_file("small-appends")?;
    Ok(latencies)
}
