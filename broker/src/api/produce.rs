//! Produce: verify, append, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_coordination::partition_leader::AckWhen;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, Timestamp, TopicId};
use highwater_protocol::messages::{
    Acks, ProducePartition, ProducePartitionResult, ProduceRequest, ProduceResponse,
    ProduceTopicResult,
};
use highwater_protocol::record_batch::{BatchError, BatchHeader, verify_producer_batch};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Reply};
use crate::partition::{Acknowledgement, Appended, Partition, PartitionAppendError};
use crate::partitions::Refusal;
use crate::shared::Shared;

/// What a partition of a waiting request holds: its result and what it is waited for with.
const PARTITION_BYTES: usize = 256;

/// By how much a lease's end is overshot when it is waited for.
const LEASE_STEP: Duration = Duration::from_millis(2);

pub(crate) fn handle(shared: &Arc<Shared>, request: &ProduceRequest, reply: Reply) -> Answer {
    let now = shared.clock.now();
    let mut waits = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let result = match append(shared, topic.topic_id, asked, request.acks, now) {
                Ok((partition, appended)) => {
                    if appended.ack != AckWhen::Now {
                        let place = (topics.len(), partitions.len());
                        waits.push(Wait {
                            partition,
                            epoch: appended.epoch,
                            when: appended.ack,
                            place,
                        });
                    }
                    acknowledgement(asked, &appended)
                }
                Err(refusal) => {
                    shared.metrics.produce_refused(refusal.code);
                    refused(asked, refusal)
                }
            };
            partitions.push(result);
        }
        topics.push(ProduceTopicResult {
            topic_id: topic.topic_id,
            partitions,
        });
    }
    let mut response = ProduceResponse {
        throttle_ms: 0,
        topics,
    };
    if request.acks == Acks::None {
        return Answer::Never;
    }
    if waits.is_empty() {
        fence(shared, &mut response);
        return Answer::Now(reply.ok(shared, &response));
    }
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms.into());
    let shared = Arc::clone(shared);
    let held = waits.len() * PARTITION_BYTES;
    let answer = async move {
        let mut response = acknowledged(&shared, response, waits, deadline).await;
        fence(&shared, &mut response);
        reply.ok(&shared, &response)
    };
    Answer::Later(Box::pin(answer), held)
}

/// Without a lease another broker may lead the partitions already: what was appended may have been
/// appended in vain.
fn fence(shared: &Shared, response: &mut ProduceResponse) {
    if shared.lease.is_valid() {
        return;
    }
    for result in response
        .topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions)
        .filter(|result| {
            // Both mean that the records are safe.
            matches!(result.error, ErrorCode::None | ErrorCode::DuplicateSequence)
        })
    {
        result.error = ErrorCode::NotLeader;
        result.message = Some(OVER_AFTER_APPEND.to_owned());
        result.base_offset = None;
        result.log_start = None;
    }
}

const OVER_AFTER_APPEND: &str =
    "this broker's session is over; what it appended may or may not stay";

/// An append that is not acknowledged yet.
struct Wait {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    when: AckWhen,
    /// Where its result stands in the response: topic, partition.
    place: (usize, usize),
}

