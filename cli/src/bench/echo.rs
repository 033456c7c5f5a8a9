//! A TCP echo between two processes: what no request and response over loopback can beat.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::latency::Latencies;
use crate::bench::peer::{Peer, Role, patterned_bytes};

/// First exchanges that are not counted: connection windows and caches are cold.
const UNCOUNTED: u32 = 200;

/// Round trips of `bytes` bytes, one at a time.
pub(crate) fn echo(bytes: usize, duration: Duration) -> Result<Latencies> {
    let mut peer = Peer::start(Role::Echo, bytes as u64, None)?;
    peer.go()?;
    let message = patterned_bytes(bytes);
    let mut answer = vec![0; bytes];
    let mut exchange = || -> Result<Duration> {
        let begin = Instant::now();
        peer.stream().write_all(&message)?;
        peer.stream().read_exact(&mut answer)?;
        Ok(begin.elapsed())
    };
    for _ in 0..UNCOUNTED {
        exchange()?;
    }
    let mut latencies = Latencies::new();
    let start = Instant::now();
    while start.elapsed() < duration {
        latencies.record(exchange()?);
    }
    Ok(latencies)
}
