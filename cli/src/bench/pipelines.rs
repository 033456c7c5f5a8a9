//! The two bare pipelines that bound any broker on this machine, and loopback by itself.
//!
//! `sink` is what a produce path would be without protocol, checks and index: one loopback stream
//! received into a reused buffer and written to a fresh, allocated file. `source` is what a
//! consume path would be: a file in the page cache sent over one loopback stream and received in
//! another process.
//!
//! How the file is written and sent was chosen by measurement (2 cores, ext4, 2 GiB, medians of
//! several): `pwrite` of 1 MiB and a memcpy into a prefaulted map ran within the noise of each
//! other, so `sink` uses the plain call; writing to the socket from a map ran at 2.0 to 2.6 GB/s and
//! `sendfile` at 1.5 to 1.9, so `source` uses the map.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::peer::{CHUNK_BYTES, Peer, Role, patterned_bytes};
use crate::bench::scratch::Scratch;

/// Bytes per second of `streams` loopback connections from as many processes.
pub(crate) fn loopback(streams: u32, bytes: u64) -> Result<f64> {
    let bytes_each = bytes / u64::from(streams.max(1));
    let mut peers = (0..streams)
        .map(|_| Peer::start(Role::Send, bytes_each, None))
        .collect::<Result<Vec<Peer>>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let receivers: Vec<_> = peers
            .iter_mut()
            .map(|peer| scope.spawn(move || receive(peer, bytes_each, |_, _| Ok(()))))
            .collect();
        for receiver in receivers {
            receiver
                .join()
                .map_err(|_| anyhow::anyhow!("a receiving thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(rate(bytes_each * u64::from(streams), start.elapsed()))
}

/// Bytes per second of one loopback stream received into a fresh, allocated file.
pub(crate) fn sink(scratch: &Scratch, bytes: u64) -> Result<f64> {
    let file = scratch.allocated_file("sink", bytes)?;
    let mut peer = Peer::start(Role::Send, bytes, None)?;
    let start = Instant::now();
    receive(&mut peer, bytes, |chunk, position| {
        file.write_all_at(chunk, position)
            .context("writing the file of the sink")
    })?;
    let elapsed = start.elapsed();
    scratch.remove_file("sink")?;
    Ok(rate(bytes, elapsed))
}

/// Bytes per second of a file in the page cache sent over one loopback stream and received.
pub(crate) fn source(scratch: &Scratch, bytes: u64) -> Result<f64> {
    let file = scratch.allocated_file("source", bytes)?;
    fill(&file, bytes)?;
    let mut peer = Peer::start(Role::SendFile, bytes, Some(&scratch.path("source")))?;
    let start = Instant::now();
    receive(&mut peer, bytes, |_, _| Ok(()))?;
    let elapsed = start.elapsed();
    scratch.remove_file("source")?;
    Ok(rate(bytes, elapsed))
}

/// Receives exactly `bytes` into one buffer that is used again and again.
fn receive(
    peer: &mut Peer,
    bytes: u64,
    mut take: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    peer.go()?;
    let mut position = 0;
    while position < bytes {
        let length = peer
            .stream()
            .read(&mut buffer)
            .context("receiving from the peer")?;
        ensure!(
            length > 0,
            "the peer process ended after {position} of {bytes} bytes"
        );
        take(&buffer[..length], position)?;
        position += length as u64;
    }
    Ok(())
}

/// Writes `bytes` patterned bytes from the start of the file.
pub(crate) fn fill(file: &File, bytes: u64) -> Result<()> {
    let pattern = patterned_bytes(CHUNK_BYTES);
    let mut file = file;
    let mut left = bytes;
    while left > 0 {
        let chunk = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        file.write_all(&pattern[..chunk])?;
        left -= chunk as u64;
    }
    Ok(())
}

/// Bytes per second.
#[allow(clippy::cast_precision_loss)] // a benchmark moves less than 2^53 bytes
pub(crate) fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}