/// Waits until every append is acknowledged, or cannot be any more, or the time is over, or this broker's
/// lease: one that is cut off from the others cannot tell any more who leads, and its clients should not
/// wait for it as long as they would for a leader.
async fn acknowledged(
    shared: &Shared,
    mut response: ProduceResponse,
    mut waits: Vec<Wait>,
    deadline: Instant,
) -> ProduceResponse {
    let notify = Arc::new(Notify::new());
    // One that was appended to many times is waited for once.
    let mut partitions: Vec<_> = waits.iter().map(|wait| &wait.partition).collect();
    partitions.sort_unstable_by_key(|partition| Arc::as_ptr(partition));
    partitions.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let watches: Vec<_> = partitions
        .into_iter()
        .map(|partition| partition.watch(&notify))
        .collect();
    loop {
        waits.retain(|wait| {
            let failure = match wait.outcome() {
                None => return true,
                Some(Ok(())) => return false,
                Some(Err(failure)) => failure,
            };
            fail(&mut response, wait.place, failure);
            false
        });
        if waits.is_empty() {
            break;
        }
        let now = Instant::now();
        // A lease is counted in ms; a moment later it is over for sure.
        let lease = shared.lease.left().map(|left| now + left + LEASE_STEP);
        let until = lease.map_or(deadline, |lease| lease.min(deadline));
        if timeout_at(until, notify.notified()).await.is_ok() {
            continue;
        }
        let (code, message) = if Instant::now() >= deadline {
            let message = "appended, but not acknowledged in time; it may still be";
            (ErrorCode::RequestTimedOut, message)
        } else if shared.lease.is_valid() {
            // It was renewed meanwhile.
            continue;
        } else {
            (ErrorCode::NotLeader, OVER_AFTER_APPEND)
        };
        for wait in &waits {
            let message = message.to_owned();
            fail(&mut response, wait.place, Refusal { code, message });
        }
        break;
    }
    drop(watches);
    response
}

impl Wait {
    fn outcome(&self) -> Option<Result<(), Refusal>> {
        let acknowledgement = self.partition.acknowledgement(self.epoch, self.when);
        if acknowledgement == Acknowledgement::Done {
            return Some(Ok(()));
        }
        let failed = |code, message: String| Some(Err(Refusal { code, message }));
        if self.partition.is_retired() {
            return failed(
                ErrorCode::UnknownTopicId,
                "the topic was deleted".to_owned(),
            );
        }
        if let Some(reason) = self.partition.offline_reason() {
            return failed(ErrorCode::PartitionOffline, reason);
        }
        match acknowledgement {
            Acknowledgement::Done => Some(Ok(())),
            Acknowledgement::Waiting => None,
            Acknowledgement::NotEnoughReplicas => failed(
                ErrorCode::NotEnoughReplicasAfterAppend,
                "appended, but then fewer replicas were in sync than min.insync.replicas demands; \
                 it may be committed later"
                    .to_owned(),
            ),
            Acknowledgement::NotLeader => failed(
                ErrorCode::NotLeader,
                "appended, but another leader decides now whether it stays".to_owned(),
            ),
        }
    }
}

fn fail(response: &mut ProduceResponse, (topic, partition): (usize, usize), refusal: Refusal) {
    let result = &mut response.topics[topic].partitions[partition];
    result.error = refusal.code;
    result.message = Some(refusal.message);
    result.base_offset = None;
    result.log_start = None;
}

/// The result of an append that need not wait, or once it has waited.
fn acknowledgement(asked: &ProducePartition, appended: &Appended) -> ProducePartitionResult {
    let is_known = appended.base_offset.is_some();
    ProducePartitionResult {
        partition: asked.partition,
        error: if is_known {
            ErrorCode::None
        } else {
            ErrorCode::DuplicateSequence
        },
        message: (!is_known)
            .then(|| "appended before; its offset is not known any more".to_owned()),
        base_offset: appended.base_offset,
        log_start: Some(appended.log_start),
    }
}

fn refused(asked: &ProducePartition, refusal: Refusal) -> ProducePartitionResult {
    ProducePartitionResult {
        partition: asked.partition,
        error: refusal.code,
        message: Some(refusal.message),
        base_offset: None,
        log_start: None,
    }
}

