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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use highwater_config::TopicConfig;
use highwater_coordination::cluster_image::ClusterImage;
use highwater_coordination::controller::{
    self as decide, ControllerError, CreateTopic, RegisterBroker,
};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{BrokerEpoch, TopicId};
use highwater_protocol::messages::{ConfigChange, ConfigEntry};
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::StorageError;
use parking_lot::Mutex;
use thiserror::Error;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::metadata_log::{MetadataLog, MetadataLogError};
use crate::partitions::Partitions;
use crate::reconcile::{OpenedPartition, Reconcile};
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
    reconcile: Reconcile,
    clock: Arc<Clock>,
    metadata: Mutex<MetadataLog>,
    is_stopped: AtomicBool,
    published: ArcSwap<ClusterImage>,
}

impl Controller {
    pub(crate) fn new(reconcile: Reconcile, clock: Arc<Clock>, metadata: MetadataLog) -> Self {
        let published = ArcSwap::from_pointee(metadata.image().clone());
        Self {
            reconcile,
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
        &self.reconcile.partitions
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(crate) fn settings(&self) -> &TopicSettings {
        &self.reconcile.settings
    }

    /// Registers this broker, which may begin new leader epochs, and takes over the partitions whose
    /// logs were opened.
    pub(crate) fn start(
        &self,
        broker: &RegisterBroker,
        opened: Vec<OpenedPartition>,
    ) -> Result<BrokerEpoch, ChangeError> {
        let mut metadata = self.metadata.lock();
        let decision = decide::register_broker(metadata.image(), broker);
        metadata.commit(&decision.records, self.clock.now())?;
        let was_deleted = |topic_id| metadata.was_deleted(topic_id);
        let removed_all = self.reconcile.start(metadata.image(), opened, &was_deleted);
        self.published.store(Arc::new(metadata.image().clone()));
        if removed_all {
            // Forgets which topics were deleted, so nothing of them may be left.
            metadata.compact(self.clock.now())?;
        }
        Ok(decision.reply)
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
        let config = self.settings().check_new(&request.configs)?;
        let partitions = request
            .partitions
            .unwrap_or(self.settings().partitions_default());
        let replicas = request
            .replicas
            .unwrap_or(self.settings().replicas_default(1));
        self.settings().check_replicas(&config, replicas)?;
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
        let config = self.settings().check_changes(&topic.configs, &changes)?;
        self.settings().check_replicas(&config, topic.replicas)?;
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
        let before = metadata.image().clone();
        let created = self
            .reconcile
            .create_logs(&before, &after)
            .map_err(ChangeError::Create)?;
        if let Err(error) = metadata.commit(records, self.clock.now()) {
            // A change in doubt may turn out to have been made, and needs its directories then.
            if !matches!(error, MetadataLogError::InDoubt(_)) {
                for log in &created {
                    if let Err(error) = self.reconcile.engine.delete_log(log.meta()) {
                        warn!(%error, "cannot remove a leftover directory; the next start does");
                    }
                }
            }
            return Err(error.into());
        }
        let image = Arc::new(after);
        self.reconcile.apply(&before, &image, || {
            self.published.store(Arc::clone(&image));
        });
        Ok(())
    }
}

/// Fewest in-sync replicas of a topic.
fn isr_min(config: &TopicConfig, replicas: u16) -> u16 {
    let auto = if replicas >= 3 { 2 } else { 1 };
    config
        .min_insync_replicas
        .map_or(auto, |number| u16::try_from(number).unwrap_or(u16::MAX))
}
