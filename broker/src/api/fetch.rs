//! Fetch: batches as slices of the mapped segments, waiting for them if asked to.
//!
//! Consumers get what is committed, from a broker whose lease is valid when it answers. Followers get
//! everything (`follower`), and tell by their fetches how far they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    FetchPartition, FetchPartitionResult, FetchRequest, FetchResponse, FetchTopicResult,
};
use highwater_storage::ReadSlice;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Answer, Reply, Response, sender};
use crate::lease;
use crate::partition::Partition;
use crate::partitions::Refusal;
use crate::progress::Watch;
use crate::shared::Shared;

mod follower;

/// The longest that a fetch may ask to wait, in ms: clients wait in seconds, and a mistaken value must
/// not tie a request down for weeks.
const WAIT_MS_MAX: u32 = 5 * 60 * 1000;

/// What a partition of a waiting request holds: what was asked, what it is waited for with, and a result.
const PARTITION_BYTES: usize = 512;

pub(crate) fn handle(
    shared: &Arc<Shared>,
    sender: Option<NodeId>,
    request: FetchRequest,
    reply: Reply,
) -> Answer {
    // What a follower tells commits records.
    if let Some(replica) = &request.replica
        && let Err(refusal) = sender::check(sender, replica.node_id)
    {
        return Answer::Now(reply.error(shared, refusal.code, &refusal.message));
    }
    let first = Pass::run(shared, &request, Look::First);
    if first.is_enough(shared, &request) || request.wait_ms_max == 0 {
        return match first.all_resident() {
            true => Answer::Now(first.respond(shared, reply)),
            false => {
                let held = first.partitions.len() * PARTITION_BYTES;
                let answer = bring_in(Arc::clone(shared), first, reply);
                Answer::Later(Box::pin(answer), held)
            }
        };
    }
    let shared = Arc::clone(shared);
    let partitions = first.partitions;
    let held = partitions.len() * PARTITION_BYTES;
    let answer = async move {
        let pass = wait(&shared, &request, partitions).await;
        bring_in(shared, pass, reply).await
    };
    Answer::Later(Box::pin(answer), held)
}

/// Passes over the partitions until there is enough or the time is over.
async fn wait(
    shared: &Shared,
    request: &FetchRequest,
    mut partitions: Vec<Arc<Partition>>,
) -> Pass {
    // One that is asked for many times is waited for once.
    partitions.sort_unstable_by_key(Arc::as_ptr);
    partitions.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let wait = Duration::from_millis(request.wait_ms_max.min(WAIT_MS_MAX).into());
    let deadline = Instant::now() + wait;
    let notify = Arc::new(Notify::new());
    let watch = |partition: &Arc<Partition>| -> Watch {
        match request.replica {
            Some(_) => partition.watch_log_end(&notify),
            None => partition.watch(&notify),
        }
    };
    let _watches: Vec<_> = partitions.iter().map(watch).collect();
    loop {
        // After registering: what moved since the first pass is seen here.
        let pass = Pass::run(shared, request, Look::Again);
        if pass.is_enough(shared, request) {
            return pass;
        }
        tokio::select! {
            () = notify.notified() => {}
            () = shared.draining.cancelled() => return pass,
            () = tokio::time::sleep_until(deadline) => return Pass::run(shared, request, Look::Again),
        }
    }
}

/// Brings cold data in on a thread that may block: a disk error is an error value then, and no
/// network thread waits for a disk.
async fn bring_in(shared: Arc<Shared>, mut pass: Pass, reply: Reply) -> Response {
    if !pass.all_resident() {
        let work = tokio::task::spawn_blocking(move || {
            pass.bring_in();
            pass
        });
        match work.await {
            Ok(done) => pass = done,
            Err(error) => {
                tracing::error!(%error, "reading cold data failed");
                let message = "the broker's log has the details";
                return reply.error(&shared, ErrorCode::Internal, message);
            }
        }
    }
    pass.respond(&shared, reply)
}

/// The most record bytes of the answer, besides its first batch. An answer is a frame too, and no
/// client gets one that is far larger than those that it may send.
fn bytes_max(shared: &Shared, request: &FetchRequest) -> usize {
    request.bytes_max.min(shared.config.network.frame_bytes_max) as usize
}

/// Whether a request is looked at for the first time. What a follower says of itself is taken note of
/// then, and not again when it has waited: a later fetch of it may have told more meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    Again,
}

/// What one pass over the partitions of a request found.
struct Pass {
    topics: Vec<FetchTopicResult>,
    /// The partitions that could be read, to wait for.
    partitions: Vec<Arc<Partition>>,
    /// Slices whose pages may not be in memory, and where they stand.
    cold: Vec<(Arc<Partition>, ReadSlice, (usize, usize))>,
    bytes: usize,
    /// Some partition has an answer that cannot wait: an error, or where a follower's log parts.
    has_errors: bool,
    is_for_follower: bool,
}

