//! One connection, one task: read, handle, answer.
//!
//! Requests are handled by the task that read them, in the order in which they came, so appends of a
//! connection to a partition are in the order sent. What has to wait becomes a future that the same
//! task drives; answers go out as they are ready, several in one vectored write. Nothing is read
//! while too much is in flight, so a client that does not read its answers stops being read from.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::{FrameError, FrameReader, encode_error_response};
use highwater_protocol::ids::CorrelationId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tracing::debug;

use crate::admission::{Budget, FREE_BYTES, Paid};
use crate::api::{Answer, Peer, Response, dispatch};
use crate::shared::Shared;

/// Small reads ask for this many bytes.
const READ_BYTES: usize = 16 << 10;

/// A read that goes on with a large frame asks for up to this many bytes at once.
const LARGE_READ_BYTES: usize = 1 << 20;

/// After this many bytes of requests, other connections of the thread get their turn.
const TURN_BYTES: usize = 1 << 20;

/// How often a quiet connection looks at its timeouts and gives its buffer back.
const TICK: Duration = Duration::from_secs(2);

/// A client that stops in the middle of a frame for this long is gone.
const FRAME_STALL_MAX: Duration = Duration::from_secs(30);

/// A client that takes none of its answers for this long is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// A client that closed its side gets the answers to what it asked for up to this time.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);

/// Closing waits this long for the client to take note of the last answer.
const LINGER_MAX: Duration = Duration::from_millis(200);

/// When the broker stops, what clients sent before they could know is answered: it has this long to
/// arrive.
const DRAIN_GRACE: Duration = Duration::from_millis(20);

/// Until Hello a frame is small: a stranger gets no memory.
const FIRST_FRAME_BYTES_MAX: u32 = 256 << 10;

/// What a request counts for in a turn besides its bytes: small ones cost time as well.
const TURN_REQUEST_BYTES: usize = 4 << 10;

/// Slices of one vectored write.
const WRITE_SLICES_MAX: usize = 64;

/// Why a connection ended; only for logs and counters.
#[derive(Debug)]
enum End {
    Closed,
    Io(io::Error),
    Frame(FrameError),
    Refused,
    HandshakeTimeout,
    IdleTimeout,
    FrameStalled,
    WriteStalled,
    Draining,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, mut stream: TcpStream, address: SocketAddr) {
    let local = stream.local_addr().ok();
    let (reader, writer) = stream.split();
    let mut connection = Connection {
        inbox: Inbox::new(&shared),
        outbox: Outbox::default(),
        in_flight: FuturesUnordered::new(),
        in_flight_bytes: 0,
        in_flight_paid: Paid::default(),
        in_flight_is_paid: true,
        peer: Peer {
            local,
            ..Peer::default()
        },
        opened: Instant::now(),
        last_heard: Instant::now(),
        taken_seen: 0,
        stalled: Duration::ZERO,
        half_closed: None,
        is_closing: false,
        reader,
        writer,
        shared: &shared,
    };
    let end = connection.run().await;
    let (client, version) = match &connection.peer.client {
        Some(client) => (client.name.as_str(), client.version.as_str()),
        None => ("", ""),
    };
    match &end {
        End::Frame(error) => shared.foreign.note(address, error),
        End::Io(error) => debug!(%address, client, version, %error, "connection failed"),
        other => debug!(%address, client, version, end = ?other, "connection ended"),
    }
    if matches!(end, End::Frame(_) | End::Refused | End::Draining) {
        linger(&mut stream).await;
    }
}

/// Closes our side and reads what still comes for a moment: closing a socket with unread bytes resets
/// the connection, and the client may lose the last answers by that.
async fn linger(stream: &mut TcpStream) {
    let close = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // The connection is over, however it ends.
    let _ = tokio::time::timeout(LINGER_MAX, close).await;
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    inbox: Inbox,
    outbox: Outbox,
    in_flight: FuturesUnordered<InFlight>,
    /// Memory that the requests in flight hold. Beyond [`FREE_BYTES`] nothing more is read until it
    /// is paid for.
    in_flight_bytes: usize,
    in_flight_paid: Paid,
    in_flight_is_paid: bool,
    peer: Peer,
    opened: Instant,
    last_heard: Instant,
    /// What the client had taken of its answers at the last tick, and since when nothing more.
    taken_seen: u64,
    stalled: Duration,
    /// The client has closed its side: it asks for nothing more.
    half_closed: Option<Instant>,
    /// The last answer is on its way; nothing more is read.
    is_closing: bool,
}

/// A request that is answered later, and what it counts for.
struct InFlight {
    future: Pin<Box<dyn Future<Output = Response> + Send>>,
    bytes: usize,
}

impl Future for InFlight {
    type Output = (Response, usize);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let bytes = self.bytes;
        self.future
            .as_mut()
            .poll(context)
            .map(|response| (response, bytes))
    }
}