fn append(
    shared: &Shared,
    topic_id: TopicId,
    asked: &ProducePartition,
    acks: Acks,
    now: Timestamp,
) -> Result<(Arc<Partition>, Appended), Refusal> {
    let partition = shared.leader((topic_id, asked.partition), asked.leader_epoch)?;
    if !shared.lease.is_valid() {
        // Looked at again before the answer. Here it spares the log what the next leader's would not
        // have, and its producer the doubt.
        return Err(Refusal {
            code: ErrorCode::NotLeader,
            message: "this broker's session is over; nothing was appended".to_owned(),
        });
    }
    verify(&partition, &asked.records, now)?;
    if shared.is_disk_low() {
        return Err(Refusal {
            code: ErrorCode::DiskFull,
            message: format!(
                "the disk of {} has less free space than storage.min.free.bytes; \
                 appends go on when space returns",
                shared.config.data_dir.display()
            ),
        });
    }
    match partition.append_as_leader(&asked.records, acks, now) {
        Ok(appended) => {
            if !appended.is_duplicate {
                shared.metrics.produced(asked.records.len());
            }
            Ok((partition, appended))
        }
        Err(error) => Err(append_refusal(&partition, &error)),
    }
}

/// Checks every batch before the first is appended: they land all or none.
fn verify(partition: &Partition, records: &Bytes, now: Timestamp) -> Result<(), Refusal> {
    let config = partition.config();
    let mut rest = &records[..];
    if rest.is_empty() {
        return Err(Refusal {
            code: ErrorCode::InvalidBatch,
            message: "the request has no records for this partition".to_owned(),
        });
    }
    while !rest.is_empty() {
        let header = verify_producer_batch(rest, config.max_message_bytes)
            .map_err(|error| batch_refusal(partition, &error))?;
        check_timestamps(&config, &header, now)?;
        rest = &rest[header.batch_bytes as usize..];
    }
    Ok(())
}

fn check_timestamps(
    config: &highwater_config::TopicConfig,
    header: &BatchHeader,
    now: Timestamp,
) -> Result<(), Refusal> {
    let refused = |key: &str, time: Timestamp| {
        Err(Refusal {
            code: ErrorCode::InvalidTimestamp,
            message: format!(
                "a record's timestamp {time} is further from the broker's time {now} than {key} allows"
            ),
        })
    };
    let millis = |limit: Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    if let Some(limit) = config.timestamp_after_max
        && header.max_timestamp.millis().saturating_sub(now.millis()) > millis(limit)
    {
        return refused("message.timestamp.after.max.ms", header.max_timestamp);
    }
    if let Some(limit) = config.timestamp_before_max
        && now.millis().saturating_sub(header.base_timestamp.millis()) > millis(limit)
    {
        return refused("message.timestamp.before.max.ms", header.base_timestamp);
    }
    Ok(())
}

fn batch_refusal(partition: &Partition, error: &BatchError) -> Refusal {
    let code = match error {
        BatchError::TooLarge { .. } => ErrorCode::BatchTooLarge,
        BatchError::UnknownCompression { .. } => ErrorCode::UnsupportedCompression,
        BatchError::Unsupported { .. } => ErrorCode::Unsupported,
        BatchError::NotForProducers { .. } | BatchError::PartialProducer | BatchError::Empty => {
            ErrorCode::InvalidBatch
        }
        BatchError::Timestamps { .. } => ErrorCode::InvalidTimestamp,
        _ => ErrorCode::CorruptBatch,
    };
    let limit = match code {
        ErrorCode::BatchTooLarge => " (max.message.bytes of the topic)",
        _ => "",
    };
    let message = format!("topic {}: {error}{limit}", partition.topic());
    Refusal { code, message }
}

fn append_refusal(partition: &Partition, error: &PartitionAppendError) -> Refusal {
    let code = match error {
        PartitionAppendError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        PartitionAppendError::Deleted => ErrorCode::UnknownTopicId,
        PartitionAppendError::NotLeader => ErrorCode::NotLeader,
        PartitionAppendError::Storage(error) => super::storage_error::append_code(error),
    };
    let message = format!(
        "topic {} partition {}: {error}",
        partition.topic(),
        partition.partition()
    );
    Refusal { code, message }
}
