//! The controller of a one-broker cluster: decides, makes durable, applies, and does what the new
//! image asks of this broker.
//!
//! One change at a time, under one lock, on a blocking thread: creating partitions touches the disk.
//! Readers never wait for it: they see the last published image.
//!
//! What a crash between the steps leaves is told apart at the next start:
//!
//! - directories are made before the metadata names them: a directory without metadata and without
//!   records is a creation that did not happen, and is removed; a partition without its directory
//!   has lost it, and is offline, not empty;
//! - directories go after the metadata has let go of them: what a deleted topic left is removed.
//!
//! A directory with records that the metadata never heard of is kept, untouched.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use highwater_config::TopicConfig;
use highwater_coordination::cluster_image::{ClusterImage, TopicImage};
use highwater_coordination::controller::{
    self as decide, ControllerError, CreateTopic, RegisterBroker,
};
use highwater_coordination::image_changes::{LocalChange, local_changes};
use highwater_coordination::partition_leader::TakeOver;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, NodeId, PartitionId, ProducerId, TopicId};
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::{Engine, Log, LogOptions, PartitionMeta, StorageError};
use parking_lot::Mutex;
use thiserror::Error;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::metadata_log::{MetadataLog, MetadataLogError};
use crate::partition::{Partition, written_means};
use crate::partitions::{Hosted, Partitions};
use crate::producer_ids::{BLOCK_IDS, ProducerIdBlock};
use crate::topic_settings::{TopicSettings, TopicSettingsError};

/// Why a change of the metadata was not made.
#[derive(Debug, Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Refused(#[from] ControllerError),
    #[error(transparent)]
    Settings(#[from] TopicSettingsError),
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    #[error("no partition was created: {0}")]
    Create(#[source] StorageError),
    #[error("the broker is stopping")]
    Stopping,
}

impl ChangeError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Settings(_) => ErrorCode::InvalidConfig,
            Self::Log(MetadataLogError::Append(error)) if error.is_retriable() => {
                ErrorCode::DiskFull
            }
            Self::Create(error) if error.is_disk_full() => ErrorCode::DiskFull,
            Self::Stopping => ErrorCode::Busy,
            Self::Log(_) | Self::Create(_) => ErrorCode::Internal,
        }
    }
}

/// What a client asks of a new topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicRequest {
    pub(crate) name: String,
    pub(crate) partitions: Option<u32>,
    pub(crate) replicas: Option<u16>,
    pub(crate) configs: Vec<ConfigEntry>,
}

/// What a client is told about a topic that it created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicCreated {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
    pub(crate) replicas: u16,
}

/// The controller and everything that it acts on.
#[derive(Debug)]
pub(crate) struct Controller {
    node: NodeId,
    engine: Arc<Engine>,
    partitions: Arc<Partitions>,
    settings: TopicSettings,
    clock: Arc<Clock>,
    metadata: Mutex<MetadataLog>,
    is_stopped: AtomicBool,
    published: ArcSwap<ClusterImage>,
}

impl Controller {
    pub(crate) fn new(
        node: NodeId,
        engine: Arc<Engine>,
        settings: TopicSettings,
        clock: Arc<Clock>,
        metadata: MetadataLog,
    ) -> Self {
        let published = ArcSwap::from_pointee(metadata.image().clone());
        Self {
            node,
            engine,
            partitions: Arc::new(Partitions::default()),
            settings,
            clock,
            metadata: Mutex::new(metadata),
            is_stopped: AtomicBool::new(false),
            published,
        }
    }

