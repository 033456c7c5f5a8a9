//! The broker as the admin endpoint sees it.

use std::sync::{Arc, OnceLock, Weak};

use highwater_config::TopicSettingSource;
use highwater_coordination::cluster_image::TopicImage;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{NodeId, PartitionId};
use highwater_protocol::messages::{
    self as wire, ConfigEntry, CreateTopicsRequest, DeleteTopicsRequest,
};
use highwater_storage::{EngineStats, SYNC_LATENCY_BOUNDS_US};

use crate::admin::{
    AdminBackend, AdminError, BackendFuture, BrokerView, ClusterView, ConfigView, ConfigViewSource,
    CreatedTopic, LogView, NewTopic, PartitionView, ReadinessView, RecoveryView, Status,
    TopicSummary, TopicView,
};
use crate::api::controlled::{self, From};
use crate::metrics::{DurationBuckets, Metrics, PartitionScrape, Scrape, StorageScrape};
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
        let phase = self.readiness.phase();
        let recovery = match phase {
            Phase::Recovering {
                partitions_done,
                partitions_total,
            } => Some(RecoveryView {
                partitions_done,
                partitions_total,
            }),
            Phase::Starting | Phase::Joining { .. } | Phase::Serving | Phase::Stopping => None,
        };
        let shared = self.shared();
        ReadinessView {
            status: match phase {
                Phase::Starting | Phase::Joining { .. } => Status::Starting,
                Phase::Recovering { .. } => Status::Recovering,
                Phase::Serving => Status::Serving,
                Phase::Stopping => Status::Stopping,
            },
            recovery,
            partitions_offline: shared
                .as_ref()
                .map_or(0, |shared| shared.partitions.offline_count()),
            disk_is_low: shared.is_some_and(|shared| shared.is_disk_low()),
        }
    }

    fn metrics(&self) -> String {
        self.metrics.render(
            self.shared()
                .map(|shared| scrape(&shared))
                .unwrap_or_default(),
        )
    }

    fn cluster(&self) -> ClusterView {
        let Some(shared) = self.shared() else {
            return no_cluster();
        };
        let image = shared.metadata.image();
        let brokers = image.brokers().map(|(node_id, broker)| BrokerView {
            node_id: node_id.get(),
            host: broker.host.clone(),
            port: broker.port,
            rack: broker.rack().map(str::to_owned),
        });
        ClusterView {
            cluster_id: shared.cluster_id.to_string(),
            node_id: shared.node_id.get(),
            controller_id: shared.quorum.leader().map(NodeId::get),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            brokers: brokers.collect(),
            topics: image.topics().len(),
            partitions: image.partition_count(),
            partitions_offline: shared.partitions.offline_count(),
        }
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
                None => (Some("its directory is missing".to_owned()), None),
            };
            PartitionView {
                partition: index,
                leader: image.leader.map(highwater_protocol::ids::NodeId::get),
                leader_epoch: image.leader_epoch.get(),
                replicas: image.replicas.iter().map(|node| node.get()).collect(),
                isr: image.isr.iter().map(|node| node.get()).collect(),
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

fn scrape(shared: &Shared) -> Scrape {
    let partitions = shared.partitions.online();
    let partitions = partitions.iter().map(|partition| {
        let view = log_view(partition);
        PartitionScrape {
            topic: partition.topic().clone(),
            partition: partition.partition().get(),
            log_start: view.log_start,
            high_watermark: view.high_watermark,
            log_end: view.log_end,
            durable_end: view.durable_end,
            size_bytes: view.size_bytes,
            segments: view.segments,
        }
    });
    Scrape {
        topics: shared.metadata.image().topics().len() as u64,
        partitions: partitions.collect(),
        partitions_offline: shared.partitions.offline_count() as u64,
        in_flight_bytes: shared.budget.used_bytes(),
        in_flight_bytes_max: shared.config.network.in_flight_bytes_max,
        admission_waiting: shared.budget.waiting() as u64,
        disk_is_low: shared.is_disk_low(),
        storage: Some(storage_scrape(&shared.engine.stats())),
    }
}

fn storage_scrape(stats: &EngineStats) -> StorageScrape {
    let bounds = SYNC_LATENCY_BOUNDS_US
        .iter()
        .map(|us| *us as f64 / 1e6)
        .chain(std::iter::once(f64::INFINITY));
    StorageScrape {
        sync_durations: DurationBuckets {
            buckets: bounds.zip(stats.sync_latency_buckets).collect(),
            sum_seconds: stats.sync_latency_sum_us as f64 / 1e6,
        },
        sync_failures: stats.sync_failures,
        segments_prepared: stats.segments_prepared,
        segments_late: stats.segments_created_inline + stats.inline_growths,
        disk_full: stats.disk_full_refusals,
    }
}

fn no_cluster() -> ClusterView {
    ClusterView {
        cluster_id: String::new(),
        node_id: 0,
        controller_id: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        brokers: Vec::new(),
        topics: 0,
        partitions: 0,
        partitions_offline: 0,
    }
}
