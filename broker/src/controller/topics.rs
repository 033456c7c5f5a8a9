//! Topics: created, deleted, grown and changed.

use std::sync::Arc;

use highwater_coordination::cluster_image::ClusterImage;
use highwater_coordination::controller::{self as decide, ControllerError, CreateTopic};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::TopicId;
use highwater_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, ConfigChange, ConfigEntry, CreatePartitionsRequest,
    CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, NewTopicResult, TopicResult,
};
use tracing::info;

use super::{ChangeError, Controller};
use crate::controller_client::ControllerRequest;
use crate::partitions::Refusal;

/// What a client asks of a new topic.
#[derive(Debug, Clone)]
struct TopicRequest {
    name: String,
    partitions: Option<u32>,
    replicas: Option<u16>,
    configs: Vec<ConfigEntry>,
}

/// What a client is told about a topic that it created.
#[derive(Debug, Clone, Copy)]
struct TopicCreated {
    id: TopicId,
    partitions: u32,
    replicas: u16,
}

impl Controller {
    async fn create_topic(
        self: &Arc<Self>,
        request: &TopicRequest,
        validate_only: bool,
    ) -> Result<TopicCreated, ChangeError> {
        let settings = Arc::clone(&self.topic_settings);
        let mut asked = request.clone();
        let (created, _) = self
            .change(move |situation| {
                let config = settings.check_new(&asked.configs)?;
                settings.write_down(&mut asked.configs);
                let active = situation
                    .image
                    .brokers()
                    .filter(|(_, broker)| broker.is_active() && !broker.draining)
                    .count();
                let partitions = asked.partitions.unwrap_or(settings.partitions_default());
                let replicas = asked
                    .replicas
                    .unwrap_or_else(|| settings.replicas_default(active));
                settings.check_replicas(&config, replicas)?;
                let command = CreateTopic {
                    id: TopicId::random(),
                    name: &asked.name,
                    partitions,
                    replicas,
                    isr_min: settings.isr_min(&config, replicas),
                    configs: asked.configs.clone(),
                };
                let decision = decide::create_topic(situation.image, &command)?;
                Ok(validated(decision, validate_only).map(|id| TopicCreated {
                    id,
                    partitions,
                    replicas,
                }))
            })
            .await?;
        if !validate_only {
            info!(topic = request.name, id = %created.id, partitions = created.partitions, replicas = created.replicas, "topic created");
        }
        Ok(created)
    }

    async fn delete_topic(self: &Arc<Self>, name: &str) -> Result<(), ChangeError> {
        let asked = name.to_owned();
        let (id, _) = self
            .change(move |situation| Ok(decide::delete_topic(situation.image, &asked)?))
            .await?;
        info!(topic = name, %id, "topic deleted");
        Ok(())
    }

    async fn add_partitions(
        self: &Arc<Self>,
        name: &str,
        total: u32,
        validate_only: bool,
    ) -> Result<(), ChangeError> {
        let asked = name.to_owned();
        self.change(move |situation| {
            let decision = decide::add_partitions(situation.image, &asked, total)?;
            Ok(validated(decision, validate_only))
        })
        .await?;
        if !validate_only {
            info!(topic = name, total, "partitions added");
        }
        Ok(())
    }

