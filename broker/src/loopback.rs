//! Addresses for several brokers on one machine: in tests, demonstrations and benchmarks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses that are tried before giving up.
const TRIES_MAX: usize = 64;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Loopback addresses on which a broker can listen and nobody else does, each with an IP of its own: a
/// broker that was ended gets its port back, because nobody else takes ports there.
///
/// # Errors
/// When none of the addresses that were tried has a free port.
pub fn free_loopback_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    let mut found = Vec::with_capacity(count);
    for _ in 0..TRIES_MAX.saturating_add(count) {
        if found.len() == count {
            break;
        }
        match TcpListener::bind((next_ip(), 0)).and_then(|listener| listener.local_addr()) {
            Ok(address) => found.push(address),
            Err(error) => last = error,
        }
    }
    if found.len() == count {
        Ok(found)
    } else {
        Err(last)
    }
}

/// A loopback address that this process has not used, and others of this machine hardly have.
fn next_ip() -> Ipv4Addr {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let [_, _, high, low] = process.to_be_bytes();
    // 127.0.x.x is where everybody else is.
    let [_, _, _, own] = number.to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 250, low, 1 + own % 250)
}
