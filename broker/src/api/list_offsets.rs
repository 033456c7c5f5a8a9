//! ListOffsets: by position or by time.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, Offset, Timestamp, TopicId};
use highwater_protocol::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResult, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResult, OffsetSpec,
};

use crate::partition::Partition;
use crate::partitions::{Refusal, not_leader};
use crate::shared::Shared;

pub(crate) fn handle(shared: &Shared, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| ListOffsetsTopicResult {
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|asked| one(shared, topic.topic_id, asked))
                .collect(),
        });
    ListOffsetsResponse {
        topics: topics.collect(),
    }
}

fn one(
    shared: &Shared,
    topic_id: TopicId,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResult {
    let found = shared
        .leader((topic_id, asked.partition), asked.leader_epoch)
        .and_then(|partition| {
            let epoch = partition.leader_epoch();
            let found = find(&partition, asked.spec)?;
            // After looking, so that a broker that was stopped in between says nothing stale.
            if partition.leads_in() != Some(epoch) || !shared.lease.is_valid() {
                return Err(not_leader(&partition));
            }
            Ok((epoch, found))
        });
    match found {
        Ok((leader_epoch, (offset, timestamp))) => ListOffsetsPartitionResult {
            partition: asked.partition,
            error: ErrorCode::None,
            message: None,
            offset,
            timestamp,
            leader_epoch,
        },
        Err(refusal) => ListOffsetsPartitionResult {
            partition: asked.partition,
            error: refusal.code,
            message: Some(refusal.message),
            offset: None,
            timestamp: None,
            leader_epoch: LeaderEpoch::ZERO,
        },
    }
}

type Found = (Option<Offset>, Option<Timestamp>);

fn find(partition: &Partition, spec: OffsetSpec) -> Result<Found, Refusal> {
    let log = partition.log();
    let refusal = |error| super::storage_error::read_refusal(partition, &error);
    let at = |found: Option<(Offset, Timestamp)>| match found {
        Some((offset, timestamp)) => (Some(offset), Some(timestamp)),
        None => (None, None),
    };
    if !matches!(spec, OffsetSpec::Earliest | OffsetSpec::LogEnd)
        && !partition.high_watermark_is_known()
    {
        return Err(Refusal {
            code: ErrorCode::OffsetNotAvailable,
            message: "the new leader does not yet know how far the partition is committed"
                .to_owned(),
        });
    }
    Ok(match spec {
        OffsetSpec::Earliest => (Some(log.log_start()), None),
        // Without transactions, everything committed is stable.
        OffsetSpec::Latest | OffsetSpec::LastStable => (Some(partition.high_watermark()), None),
        OffsetSpec::LogEnd => (Some(log.end()), None),
        OffsetSpec::MaxTimestamp => at(log
            .max_timestamp(partition.high_watermark())
            .map_err(refusal)?),
        OffsetSpec::At(time) => at(log
            .offset_at_time(time, partition.high_watermark())
            .map_err(refusal)?),
    })
}
