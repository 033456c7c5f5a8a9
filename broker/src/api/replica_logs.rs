//! ReplicaLogs: how far the logs here go, whoever leads them.

use highwater_protocol::messages::{ReplicaLogsRequest, ReplicaLogsResponse};

use crate::shared::Shared;

pub(crate) fn handle(shared: &Shared, request: &ReplicaLogsRequest) -> ReplicaLogsResponse {
    shared
        .partitions
        .replica_logs(request, shared.broker_epoch())
}