impl Connection<'_> {
    async fn run(&mut self) -> End {
        let shared = Arc::clone(self.shared);
        let draining = shared.draining.cancelled();
        tokio::pin!(draining);
        let tick = tokio::time::sleep(TICK);
        tokio::pin!(tick);
        let mut draining_since: Option<Instant> = None;
        let mut turn_bytes = 0;
        loop {
            let is_exhausted = match self.handle_frames(&mut turn_bytes) {
                Ok(is_exhausted) => is_exhausted,
                Err(end) => {
                    // What can still be said is said, as far as the socket takes it at once.
                    let _ = self.outbox.write(&self.writer, self.shared);
                    return end;
                }
            };
            if let Err(error) = self.outbox.write(&self.writer, self.shared) {
                return End::Io(error);
            }
            if self.outbox.is_empty() && self.in_flight.is_empty() {
                if self.is_closing {
                    return End::Refused;
                }
                if self.half_closed.is_some() {
                    return End::Closed;
                }
                if self.inbox.is_between_frames()
                    && draining_since.is_some_and(|since| since.elapsed() >= DRAIN_GRACE)
                {
                    return End::Draining;
                }
            }
            if turn_bytes >= TURN_BYTES {
                turn_bytes = 0;
                // A client that never pauses never lets the branches below be reached.
                if draining_since.is_none() && shared.draining.is_cancelled() {
                    draining_since = Some(Instant::now());
                    tick.as_mut()
                        .reset(tokio::time::Instant::now() + DRAIN_GRACE);
                }
                tokio::task::yield_now().await;
            }
            if !is_exhausted && self.may_read() {
                // Requests are there that no read announces.
                continue;
            }
            let may_read = self.may_read();
            tokio::select! {
                biased;
                Some((response, bytes)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.outbox.push(response);
                    self.in_flight_bytes -= bytes;
                    self.settle_in_flight();
                }
                read = self.inbox.fill(&shared.budget, &mut self.reader), if may_read => match read {
                    Ok(0) => self.half_closed = Some(Instant::now()),
                    Ok(bytes) => {
                        self.last_heard = Instant::now();
                        shared.metrics.bytes_in(bytes);
                    }
                    Err(error) => return End::Io(error),
                },
                ready = self.writer.writable(), if !self.outbox.is_empty() => {
                    if let Err(error) = ready {
                        return End::Io(error);
                    }
                }
                () = &mut draining, if draining_since.is_none() => {
                    draining_since = Some(Instant::now());
                    tick.as_mut().reset(tokio::time::Instant::now() + DRAIN_GRACE);
                }
                () = &mut tick => {
                    tick.as_mut().reset(tokio::time::Instant::now() + TICK);
                    if let Some(end) = self.on_tick() {
                        return end;
                    }
                }
            }
        }
    }

    /// Handles every whole frame that is there, as long as more may be in flight and it is this
    /// connection's turn. Says whether there was none left.
    fn handle_frames(&mut self, turn_bytes: &mut usize) -> Result<bool, End> {
        let mut is_exhausted = false;
        while !is_exhausted && self.may_read() && *turn_bytes < TURN_BYTES {
            let frame = match self.inbox.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    is_exhausted = true;
                    break;
                }
                Err(error) => {
                    let code = match error {
                        FrameError::TooLarge { .. } => ErrorCode::FrameTooLarge,
                    };
                    let message = error.to_string();
                    self.outbox
                        .push(encode_error_response(code, &message, CorrelationId::ZERO));
                    return Err(End::Frame(error));
                }
            };
            *turn_bytes += frame.len() + TURN_REQUEST_BYTES;
            let is_stranger = self.peer.client.is_none();
            match dispatch(self.shared, &mut self.peer, frame, Instant::now()) {
                Answer::Now(response) => self.outbox.push(response),
                Answer::Later(future, bytes) => {
                    self.in_flight.push(InFlight { future, bytes });
                    self.in_flight_bytes += bytes;
                    self.settle_in_flight();
                }
                Answer::Never => {}
                Answer::Last(response) => {
                    self.outbox.push(response);
                    self.is_closing = true;
                }
            }
            if is_stranger && self.peer.client.is_some() {
                self.inbox
                    .accept(self.shared.config.network.frame_bytes_max);
            }
        }
        self.inbox.after_frames(&self.shared.budget);
        Ok(is_exhausted)
    }

    /// Pays for what is in flight, as far as that can be done without waiting.
    fn settle_in_flight(&mut self) {
        if self.in_flight_bytes <= FREE_BYTES {
            self.in_flight_paid = Paid::default();
            self.in_flight_is_paid = true;
        } else {
            let budget = &self.shared.budget;
            self.in_flight_is_paid = budget.try_pay(&mut self.in_flight_paid, self.in_flight_bytes);
        }
    }

    /// Whether more requests may be taken on.
    fn may_read(&self) -> bool {
        let network = &self.shared.config.network;
        !self.is_closing
            && self.half_closed.is_none()
            && self.in_flight_is_paid
            && (self.in_flight.len() as u64) < u64::from(network.connection_in_flight_requests_max)
            && (self.outbox.bytes as u64) < network.connection_in_flight_bytes_max
    }

    fn on_tick(&mut self) -> Option<End> {
        let network = &self.shared.config.network;
        let quiet = self.last_heard.elapsed();
        if self.peer.client.is_none() && self.opened.elapsed() >= network.handshake_timeout {
            return Some(End::HandshakeTimeout);
        }
        if !self.inbox.is_between_frames() && quiet >= FRAME_STALL_MAX && self.may_read() {
            return Some(End::FrameStalled);
        }
        if self.in_flight.is_empty() && self.outbox.is_empty() && quiet >= network.idle_timeout {
            return Some(End::IdleTimeout);
        }
        if self
            .half_closed
            .is_some_and(|at| at.elapsed() >= HALF_CLOSED_MAX)
        {
            return Some(End::Closed);
        }
        let taken = std::mem::replace(&mut self.taken_seen, self.outbox.taken);
        if self.outbox.is_empty() || taken != self.outbox.taken {
            self.stalled = Duration::ZERO;
        } else {
            self.stalled += TICK;
            if self.stalled >= WRITE_STALL_MAX {
                return Some(End::WriteStalled);
            }
        }
        self.settle_in_flight();
        if quiet >= TICK {
            self.inbox.give_back();
        }
        None
    }
}

