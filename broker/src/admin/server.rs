//! Connections of the admin endpoint: so many at a time, so much head, so much time, and an end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use highwater_config::AdminConfig;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::AdminBackend;
use super::routes;
use super::timed_stream::TimedStream;

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Receive and send buffer of a connection; hyper wants room for the head in it.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Pause after accepting failed, which means that something has run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests may go on once the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The admin endpoint, listening.
#[derive(Debug)]
pub(crate) struct AdminServer {
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl AdminServer {
    /// Serves on a listener, on the runtime of the caller.
    ///
    /// # Errors
    /// If the listener does not tell its address.
    pub(crate) fn start(
        listener: TcpListener,
        backend: Arc<dyn AdminBackend>,
        config: &AdminConfig,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let body_max = usize::try_from(config.request_bytes_max).unwrap_or(usize::MAX);
        let acceptor = Acceptor {
            listener,
            router: routes::router(backend, config.request_timeout, body_max),
            slots: Arc::new(Semaphore::new(config.connections_max)),
            timeout: config.request_timeout,
            stop: CancellationToken::new(),
        };
        let stop = acceptor.stop.clone();
        let running = tokio::spawn(acceptor.run());
        Ok(Self {
            address,
            stop,
            running,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests finish for a moment, and closes everything.
    pub(crate) async fn shutdown(mut self) {
        self.stop.cancel();
        // An error means that it panicked, and then it is over as well.
        let _ = (&mut self.running).await;
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.abort();
    }
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    slots: Arc<Semaphore>,
    timeout: Duration,
    stop: CancellationToken,
}

impl Acceptor {
    async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            // Those that ended; there are never more than slots.
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, slot)) => {
                    connections.spawn(self.connection(stream, slot));
                }
                Err(error) => {
                    warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            debug!(
                left = connections.len(),
                "admin connections did not finish and are closed"
            );
            connections.shutdown().await;
        }
    }

    /// A place first, so that those without one wait where the kernel bounds them.
    async fn accept(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, slot))
    }

    fn connection(
        &self,
        stream: TcpStream,
        slot: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let service = TowerToHyperService::new(self.router.clone());
        let (stop, timeout) = (self.stop.clone(), self.timeout);
        async move {
            let _slot = slot;
            let stream = TokioIo::new(TimedStream::new(stream, timeout));
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(timeout)
                    .max_header_size(HEAD_BYTES_MAX)
                    .max_headers(HEADERS_MAX)
                    .max_buf_size(BUFFER_BYTES_MAX)
                    // A client that sends its request and closes its half gets its answer.
                    .half_close(true)
                    .serve_connection(stream, service)
            );
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                debug!(%error, "admin connection ended");
            }
        }
    }
}
