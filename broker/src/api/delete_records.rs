//! DeleteRecords: trim the start of partitions.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{Offset, TopicId};
use highwater_protocol::messages::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use crate::partitions::{Refusal, not_leader};
use crate::shared::Shared;

pub(crate) fn handle(shared: &Shared, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| DeleteRecordsTopicResult {
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|asked| match trim(shared, topic.topic_id, asked) {
                    Ok(log_start) => DeleteRecordsPartitionResult {
                        partition: asked.partition,
                        error: ErrorCode::None,
                        message: None,
                        log_start: Some(log_start),
                    },
                    Err(refusal) => DeleteRecordsPartitionResult {
                        partition: asked.partition,
                        error: refusal.code,
                        message: Some(refusal.message),
                        log_start: None,
                    },
                })
                .collect(),
        });
    DeleteRecordsResponse {
        topics: topics.collect(),
    }
}

fn trim(
    shared: &Shared,
    topic_id: TopicId,
    asked: &DeleteRecordsPartition,
) -> Result<Offset, Refusal> {
    let partition = shared.leader((topic_id, asked.partition), None)?;
    // What is not committed yet is not the client's to delete.
    let high_watermark = partition.high_watermark();
    if !shared.lease.is_valid() {
        return Err(not_leader(&partition));
    }
    let before = asked.before.unwrap_or(high_watermark);
    if !partition.high_watermark_is_known() && (asked.before.is_none() || before > high_watermark) {
        return Err(Refusal {
            code: ErrorCode::OffsetNotAvailable,
            message: "the new leader does not yet know how far the partition is committed"
                .to_owned(),
        });
    }
    if before > high_watermark {
        return Err(Refusal {
            code: ErrorCode::OffsetOutOfRange,
            message: format!(
                "cannot trim to {before}: partition {} of topic {} is committed up to {high_watermark}",
                asked.partition,
                partition.topic()
            ),
        });
    }
    partition
        .log()
        .trim_prefix(before)
        .map_err(|error| super::storage_error::storage_refusal(&partition, &error))
}
