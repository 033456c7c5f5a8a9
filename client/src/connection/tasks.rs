//! The two tasks of a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::codec::Decoder;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::frame::decode_response_header;
use highwater_protocol::messages::MetadataRequest;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::receiver::Receiver;
use super::{Answer, Inner};
use crate::error::RequestError;

/// How far a deadline may be overrun.
const SWEEP_PERIOD: Duration = Duration::from_millis(50);
/// A connection that is never idle looks at its deadlines after this many answers.
const ANSWERS_PER_SWEEP_CHECK: u32 = 256;

/// While requests wait and nothing comes for this long, the broker is asked something that it can
/// answer at once; if it does not within as long again, it counts as dead.
const PROBE_AFTER: Duration = Duration::from_secs(3);

/// Completes what is pending however the read task ends, also when its runtime is torn down.
struct Guard(Arc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.poison("its runtime was shut down");
    }
}

/// Starts the tasks of a connection.
pub(super) fn spawn(inner: &Arc<Inner>, socket: OwnedReadHalf, receiver: Receiver) {
    let guard = Guard(Arc::clone(inner));
    tokio::spawn(async move {
        let reason = run_reads(&guard.0, socket, receiver).await;
        debug!(address = %guard.0.greeting.address, reason, "connection ended");
        guard.0.poison(&reason);
    });
    let writer = Arc::clone(inner);
    tokio::spawn(async move {
        if writer.writes.run().await {
            writer.wake.notify_one();
        }
    });
}

/// Receives until the connection ends; returns why it did.
async fn run_reads(inner: &Inner, mut socket: OwnedReadHalf, mut receiver: Receiver) -> String {
    let sleep = sleep_until(Instant::now());
    tokio::pin!(sleep);
    let mut armed = false;
    let mut answers = 0_u32;
    let mut silence = Silence::begin(0, Instant::now());
    loop {
        let count = |bytes: usize| {
            inner.received.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        tokio::select! {
            biased;
            frame = receiver.next_frame(&mut socket, count) => {
                match frame {
                    Ok(frame) => {
                        if let Err(reason) = on_frame(inner, frame) {
                            return reason;
                        }
                    }
                    Err(error) => return error.to_string(),
                }
                answers = answers.wrapping_add(1);
                if !answers.is_multiple_of(ANSWERS_PER_SWEEP_CHECK) {
                    continue;
                }
            }
            () = inner.wake.notified() => {
                if let Some(kind) = inner.writes.failure() {
                    return format!("writing failed: {kind}");
                }
                if inner.pending.close_is_asked() {
                    return "closed by this side".to_owned();
                }
            }
            () = &mut sleep, if armed => {}
        }
        let now = Instant::now();
        if armed && now >= sleep.deadline() {
            match sweep(inner, now) {
                Ok(again) => armed = again,
                Err(reason) => return reason,
            }
            if armed && silence.is_due(inner.received.load(Ordering::Relaxed), now) {
                probe(inner);
            }
            sleep.as_mut().reset(now + SWEEP_PERIOD);
        } else if !armed && inner.pending.sweep_is_armed() {
            armed = true;
            silence = Silence::begin(inner.received.load(Ordering::Relaxed), now);
            sleep.as_mut().reset(now + SWEEP_PERIOD);
        }
    }
}

/// Since when nothing was received.
struct Silence {
    received: u64,
    since: Instant,
}

impl Silence {
    fn begin(received: u64, now: Instant) -> Self {
        Self {
            received,
            since: now,
        }
    }

    /// Whether it has lasted so long that it is time to ask; then it begins anew.
    fn is_due(&mut self, received: u64, now: Instant) -> bool {
        let due = received == self.received && now >= self.since + PROBE_AFTER;
        if due || received != self.received {
            *self = Self::begin(received, now);
        }
        due
    }
}

/// Asks something that any broker answers at once. Its deadline does the rest.
fn probe(inner: &Inner) {
    let nothing = MetadataRequest {
        topics: Some(Vec::new()),
    };
    // Turned away only by a connection that is ending anyway.
    let _ = inner.submit(&nothing, PROBE_AFTER, Box::new(|_| {}));
}

/// Completes the request that the frame answers.
fn on_frame(inner: &Inner, frame: Bytes) -> Result<(), String> {
    let mut body = Decoder::new(frame);
    let header = decode_response_header(&mut body)
        .map_err(|error| format!("an answer without a readable header: {error}"))?;
    let Some(entry) = inner.pending.take(header.correlation) else {
        // Given up at its deadline, or a complaint about bytes that were no request.
        debug!(correlation = %header.correlation, error = %header.error, "answer to nothing pending");
        return Ok(());
    };
    let address = inner.address();
    let api = entry.api;
    let answer = if header.error == ErrorCode::None {
        Ok(Answer {
            body,
            version: entry.version,
            api,
            address,
        })
    } else {
        match body.take_str() {
            Ok(text) => Err(RequestError::Refused {
                code: header.error,
                message: text.to_owned(),
            }),
            Err(source) => Err(RequestError::MalformedAnswer {
                address,
                api,
                source,
            }),
        }
    };
    (entry.completion)(answer);
    Ok(())
}

/// Completes the requests whose deadline passed. A peer from which not one byte came since such a
/// request was sent counts as dead, and the connection with it; `Ok(false)` when nothing is pending.
fn sweep(inner: &Inner, now: Instant) -> Result<bool, String> {
    let Some(expired) = inner.pending.take_expired(now) else {
        return Ok(false);
    };
    let received = inner.received.load(Ordering::Relaxed);
    let mut silent_for = None;
    for entry in expired {
        if entry.received_before == received {
            silent_for = Some(entry.timeout);
        }
        let timed_out = RequestError::TimedOut {
            address: inner.address(),
            api: entry.api,
            after: entry.timeout,
        };
        (entry.completion)(Err(timed_out));
    }
    match silent_for {
        Some(after) => Err(format!("nothing was received for {} ms", after.as_millis())),
        None => Ok(true),
    }
}
