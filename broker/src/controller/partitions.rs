//! Partitions: in-sync replicas, elections, moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_coordination::controller::{self as decide, Elect};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, ElectLeadersRequest, ElectLeadersResponse,
    ElectionKind, MoveReason, MoveReplicasRequest, MoveReplicasResponse, ReplicaLogsRequest,
    TopicPartition,
};
use tracing::{error, info, warn};

use super::Controller;
use crate::controller_client::ControllerRequest;
use crate::partitions::Refusal;

/// How long a replica may take to say how far its log goes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

impl ControllerRequest for AlterPartitionRequest {
    // A refusal of a second copy says nothing about the first, which may be decided yet. Leaders repeat
    // their proposals themselves, and remember the doubt.
    const MAY_REPEAT: bool = false;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<AlterPartitionResponse, Refusal> {
        let (response, _) = controller
            .change(move |situation| Ok(decide::alter_partition(situation.image, &self)?))
            .await?;
        Ok(response)
    }
}

impl ControllerRequest for MoveReplicasRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<MoveReplicasResponse, Refusal> {
        let moves = self.moves.clone();
        let (results, _) = controller
            .change(move |situation| Ok(decide::move_replicas(situation.image, &moves)))
            .await?;
        let image = controller.image();
        for (wanted, result) in self.moves.iter().zip(&results) {
            if let Some(topic) = image.topic(&wanted.topic)
                && result.error == ErrorCode::None
            {
                let reason = wanted.replicas.as_ref().map(|_| MoveReason::Operator);
                controller.note_move(topic.id, wanted.partition, reason);
                info!(topic = wanted.topic, partition = %wanted.partition, to = ?wanted.replicas, "replicas are moved on request");
            }
        }
        Ok(MoveReplicasResponse { results })
    }
}

impl ControllerRequest for ElectLeadersRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<ElectLeadersResponse, Refusal> {
        controller.term()?;
        let winners = match (self.kind, &self.partitions) {
            (ElectionKind::Unclean, Some(partitions)) => controller.longest_logs(partitions).await,
            _ => BTreeMap::new(),
        };
        if self.kind == ElectionKind::Node && self.node_id.is_none() {
            return Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message: "the request does not say which node to elect".to_owned(),
            });
        }
        let (request, chosen) = (self.clone(), winners.clone());
        let (results, _) = controller
            .change(move |situation| {
                let elect = match (request.kind, request.node_id) {
                    (ElectionKind::Preferred, _) => Elect::Preferred,
                    (ElectionKind::Unclean, _) => Elect::Unclean(&chosen),
                    (ElectionKind::Node, node) => Elect::Node(node.unwrap_or_default()),
                };
                let partitions = request.partitions.as_deref();
                Ok(decide::elect_leaders(situation.image, elect, partitions)?)
            })
            .await?;
        for result in results
            .iter()
            .filter(|result| result.error == ErrorCode::None)
        {
            if self.kind == ElectionKind::Unclean {
                error!(
                    partition = result.name,
                    "unclean election: committed records that the new leader does not have are lost"
                );
            } else {
                info!(partition = result.name, kind = ?self.kind, "leader elected on request");
            }
        }
        Ok(ElectLeadersResponse { results })
    }
}

impl Controller {
    /// Of each partition, the replica with the longest log of those that answer.
    async fn longest_logs(
        &self,
        asked: &[TopicPartition],
    ) -> BTreeMap<(TopicId, PartitionId), NodeId> {
        let image = self.image();
        let to_ask = decide::replicas_to_ask(&image, asked);
        let probes = to_ask.into_iter().map(|(node, topics)| async move {
            let request = ReplicaLogsRequest { topics };
            (node, self.peers.call(node, &request, PROBE_TIMEOUT).await)
        });
        let mut logs = BTreeMap::new();
        for (node, answer) in futures_util::future::join_all(probes).await {
            match answer {
                Ok(answer) => {
                    logs.insert(node, answer);
                }
                Err(error) => warn!(%node, %error, "its replicas are not considered"),
            }
        }
        decide::choose_winners(&image, &logs)
    }

    /// Remembers why a move was begun, or that it was given up.
    pub(super) fn note_move(
        &self,
        topic: TopicId,
        partition: PartitionId,
        reason: Option<MoveReason>,
    ) {
        let mut upkeep = self.upkeep.lock();
        match reason {
            Some(reason) => upkeep.begun.insert((topic, partition), reason),
            None => upkeep.begun.remove(&(topic, partition)),
        };
    }
}
