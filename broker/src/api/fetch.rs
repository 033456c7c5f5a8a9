//! Fetch: committed batches as slices of the mapped segments, waiting for them if asked to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, PartitionId, TopicId};
use highwater_protocol::messages::{
    FetchPartition, FetchPartitionResult, FetchRequest, FetchResponse, FetchTopicResult,
};
use highwater_storage::ReadSlice;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Answer, Reply, Response};
use crate::partition::Partition;
use crate::partitions::Refusal;
use crate::shared::Shared;

/// The longest that a fetch may ask to wait, in ms: clients wait in seconds, and a mistaken value must
/// not tie a request down for weeks.
const WAIT_MS_MAX: u32 = 5 * 60 * 1000;

/// What a partition of a waiting request holds: what was asked, what it is waited for with, and a result.
const PARTITION_BYTES: usize = 512;

pub(crate) fn handle(shared: &Arc<Shared>, request: FetchRequest, reply: Reply) -> Answer {
    if request.replica.is_some() {
        let message = "replication is not in this version of the broker";
        return Answer::Now(reply.error(shared, ErrorCode::Unsupported, message));
    }
    let first = Pass::run(shared, &request);
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
    let _watches: Vec<_> = partitions
        .iter()
        .map(|partition| partition.watch(&notify))
        .collect();
    loop {
        // After registering: what moved since the first pass is seen here.
        let pass = Pass::run(shared, request);
        if pass.is_enough(shared, request) {
            return pass;
        }
        tokio::select! {
            () = notify.notified() => {}
            () = shared.draining.cancelled() => return pass,
            () = tokio::time::sleep_until(deadline) => return Pass::run(shared, request),
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

/// What one pass over the partitions of a request found.
struct Pass {
    topics: Vec<FetchTopicResult>,
    /// The partitions that could be read, to wait for.
    partitions: Vec<Arc<Partition>>,
    /// Slices whose pages may not be in memory, and where they stand.
    cold: Vec<(Arc<Partition>, ReadSlice, (usize, usize))>,
    bytes: usize,
    has_errors: bool,
}

impl Pass {
    fn run(shared: &Shared, request: &FetchRequest) -> Self {
        let bytes_max = bytes_max(shared, request);
        let mut pass = Self {
            topics: Vec::with_capacity(request.topics.len()),
            partitions: Vec::new(),
            cold: Vec::new(),
            bytes: 0,
            has_errors: false,
        };
        for topic in &request.topics {
            let mut results = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let left = bytes_max.saturating_sub(pass.bytes);
                let place = (pass.topics.len(), results.len());
                results.push(
                    match pass.read(shared, topic.topic_id, asked, left, place) {
                        Ok(result) => result,
                        Err(refusal) => {
                            pass.has_errors = true;
                            refused(shared, topic.topic_id, asked.partition, refusal)
                        }
                    },
                );
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
        // The first batch of a response comes whole, whatever its size, so that a reader always gets
        // on; a partition whose turn finds nothing left gets nothing this time.
        if left > 0 || self.bytes == 0 {
            let bytes_max = left.min(asked.bytes_max as usize);
            let slice = partition
                .log()
                .read(asked.offset, high_watermark, bytes_max)
                .map_err(|error| super::storage_error::read_refusal(&partition, &error))?;
            self.bytes += slice.records.len();
            if slice.resident {
                result.records = slice.records;
            } else {
                self.cold.push((Arc::clone(&partition), slice, place));
            }
        }
        self.partitions.push(partition);
        Ok(result)
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

    fn respond(self, shared: &Shared, reply: Reply) -> Response {
        shared.metrics.fetched(self.bytes);
        reply.ok(
            shared,
            &FetchResponse {
                throttle_ms: 0,
                topics: self.topics,
            },
        )
    }
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
