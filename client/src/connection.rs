//! One TCP connection to one broker, shared by everything that talks to it.
//!
//! Requests are written from the task that makes them, as long as the socket takes them; what it
//! does not take is finished by the connection's write task. One read task matches the answers to
//! the requests and runs their completions, so a request costs one wake-up and neither a spawn nor a
//! timer: deadlines are swept coarsely by the read task. While answers are due and nothing comes, a
//! small question shows whether the broker is there at all. When the connection breaks, every pending
//! request is completed with [`RequestError::ConnectionLost`] and later ones are turned away.

mod buffers;
mod handshake;
mod pending;
mod receiver;
mod tasks;
mod write_queue;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_protocol::api_key::{ApiKey, Request};
use highwater_protocol::codec::{ApiVersion, Decoder};
use highwater_protocol::frame::{decode_body, encode_request};
use highwater_protocol::ids::{ClusterId, NodeId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::RequestError;

use handshake::Greeting;
pub(crate) use handshake::{Introduction, open};
use pending::{Entry, PendingRequests};
use write_queue::WriteQueue;

/// What a request came to: the body of its answer, still encoded. Runs in the read task, so it must
/// be short and never block.
pub(crate) type Completion = Box<dyn FnOnce(Result<Answer, RequestError>) + Send>;

/// What became of writing a request that has no answer. Runs in whichever task writes.
pub(crate) type Written = Box<dyn FnOnce(Result<(), RequestError>) + Send>;

/// The body of an answer and how to read it.
pub(crate) struct Answer {
    body: Decoder,
    version: ApiVersion,
    api: ApiKey,
    address: Arc<str>,
}

impl Answer {
    /// Decodes the body; byte strings in it are slices of the receive buffer.
    pub(crate) fn decode<R: Request>(self) -> Result<R::Response, RequestError> {
        let Self {
            body,
            version,
            api,
            address,
        } = self;
        debug_assert_eq!(api, R::API);
        decode_body(body, version).map_err(|source| RequestError::MalformedAnswer {
            address,
            api,
            source,
        })
    }
}

/// A request that was turned away, with its completion, which was not called.
pub(crate) struct TurnedAway {
    pub(crate) error: RequestError,
    pub(crate) completion: Completion,
}

/// A live connection. Dropping the last handle closes it.
pub(crate) struct Connection {
    inner: Arc<Inner>,
}

/// What handles and tasks share.
struct Inner {
    id: u64,
    greeting: Greeting,
    pending: PendingRequests,
    writes: WriteQueue,
    /// Tells the read task to look at the state: a sweep to arm, a failed write, a closed handle.
    wake: Notify,
    /// How many bytes the read task has received; shows whether the peer is alive at all.
    received: AtomicU64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.inner.id)
            .field("address", &self.inner.greeting.address)
            .field("node_id", &self.inner.greeting.node_id)
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inner.pending.ask_to_close();
        self.inner.wake.notify_one();
    }
}

impl Connection {
    /// Tells connections apart, also those to the same broker.
    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.inner.greeting.node_id
    }

    /// Where it was connected to.
    pub(crate) fn address(&self) -> Arc<str> {
        self.inner.address()
    }

    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.inner.greeting.cluster_id
    }

    /// Whether requests are still accepted.
    pub(crate) fn is_live(&self) -> bool {
        self.inner.pending.is_open()
    }

    /// Most requests that the broker lets one connection have in flight.
    pub(crate) fn requests_max(&self) -> usize {
        self.inner.greeting.requests_max
    }

    /// Sends a request. The completion runs exactly once, unless the request is turned away.
    pub(crate) fn submit<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
        completion: Completion,
    ) -> Result<(), TurnedAway> {
        self.inner.submit(request, timeout, completion)
    }

    /// Sends a request that has no answer. `written` runs exactly once: with the last byte handed to
    /// the system, perhaps before this returns, or when that cannot be done.
    pub(crate) fn submit_unanswered<R: Request>(&self, request: &R, written: Written) {
        let inner = &*self.inner;
        let address = inner.address();
        let Some(version) = inner.greeting.version_of(R::API) else {
            return written(Err(RequestError::NoCommonVersion {
                address,
                api: R::API,
            }));
        };
        if !self.is_live() {
            return written(Err(
                inner.lost("it was closed before the request was sent", false)
            ));
        }
        let frame = encode_request(request, version, inner.pending.next_correlation());
        if let Err(error) = inner.check_size(&frame) {
            return written(Err(error));
        }
        let mark = Box::new(move |all: bool| {
            written(if all {
                Ok(())
            } else {
                let reason = Arc::from("it broke before the request was written");
                Err(RequestError::ConnectionLost {
                    address,
                    reason,
                    sent: true,
                })
            });
        });
        if inner.writes.write(frame, Some(mark)) {
            inner.wake.notify_one();
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// Dropping the future gives up the answer; the broker may still act on the request.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, RequestError> {
        let (sender, receiver) = oneshot::channel();
        let completion: Completion = Box::new(move |answer| {
            // The caller may have gone: then nobody wants the answer.
            let _ = sender.send(answer);
        });
        self.submit(request, timeout, completion)
            .map_err(|turned_away| turned_away.error)?;
        match receiver.await {
            Ok(answer) => answer?.decode::<R>(),
            // The completion was dropped unrun: its task was torn down with the runtime.
            Err(_) => Err(self.inner.lost("its runtime was shut down", true)),
        }
    }
}

impl Inner {
    fn submit<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
        completion: Completion,
    ) -> Result<(), TurnedAway> {
        let Some(version) = self.greeting.version_of(R::API) else {
            let error = RequestError::NoCommonVersion {
                address: self.address(),
                api: R::API,
            };
            return Err(TurnedAway { error, completion });
        };
        let correlation = self.pending.next_correlation();
        let frame = encode_request(request, version, correlation);
        if let Err(error) = self.check_size(&frame) {
            return Err(TurnedAway { error, completion });
        }
        let entry = Entry {
            api: R::API,
            version,
            timeout,
            deadline: Instant::now() + timeout,
            received_before: self.received.load(Ordering::Relaxed),
            completion,
        };
        let arm_sweep = self
            .pending
            .insert(correlation, entry)
            .map_err(|entry| TurnedAway {
                error: self.lost("it was closed before the request was sent", false),
                completion: entry.completion,
            })?;
        if self.writes.write(frame, None) || arm_sweep {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn check_size(&self, frame: &[bytes::Bytes]) -> Result<(), RequestError> {
        let bytes = frame
            .iter()
            .map(bytes::Bytes::len)
            .sum::<usize>()
            .saturating_sub(4);
        let bytes_max = self.greeting.frame_bytes_max;
        if bytes > bytes_max {
            return Err(RequestError::TooLarge {
                address: self.address(),
                bytes,
                bytes_max,
            });
        }
        Ok(())
    }

    fn address(&self) -> Arc<str> {
        Arc::clone(&self.greeting.address)
    }

    fn lost(&self, reason: &str, sent: bool) -> RequestError {
        RequestError::ConnectionLost {
            address: self.address(),
            reason: Arc::from(reason),
            sent,
        }
    }

    /// Ends the connection: completes every pending request with the error and refuses new ones.
    fn poison(&self, reason: &str) {
        let unwritten = self.writes.close();
        for entry in self.pending.close() {
            (entry.completion)(Err(self.lost(reason, true)));
        }
        for mark in unwritten {
            mark(false);
        }
    }
}
