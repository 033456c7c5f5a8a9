//! Acknowledgements: one shared state per batch, futures that look at it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use highwater_protocol::ids::{Offset, PartitionId, Timestamp, TopicName};
use parking_lot::Mutex;

use crate::error::SendError;

/// A record was delivered as the producer's acknowledgement level asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// Its offset; `None` with `Acks::None`, where the broker does not answer, and where the broker
    /// has the record from an earlier attempt and does not know any more where.
    pub offset: Option<Offset>,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// What a batch came to: the offset of its first record, unknown without an answer.
pub(super) type Outcome = Result<Option<Offset>, SendError>;

/// What all acknowledgements of one batch share.
#[derive(Debug)]
pub(super) struct BatchState {
    topic: TopicName,
    partition: PartitionId,
    outcome: OnceLock<Outcome>,
    waiters: Mutex<Vec<Option<Waker>>>,
}

impl BatchState {
    pub(super) fn new(topic: TopicName, partition: PartitionId) -> Arc<Self> {
        let waiters = Mutex::default();
        Arc::new(Self {
            topic,
            partition,
            outcome: OnceLock::new(),
            waiters,
        })
    }

    pub(super) fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Resolves the batch; the first call counts.
    pub(super) fn resolve(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        // Whoever registers from now on sees the outcome, because it looks again under the lock.
        let waiters = std::mem::take(&mut *self.waiters.lock());
        waiters.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn is_resolved(&self) -> bool {
        self.outcome.get().is_some()
    }

    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiters = self.waiters.lock();
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        match *slot {
            Some(index) => match &mut waiters[index] {
                Some(waker) => waker.clone_from(cx.waker()),
                empty => *empty = Some(cx.waker().clone()),
            },
            None => {
                *slot = Some(waiters.len());
                waiters.push(Some(cx.waker().clone()));
            }
        }
        Poll::Pending
    }

    fn forget(&self, slot: Option<usize>) {
        if let Some(index) = slot
            && let Some(waker) = self.waiters.lock().get_mut(index)
        {
            *waker = None;
        }
    }
}

/// Resolves its batch when dropped, so that no acknowledgement waits for ever.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) state: Arc<BatchState>,
    /// Whether the batch was ever handed to the network.
    pub(super) sent: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.state.is_resolved() {
            self.state.resolve(Err(SendError::Abandoned {
                topic: self.state.topic.clone(),
                partition: self.state.partition,
                may_have_committed: self.sent,
            }));
        }
    }
}

/// Waits for one batch; takes its waker out when dropped.
#[derive(Debug)]
struct Wait {
    state: Arc<BatchState>,
    slot: Option<usize>,
}

impl Wait {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<&Outcome> {
        let polled = self.state.poll(&mut self.slot, cx);
        if polled.is_ready() {
            self.slot = None;
        }
        polled
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.state.forget(self.slot);
    }
}

/// Waits until a batch is resolved, however that ends.
pub(super) async fn resolved(state: Arc<BatchState>) {
    let mut wait = Wait { state, slot: None };
    std::future::poll_fn(|cx| wait.poll(cx).map(|_| ())).await;
}

/// The acknowledgement of one record, still to come.
///
/// # Cancel safety
/// Dropping it changes nothing: the record is delivered all the same. It may be polled again after
/// it was ready.
#[derive(Debug)]
#[must_use = "nobody learns whether the record was delivered unless this is awaited"]
pub struct PendingAck {
    wait: Wait,
    index: u32,
    timestamp: Timestamp,
}

impl PendingAck {
    pub(super) fn new(state: Arc<BatchState>, index: u32, timestamp: Timestamp) -> Self {
        Self {
            wait: Wait { state, slot: None },
            index,
            timestamp,
        }
    }
}

impl Future for PendingAck {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (index, timestamp) = (this.index, this.timestamp);
        let base = match this.wait.poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.clone())),
            Poll::Ready(Ok(base)) => *base,
        };
        Poll::Ready(Ok(Ack {
            topic: this.wait.state.topic.clone(),
            partition: this.wait.state.partition,
            offset: base.and_then(|base| base.checked_add(index.into())),
            timestamp,
        }))
    }
}

