//! What the controller tells of the cluster: brokers, quorum, moves.

use std::sync::Arc;

use highwater_coordination::balance::{next_wave, plan_balance};
use highwater_coordination::broker_registry::BrokerRegistry;
use highwater_coordination::cluster_image::{BrokerImage, ClusterImage};
use highwater_coordination::controller as decide;
use highwater_coordination::quorum_members::Members;
use highwater_coordination::reassignment::under_way;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::ClusterId;
use highwater_protocol::messages::{
    AlterVotersRequest, AlterVotersResponse, BalanceAction, BalanceRequest, BalanceResponse,
    BrokerDescription, BrokerEndpoint, DescribeClusterRequest, DescribeClusterResponse,
    DescribeQuorumRequest, DescribeQuorumResponse, MoveReason, PlannedMove,
};
use tracing::info;

use super::{ChangeError, Controller, or_not_controller};
use crate::controller_client::ControllerRequest;
use crate::metrics::ControllerScrape;
use crate::partitions::Refusal;

/// The cluster by its image, and by what the controller has heard of brokers.
pub(crate) fn describe_cluster(
    image: &ClusterImage,
    members: &Members,
    registry: Option<&BrokerRegistry>,
    now_ms: u64,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let partitions = || image.topics().flat_map(|topic| &topic.partitions);
    let brokers = image
        .brokers()
        .filter(|(_, broker)| request.include_fenced || !broker.fenced)
        .map(|(node_id, broker)| {
            let vitals = registry.and_then(|registry| registry.vitals(node_id));
            BrokerDescription {
                endpoint: BrokerEndpoint {
                    node_id,
                    host: broker.host.clone(),
                    port: broker.port,
                    rack: broker.rack().map(str::to_owned),
                },
                version: broker
                    .registration
                    .as_ref()
                    .map_or_else(String::new, |life| life.version.clone()),
                fenced: broker.fenced,
                draining: broker.draining,
                shutting_down: broker.shutting_down,
                voter: members.voters.contains(&node_id),
                broker_epoch: broker.epoch().unwrap_or_default(),
                silent_ms: registry.and_then(|registry| registry.silent_ms(node_id, now_ms)),
                replicas: decide::replicas_on(image, node_id),
                leaders: count(
                    partitions()
                        .filter(|partition| partition.leader == Some(node_id))
                        .count(),
                ),
                log_bytes: vitals.map_or(0, |vitals| vitals.log_bytes),
                disk_free: vitals.and_then(|vitals| vitals.disk_free),
                disk_total: vitals.and_then(|vitals| vitals.disk_total),
            }
        });
    DescribeClusterResponse {
        cluster_id: image
            .cluster_id()
            .unwrap_or_else(|| ClusterId::from_bytes([0; 16])),
        controller: None,
        brokers: brokers.collect(),
        topics: count(image.topics().len()),
        partitions: count(image.partition_count()),
    }
}

impl ControllerRequest for DescribeClusterRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<DescribeClusterResponse, Refusal> {
        controller.term()?;
        let image = controller.image();
        let members = controller.members();
        let registry = controller.registry.lock();
        let now_ms = super::now_ms();
        let mut response = describe_cluster(&image, &members, Some(&registry), now_ms, &self);
        response.controller = Some(controller.me);
        Ok(response)
    }
}

impl ControllerRequest for DescribeQuorumRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<DescribeQuorumResponse, Refusal> {
        controller.term()?;
        controller
            .quorum
            .describe()
            .ok_or_else(|| ChangeError::NotController.into())
    }
}

impl ControllerRequest for AlterVotersRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(self, controller: &Arc<Controller>) -> Result<AlterVotersResponse, Refusal> {
        controller.term()?;
        let image = controller.image();
        let members = controller.members();
        let refused = |code, message: String| Refusal { code, message };
        let mut voters = members.voters.clone();
        for node in &self.add {
            if !members.voters.contains(node) && !members.learners.contains(node) {
                let message = format!("node {node} does not keep the metadata log");
                return Err(refused(ErrorCode::UnknownNode, message));
            }
            if !image.broker(*node).is_some_and(BrokerImage::is_active) {
                let message = format!(
                    "node {node} is not active: a voter that cannot answer makes the quorum weaker"
                );
                return Err(refused(ErrorCode::PreconditionFailed, message));
            }
            voters.insert(*node);
        }
        for node in &self.remove {
            if !voters.remove(node) && !self.add.contains(node) {
                let message = format!("node {node} does not vote");
                return Err(refused(ErrorCode::UnknownNode, message));
            }
        }
        if voters.is_empty() {
            let message = "at least one node has to vote".to_owned();
            return Err(refused(ErrorCode::PreconditionFailed, message));
        }
        {
            let mut upkeep = controller.upkeep.lock();
            upkeep.kept_from_voting.extend(self.remove.iter().copied());
            for node in &self.add {
                upkeep.kept_from_voting.remove(node);
            }
        }
        or_not_controller(controller.quorum.set_voters(&voters).await)?;
        info!(
            ?voters,
            "the voters of the metadata quorum were changed on request"
        );
        Ok(AlterVotersResponse {
            voters: voters.into_iter().collect(),
        })
    }
}

