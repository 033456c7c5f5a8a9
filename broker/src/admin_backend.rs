//! The broker as the admin endpoint sees it.

mod cluster;
mod scrape;

use std::sync::{Arc, OnceLock, Weak};

use highwater_config::TopicSettingSource;
use highwater_coordination::cluster_image::TopicImage;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId};
use highwater_protocol::messages::{
    self as wire, ConfigEntry, CreateTopicsRequest, DeleteTopicsRequest,
};

use crate::admin::{
    AdminBackend, AdminError, BackendFuture, ClusterView, ConfigView, ConfigViewSource,
    CreatedTopic, LogView, MovesView, NewTopic, PartitionView, QuorumView, ReadinessView,
    RecoveryView, Status, TopicSummary, TopicView,
};
use crate::api::controlled::{self, From};
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partitions::Hosted;
use crate::readiness::{Phase, Readiness};
use crate::shared::Shared;

/// Answers for a broker, also before it serves.
#[derive(Debug)]
pub(crate) struct Backend {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    /// Weak: the admin endpoint stops last, and must not keep the data directory locked.
    shared: OnceLock<Weak<Shared>>,
}

impl Backend {
    pub(crate) fn new(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Self {
        Self {
            readiness,
            metrics,
            shared: OnceLock::new(),
        }
    }

    /// The broker has opened its data directory.
    pub(crate) fn attach(&self, shared: &Arc<Shared>) {
        // Called once per broker; a second broker would have its own backend.
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get().and_then(Weak::upgrade)
    }
}

impl AdminBackend for Backend {
    fn readiness(&self) -> ReadinessView {
        let shared = self.shared();
        let mut view = ReadinessView {
            status: Status::Starting,
            waits_for: None,
            recovery: None,
            partitions_offline: shared
                .as_ref()
                .map_or(0, |shared| shared.partitions.offline_count()),
            disk_is_low: shared.as_ref().is_some_and(|shared| shared.is_disk_low()),
        };
        match self.readiness.phase() {
            Phase::Starting => {}
            Phase::Joining { waits_for } => {
                view.status = Status::Joining;
                view.waits_for = Some(waits_for);
            }
            Phase::Recovering {
                partitions_done,
                partitions_total,
            } => {
                view.status = Status::Recovering;
                view.recovery = Some(RecoveryView {
                    partitions_done,
                    partitions_total,
                });
            }
            Phase::Serving => {
                view.waits_for = shared.and_then(|shared| kept_from_serving(&shared));
                view.status = match view.waits_for {
                    None => Status::Serving,
                    Some(_) => Status::Fenced,
                };
            }
            Phase::Stopping => view.status = Status::Stopping,
        }
        view
    }

    fn metrics(&self) -> String {
        self.metrics.render(
            self.shared()
                .map(|shared| scrape::scrape(&shared))
                .unwrap_or_default(),
        )
    }

    fn cluster(&self) -> BackendFuture<Result<ClusterView, AdminError>> {
        let shared = self.shared();
        Box::pin(async move { cluster::cluster(shared.ok_or_else(not_yet)?).await })
    }

    fn quorum(&self) -> BackendFuture<Result<QuorumView, AdminError>> {
        let shared = self.shared();
        Box::pin(async move { cluster::quorum(shared.ok_or_else(not_yet)?).await })
    }

    fn moves(&self) -> BackendFuture<Result<MovesView, AdminError>> {
        let shared = self.shared();
        Box::pin(async move { cluster::moves(shared.ok_or_else(not_yet)?).await })
    }

    fn topics(&self) -> Vec<TopicSummary> {
        let Some(shared) = self.shared() else {
            return Vec::new();
        };
        let image = shared.metadata.image();
        let summaries = image.topics().map(|topic| TopicSummary {
            name: topic.name.as_str().to_owned(),
            id: topic.id.to_string(),
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            replicas: topic.replicas.into(),
            size_bytes: hosted(&shared, topic)
                .filter_map(|hosted| match hosted {
                    Some(Hosted::Online(partition)) => Some(partition.log().size_bytes()),
                    Some(Hosted::Offline(_)) | None => None,
                })
                .sum(),
        });
        summaries.collect()
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        let shared = self.shared()?;
        let image = shared.metadata.image();
        let topic = image.topic(name)?;
        let partitions = hosted(&shared, topic).zip(&topic.partitions).zip(0u32..);
        let partitions = partitions.map(|((hosted, image), index)| {
            let (offline, log) = match hosted {
                Some(Hosted::Online(partition)) => {
                    (partition.offline_reason(), Some(log_view(&partition)))
                }
                Some(Hosted::Offline(reason)) => (Some(reason.to_string()), None),
                None if image.replicas.contains(&shared.node_id) => {
                    (Some("its directory is missing".to_owned()), None)
                }
                None => (None, None),
            };
            PartitionView {
                partition: index,
                leader: image.leader.map(NodeId::get),
                leader_epoch: image.leader_epoch.get(),
                partition_epoch: image.partition_epoch,
                replicas: numbers(&image.replicas),
                isr: numbers(&image.isr),
                elr: numbers(&image.elr),
                adding: numbers(&image.adding),
                removing: numbers(&image.removing),
                recovering: image.recovering,
                offline,
                log,
            }
        });
        let configs = shared
            .topic_settings
            .describe(&topic.configs)
            .unwrap_or_default();
        Some(TopicView {
            name: topic.name.as_str().to_owned(),
            id: topic.id.to_string(),
            replicas: topic.replicas.into(),
            partitions: partitions.collect(),
            configs: configs
                .into_iter()
                .map(|setting| ConfigView {
                    key: setting.key.to_owned(),
                    value: setting.value,
                    source: match setting.source {
                        TopicSettingSource::Default => ConfigViewSource::Default,
                        TopicSettingSource::Broker => ConfigViewSource::Broker,
                        TopicSettingSource::Topic => ConfigViewSource::Topic,
                    },
                    doc: setting.doc.to_owned(),
                })
                .collect(),
        })
    }

