//! Accepting connections and dealing them out to the network threads.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::network_thread::NetworkThread;
use crate::shared::Shared;

/// A pause after an accept that failed because descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the first address that `listen` resolves to.
pub(crate) async fn bind(listen: &str, backlog: u32) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
    for address in tokio::net::lookup_host(listen).await? {
        match bind_address(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted broker gets its port back while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Accepts until shutdown begins.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    threads: Vec<NetworkThread>,
) -> Vec<NetworkThread> {
    let by_ip = Arc::new(ByIp::default());
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return threads,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = Slot::take(&shared, &by_ip, address.ip()) else {
            debug!(%address, "connection refused: too many");
            shared.metrics.connection_refused();
            continue;
        };
        match prepare(stream) {
            Ok(stream) => {
                threads[next % threads.len()].serve(stream, address, slot);
                next = next.wrapping_add(1);
            }
            Err(error) => debug!(%address, %error, "connection lost while it was accepted"),
        }
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Open connections by address.
#[derive(Debug, Default)]
struct ByIp {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the connections that may be open; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    by_ip: Arc<ByIp>,
    ip: IpAddr,
}

impl Slot {
    fn take(shared: &Arc<Shared>, by_ip: &Arc<ByIp>, ip: IpAddr) -> Option<Self> {
        let network = &shared.config.network;
        if shared.connections.load(Ordering::Acquire) >= network.connections_max {
            return None;
        }
        let mut open = by_ip.open.lock();
        let of_ip = open.entry(ip).or_insert(0);
        if *of_ip >= network.connections_per_ip_max {
            return None;
        }
        *of_ip += 1;
        drop(open);
        shared.connections.fetch_add(1, Ordering::AcqRel);
        shared.metrics.connection_opened();
        Some(Self {
            shared: Arc::clone(shared),
            by_ip: Arc::clone(by_ip),
            ip,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.by_ip.open.lock();
        if let Some(of_ip) = open.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                open.remove(&self.ip);
            }
        }
        drop(open);
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
        self.shared.metrics.connection_closed();
    }
}
