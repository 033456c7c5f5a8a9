//! A network thread: one single-threaded runtime that serves its share of the connections.
//!
//! A connection stays on the thread that it was given, so that reading, appending and answering are
//! done without a hand-over between cores: a wake-up across cores costs more than an append.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::connection;
use crate::listener::Slot;
use crate::shared::Shared;

/// Connections that may wait for their thread; accepting pauses beyond that.
const HANDOVERS_MAX: usize = 1024;

/// Threads per runtime that may block on the disk: cold reads and changes of topics.
const BLOCKING_THREADS_MAX: usize = 16;

/// How long work that is on the disk may take to end when the thread stops.
const BLOCKING_WORK_MAX: Duration = Duration::from_secs(5);

type Handover = (std::net::TcpStream, SocketAddr, Slot);

/// A running network thread.
#[derive(Debug)]
pub(crate) struct NetworkThread {
    connections: mpsc::Sender<Handover>,
    thread: JoinHandle<()>,
}

impl NetworkThread {
    /// Starts a thread that serves connections until `stop` is cancelled.
    pub(crate) fn start(
        index: usize,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name(format!("hw-net-{index}-block"))
            .build()?;
        let (connections, mut accepted) = mpsc::channel::<Handover>(HANDOVERS_MAX);
        let thread = std::thread::Builder::new()
            .name(format!("hw-net-{index}"))
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        let handover = tokio::select! {
                            biased;
                            () = stop.cancelled() => break,
                            handover = accepted.recv() => handover,
                        };
                        let Some((stream, address, slot)) = handover else {
                            break;
                        };
                        match TcpStream::from_std(stream) {
                            Ok(stream) => {
                                let shared = Arc::clone(&shared);
                                tokio::spawn(async move {
                                    connection::serve(shared, stream, address).await;
                                    drop(slot);
                                });
                            }
                            Err(error) => debug!(%address, %error, "connection lost"),
                        }
                    }
                });
                // Ends whatever connections are left. A read that hangs on a sick disk must not keep the
                // broker from stopping.
                runtime.shutdown_timeout(BLOCKING_WORK_MAX);
            })?;
        Ok(Self {
            connections,
            thread,
        })
    }

    /// Hands a connection over. When the thread is that far behind, the connection is closed: the
    /// client tries again.
    pub(crate) fn serve(&self, stream: std::net::TcpStream, address: SocketAddr, slot: Slot) {
        if self.connections.try_send((stream, address, slot)).is_err() {
            debug!(%address, "connection closed: the network thread is overloaded");
        }
    }

    /// Waits until the thread has ended, which it does once its `stop` is cancelled.
    pub(crate) fn join(self) {
        drop(self.connections);
        if self.thread.join().is_err() {
            error!("a network thread panicked");
        }
    }
}