    fn create_topic(&self, topic: NewTopic) -> BackendFuture<Result<CreatedTopic, AdminError>> {
        let shared = self.shared();
        Box::pin(async move {
            let shared = shared.ok_or_else(not_yet)?;
            let replicas = topic.replicas.map(u16::try_from).transpose().map_err(|_| {
                AdminError::of_broker(
                    ErrorCode::InvalidReplicationFactor,
                    "replicas is out of range",
                )
            })?;
            let configs = topic.configs.into_iter();
            let asked = wire::NewTopic {
                name: topic.name,
                partitions: topic.partitions,
                replicas,
                configs: configs
                    .map(|(key, value)| ConfigEntry { key, value })
                    .collect(),
            };
            let request = CreateTopicsRequest {
                topics: vec![asked],
                validate_only: topic.validate_only,
            };
            let response = controlled::create_topics(shared, request, From::Client)
                .await
                .map_err(|refusal| admin_error(refusal.code, &refusal.message))?;
            let created = one(response.topics)?;
            if created.error != ErrorCode::None {
                return Err(admin_error(
                    created.error,
                    created.message.as_deref().unwrap_or_default(),
                ));
            }
            Ok(CreatedTopic {
                name: created.name,
                id: created.topic_id.map(|id| id.to_string()),
                partitions: created.partitions,
                replicas: created.replicas.into(),
            })
        })
    }

    fn delete_topic(&self, name: String) -> BackendFuture<Result<(), AdminError>> {
        let shared = self.shared();
        Box::pin(async move {
            let shared = shared.ok_or_else(not_yet)?;
            let request = DeleteTopicsRequest { topics: vec![name] };
            let response = controlled::delete_topics(shared, request, From::Client)
                .await
                .map_err(|refusal| admin_error(refusal.code, &refusal.message))?;
            let deleted = one(response.topics)?;
            match deleted.error {
                ErrorCode::None => Ok(()),
                code => Err(admin_error(
                    code,
                    deleted.message.as_deref().unwrap_or_default(),
                )),
            }
        })
    }
}

/// Why a broker that has started must not answer clients now, if so.
fn kept_from_serving(shared: &Shared) -> Option<String> {
    if shared.heartbeats.standing().borrow().is_over {
        return Some("the cluster has no place for it any more: its log has the reason".to_owned());
    }
    if shared.lease.is_valid() {
        return None;
    }
    let image = shared.metadata.image();
    let reason = match image.broker(shared.node_id) {
        Some(own) if !own.fenced => "the controller answers no heartbeat: its lease is over",
        _ => "the controller has fenced it, and lets it serve when it has caught up",
    };
    Some(reason.to_owned())
}

fn not_yet() -> AdminError {
    AdminError::of_broker(ErrorCode::Busy, "the broker does not serve yet")
}

/// The one result of a request about one topic.
fn one<T>(results: Vec<T>) -> Result<T, AdminError> {
    results.into_iter().next().ok_or_else(|| {
        AdminError::of_broker(ErrorCode::Internal, "the controller's answer is empty")
    })
}

fn admin_error(code: ErrorCode, message: &str) -> AdminError {
    let made = AdminError::of_broker(code, message);
    match code {
        ErrorCode::InvalidReplicationFactor => made.hint("leave `replicas` out, or add brokers"),
        _ => made,
    }
}

fn hosted<'a>(
    shared: &'a Shared,
    topic: &'a TopicImage,
) -> impl Iterator<Item = Option<Hosted>> + 'a {
    (0u32..)
        .take(topic.partitions.len())
        .map(|index| shared.partitions.get((topic.id, PartitionId::new(index))))
}

fn log_view(partition: &Partition) -> LogView {
    let log = partition.log();
    LogView {
        log_start: log.log_start().get(),
        high_watermark: partition.high_watermark().get(),
        log_end: log.end().get(),
        durable_end: log.durable_end().get(),
        size_bytes: log.size_bytes(),
        segments: log.segment_count() as u64,
    }
}

fn numbers(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.get()).collect()
}
