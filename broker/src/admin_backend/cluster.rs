//! Answers about the cluster: asked of the controller, put into views.

use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::partition_health::PartitionHealth;
use highwater_protocol::ids::NodeId;
use highwater_protocol::messages::{
    BalanceAction, BalanceRequest, BalanceResponse, BrokerDescription, DescribeClusterRequest,
    DescribeQuorumRequest, DescribeQuorumResponse, MoveReason, PlannedMove,
};

use crate::admin::{
    AbsentView, AdminError, BrokerView, ClusterView, MoveView, MovesView, QuorumMemberView,
    QuorumView,
};
use crate::api;
use crate::api::controlled::From;
use crate::partitions::Refusal;
use crate::shared::Shared;

/// How long the controller may take to answer.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn cluster(shared: Arc<Shared>) -> Result<ClusterView, AdminError> {
    let request = DescribeClusterRequest {
        include_fenced: true,
    };
    let described = api::cluster::handle(Arc::clone(&shared), None, From::Client, request)
        .await
        .map_err(refused)?;
    let image = shared.metadata.image();
    let health = PartitionHealth::of_cluster(&image);
    Ok(ClusterView {
        cluster_id: shared.cluster_id.to_string(),
        node_id: shared.node_id.get(),
        controller_id: described.controller.map(NodeId::get),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        brokers: described.brokers.into_iter().map(broker).collect(),
        topics: image.topics().len(),
        partitions: health.partitions,
        partitions_leaderless: health.leaderless,
        partitions_under_replicated: health.under_replicated,
        partitions_below_min_isr: health.below_min_isr,
        partitions_moving: health.moving,
        partitions_offline: shared.partitions.offline_count(),
    })
}

fn broker(broker: BrokerDescription) -> BrokerView {
    let endpoint = broker.endpoint;
    BrokerView {
        node_id: endpoint.node_id.get(),
        host: endpoint.host,
        port: endpoint.port,
        rack: endpoint.rack,
        version: broker.version,
        fenced: broker.fenced,
        draining: broker.draining,
        shutting_down: broker.shutting_down,
        voter: broker.voter,
        broker_epoch: broker.broker_epoch.get(),
        silent_ms: broker.silent_ms,
        replicas: broker.replicas,
        leaders: broker.leaders,
        log_bytes: broker.log_bytes,
        disk_free_bytes: broker.disk_free,
        disk_total_bytes: broker.disk_total,
    }
}

pub(super) async fn quorum(shared: Arc<Shared>) -> Result<QuorumView, AdminError> {
    let request = DescribeQuorumRequest { reserved: false };
    let described = shared
        .controller_client
        .call(request, CONTROLLER_TIMEOUT)
        .await
        .map_err(refused)?;
    Ok(quorum_view(described))
}

fn quorum_view(described: DescribeQuorumResponse) -> QuorumView {
    let members = described.members.into_iter();
    QuorumView {
        leader_id: described.leader.get(),
        term: described.term,
        last_index: described.last_index,
        commit_index: described.commit_index,
        snapshot_index: described.snapshot_index,
        members: members
            .map(|member| QuorumMemberView {
                node_id: member.node_id.get(),
                host: member.host,
                port: member.port,
                voter: member.voter,
                matched_index: member.matched_index,
            })
            .collect(),
    }
}

pub(super) async fn moves(shared: Arc<Shared>) -> Result<MovesView, AdminError> {
    let request = BalanceRequest {
        action: BalanceAction::Status,
    };
    let status = shared
        .controller_client
        .call(request, CONTROLLER_TIMEOUT)
        .await
        .map_err(refused)?;
    Ok(moves_view(status))
}

fn moves_view(status: BalanceResponse) -> MovesView {
    MovesView {
        moves: status.moves.into_iter().map(one_move).collect(),
        waiting: status.waiting,
        paused: status.paused,
        absent: status
            .absent
            .into_iter()
            .map(|absent| AbsentView {
                node_id: absent.node_id.get(),
                replicas: absent.replicas,
                heals_in_ms: absent.heals_in_ms,
            })
            .collect(),
    }
}

fn one_move(planned: PlannedMove) -> MoveView {
    MoveView {
        topic: planned.topic,
        partition: planned.partition.get(),
        from: super::numbers(&planned.from),
        to: super::numbers(&planned.to),
        reason: match planned.reason {
            MoveReason::Operator => "operator",
            MoveReason::Balance => "balance",
            MoveReason::Heal => "heal",
            MoveReason::Drain => "drain",
        },
    }
}

fn refused(refusal: Refusal) -> AdminError {
    AdminError::of_broker(refusal.code, refusal.message)
}
