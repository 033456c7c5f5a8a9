//! Connections to the other brokers of the cluster.
//!
//! Two per broker, opened when they are needed and opened again when they were lost: one for what must
//! not wait (Raft, the controller), one for records, so that a large answer to a fetch never stands
//! before a heartbeat. Each is shared by all calls. While a broker cannot be reached, calls to it fail
//! at once, and it is tried again after a short pause, by one attempt at a time.

mod connection;
mod error;
mod opening;
#[cfg(test)]
pub(crate) mod test_broker;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::ids::{ClusterId, NodeId};
use highwater_protocol::limits::FRAME_BYTES_MAX_DEFAULT;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use connection::Connection;
pub(crate) use error::PeerError;
use opening::Wanted;

/// Where nodes are: `host:port`. Asked for every call, so that a node that moved is followed.
pub(crate) type AddressBook = Arc<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// Pause after the first failed attempt to reach a node; doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause: a node that is back must not be waited for much longer than an election takes.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Which of the two connections to a node a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Control,
    Records,
}

impl Lane {
    const fn of(api: ApiKey) -> Self {
        match api {
            ApiKey::Fetch | ApiKey::Produce => Self::Records,
            _ => Self::Control,
        }
    }
}

/// Connections to the other brokers.
pub(crate) struct Peers {
    me: NodeId,
    cluster: ClusterId,
    addresses: AddressBook,
    runtime: Handle,
    frame_bytes_max: u32,
    links: Mutex<HashMap<(NodeId, Lane), Link>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("me", &self.me)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What came of an attempt to open a connection, and when.
type Attempt = Option<(Result<Arc<Connection>, PeerError>, Instant)>;

/// The way to one node.
enum Link {
    /// Nothing is known against it.
    Idle,
    /// The first call that needed it started an attempt; all wait for the same one.
    Opening {
        address: String,
        failures: u32,
        attempt: watch::Receiver<Attempt>,
    },
    Up(Arc<Connection>),
    /// Not to be tried again before `retry_at`.
    Down {
        error: PeerError,
        address: String,
        failures: u32,
        retry_at: Instant,
    },
}

enum Next {
    Ready(Arc<Connection>),
    Wait(watch::Receiver<Attempt>),
    Fail(PeerError),
}

impl Peers {
    /// Connects as node `me` of this cluster. The tasks of connections run on `runtime`; calls may be
    /// made from any.
    pub(crate) fn new(
        me: NodeId,
        cluster: ClusterId,
        addresses: AddressBook,
        runtime: Handle,
    ) -> Arc<Self> {
        Self::with_frame_limit(me, cluster, addresses, runtime, FRAME_BYTES_MAX_DEFAULT)
    }

    /// The same, taking answers of up to this many bytes.
    pub(crate) fn with_frame_limit(
        me: NodeId,
        cluster: ClusterId,
        addresses: AddressBook,
        runtime: Handle,
        frame_bytes_max: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            cluster,
            addresses,
            runtime,
            frame_bytes_max,
            links: Mutex::new(HashMap::new()),
        })
    }

    /// Asks a node, and waits for its answer up to `timeout`, which includes connecting.
    ///
    /// Cancel safety: a dropped call may or may not be carried out; nothing else is disturbed.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::may_be_done`] says whether the request may have been carried out.
    pub(crate) async fn call<R: Request>(
        &self,
        node: NodeId,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, PeerError> {
        let deadline = Instant::now() + timeout;
        let connection = self.connection(node, Lane::of(R::API), deadline).await?;
        connection.call(request, deadline).await
    }

    /// Asks whoever is at an address, on a connection of its own: Discover, JoinCluster.
    ///
    /// # Errors
    /// [`PeerError`]
    pub(crate) async fn call_at<R: Request>(
        address: &str,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, PeerError> {
        let answer = opening::ask(address, request, FRAME_BYTES_MAX_DEFAULT);
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or_else(|_| {
                Err(PeerError::TimedOut {
                    address: address.to_owned(),
                })
            })
    }

    async fn connection(
        &self,
        node: NodeId,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, PeerError> {
        loop {
            let address = (self.addresses)(node).ok_or(PeerError::NoAddress { node })?;
            match self.next(node, lane, &address) {
                Next::Ready(connection) => return Ok(connection),
                Next::Fail(error) => return Err(error),
                Next::Wait(mut attempt) => {
                    let done = attempt.wait_for(Option::is_some);
                    // When the attempt's task died with its runtime, the next turn starts another one,
                    // which fails in the same way: not a reason to spin.
                    match tokio::time::timeout_at(deadline, done).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(_)) => {
                            return Err(PeerError::Unreachable {
                                address,
                                reason: "this broker is shutting down".to_owned(),
                            });
                        }
                        Err(_) => return Err(PeerError::NotSent { address }),
                    }
                }
            }
        }
    }

    fn next(&self, node: NodeId, lane: Lane, address: &str) -> Next {
        let mut links = self.links.lock();
        let link = links.entry((node, lane)).or_insert(Link::Idle);
        link.settle();
        let failures = match link {
            Link::Up(connection) if connection.address() == address => {
                if connection.is_open() {
                    return Next::Ready(Arc::clone(connection));
                }
                // A broker that takes connections only to close them gets no storm of them either.
                if connection.age() < BACKOFF_MIN {
                    return Next::Fail(connection.unreachable());
                }
                0
            }
            Link::Opening {
                address: to,
                attempt,
                ..
            } if to == address => return Next::Wait(attempt.clone()),
            Link::Down {
                error,
                address: at,
                failures,
                retry_at,
            } if at == address => {
                if Instant::now() < *retry_at {
                    return Next::Fail(error.clone());
                }
                *failures
            }
            // Idle, or the node has moved.
            _ => 0,
        };
        let attempt = self.start_attempt(node, address);
        let before = std::mem::replace(
            link,
            Link::Opening {
                address: address.to_owned(),
                failures,
                attempt: attempt.clone(),
            },
        );
        drop(links);
        drop(before);
        Next::Wait(attempt)
    }

    fn start_attempt(&self, node: NodeId, address: &str) -> watch::Receiver<Attempt> {
        let (sender, attempt) = watch::channel(None);
        let wanted = Wanted {
            me: self.me,
            cluster: self.cluster,
            node,
        };
        let address = address.to_owned();
        let runtime = self.runtime.clone();
        let frame_bytes_max = self.frame_bytes_max;
        self.runtime.spawn(async move {
            let opened = opening::open(&address, wanted, frame_bytes_max).await;
            if let Err(error) = &opened {
                tracing::debug!(%node, %error, "no connection to another broker");
            }
            let opened =
                opened.map(|opened| Connection::start(address, opened, frame_bytes_max, &runtime));
            sender.send_replace(Some((opened, Instant::now())));
        });
        attempt
    }
}

impl Link {
    /// Takes note of what came of an attempt.
    fn settle(&mut self) {
        let Self::Opening {
            address,
            failures,
            attempt,
        } = self
        else {
            return;
        };
        let done = attempt.borrow().clone();
        match done {
            Some((Ok(connection), _)) => *self = Self::Up(connection),
            Some((Err(error), at)) => {
                let pause = BACKOFF_MIN * 2u32.saturating_pow((*failures).min(8));
                *self = Self::Down {
                    error,
                    address: std::mem::take(address),
                    failures: failures.saturating_add(1),
                    retry_at: at + pause.min(BACKOFF_MAX),
                };
            }
            // The task is gone without a word: its runtime is.
            None if attempt.has_changed().is_err() => *self = Self::Idle,
            None => {}
        }
    }
}
