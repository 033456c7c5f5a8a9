//! One connection to another broker: many requests in flight, answers in any order.
//!
//! A call encodes its request, hands it to the write task and waits for the read task to bring the
//! answer. When the connection ends, every call that waits is told so; so is every later one.

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use highwater_protocol::api_key::Request;
use highwater_protocol::codec::Decoder;
use highwater_protocol::frame::{FrameReader, LENGTH_BYTES, decode_body, encode_request};
use highwater_protocol::ids::CorrelationId;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::PeerError;
use super::opening::{Limits, Opened, split_answer};

/// Most requests in flight on a connection; a call beyond it waits for its turn.
const REQUESTS_MAX: usize = 256;

/// Most bytes of requests that wait to be written, in KiB: the permits of a semaphore.
const QUEUED_KIB_MAX: u32 = 128 << 10;

/// Slices of one vectored write.
const WRITE_SLICES_MAX: usize = 64;

/// A read of a large frame asks for up to this many bytes at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// Small reads ask for this many bytes.
const READ_BYTES: usize = 16 << 10;

/// When calls time out and nothing at all has arrived for this long, the connection is given up. A
/// network that swallows packets leaves it looking alive for minutes, while a new one would work.
const SILENCE_MAX: Duration = Duration::from_secs(2);

type Waiting = HashMap<u32, oneshot::Sender<Result<Decoder, PeerError>>>;

/// A live connection. Dropping the last handle closes it.
#[derive(Debug)]
pub(super) struct Connection {
    inner: Arc<Inner>,
    queue: mpsc::Sender<Queued>,
}

#[derive(Debug)]
struct Inner {
    address: String,
    limits: Limits,
    correlation: AtomicU32,
    in_flight: Semaphore,
    queued_kib: Arc<Semaphore>,
    state: Mutex<State>,
    opened: Instant,
    ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    /// Why the connection ended, once it has.
    end: Option<String>,
    /// When the oldest request was sent that timed out since something last arrived.
    silent_since: Option<Instant>,
}

/// A request on its way to the write task.
#[derive(Debug)]
struct Queued {
    slices: Vec<Bytes>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inner.end("it was closed here");
    }
}

impl Connection {
    /// Starts the tasks of an open connection.
    pub(super) fn start(
        address: String,
        opened: Opened,
        frame_bytes_max: u32,
        runtime: &Handle,
    ) -> Arc<Self> {
        let Opened {
            stream,
            received,
            limits,
        } = opened;
        let (reader, writer) = stream.into_split();
        let requests_max = limits.requests_max.clamp(1, REQUESTS_MAX);
        let (queue, queued) = mpsc::channel(requests_max);
        let inner = Arc::new(Inner {
            address,
            limits,
            correlation: AtomicU32::new(1),
            in_flight: Semaphore::new(requests_max),
            queued_kib: Arc::new(Semaphore::new(QUEUED_KIB_MAX as usize)),
            state: Mutex::new(State {
                waiting: HashMap::new(),
                end: None,
                silent_since: None,
            }),
            opened: Instant::now(),
            ended: CancellationToken::new(),
        });
        runtime.spawn(write(Arc::clone(&inner), writer, queued));
        runtime.spawn(read(
            Arc::clone(&inner),
            reader,
            received,
            FrameReader::new(frame_bytes_max),
        ));
        Arc::new(Self { inner, queue })
    }

    /// Where it leads to.
    pub(super) fn address(&self) -> &str {
        &self.inner.address
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.inner.ended.is_cancelled()
    }

    /// How long ago it was opened.
    pub(super) fn age(&self) -> Duration {
        self.inner.opened.elapsed()
    }

    /// Why it cannot be used any more.
    pub(super) fn unreachable(&self) -> PeerError {
        self.inner.unreachable()
    }

    /// Asks, and waits for the answer until the deadline.
    pub(super) async fn call<R: Request>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, PeerError> {
        let inner = &self.inner;
        let version = inner.limits.version(R::API)?;
        let not_sent = |_| PeerError::NotSent {
            address: inner.address.clone(),
        };
        let _turn = tokio::time::timeout_at(deadline, inner.in_flight.acquire())
            .await
            .map_err(not_sent)?
            .map_err(|_| inner.unreachable())?;
        let correlation = inner.correlation.fetch_add(1, Ordering::Relaxed);
        let slices = encode_request(request, version, CorrelationId::new(correlation));
        let bytes: usize = slices.iter().map(Bytes::len).sum();
        let bytes_max = inner.limits.frame_bytes_max;
        if bytes - LENGTH_BYTES > bytes_max as usize {
            return Err(PeerError::TooLarge {
                address: inner.address.clone(),
                bytes,
                bytes_max,
            });
        }
        // Cannot truncate: frames are below 4 GiB. One that is larger than the room takes all of it.
        let kib = ((bytes >> 10) as u32 + 1).min(QUEUED_KIB_MAX);
        let room = Arc::clone(&inner.queued_kib).acquire_many_owned(kib);
        let room = tokio::time::timeout_at(deadline, room)
            .await
            .map_err(not_sent)?
            .map_err(|_| inner.unreachable())?;
        let place = tokio::time::timeout_at(deadline, self.queue.reserve())
            .await
            .map_err(not_sent)?
            .map_err(|_| inner.unreachable())?;
        let mut waiter = inner.wait_for(correlation)?;
        place.send(Queued {
            slices,
            _room: room,
        });
        let sent = Instant::now();
        match tokio::time::timeout_at(deadline, &mut waiter.answer).await {
            Ok(Ok(Ok(body))) => decode_body(body, version).map_err(|source| PeerError::Malformed {
                address: inner.address.clone(),
                source,
            }),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(inner.lost()),
            Err(_) => {
                inner.note_silence(sent);
                Err(PeerError::TimedOut {
                    address: inner.address.clone(),
                })
            }
        }
    }
}

