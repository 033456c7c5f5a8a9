//! Opening the data directory: lock, identity, recovery, metadata, partitions. Blocking work.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Weak};
use std::time::Instant;

use highwater_config::BrokerConfig;
use highwater_coordination::controller::RegisterBroker;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{PartitionId, TopicId};
use highwater_storage::{
    Engine, EngineOptions, Log, LogOptions, OpenError, OpenedLog, PartitionMeta, RecoveryProgress,
    RecoveryReport,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admission::Budget;
use crate::clock::Clock;
use crate::controller::{Controller, OpenedPartition};
use crate::foreign::ForeignPeers;
use crate::identity::Identity;
use crate::metadata_log::{MetadataLog, MetadataLogError, metadata_options, metadata_partition};
use crate::metrics::Metrics;
use crate::partitions::{Hosted, Partitions, Refusal};
use crate::producer_ids::{BlockSource, ProducerIds};
use crate::readiness::{Phase, Readiness};
use crate::server::StartError;
use crate::shared::Shared;
use crate::topic_settings::TopicSettings;

/// Everything that opening needs.
pub(crate) struct Opening {
    pub(crate) config: BrokerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Opening {
    pub(crate) fn run(self) -> Result<Arc<Shared>, StartError> {
        let data_dir = self.config.data_dir.clone();
        std::fs::create_dir_all(&data_dir).map_err(|source| StartError::DataDir {
            path: data_dir.clone(),
            source,
        })?;
        let storage_error = |source| StartError::Storage {
            path: data_dir.clone(),
            source,
        };
        let engine =
            Engine::open(&data_dir, engine_options(&self.config)).map_err(storage_error)?;
        // After the lock, so that two first starts in one directory cannot both choose.
        let identity = Identity::load_or_create(&data_dir, self.config.node_id)?;
        let was_clean = engine.was_clean();
        let settings = TopicSettings::new(&self.config);
        let clock = Arc::new(Clock::default());

        let (metadata, opened) = self.open_logs(&engine, &settings)?;
        let controller = Controller::new(
            identity.node_id,
            Arc::clone(&engine),
            settings,
            clock,
            metadata,
        );
        notify_on_progress(&engine, controller.partitions());
        let (host, port) = self.advertised();
        let broker = RegisterBroker {
            node_id: identity.node_id,
            host,
            port,
            rack: self.config.rack.clone(),
            clean: was_clean,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: highwater_protocol::ids::DirectoryId::random(),
            incarnation: highwater_protocol::ids::IncarnationId::random(),
            epoch: highwater_protocol::ids::BrokerEpoch::new(1),
        };
        controller
            .start(&broker, opened)
            .map_err(|error| StartError::Register(error.to_string()))?;
        let offline = controller.partitions().offline_count();
        if offline > 0 {
            error!(
                offline,
                "partitions are offline; /v1/topics and the lines above say why"
            );
        }
        Ok(Arc::new_cyclic(|shared| Shared {
            producer_ids: ProducerIds::new(own_blocks(Weak::clone(shared))),
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            clock: Arc::clone(controller.clock()),
            engine,
            controller,
            metrics: self.metrics,
            budget: Budget::new(self.config.network.in_flight_bytes_max),
            connections: AtomicUsize::new(0),
            foreign: ForeignPeers::default(),
            disk_is_low: AtomicBool::new(false),
            draining: CancellationToken::new(),
            config: self.config,
        }))
    }

    /// Opens the metadata log first: it tells which settings the other logs have.
    fn open_logs(
        &self,
        engine: &Arc<Engine>,
        settings: &TopicSettings,
    ) -> Result<(MetadataLog, Vec<OpenedPartition>), StartError> {
        let began = Instant::now();
        let metadata_key = metadata_partition();
        let is_metadata = |meta: &PartitionMeta| meta.topic_id == metadata_key.topic_id;
        let silent = |_: RecoveryProgress| {};
        let only_metadata = |meta: &PartitionMeta| is_metadata(meta).then(metadata_options);
        let found = engine.open_logs(&only_metadata, &silent);
        let partitions = found.iter().filter(|found| found.meta.is_some()).count();
        let of_metadata = |opened: &OpenedLog| opened.meta.as_ref().is_some_and(is_metadata);
        let metadata = match found.into_iter().find(of_metadata) {
            Some(opened) => match opened.result {
                Ok((log, _)) => MetadataLog::replay(log)?,
                Err(source) => {
                    let path = self.config.data_dir.clone();
                    return Err(StartError::Storage { path, source });
                }
            },
            // Without it, every topic would be gone and its data look like leftovers.
            None if partitions > 0 => return Err(MetadataLogError::Missing { partitions }.into()),
            None => MetadataLog::create(engine)?,
        };
        let image = metadata.image().clone();
        let options_for = |meta: &PartitionMeta| -> Option<LogOptions> {
            let topic = image.topic_by_id(meta.topic_id)?;
            let config = settings
                .in_force(&topic.configs)
                .unwrap_or_else(|_| settings.broker_defaults().clone());
            Some(settings.log_options(&config))
        };
        let last_line = parking_lot::Mutex::new(Instant::now());
        let progress = |progress: RecoveryProgress| {
            self.readiness.set(Phase::Recovering {
                partitions_done: progress.logs_done,
                partitions_total: progress.logs_total,
            });
            let mut last_line = last_line.lock();
            if last_line.elapsed().as_secs() >= 1 {
                *last_line = Instant::now();
                info!(
                    done = progress.logs_done,
                    total = progress.logs_total,
                    "recovering partitions"
                );
            }
        };
        let mut opened = Vec::new();
        for found in engine.open_logs(&options_for, &progress) {
            match found.meta {
                Some(meta) if is_metadata(&meta) => {}
                Some(meta) => opened.push(taken_in(meta, found.result)),
                None => {
                    let error = found.result.err().map(|error| error.to_string());
                    error!(dir = %found.path.display(), error, "a directory was left as it is");
                }
            }
        }
        if !opened.is_empty() {
            info!(
                partitions = opened.len(),
                clean = engine.was_clean(),
                took_ms = began.elapsed().as_millis() as u64,
                "partitions opened"
            );
        }
        Ok((metadata, opened))
    }

    /// Host and port that clients are told.
    fn advertised(&self) -> (String, u16) {
        let advertised = self
            .config
            .advertised_listen
            .as_deref()
            .and_then(|listen| listen.rsplit_once(':'))
            .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        advertised.unwrap_or_else(|| {
            let host = match self.config.listen.rsplit_once(':') {
                // What was configured, a name for example, says more than what it resolved to.
                Some((host, _)) if !self.address.ip().is_unspecified() => host.to_owned(),
                _ => self.address.ip().to_string(),
            };
            (
                host.trim_matches(['[', ']']).to_owned(),
                self.address.port(),
            )
        })
    }
}

type Opened = Result<(Arc<Log>, RecoveryReport), OpenError>;

fn taken_in(meta: PartitionMeta, result: Opened) -> OpenedPartition {
    let log = match result {
        Ok((log, report)) => {
            if report.cut_bytes > 0 {
                warn!(
                    topic = %meta.topic, partition = %meta.partition,
                    bytes = report.cut_bytes, end = %log.end(),
                    "a torn tail was cut: it was never durable"
                );
            }
            Ok(log)
        }
        Err(error) => {
            error!(topic = %meta.topic, partition = %meta.partition, %error, "partition is offline");
            Err(Arc::from(error.to_string()))
        }
    };
    OpenedPartition { meta, log }
}

/// Tells partitions when more of their log is on disk, or when it went offline.
fn notify_on_progress(engine: &Engine, partitions: &Arc<Partitions>) {
    // Weak: the engine must not keep the partitions, which hold its logs, alive.
    let partitions = Arc::downgrade(partitions);
    engine.on_durable(Box::new(move |log: &Log| {
        let key: (TopicId, PartitionId) = (log.meta().topic_id, log.meta().partition);
        let Some(partitions) = Weak::upgrade(&partitions) else {
            return;
        };
        if let Some(Hosted::Online(partition)) = partitions.get(key) {
            partition.on_durable(log.durable_end());
        }
    }));
}

/// Producer ids from the controller in this process.
fn own_blocks(shared: Weak<Shared>) -> BlockSource {
    let stopping = || Refusal {
        code: ErrorCode::Busy,
        message: "the broker is stopping".to_owned(),
    };
    Box::new(move || {
        let shared = Weak::clone(&shared);
        let work = tokio::task::spawn_blocking(move || {
            let shared = shared.upgrade().ok_or_else(stopping)?;
            let block = shared.controller.allocate_producer_ids();
            block.map_err(|error| Refusal {
                code: error.code(),
                message: error.to_string(),
            })
        });
        Box::pin(async move { work.await.unwrap_or_else(|_| Err(stopping())) })
    })
}

fn engine_options(config: &BrokerConfig) -> EngineOptions {
    let storage = &config.storage;
    EngineOptions {
        flush_threads: storage.flush_threads,
        recovery_threads: storage.recovery_threads.unwrap_or(0),
        mapped_segments_max: storage.mapped_segments_max,
        prefault_ahead_bytes: storage.prefault_ahead_bytes,
        ..EngineOptions::default()
    }
}