/// Many records were delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchAck {
    /// The topic.
    pub topic: TopicName,
    /// Where the records went, in the order in which they were given.
    pub ranges: Vec<AckRange>,
}

/// Records that lie next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRange {
    /// The partition.
    pub partition: PartitionId,
    /// Offset of the first; `None` as in [`Ack::offset`].
    pub first_offset: Option<Offset>,
    /// How many.
    pub records: u32,
}

impl BatchAck {
    /// How many records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| u64::from(range.records))
            .sum()
    }
}

/// What many records came to, however each of them ended.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// Records that were delivered.
    pub acknowledged: u64,
    /// Records that were not.
    pub failed: u64,
    /// Why the first of those was not.
    pub first_error: Option<SendError>,
}

/// Records of one batch that came with one call.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) state: Arc<BatchState>,
    pub(super) first_index: u32,
    pub(super) records: u32,
}

/// The acknowledgement of many records, still to come; resolves with the last of them, or with the
/// first error.
///
/// # Cancel safety
/// Dropping it changes nothing: the records are delivered all the same. Must not be polled again
/// after it was ready.
#[derive(Debug)]
#[must_use = "nobody learns whether the records were delivered unless this is awaited"]
pub struct PendingBatch {
    topic: TopicName,
    segments: std::vec::IntoIter<Segment>,
    records: u64,
    waiting: Option<(Wait, u32, u32)>,
    ranges: Vec<AckRange>,
}

impl PendingBatch {
    pub(super) fn new(topic: TopicName, segments: Vec<Segment>) -> Self {
        let records = segments
            .iter()
            .map(|segment| u64::from(segment.records))
            .sum();
        let ranges = Vec::with_capacity(segments.len());
        Self {
            topic,
            segments: segments.into_iter(),
            records,
            waiting: None,
            ranges,
        }
    }

    /// How many records it stands for.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Waits for every record, also behind the first error, and counts.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the records are delivered all the same.
    pub async fn settle(self) -> Settled {
        let mut settled = Settled {
            acknowledged: self
                .ranges
                .iter()
                .map(|range| u64::from(range.records))
                .sum(),
            ..Settled::default()
        };
        let begun = self.waiting.map(|(wait, _, records)| (wait, records));
        let rest = self.segments.map(|segment| {
            (
                Wait {
                    state: segment.state,
                    slot: None,
                },
                segment.records,
            )
        });
        for (mut wait, records) in begun.into_iter().chain(rest) {
            let error = std::future::poll_fn(|cx| {
                wait.poll(cx).map(|outcome| outcome.as_ref().err().cloned())
            });
            match error.await {
                None => settled.acknowledged += u64::from(records),
                Some(error) => {
                    settled.failed += u64::from(records);
                    settled.first_error.get_or_insert(error);
                }
            }
        }
        settled
    }
}

impl Future for PendingBatch {
    type Output = Result<BatchAck, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.waiting.is_none() {
                let Some(segment) = this.segments.next() else {
                    break;
                };
                let wait = Wait {
                    state: segment.state,
                    slot: None,
                };
                this.waiting = Some((wait, segment.first_index, segment.records));
            }
            let Some((wait, first_index, records)) = &mut this.waiting else {
                break;
            };
            let partition = wait.state.partition;
            let base = match wait.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.clone())),
                Poll::Ready(Ok(base)) => *base,
            };
            let first_offset = base.and_then(|base| base.checked_add((*first_index).into()));
            this.ranges.push(AckRange {
                partition,
                first_offset,
                records: *records,
            });
            this.waiting = None;
        }
        let ranges = std::mem::take(&mut this.ranges);
        Poll::Ready(Ok(BatchAck {
            topic: this.topic.clone(),
            ranges,
        }))
    }
}
