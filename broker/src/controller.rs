//! The controller of a one-broker cluster: decides, makes durable, applies, and does what the new
//! image asks of this broker.
//!
//! One change at a time, under one lock, on a blocking thread: creating partitions touches the disk.
//! Readers never wait for it: they see the last published image.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use highwater_config::TopicConfig;
use highwater_coordination::cluster_image::{ClusterImage, TopicImage};
use highwater_coordination::controller::{
    self as decide, ControllerError, CreateTopic, RegisterBroker,
};
use highwater_coordination::image_changes::{LocalChange, local_changes};
use highwater_coordination::partition_leader::TakeOver;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, NodeId, PartitionId, TopicId};
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::{Engine, Log, PartitionMeta};
use parking_lot::Mutex;
use thiserror::Error;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::metadata_log::{MetadataLog, MetadataLogError};
use crate::partition::{Partition, written_means};
use crate::partitions::{Hosted, Partitions};
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
}

impl ChangeError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Settings(_) => ErrorCode::InvalidConfig,
            Self::Log(MetadataLogError::Append(error)) if error.is_retriable() => {
                ErrorCode::DiskFull
            }
            Self::Log(_) => ErrorCode::Internal,
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
    /// logs were opened. Logs that the image does not know stay where they are, untouched.
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
        metadata.compact(self.clock.now())?;
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
                    None => self.create(topic, partition),
                };
                self.partitions.insert(key, hosted);
            }
        }
        for stray in opened.into_values() {
            warn!(
                topic = %stray.meta.topic, id = %stray.meta.topic_id, partition = %stray.meta.partition,
                "partition on disk belongs to no topic; it is kept and not served"
            );
        }
        self.published.store(Arc::new(image.clone()));
        Ok(decision.reply)
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
        let replicas = request.replicas.unwrap_or(self.settings.replicas_default());
        self.settings.check_replicas(&config, replicas)?;
        let command = CreateTopic {
            id: TopicId::random(),
            name: &request.name,
            partitions,
            replicas,
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
        let decision = decide::alter_topic_config(metadata.image(), name, changes)?;
        if !validate_only {
            self.commit(&mut metadata, &decision.records)?;
            info!(topic = name, "topic settings changed");
        }
        Ok(())
    }

    /// Makes a decision durable, does what it means here, and publishes the image: partitions are
    /// there before any client can learn of them.
    fn commit(
        &self,
        metadata: &mut MetadataLog,
        records: &[MetadataRecord],
    ) -> Result<(), MetadataLogError> {
        let before = metadata.image().clone();
        metadata.commit(records, self.clock.now())?;
        let after = metadata.image();
        for change in local_changes(&before, after, self.node) {
            self.carry_out(change);
        }
        self.published.store(Arc::new(after.clone()));
        Ok(())
    }

    fn carry_out(&self, change: LocalChange) {
        match change {
            LocalChange::Lead { topic, partition } => {
                let hosted = self.create(&topic, partition);
                self.partitions.insert((topic.id, partition), hosted);
            }
            LocalChange::Reconfigure { topic } => {
                let config = self.config_of(&topic);
                let options = self.settings.log_options(&config);
                for index in (0u32..).take(topic.partitions.len()) {
                    let key = (topic.id, PartitionId::new(index));
                    if let Some(Hosted::Online(partition)) = self.partitions.get(key) {
                        partition.reconfigure(config.clone(), options.clone());
                    }
                }
            }
            LocalChange::Delete {
                topic_id,
                partition,
            } => {
                let Some(Hosted::Online(gone)) = self.partitions.remove((topic_id, partition))
                else {
                    return;
                };
                gone.retire();
                if let Err(error) = self.engine.delete_log(gone.log().meta()) {
                    warn!(%topic_id, %partition, %error, "data of a deleted partition stays on disk");
                }
            }
        }
    }

    fn create(&self, topic: &TopicImage, partition: PartitionId) -> Hosted {
        let meta = PartitionMeta {
            topic_id: topic.id,
            topic: topic.name.clone(),
            partition,
        };
        let options = self.settings.log_options(&self.config_of(topic));
        match self.engine.create_log(meta, options) {
            Ok(log) => self.take_over(topic, partition, log),
            Err(error) => {
                error!(topic = %topic.name, %partition, %error, "partition is offline");
                Hosted::Offline(error.to_string().into())
            }
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
            isr_min: config.min_insync_replicas as usize,
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

/// A partition directory that was found at start.
#[derive(Debug)]
pub(crate) struct OpenedPartition {
    pub(crate) meta: PartitionMeta,
    /// The log, or in words why it is offline.
    pub(crate) log: Result<Arc<Log>, Arc<str>>,
}