/// The receive buffer. It grows with what really arrives, not with what a length field announces, and
/// beyond [`FREE_BYTES`] it is paid for from the broker's budget.
struct Inbox {
    buffer: BytesMut,
    frames: FrameReader,
    paid: Paid,
    /// Capacity that was asked for, for the price: `BytesMut` does not tell what it holds in all.
    capacity: usize,
}

impl Inbox {
    fn new(shared: &Shared) -> Self {
        Self {
            buffer: BytesMut::new(),
            frames: FrameReader::new(
                shared
                    .config
                    .network
                    .frame_bytes_max
                    .min(FIRST_FRAME_BYTES_MAX),
            ),
            paid: Paid::default(),
            capacity: 0,
        }
    }

    /// From the next frame on, up to this size.
    fn accept(&mut self, frame_bytes_max: u32) {
        self.frames = FrameReader::new(frame_bytes_max);
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.frames.next_frame(&mut self.buffer)
    }

    fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Room for the next read. A frame in progress gets room for all that is missing, but at most
    /// four times what has arrived: a length field alone buys nothing.
    ///
    /// Cancel safety: a cancelled call leaves the buffer as it is.
    async fn make_room(&mut self, budget: &Budget) {
        let missing = match self.frames.announced() {
            Some(_) => self.frames.needed(),
            None => READ_BYTES,
        };
        let room = missing.clamp(READ_BYTES, (self.buffer.len() * 4).max(READ_BYTES));
        if self.buffer.try_reclaim(room.min(missing)) {
            return;
        }
        let capacity = self.buffer.len() + room;
        if capacity > FREE_BYTES {
            budget.pay(&mut self.paid, capacity).await;
        }
        self.buffer.reserve(room);
        self.capacity = self.capacity.max(capacity);
    }

    /// Makes room, when the budget allows it, and reads.
    ///
    /// Cancel safety: nothing that was read is lost.
    async fn fill(&mut self, budget: &Budget, reader: &mut ReadHalf<'_>) -> io::Result<usize> {
        self.make_room(budget).await;
        self.read(reader).await
    }

    /// Reads what there is. A frame in progress is read to its end and not beyond it, so that a large
    /// frame never drags the start of the next one along.
    async fn read(&mut self, reader: &mut ReadHalf<'_>) -> io::Result<usize> {
        let room = match self.frames.announced() {
            Some(_) => self
                .frames
                .needed()
                .clamp(READ_BYTES.min(self.frames.needed()), LARGE_READ_BYTES),
            None => READ_BYTES,
        };
        reader.read_buf(&mut (&mut self.buffer).limit(room)).await
    }

    /// Gives a large buffer back at once when others wait for the budget.
    fn after_frames(&mut self, budget: &Budget) {
        if self.capacity > FREE_BYTES && (budget.is_contended() || self.paid.is_overdrawn()) {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if self.buffer.is_empty() && self.capacity > 0 {
            self.buffer = BytesMut::new();
            self.paid = Paid::default();
            self.capacity = 0;
        }
    }
}

/// Answers on their way out.
#[derive(Default)]
struct Outbox {
    slices: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes that the socket has taken so far.
    taken: u64,
}

impl Outbox {
    fn push(&mut self, response: Response) {
        for slice in response {
            self.bytes += slice.len();
            self.slices.push_back(slice);
        }
    }

    fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Writes as much as the socket takes now.
    fn write(&mut self, writer: &WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
        while !self.slices.is_empty() {
            let mut vector = [io::IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut count = 0;
            for (place, slice) in vector.iter_mut().zip(&self.slices) {
                *place = io::IoSlice::new(slice);
                count += 1;
            }
            match writer.try_write_vectored(&vector[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    shared.metrics.bytes_out(written);
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        self.taken += written as u64;
        while let Some(first) = self.slices.front_mut() {
            if written < first.len() {
                bytes::Buf::advance(first, written);
                return;
            }
            written -= first.len();
            self.slices.pop_front();
        }
    }
}
