//! Opening the data directory: lock, identity, recovery of partitions. Blocking work.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use highwater_config::BrokerConfig;
use highwater_coordination::cluster_image::ClusterImage;
use highwater_protocol::ids::{PartitionId, TopicId};
use highwater_storage::{
    Engine, EngineOptions, Log, LogOptions, OpenError, OpenedLog, PartitionMeta, RecoveryProgress,
    RecoveryReport,
};
use tracing::{error, info, warn};

use crate::identity::{Identity, Stage};
use crate::partitions::{Hosted, Partitions};
use crate::quorum::{raft_log_options, raft_partition};
use crate::readiness::{Phase, Readiness};
use crate::reconcile::OpenedPartition;
use crate::server::StartError;
use crate::topic_settings::TopicSettings;

/// A data directory that is locked and open, and whose it is.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) engine: Arc<Engine>,
    /// `None`: it belongs to no cluster yet.
    pub(crate) identity: Option<Identity>,
}

impl Directory {
    /// Creates the directory if it is not there, locks it, and reads whose it is.
    pub(crate) fn open(config: &BrokerConfig) -> Result<Self, StartError> {
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir).map_err(|source| StartError::DataDir {
            path: data_dir.clone(),
            source,
        })?;
        let engine = Engine::open(data_dir, engine_options(config)).map_err(|source| {
            StartError::Storage {
                path: data_dir.clone(),
                source,
            }
        })?;
        // After the lock, so that two first starts in one directory cannot both choose.
        let identity = Identity::load(data_dir, config.node_id)?;
        let directory = Self { engine, identity };
        directory.open_metadata_log(config)?;
        Ok(directory)
    }

    /// Without its metadata log a broker has forgotten whom it voted for, and must not vote again.
    fn open_metadata_log(&self, config: &BrokerConfig) -> Result<(), StartError> {
        let raft = raft_partition();
        let only_raft = |meta: &PartitionMeta| (*meta == raft).then(raft_log_options);
        let found = self.engine.open_logs(&only_raft, &|_| {});
        let is_raft = |opened: &OpenedLog| opened.meta.as_ref() == Some(&raft);
        let partitions = found.iter().filter(|opened| opened.meta.is_some()).count();
        match found.into_iter().find(is_raft).map(|opened| opened.result) {
            Some(Ok(_)) => Ok(()),
            Some(Err(OpenError::Damaged(damage))) => Err(StartError::Quorum(format!(
                "the metadata log is {damage}; a node that does not know any more what it answered for \
                 cannot go on: remove it from the cluster (`highwater node remove`) and start it with an \
                 empty data directory and without its old node.id"
            ))),
            Some(Err(source)) => Err(StartError::Storage {
                path: config.data_dir.clone(),
                source,
            }),
            None if self.identity.is_some_and(|own| own.stage == Stage::Member) => {
                Err(StartError::Quorum(format!(
                    "the metadata log of {} is missing; put it back, or remove this node from the \
                     cluster (`highwater node remove`) and start it with an empty data directory",
                    config.data_dir.display()
                )))
            }
            None if partitions > 0 => Err(StartError::Quorum(format!(
                "{} has {partitions} partition directories and no metadata log",
                config.data_dir.display()
            ))),
            None => Ok(()),
        }
    }
}

/// Opens the logs of all partitions. `image` tells which settings they have, as far as it knows them: it
/// may be behind the cluster, which the first image after registering makes good.
pub(crate) fn open_partitions(
    engine: &Engine,
    settings: &TopicSettings,
    image: &ClusterImage,
    readiness: &Readiness,
) -> Vec<OpenedPartition> {
    let began = Instant::now();
    let raft = raft_partition();
    let options_for = |meta: &PartitionMeta| -> Option<LogOptions> {
        if *meta == raft {
            return None;
        }
        let own = image.topic_by_id(meta.topic_id);
        let config = own.and_then(|topic| settings.in_force(&topic.configs).ok());
        Some(settings.log_options(config.as_ref().unwrap_or(settings.broker_defaults())))
    };
    let last_line = parking_lot::Mutex::new(Instant::now());
    let progress = |progress: RecoveryProgress| {
        readiness.set(Phase::Recovering {
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
            Some(meta) if meta == raft => {}
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
    opened
}

/// Host and port at which clients and other brokers reach a broker that listens on `address`.
pub(crate) fn advertised(config: &BrokerConfig, address: SocketAddr) -> (String, u16) {
    let advertised = config
        .advertised_listen
        .as_deref()
        .and_then(|listen| listen.rsplit_once(':'))
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    advertised.unwrap_or_else(|| {
        let host = match config.listen.rsplit_once(':') {
            // What was configured, a name for example, says more than what it resolved to.
            Some((host, _)) if !address.ip().is_unspecified() => host.to_owned(),
            _ => address.ip().to_string(),
        };
        (host.trim_matches(['[', ']']).to_owned(), address.port())
    })
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
pub(crate) fn notify_on_progress(engine: &Engine, partitions: &Arc<Partitions>) {
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
