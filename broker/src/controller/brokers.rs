//! Brokers as the controller meets them: founding, joining, registering, heartbeats, draining, removal.

use std::sync::Arc;

use highwater_config::Durability;
use highwater_coordination::broker_registry::BrokerRegistry;
use highwater_coordination::cluster_image::{ClusterImage, TopicImage};
use highwater_coordination::controller as decide;
use highwater_protocol::messages::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, BrokerHeartbeatRequest,
    BrokerHeartbeatResponse, DrainNodeRequest, DrainNodeResponse, JoinClusterRequest,
    JoinClusterResponse, RegisterBrokerRequest, RegisterBrokerResponse, RemoveNodeRequest,
    RemoveNodeResponse,
};
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{ChangeError, Controller, now_ms, or_not_controller};
use crate::controller_client::ControllerRequest;
use crate::partitions::Refusal;
use crate::shared::Shared;
use crate::topic_settings::TopicSettings;

impl Controller {
    /// The first records of a cluster that this broker forms.
    pub(crate) async fn found(self: &Arc<Self>, shared: &Shared) -> Result<(), ChangeError> {
        let cluster_id = shared.cluster_id;
        let (host, port) = shared.advertised.clone();
        let first = JoinClusterRequest {
            directory: shared.directory,
            node_id: Some(shared.node_id),
            host,
            port,
        };
        self.change(move |situation| {
            Ok(decide::create_cluster(situation.image, cluster_id, &first)?)
        })
        .await?;
        info!(cluster = %cluster_id, "cluster created");
        Ok(())
    }
}

impl ControllerRequest for JoinClusterRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(self, controller: &Arc<Controller>) -> Result<JoinClusterResponse, Refusal> {
        let request = self.clone();
        let (joined, _) = controller
            .change(move |situation| Ok(decide::join_cluster(situation.image, &request)?))
            .await?;
        // If this fails, upkeep does it: every node of the cluster learns the metadata log.
        if let Err(error) = controller
            .quorum
            .add_learner(joined.node_id, &self.host, self.port)
            .await
        {
            warn!(node = %joined.node_id, %error, "a new node does not learn the metadata log yet");
        }
        info!(node = %joined.node_id, host = self.host, port = self.port, "node joined");
        Ok(joined)
    }
}

impl ControllerRequest for RegisterBrokerRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<RegisterBrokerResponse, Refusal> {
        let settings = Arc::clone(&controller.topic_settings);
        let session_ms = controller.session_timeout_ms();
        let request = self.clone();
        let (broker_epoch, metadata_index) = controller
            .change(move |situation| {
                let synced = |topic: &TopicImage| is_synced(&settings, topic);
                // A directory has one owner at a time: who shows what the last life left behind in it
                // proves that this life is over.
                let has_live_session = !decide::proves_end_of_last_life(situation.image, &request)
                    && situation.registry.lock().has_live_session_of_another(
                        situation.image,
                        request.node_id,
                        request.incarnation,
                        situation.now_ms,
                        session_ms,
                    );
                Ok(decide::register_broker(
                    situation.image,
                    &request,
                    situation.next_epoch,
                    has_live_session,
                    &synced,
                )?)
            })
            .await?;
        controller
            .registry
            .lock()
            .registered(self.node_id, now_ms());
        info!(
            node = %self.node_id, epoch = %broker_epoch, last_life = ?self.session_end,
            damaged = self.damaged.iter().map(|topic| topic.partitions.len()).sum::<usize>(),
            "broker registered"
        );
        Ok(RegisterBrokerResponse {
            broker_epoch,
            metadata_index,
        })
    }
}

/// Whether what a topic acknowledges is on disk.
fn is_synced(settings: &TopicSettings, topic: &TopicImage) -> bool {
    let config = settings.in_force(&topic.configs);
    let config = config
        .as_ref()
        .unwrap_or_else(|_| settings.broker_defaults());
    config.durability == Durability::Synced
}