impl Pass {
    fn run(shared: &Shared, request: &FetchRequest, look: Look) -> Self {
        let bytes_max = bytes_max(shared, request);
        let now = lease::now();
        let mut pass = Self {
            topics: Vec::with_capacity(request.topics.len()),
            partitions: Vec::new(),
            cold: Vec::new(),
            bytes: 0,
            has_errors: false,
            is_for_follower: request.replica.is_some(),
        };
        for topic in &request.topics {
            let mut results = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let left = bytes_max.saturating_sub(pass.bytes);
                let place = (pass.topics.len(), results.len());
                let read = match &request.replica {
                    None => pass.read(shared, topic.topic_id, asked, left, place),
                    Some(replica) => {
                        let fetch = follower::Fetch {
                            replica,
                            topic_id: topic.topic_id,
                            asked,
                            look,
                            now,
                            // With no bytes at all it only tells how far it is.
                            left: (request.bytes_max > 0).then_some(left),
                        };
                        pass.read_for_follower(shared, &fetch, place)
                    }
                };
                results.push(read.unwrap_or_else(|refusal| {
                    pass.has_errors = true;
                    refused(shared, topic.topic_id, asked.partition, refusal)
                }));
            }
            pass.topics.push(FetchTopicResult {
                topic_id: topic.topic_id,
                partitions: results,
            });
        }
        pass
    }

    fn read(
        &mut self,
        shared: &Shared,
        topic_id: TopicId,
        asked: &FetchPartition,
        left: usize,
        place: (usize, usize),
    ) -> Result<FetchPartitionResult, Refusal> {
        let partition = shared.leader((topic_id, asked.partition), asked.leader_epoch)?;
        let high_watermark = partition.high_watermark();
        let mut result = FetchPartitionResult {
            partition: asked.partition,
            error: ErrorCode::None,
            message: None,
            high_watermark,
            last_stable: high_watermark,
            log_start: partition.log().log_start(),
            diverging: None,
            records: Bytes::new(),
        };
        let bounds = Bounds {
            offset: asked.offset,
            end: high_watermark,
            left,
            bytes_max: asked.bytes_max,
        };
        self.read_records(&partition, bounds, place, &mut result)?;
        self.partitions.push(partition);
        Ok(result)
    }

    /// The first batch of a response comes whole, whatever its size, so that a reader always gets on;
    /// a partition whose turn finds nothing left gets nothing this time.
    fn read_records(
        &mut self,
        partition: &Arc<Partition>,
        bounds: Bounds,
        place: (usize, usize),
        result: &mut FetchPartitionResult,
    ) -> Result<(), Refusal> {
        if bounds.left == 0 && self.bytes > 0 {
            return Ok(());
        }
        let slice = partition
            .log()
            .read(
                bounds.offset,
                bounds.end,
                bounds.left.min(bounds.bytes_max as usize),
            )
            .map_err(|error| super::storage_error::read_refusal(partition, &error))?;
        self.bytes += slice.records.len();
        if slice.resident {
            result.records = slice.records;
        } else {
            self.cold.push((Arc::clone(partition), slice, place));
        }
        Ok(())
    }

    fn is_enough(&self, shared: &Shared, request: &FetchRequest) -> bool {
        // More than may be sent cannot be waited for.
        let wanted = (request.bytes_min as usize).min(bytes_max(shared, request));
        self.has_errors || self.bytes >= wanted || self.partitions.is_empty()
    }

    fn all_resident(&self) -> bool {
        self.cold.is_empty()
    }

    fn bring_in(&mut self) {
        for (partition, slice, (topic, index)) in std::mem::take(&mut self.cold) {
            let result = &mut self.topics[topic].partitions[index];
            match partition.log().bring_in(&slice) {
                Ok(()) => result.records = slice.records,
                Err(error) => {
                    let refusal = super::storage_error::read_refusal(&partition, &error);
                    result.error = refusal.code;
                    result.message = Some(refusal.message);
                }
            }
        }
    }

    fn respond(mut self, shared: &Shared, reply: Reply) -> Response {
        // After reading, so that a broker that was stopped in between says nothing stale.
        if !self.is_for_follower && !shared.lease.is_valid() {
            self.fence();
        }
        match self.is_for_follower {
            true => shared.metrics.replication().sent(self.bytes),
            false => shared.metrics.fetched(self.bytes),
        }
        reply.ok(
            shared,
            &FetchResponse {
                throttle_ms: 0,
                topics: self.topics,
            },
        )
    }
}

impl Pass {
    /// Another broker may lead these partitions by now, and have committed more.
    fn fence(&mut self) {
        self.bytes = 0;
        for result in self
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
            .filter(|result| result.error == ErrorCode::None)
        {
            result.error = ErrorCode::NotLeader;
            result.message = Some("this broker's session is over".to_owned());
            result.records = Bytes::new();
        }
    }
}

/// What to read of a partition.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    offset: Offset,
    end: Offset,
    /// What the response may still hold.
    left: usize,
    /// What the reader wants of this partition.
    bytes_max: u32,
}

fn refused(
    shared: &Shared,
    topic_id: TopicId,
    partition: PartitionId,
    refusal: Refusal,
) -> FetchPartitionResult {
    // A reader outside of the log learns where the log is.
    let here = shared.leader((topic_id, partition), None).ok();
    let high_watermark = here
        .as_ref()
        .map_or(Offset::ZERO, |here| here.high_watermark());
    FetchPartitionResult {
        partition,
        error: refusal.code,
        message: Some(refusal.message),
        high_watermark,
        last_stable: high_watermark,
        log_start: here.map_or(Offset::ZERO, |here| here.log().log_start()),
        diverging: None,
        records: Bytes::new(),
    }
}
