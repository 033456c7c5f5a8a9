//! ReplicaLogs: how far the logs here go, whoever leads them.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::Offset;
use highwater_protocol::messages::{ReplicaLog, ReplicaLogsRequest, ReplicaLogsResponse};

use crate::partitions::Hosted;
use crate::shared::Shared;

pub(crate) fn handle(shared: &Shared, request: &ReplicaLogsRequest) -> ReplicaLogsResponse {
    let asked = request.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| (topic.topic_id, *partition))
    });
    let logs = asked.map(|(topic_id, partition)| {
        let absent = |error| ReplicaLog {
            topic_id,
            partition,
            error,
            last_epoch: None,
            end: Offset::ZERO,
            high_watermark: Offset::ZERO,
        };
        match shared.partitions.get((topic_id, partition)) {
            Some(Hosted::Online(found)) if found.offline_reason().is_none() => ReplicaLog {
                topic_id,
                partition,
                error: ErrorCode::None,
                last_epoch: found.log().latest_epoch(),
                end: found.log().end(),
                high_watermark: found.high_watermark(),
            },
            Some(_) => absent(ErrorCode::PartitionOffline),
            None => absent(ErrorCode::UnknownTopicOrPartition),
        }
    });
    ReplicaLogsResponse {
        broker_epoch: shared.broker_epoch(),
        logs: logs.collect(),
    }
}