/// A call that waits; whichever way it ends, its answer is forgotten with it.
struct Waiter<'a> {
    inner: &'a Inner,
    correlation: u32,
    answer: oneshot::Receiver<Result<Decoder, PeerError>>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.inner.state.lock().waiting.remove(&self.correlation);
    }
}

impl Inner {
    fn wait_for(&self, correlation: u32) -> Result<Waiter<'_>, PeerError> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if let Some(reason) = &state.end {
            return Err(PeerError::Unreachable {
                address: self.address.clone(),
                reason: reason.clone(),
            });
        }
        state.waiting.insert(correlation, sender);
        Ok(Waiter {
            inner: self,
            correlation,
            answer,
        })
    }

    /// Ends the connection; only the first reason counts.
    fn end(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(reason.to_owned());
        }
        // Dropping the senders wakes the calls.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.in_flight.close();
        self.queued_kib.close();
        self.ended.cancel();
    }

    fn reason(&self) -> String {
        let state = self.state.lock();
        state.end.clone().unwrap_or_else(|| "unknown".to_owned())
    }

    fn lost(&self) -> PeerError {
        PeerError::Lost {
            address: self.address.clone(),
            reason: self.reason(),
        }
    }

    fn unreachable(&self) -> PeerError {
        PeerError::Unreachable {
            address: self.address.clone(),
            reason: self.reason(),
        }
    }

    /// A request timed out that was sent at this time.
    fn note_silence(&self, sent: Instant) {
        let mut state = self.state.lock();
        let since = *state.silent_since.get_or_insert(sent);
        drop(state);
        if since.elapsed() >= SILENCE_MAX {
            self.end("nothing arrives on it any more");
        }
    }

    /// Brings an answer to the call that waits for it.
    fn deliver(&self, frame: Bytes) -> Result<(), PeerError> {
        let (correlation, answer) = split_answer(&self.address, frame)?;
        let waiting = self.state.lock().waiting.remove(&correlation.get());
        if let Some(waiting) = waiting {
            // A call that gave up in this very moment does not want it any more.
            let _ = waiting.send(answer);
        }
        Ok(())
    }
}

async fn read(
    inner: Arc<Inner>,
    mut reader: OwnedReadHalf,
    mut received: BytesMut,
    mut frames: FrameReader,
) {
    let reason = loop {
        match frames.next_frame(&mut received) {
            Ok(Some(frame)) => match inner.deliver(frame) {
                Ok(()) => continue,
                Err(error) => break error.to_string(),
            },
            Ok(None) => {}
            Err(error) => break error.to_string(),
        }
        let room = match frames.announced() {
            Some(_) => frames.needed().clamp(READ_BYTES, READ_BYTES_MAX),
            None => READ_BYTES,
        };
        received.reserve(room);
        let read = tokio::select! {
            read = reader.read_buf(&mut received) => read,
            () = inner.ended.cancelled() => return,
        };
        match read {
            Ok(0) => break "the other end closed it".to_owned(),
            Ok(_) => inner.state.lock().silent_since = None,
            Err(error) => break error.to_string(),
        }
    };
    inner.end(&reason);
}

async fn write(inner: Arc<Inner>, mut writer: OwnedWriteHalf, mut queued: mpsc::Receiver<Queued>) {
    let mut batch = Vec::new();
    loop {
        let count = tokio::select! {
            count = queued.recv_many(&mut batch, WRITE_SLICES_MAX) => count,
            () = inner.ended.cancelled() => return,
        };
        if count == 0 {
            return;
        }
        let slices = batch
            .iter_mut()
            .flat_map(|q: &mut Queued| std::mem::take(&mut q.slices));
        let slices: Vec<Bytes> = slices.collect();
        let written = tokio::select! {
            written = write_all(&mut writer, slices) => written,
            () = inner.ended.cancelled() => return,
        };
        batch.clear();
        if let Err(error) = written {
            inner.end(&error.to_string());
            return;
        }
    }
}

async fn write_all(writer: &mut OwnedWriteHalf, mut slices: Vec<Bytes>) -> std::io::Result<()> {
    let mut first = 0;
    while first < slices.len() {
        let vector: Vec<IoSlice<'_>> = slices[first..]
            .iter()
            .take(WRITE_SLICES_MAX)
            .map(|slice| IoSlice::new(slice))
            .collect();
        let mut written = writer.write_vectored(&vector).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let taken = written.min(slices[first].len());
            slices[first].advance(taken);
            written -= taken;
            if slices[first].is_empty() {
                first += 1;
            }
        }
    }
    Ok(())
}