impl ControllerRequest for BalanceRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(self, controller: &Arc<Controller>) -> Result<BalanceResponse, Refusal> {
        controller.term()?;
        match self.action {
            BalanceAction::Plan | BalanceAction::Run => Ok(controller.plan(self.action)),
            BalanceAction::Status => Ok(controller.moves_under_way()),
            BalanceAction::Cancel => {
                controller.cancel_balancing().await?;
                Ok(controller.moves_under_way())
            }
        }
    }
}

impl Controller {
    /// For metrics; `None` while this broker is not the active controller.
    pub(crate) fn scrape(&self) -> Option<ControllerScrape> {
        self.term().ok()?;
        let moves = self.moves_under_way();
        let fenced = |broker: &BrokerImage| broker.registration.is_some() && broker.fenced;
        let image = self.image();
        let brokers_fenced = image.brokers().filter(|(_, broker)| fenced(broker));
        Some(ControllerScrape {
            safe_mode: self.safe_mode_reason().is_some(),
            moves_under_way: moves.moves.len() as u64,
            moves_waiting: moves.waiting.into(),
            brokers_fenced: brokers_fenced.count() as u64,
        })
    }

    pub(super) fn members(&self) -> Members {
        let (voters, learners) = self.quorum.members();
        Members { voters, learners }
    }

    fn plan(&self, action: BalanceAction) -> BalanceResponse {
        let image = self.image();
        let loads = self.loads(&image);
        let plan = plan_balance(&image, &loads, self.settings.healing.disk_percent_max);
        let healing = self.healing_plan(&image);
        let moves = plan
            .moves
            .iter()
            .map(|planned| PlannedMove {
                topic: planned.target.topic.as_str().to_owned(),
                partition: planned.target.partition,
                from: planned.from.clone(),
                to: planned.target.replicas.clone(),
                reason: planned.target.reason,
            })
            .collect();
        if action == BalanceAction::Run && !plan.moves.is_empty() {
            info!(moves = plan.moves.len(), "balancing on request");
            self.upkeep.lock().balancing = Some(plan);
            self.upkeep_soon();
        }
        BalanceResponse {
            moves,
            waiting: 0,
            paused: healing.paused,
            absent: healing.absent,
        }
    }

    fn moves_under_way(&self) -> BalanceResponse {
        let image = self.image();
        let healing = self.healing_plan(&image);
        let upkeep = self.upkeep.lock();
        let waiting_balance = upkeep.balancing.as_ref().map_or(0, |plan| {
            let wave = next_wave(plan, &image, usize::MAX);
            wave.begin.len() + wave.waiting
        });
        let moves = under_way(&image, &upkeep.begun)
            .into_iter()
            .map(|moving| PlannedMove {
                topic: moving.topic.as_str().to_owned(),
                partition: moving.partition,
                from: moving.from,
                to: moving.to,
                reason: moving.reason,
            });
        BalanceResponse {
            moves: moves.collect(),
            waiting: u32::try_from(healing.waiting + waiting_balance).unwrap_or(u32::MAX),
            paused: healing.paused,
            absent: healing.absent,
        }
    }

    async fn cancel_balancing(self: &Arc<Self>) -> Result<(), ChangeError> {
        let begun: Vec<_> = {
            let mut upkeep = self.upkeep.lock();
            upkeep.balancing = None;
            let balance = upkeep
                .begun
                .iter()
                .filter(|(_, reason)| **reason == MoveReason::Balance);
            balance.map(|(key, _)| *key).collect()
        };
        for (topic, partition) in begun {
            let cancelled = self
                .change(move |situation| {
                    Ok(decide::cancel_move(situation.image, topic, partition)?.map(|_| ()))
                })
                .await;
            match cancelled {
                // One that has just ended needs no cancelling.
                Ok(_) | Err(ChangeError::Refused(_)) => self.note_move(topic, partition, None),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