    /// The last published image.
    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        self.published.load_full()
    }

    pub(crate) fn partitions(&self) -> &Arc<Partitions> {
        &self.partitions
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(crate) fn settings(&self) -> &TopicSettings {
        &self.settings
    }

    /// Registers this broker, which may begin new leader epochs, and takes over the partitions whose
    /// logs were opened.
    pub(crate) fn start(
        &self,
        broker: &RegisterBroker,
        opened: Vec<OpenedPartition>,
    ) -> Result<BrokerEpoch, ChangeError> {
        let mut opened: HashMap<_, _> = opened
            .into_iter()
            .map(|opened| ((opened.meta.topic_id, opened.meta.partition), opened))
            .collect();
        let mut metadata = self.metadata.lock();
        let decision = decide::register_broker(metadata.image(), broker);
        metadata.commit(&decision.records, self.clock.now())?;
        let image = metadata.image();
        for topic in image.topics() {
            for index in (0u32..).take(topic.partitions.len()) {
                let partition = PartitionId::new(index);
                if topic.partitions[index as usize].leader != Some(self.node) {
                    continue;
                }
                let key = (topic.id, partition);
                let hosted = match opened.remove(&key).map(|opened| opened.log) {
                    Some(Ok(log)) => self.take_over(topic, partition, log),
                    Some(Err(reason)) => Hosted::Offline(reason),
                    None => {
                        error!(topic = %topic.name, %partition, "partition is offline: {MISSING}");
                        Hosted::Offline(MISSING.into())
                    }
                };
                self.partitions.insert(key, hosted);
            }
        }
        let mut removed_all = true;
        for stray in opened.into_values() {
            removed_all &= self.remove_stray(&metadata, &stray.meta);
        }
        self.published.store(Arc::new(metadata.image().clone()));
        if removed_all {
            // Forgets which topics were deleted, so nothing of them may be left.
            metadata.compact(self.clock.now())?;
        }
        Ok(decision.reply)
    }

    /// Removes the directory of a partition that no topic has, if nothing can be lost by that.
    /// Returns false when it should have been removed and was not.
    fn remove_stray(&self, metadata: &MetadataLog, meta: &PartitionMeta) -> bool {
        let reason = if metadata.was_deleted(meta.topic_id) {
            "its topic was deleted"
        } else if has_no_records(&self.engine.dir().join(meta.dir_name())) {
            "its creation was cut off"
        } else {
            warn!(
                topic = %meta.topic, id = %meta.topic_id, partition = %meta.partition,
                "partition on disk belongs to no topic; it is kept and not served"
            );
            return true;
        };
        info!(topic = %meta.topic, id = %meta.topic_id, partition = %meta.partition, reason, "leftover directory removed");
        match self.engine.delete_log(meta) {
            Ok(()) => true,
            Err(error) => {
                warn!(topic = %meta.topic, partition = %meta.partition, %error, "cannot remove a leftover directory");
                false
            }
        }
    }

    /// Waits for the change under way and refuses all later ones, so that the data directory can be
    /// closed.
    pub(crate) fn stop(&self) {
        let _metadata = self.metadata.lock();
        self.is_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn create_topic(
        &self,
        request: &TopicRequest,
        validate_only: bool,
    ) -> Result<TopicCreated, ChangeError> {
        let config = self.settings.check_new(&request.configs)?;
        let partitions = request
            .partitions
            .unwrap_or(self.settings.partitions_default());
        let replicas = request
            .replicas
            .unwrap_or(self.settings.replicas_default(1));
        self.settings.check_replicas(&config, replicas)?;
        let command = CreateTopic {
            id: TopicId::random(),
            name: &request.name,
            partitions,
            replicas,
            isr_min: isr_min(&config, replicas),
            configs: request.configs.clone(),
        };
        let mut metadata = self.metadata.lock();
        let decision = decide::create_topic(metadata.image(), &command)?;
        if !validate_only {
            self.commit(&mut metadata, &decision.records)?;
            info!(topic = request.name, id = %decision.reply, partitions, "topic created");
        }
        Ok(TopicCreated {
            id: decision.reply,
            partitions,
            replicas,
        })
    }

    pub(crate) fn delete_topic(&self, name: &str) -> Result<(), ChangeError> {
        let mut metadata = self.metadata.lock();
        let decision = decide::delete_topic(metadata.image(), name)?;
        self.commit(&mut metadata, &decision.records)?;
        info!(topic = name, id = %decision.reply, "topic deleted");
        Ok(())
    }

    pub(crate) fn add_partitions(
        &self,
        name: &str,
        total: u32,
        validate_only: bool,
    ) -> Result<(), ChangeError> {
        let mut metadata = self.metadata.lock();
        let decision = decide::add_partitions(metadata.image(), name, total)?;
        if !validate_only {
            self.commit(&mut metadata, &decision.records)?;
            info!(topic = name, total, "partitions added");
        }
        Ok(())
    }

    pub(crate) fn alter_config(
        &self,
        name: &str,
        changes: Vec<ConfigChange>,
        validate_only: bool,
    ) -> Result<(), ChangeError> {
        let mut metadata = self.metadata.lock();
        let Some(topic) = metadata.image().topic(name) else {
            return Err(ControllerError::UnknownTopic {
                name: name.to_owned(),
            }
            .into());
        };
        let config = self.settings.check_changes(&topic.configs, &changes)?;
        self.settings.check_replicas(&config, topic.replicas)?;
        let decision = decide::alter_topic_config(
            metadata.image(),
            name,
            isr_min(&config, topic.replicas),
            changes,
        )?;
        if !validate_only {
            self.commit(&mut metadata, &decision.records)?;
            info!(topic = name, "topic settings changed");
        }
        Ok(())
    }

    /// A block of producer ids that were never given out.
    pub(crate) fn allocate_producer_ids(&self) -> Result<ProducerIdBlock, ChangeError> {
        let mut metadata = self.metadata.lock();
        let first = metadata.image().producer_id_next();
        let next = ProducerId::new(first.get() + u64::from(BLOCK_IDS));
        let record = MetadataRecord::ProducerIdsAllocated { next };
        self.commit(&mut metadata, &[record])?;
        Ok(ProducerIdBlock {
            first,
            count: BLOCK_IDS,
        })
    }

    /// Makes a decision durable, does what it means here, and publishes the image: partitions are
    /// there before any client can learn of them.
    fn commit(
        &self,
        metadata: &mut MetadataLog,
        records: &[MetadataRecord],
    ) -> Result<(), ChangeError> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(ChangeError::Stopping);
        }
        let after = metadata.preview(records)?;
        let changes = local_changes(metadata.image(), &after, self.node);
        let created = self.create_logs(&changes)?;
        if let Err(error) = metadata.commit(records, self.clock.now()) {
            // A change in doubt may turn out to have been made, and needs its directories then.
            if !matches!(error, MetadataLogError::InDoubt(_)) {
                for log in &created {
                    if let Err(error) = self.engine.delete_log(log.meta()) {
                        warn!(%error, "cannot remove a leftover directory; the next start does");
                    }
                }
            }
            return Err(error.into());
        }
        let mut created = created.into_iter();
        let mut deleted = Vec::new();
        for change in changes {
            match change {
                LocalChange::Lead { topic, partition } => {
                    let Some(log) = created.next() else {
                        continue;
                    };
                    let hosted = self.take_over(&topic, partition, log);
                    self.partitions.insert((topic.id, partition), hosted);
                }
                LocalChange::Reconfigure { topic } => self.reconfigure(&topic),
                LocalChange::Delete { topic, partition } => deleted.push((topic, partition)),
            }
        }
        self.published.store(Arc::new(after));
        // After publishing: whoever finds the partition gone finds the topic gone as well.
        for (topic, partition) in deleted {
            self.delete(&topic, partition);
        }
        Ok(())
    }

    /// Makes the logs of all partitions to be led, in their order; all of them or none.
    fn create_logs(&self, changes: &[LocalChange]) -> Result<Vec<Arc<Log>>, ChangeError> {
        let wanted = changes.iter().filter_map(|change| match change {
            LocalChange::Lead { topic, partition } => Some((topic, *partition)),
            LocalChange::Reconfigure { .. } | LocalChange::Delete { .. } => None,
        });
        let mut options: HashMap<TopicId, LogOptions> = HashMap::new();
        let partitions: Vec<_> = wanted
            .map(|(topic, partition)| {
                let options = options
                    .entry(topic.id)
                    .or_insert_with(|| self.settings.log_options(&self.config_of(topic)));
                (partition_meta(topic, partition), options.clone())
            })
            .collect();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.engine
            .create_logs(partitions)
            .map_err(ChangeError::Create)
    }

    fn reconfigure(&self, topic: &TopicImage) {
        let config = self.config_of(topic);
        let options = self.settings.log_options(&config);
        for index in (0u32..).take(topic.partitions.len()) {
            let key = (topic.id, PartitionId::new(index));
            if let Some(Hosted::Online(partition)) = self.partitions.get(key) {
                partition.reconfigure(config.clone(), options.clone(), topic.isr_min.into());
            }
        }
    }

    /// Lets go of a partition and its data, which for one that is offline is all that there is.
    fn delete(&self, topic: &TopicImage, partition: PartitionId) {
        if let Some(Hosted::Online(gone)) = self.partitions.remove((topic.id, partition)) {
            gone.retire();
        }
        match self.engine.delete_log(&partition_meta(topic, partition)) {
            Ok(()) | Err(StorageError::NotFound { .. }) => {}
            Err(error) => warn!(
                topic = %topic.name, %partition, %error,
                "data of a deleted partition stays on disk; the next start removes it"
            ),
        }
    }

    fn take_over(&self, topic: &TopicImage, partition: PartitionId, log: Arc<Log>) -> Hosted {
        let image = &topic.partitions[partition.get() as usize];
        if let Err(error) = log.assign_epoch(image.leader_epoch) {
            error!(topic = %topic.name, %partition, %error, "partition is offline");
            return Hosted::Offline(error.to_string().into());
        }
        let config = self.config_of(topic);
        let options = self.settings.log_options(&config);
        let take_over = TakeOver {
            node: self.node,
            epoch: image.leader_epoch,
            isr: image.isr.iter().copied().collect(),
            isr_min: topic.isr_min.into(),
            written_means: written_means(options.durability),
            log_end: log.end(),
            durable_end: log.durable_end(),
            high_watermark: log.high_watermark_checkpoint(),
        };
        Hosted::Online(Partition::lead(topic.name.clone(), config, log, take_over))
    }

    /// The settings in force for a topic. What was checked when it was set is not checked again; a
    /// value that this version no longer accepts falls back to the broker's default, loudly.
    pub(crate) fn config_of(&self, topic: &TopicImage) -> TopicConfig {
        match self.settings.in_force(&topic.configs) {
            Ok(config) => config,
            Err(error) => {
                error!(topic = %topic.name, %error, "topic settings are ignored");
                self.settings.broker_defaults().clone()
            }
        }
    }
}

/// Fewest in-sync replicas of a topic.
fn isr_min(config: &TopicConfig, replicas: u16) -> u16 {
    let auto = if replicas >= 3 { 2 } else { 1 };
    config
        .min_insync_replicas
        .map_or(auto, |number| u16::try_from(number).unwrap_or(u16::MAX))
}

/// Why a partition is offline whose directory is not there.
const MISSING: &str =
    "its directory is missing; put it back and restart the broker, or delete the topic";

fn partition_meta(topic: &TopicImage, partition: PartitionId) -> PartitionMeta {
    PartitionMeta {
        topic_id: topic.id,
        topic: topic.name.clone(),
        partition,
    }
}

/// Whether a partition directory holds no segment. One that cannot be read may hold some.
fn has_no_records(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .all(|name| {
                name.is_ok_and(|name| Path::new(&name).extension().is_none_or(|ext| ext != "log"))
            })
    })
}

/// A partition directory that was found at start.
#[derive(Debug)]
pub(crate) struct OpenedPartition {
    pub(crate) meta: PartitionMeta,
    /// The log, or in words why it is offline.
    pub(crate) log: Result<Arc<Log>, Arc<str>>,
}