    async fn alter_config(
        self: &Arc<Self>,
        name: &str,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<(), ChangeError> {
        let settings = Arc::clone(&self.topic_settings);
        let asked = name.to_owned();
        let mut changes = changes;
        settings.write_down_changes(&mut changes);
        self.change(move |situation| {
            let topic = known(situation.image, &asked)?;
            let config = settings.check_changes(&topic.configs, &changes)?;
            settings.check_replicas(&config, topic.replicas)?;
            let isr_min = settings.isr_min(&config, topic.replicas);
            let decision = decide::alter_topic_config(situation.image, &asked, isr_min, changes)?;
            Ok(validated(decision, validate_only))
        })
        .await?;
        if !validate_only {
            info!(topic = name, "topic settings changed");
        }
        Ok(())
    }
}

/// What is only to be validated has been decided, and changes nothing.
fn validated<R>(mut decision: decide::Decision<R>, validate_only: bool) -> decide::Decision<R> {
    if validate_only {
        decision.records.clear();
    }
    decision
}

pub(super) fn known<'a>(
    image: &'a ClusterImage,
    name: &str,
) -> Result<&'a highwater_coordination::cluster_image::TopicImage, ControllerError> {
    image
        .topic(name)
        .map(AsRef::as_ref)
        .ok_or_else(|| ControllerError::UnknownTopic {
            name: name.to_owned(),
        })
}

/// A request of several changes is passed on as a whole when this broker is not the controller, but not
/// any more once the first of them is made.
fn or_elsewhere<T>(
    outcome: Result<T, ChangeError>,
    is_first: bool,
) -> Result<Result<T, ChangeError>, Refusal> {
    match outcome {
        Err(error @ ChangeError::NotController) if is_first => Err(error.into()),
        outcome => Ok(outcome),
    }
}

impl ControllerRequest for CreateTopicsRequest {
    const MAY_REPEAT: bool = false;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<CreateTopicsResponse, Refusal> {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let asked = TopicRequest {
                name: topic.name,
                partitions: topic.partitions,
                replicas: topic.replicas,
                configs: topic.configs,
            };
            let outcome = controller.create_topic(&asked, self.validate_only).await;
            let outcome = or_elsewhere(outcome, topics.is_empty())?;
            topics.push(match outcome {
                Ok(created) => NewTopicResult {
                    name: asked.name,
                    error: ErrorCode::None,
                    message: None,
                    topic_id: (!self.validate_only).then_some(created.id),
                    partitions: created.partitions,
                    replicas: created.replicas,
                },
                Err(error) => NewTopicResult {
                    name: asked.name,
                    error: error.code(),
                    message: Some(error.to_string()),
                    topic_id: None,
                    partitions: 0,
                    replicas: 0,
                },
            });
        }
        Ok(CreateTopicsResponse { topics })
    }
}

impl ControllerRequest for DeleteTopicsRequest {
    const MAY_REPEAT: bool = false;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<DeleteTopicsResponse, Refusal> {
        let mut topics = Vec::with_capacity(self.topics.len());
        for name in self.topics {
            let outcome = controller.delete_topic(&name).await;
            let outcome = or_elsewhere(outcome, topics.is_empty())?;
            topics.push(result(name, outcome));
        }
        Ok(DeleteTopicsResponse { topics })
    }
}

impl ControllerRequest for CreatePartitionsRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<CreatePartitionsResponse, Refusal> {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let outcome = controller
                .add_partitions(&topic.name, topic.total, self.validate_only)
                .await;
            let outcome = or_elsewhere(outcome, topics.is_empty())?;
            topics.push(result(topic.name, outcome));
        }
        Ok(CreatePartitionsResponse { topics })
    }
}

impl ControllerRequest for AlterConfigsRequest {
    const MAY_REPEAT: bool = true;

    async fn carry_out(
        self,
        controller: &Arc<Controller>,
    ) -> Result<AlterConfigsResponse, Refusal> {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let outcome = controller
                .alter_config(&topic.name, topic.changes, self.validate_only)
                .await;
            let outcome = or_elsewhere(outcome, topics.is_empty())?;
            topics.push(result(topic.name, outcome));
        }
        Ok(AlterConfigsResponse { topics })
    }
}

pub(super) fn result(name: String, outcome: Result<(), ChangeError>) -> TopicResult {
    match outcome {
        Ok(()) => TopicResult {
            name,
            error: ErrorCode::None,
            message: None,
        },
        Err(error) => TopicResult {
            name,
            error: error.code(),
            message: Some(error.to_string()),
        },
    }
}