/// Decides about a heartbeat on an image that is applied up to `index`. A fenced broker stays fenced until
/// it has applied that it is.
fn decide_heartbeat(
    image: &ClusterImage,
    registry: &Mutex<BrokerRegistry>,
    index: u64,
    request: &BrokerHeartbeatRequest,
) -> Result<decide::Decision<decide::HeartbeatOutcome>, ChangeError> {
    let node = request.node_id;
    let is_fenced = image.broker(node).is_some_and(|broker| broker.fenced);
    let is_behind = is_fenced
        && !registry
            .lock()
            .has_applied_fence(node, request.metadata_index, index);
    let mut request = request.clone();
    request.wants_fence |= is_behind;
    Ok(decide::heartbeat(image, &request)?)
}

impl ControllerRequest for BrokerHeartbeatRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<BrokerHeartbeatResponse, Refusal> {
        controller.term()?;
        // The answer renews a lease: it must not come from a controller that was replaced without
        // knowing it.
        or_not_controller(controller.quorum.confirm_leadership().await)?;
        let decide_now = || {
            let applied = controller.quorum.applied();
            decide_heartbeat(&applied.image, &controller.registry, applied.index, &self)
        };
        // An earlier life is refused, and is not heard of.
        decide_now()?;
        let heard_ms = now_ms();
        let is_being_fenced = {
            let mut registry = controller.registry.lock();
            registry.touch(&self, heard_ms);
            registry.is_being_fenced(self.node_id)
        };
        // Once more: it may have been fenced before it was heard of. From here on it is not.
        let now = decide_now()?;
        let (outcome, index) = if now.records.is_empty() && !is_being_fenced {
            (now.reply, 0)
        } else {
            let request = self.clone();
            let changed = controller
                .change(move |situation| {
                    let applied_index = situation.next_epoch.get() - 1;
                    decide_heartbeat(situation.image, situation.registry, applied_index, &request)
                })
                .await?;
            info!(
                node = %self.node_id, fenced = changed.0.fenced, stops = self.wants_shutdown,
                offline = self.offline.iter().map(|topic| topic.partitions.len()).sum::<usize>(),
                "a heartbeat changed what the broker may do"
            );
            changed
        };
        let mut registry = controller.registry.lock();
        if !outcome.fenced {
            registry.unfenced(self.node_id, heard_ms);
        }
        // Others must know who leads in its place before it stops to answer for them.
        let image = controller.image();
        let may_shut_down =
            outcome.may_shut_down && registry.have_applied(&image, self.node_id, index);
        if may_shut_down {
            registry.ended(self.node_id);
        }
        drop(registry);
        Ok(BrokerHeartbeatResponse {
            fenced: outcome.fenced,
            may_shut_down,
            session_timeout_ms: u32::try_from(controller.session_timeout_ms()).unwrap_or(u32::MAX),
            metadata_index: controller.quorum.applied().index,
        })
    }
}

impl ControllerRequest for DrainNodeRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(self, controller: &Arc<Controller>) -> Result<DrainNodeResponse, Refusal> {
        let request = self.clone();
        let (response, _) = controller
            .change(move |situation| Ok(decide::drain_node(situation.image, &request)?))
            .await?;
        info!(node = %self.node_id, drain = self.drain, replicas = response.replicas_left, "draining changed");
        controller.upkeep_soon();
        Ok(response)
    }
}

impl ControllerRequest for RemoveNodeRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(self, controller: &Arc<Controller>) -> Result<RemoveNodeResponse, Refusal> {
        let session_ms = controller.session_timeout_ms();
        let request = self.clone();
        let (response, _) = controller
            .change(move |situation| {
                let is_alive = situation.registry.lock().is_alive(
                    request.node_id,
                    situation.now_ms,
                    session_ms,
                );
                Ok(decide::remove_node(situation.image, &request, is_alive)?)
            })
            .await?;
        info!(node = %self.node_id, force = self.force, lost = response.replicas_lost, "node removed");
        controller.registry.lock().removed(self.node_id);
        if let Err(error) = controller.quorum.remove_node(self.node_id).await {
            warn!(node = %self.node_id, %error, "the removed node stays in the metadata quorum for now");
        }
        Ok(response)
    }
}

impl ControllerRequest for AllocateProducerIdsRequest {
    // A block that nobody hears of is lost, which costs nothing.
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<AllocateProducerIdsResponse, Refusal> {
        let (response, _) = controller
            .change(move |situation| Ok(decide::allocate_producer_ids(situation.image, &self)?))
            .await?;
        Ok(response)
    }
}
