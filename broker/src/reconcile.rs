//! What a change of the cluster's metadata means on this broker: logs are made and removed, roles are
//! taken and given up.
//!
//! Data is deleted only because the metadata says so in as many words: the topic was deleted, or others
//! hold the partition now. What the metadata does not mention is kept: metadata that was lost must not
//! take the records with it.
//!
//! A log that should be there and is not is made anew only where this broker is not counted on to have
//! it. Where the metadata counts on it, the partition is offline: an empty log in its place would look
//! like one that has everything.
//!
//! Metadata from before this life of the broker was registered is old: this broker may have been given
//! more since, and taken less. Until it has seen its own registration it leads nothing (in an epoch
//! that an earlier life led it could append other records at the same offsets), removes nothing, and
//! begins nothing anew.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use highwater_config::TopicConfig;
use highwater_coordination::cluster_image::{ClusterImage, PartitionImage, TopicImage};
use highwater_coordination::image_changes::{LocalChange, LocalRole, local_changes};
use highwater_coordination::partition_leader::PartitionView;
use highwater_protocol::ids::{IncarnationId, NodeId, PartitionId, TopicId};
use highwater_storage::{Engine, Log, LogOptions, PartitionMeta, StorageError, parallel};
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::lease;
use crate::mutant::{Mutant, is_on};
use crate::partition::{Follow, Lead, Opened, Partition};
use crate::partitions::{Hosted, Key, Partitions};
use crate::replica_fetcher::Following;
use crate::topic_settings::TopicSettings;

/// Why a partition is offline whose directory is not there.
const MISSING: &str =
    "its directory is missing; put it back and restart the broker, or delete the topic";

/// Threads on which roles are taken when many partitions change at once. They wait for the disk.
const THREADS: usize = 16;

/// A partition directory that was found at start.
#[derive(Debug)]
pub(crate) struct OpenedPartition {
    pub(crate) meta: PartitionMeta,
    /// The log, or in words why it is offline.
    pub(crate) log: Result<Arc<Log>, Arc<str>>,
}

/// What it works with.
#[derive(Debug)]
pub(crate) struct ReconcileDeps {
    pub(crate) node: NodeId,
    /// This life of the broker.
    pub(crate) incarnation: IncarnationId,
    pub(crate) engine: Arc<Engine>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) following: Arc<Following>,
    pub(crate) settings: Arc<TopicSettings>,
    /// `replica.lag.time.max`
    pub(crate) lag_time_max: Duration,
}

/// Brings what this broker holds into line with the metadata. One caller at a time.
#[derive(Debug)]
pub(crate) struct Reconcile {
    deps: ReconcileDeps,
    /// Directories that were found at start and are not held, until it is certain what they are.
    strays: Mutex<Vec<PartitionMeta>>,
}

impl Reconcile {
    pub(crate) fn new(deps: ReconcileDeps) -> Self {
        Self {
            deps,
            strays: Mutex::new(Vec::new()),
        }
    }

    /// Which partitions are followed, for the fetchers.
    pub(crate) fn following(&self) -> &Arc<Following> {
        &self.deps.following
    }

    /// Takes in the logs that were opened at start.
    pub(crate) fn start(&self, image: &ClusterImage, opened: Vec<OpenedPartition>) {
        let mut opened: HashMap<_, _> = opened
            .into_iter()
            .map(|opened| ((opened.meta.topic_id, opened.meta.partition), opened))
            .collect();
        for change in local_changes(&ClusterImage::default(), image, self.deps.node) {
            let LocalChange::Hold {
                topic, partition, ..
            } = change
            else {
                continue;
            };
            let key = (topic.id, partition);
            let hosted = match opened.remove(&key).map(|opened| opened.log) {
                Some(Ok(log)) => self.host(&topic, log),
                Some(Err(reason)) => Hosted::Offline(reason),
                None => self.host_without_log(image, &topic, partition),
            };
            self.deps.partitions.insert(key, hosted);
            self.take_role(image, &topic, partition);
        }
        let strays = opened.into_values().map(|stray| stray.meta);
        *self.strays.lock() = strays.collect();
        self.remove_strays(image);
    }

    /// Whether the image is of a time when this life of the broker was registered.
    fn is_of_this_life(&self, image: &ClusterImage) -> bool {
        image
            .broker(self.deps.node)
            .and_then(|own| own.registration.as_ref())
            .is_some_and(|life| life.incarnation == self.deps.incarnation)
    }

    /// Does everything that the step from one image to the next asks for. `publish` is called when what
    /// is new is there and before anything goes: whoever sees the new image finds its partitions, and
    /// whoever finds a partition gone finds the topic gone.
    pub(crate) fn apply(
        &self,
        before: &ClusterImage,
        after: &ClusterImage,
        publish: impl FnOnce(),
    ) {
        let changes = local_changes(before, after, self.deps.node);
        if let Err(error) = self.create_new(&changes) {
            // Each is tried again below, and says why it is offline.
            warn!(%error, "logs of new partitions could not be made together");
        }
        let (mut held, mut gone) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                LocalChange::Reconfigure { topic } => self.reconfigure(&topic),
                LocalChange::Hold {
                    topic,
                    partition,
                    is_new,
                } => held.push((topic, partition, is_new)),
                LocalChange::Delete { topic, partition }
                | LocalChange::Release { topic, partition } => gone.push((topic, partition)),
            }
        }
        // A new leader epoch is on the disk before it is led in: one after the other, thousands of them
        // would keep each other waiting after the loss of a broker.
        parallel::for_each(THREADS, &held, |(topic, partition, is_new)| {
            self.hold(after, topic, *partition, *is_new);
        });
        publish();
        for (topic, partition) in gone {
            self.remove(&topic, partition);
        }
        self.remove_strays(after);
    }

    /// Takes note of the replicas that cannot be used, and of the leader epochs in which that is so.
    /// After [`Self::apply`] of the same image: nothing is asked in a later epoch than this image's.
    pub(crate) fn note_unused(&self, image: &ClusterImage) {
        let epoch_of = |key| partition_at(image, key).map(|partition| partition.leader_epoch);
        self.deps.partitions.note_unused(epoch_of);
    }

    /// Begins anew with replicas that are offline here and that nobody counts on: what is left of the
    /// old log is set aside under another name, and an empty one is filled from the leader. Returns how
    /// many were begun anew. Where the metadata still counts on the log, or the leader epoch is not over
    /// in which the old log was told of, nothing is touched.
    pub(crate) fn rebuild_all(&self, image: &ClusterImage) -> usize {
        let unused = self.deps.partitions.unused();
        let due = unused.into_iter().filter(|(key, told)| {
            partition_at(image, *key).is_some_and(|partition| partition.leader_epoch > *told)
        });
        due.filter(|(key, _)| self.rebuild(image, *key)).count()
    }

    /// Whether nobody counts on this replica, and somebody has what it should have.
    fn may_be_rebuilt(&self, image: &ClusterImage, key: Key) -> bool {
        let Some(partition) = partition_at(image, key) else {
            return false;
        };
        let role = LocalRole::of(partition, self.deps.node);
        matches!(role, Some(LocalRole::Follow(_))) && !is_counted_on(partition, self.deps.node)
    }

    /// [`Self::rebuild_all`] for one partition whose leader epoch is new enough.
    fn rebuild(&self, image: &ClusterImage, key: Key) -> bool {
        let Some(topic) = image.topic_by_id(key.0) else {
            return false;
        };
        let is_offline = match self.deps.partitions.get(key) {
            // At the end of this life all logs are closed, and none of them is unfit.
            Some(Hosted::Online(online)) => {
                online.offline_reason().is_some() && !online.is_closed()
            }
            Some(Hosted::Offline(_)) => true,
            None => false,
        };
        if !is_offline || !self.is_of_this_life(image) || !self.may_be_rebuilt(image, key) {
            return false;
        }
        let meta = partition_meta(topic, key.1);
        self.deps.following.unfollow(key);
        if let Some(old) = self.deps.partitions.online_one(key) {
            old.retire();
        }
        match self.deps.engine.set_aside_log(&meta) {
            Ok(kept) => info!(
                topic = %topic.name, partition = %key.1, kept = %kept.display(),
                "a replica that cannot be used was set aside; it is filled anew from the leader"
            ),
            Err(StorageError::NotFound { .. }) => info!(
                topic = %topic.name, partition = %key.1,
                "a replica that is missing is filled anew from the leader"
            ),
            Err(error) => {
                error!(topic = %topic.name, partition = %key.1, %error, "a replica that cannot be used cannot be set aside");
                self.deps
                    .partitions
                    .insert(key, Hosted::Offline(error.to_string().into()));
                return false;
            }
        }
        let hosted = self.host_new(topic, key.1);
        let is_there = matches!(hosted, Hosted::Online(_));
        if is_there {
            self.deps.partitions.begun_anew(key);
        }
        self.deps.partitions.insert(key, hosted);
        self.take_role(image, topic, key.1);
        is_there
    }

    // ---- holding ----

    fn hold(&self, image: &ClusterImage, topic: &TopicImage, partition: PartitionId, is_new: bool) {
        let key = (topic.id, partition);
        if is_new && self.deps.partitions.get(key).is_none() {
            let hosted = match self.deps.engine.log(&partition_meta(topic, partition)) {
                Some(log) => self.host(topic, log),
                None => self.host_new(topic, partition),
            };
            self.deps.partitions.insert(key, hosted);
        }
        self.take_role(image, topic, partition);
    }

    /// Takes the role that the metadata gives this broker, in its epoch.
    fn take_role(&self, image: &ClusterImage, topic: &TopicImage, index: PartitionId) {
        let key = (topic.id, index);
        let (Some(held), Some(partition)) = (
            self.deps.partitions.online_one(key),
            partition_of(topic, index),
        ) else {
            self.deps.following.unfollow(key);
            return;
        };
        match LocalRole::of(partition, self.deps.node) {
            Some(LocalRole::Lead) if self.is_of_this_life(image) => {
                self.deps.following.unfollow(key);
                let lead = Lead {
                    node: self.deps.node,
                    epoch: partition.leader_epoch,
                    view: PartitionView::of(partition, image),
                    isr_min: topic.isr_min.into(),
                    lag_ms_max: u64::try_from(self.deps.lag_time_max.as_millis())
                        .unwrap_or(u64::MAX),
                };
                if let Err(error) = held.become_leader(lead, lease::now()) {
                    held.put_aside(Arc::from(error.to_string()));
                }
            }
            Some(LocalRole::Follow(leader)) => {
                held.become_follower(Follow {
                    leader,
                    epoch: partition.leader_epoch,
                    is_unclean: partition.recovering,
                });
                let in_sync = partition.isr.contains(&self.deps.node);
                self.deps.following.follow(leader, held, in_sync);
            }
            Some(LocalRole::Lead | LocalRole::Wait) | None => {
                self.deps.following.unfollow(key);
                held.become_idle(partition.leader_epoch);
            }
        }
    }

    fn host(&self, topic: &TopicImage, log: Arc<Log>) -> Hosted {
        Hosted::Online(Partition::open(Opened {
            topic: topic.name.clone(),
            config: self.config_of(topic),
            log,
            proposals: Arc::clone(self.deps.partitions.proposals()),
        }))
    }

    /// Makes an empty log.
    fn host_new(&self, topic: &TopicImage, partition: PartitionId) -> Hosted {
        let meta = partition_meta(topic, partition);
        match self.deps.engine.create_log(meta, self.log_options(topic)) {
            Ok(log) => self.host(topic, log),
            Err(error) => {
                error!(topic = %topic.name, %partition, %error, "partition is offline");
                Hosted::Offline(error.to_string().into())
            }
        }
    }

    /// Of a partition that this broker holds there is nothing at start.
    fn host_without_log(
        &self,
        image: &ClusterImage,
        topic: &TopicImage,
        partition: PartitionId,
    ) -> Hosted {
        let counted_on = partition_of(topic, partition)
            .is_none_or(|partition| is_counted_on(partition, self.deps.node));
        if self.is_of_this_life(image) && !counted_on {
            return self.host_new(topic, partition);
        }
        error!(topic = %topic.name, %partition, "partition is offline: {MISSING}");
        Hosted::Offline(MISSING.into())
    }

    /// Makes the logs of partitions that are given to this broker, all at once: for many of them that
    /// costs little more than for one.
    fn create_new(&self, changes: &[LocalChange]) -> Result<(), StorageError> {
        let mut options: HashMap<TopicId, LogOptions> = HashMap::new();
        let mut wanted = Vec::new();
        for change in changes {
            let LocalChange::Hold {
                topic,
                partition,
                is_new: true,
            } = change
            else {
                continue;
            };
            let meta = partition_meta(topic, *partition);
            if self.deps.engine.log(&meta).is_some()
                || self.deps.partitions.get((topic.id, *partition)).is_some()
            {
                continue;
            }
            let options = options
                .entry(topic.id)
                .or_insert_with(|| self.log_options(topic));
            wanted.push((meta, options.clone()));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.deps.engine.create_logs(wanted)?;
        Ok(())
    }

    fn reconfigure(&self, topic: &TopicImage) {
        let config = self.config_of(topic);
        let options = self.deps.settings.log_options(&config);
        for (now, index) in topic.partitions.iter().zip(0u32..) {
            let key = (topic.id, PartitionId::new(index));
            if let Some(partition) = self.deps.partitions.online_one(key) {
                partition.reconfigure(
                    config.clone(),
                    options.clone(),
                    now.leader_epoch,
                    topic.isr_min.into(),
                );
            }
        }
    }

    // ---- letting go ----

    /// Lets go of a partition and its data, which for one that is offline is all that there is.
    fn remove(&self, topic: &TopicImage, partition: PartitionId) {
        let key = (topic.id, partition);
        self.deps.following.unfollow(key);
        if let Some(Hosted::Online(gone)) = self.deps.partitions.remove(key) {
            gone.retire();
        }
        match self
            .deps
            .engine
            .delete_log(&partition_meta(topic, partition))
        {
            Ok(()) | Err(StorageError::NotFound { .. }) => {}
            Err(error) => warn!(
                topic = %topic.name, %partition, %error,
                "data of a deleted partition stays on disk; the next start removes it"
            ),
        }
    }

    /// Removes directories of partitions that this broker does not hold, where nothing can be lost by
    /// that. The others are kept, and are not served.
    fn remove_strays(&self, image: &ClusterImage) {
        if !self.is_of_this_life(image) {
            return;
        }
        for stray in std::mem::take(&mut *self.strays.lock()) {
            if self
                .deps
                .partitions
                .get((stray.topic_id, stray.partition))
                .is_none()
            {
                self.remove_stray(image, &stray);
            }
        }
    }

    fn remove_stray(&self, image: &ClusterImage, meta: &PartitionMeta) {
        let moved_away = image
            .topic_by_id(meta.topic_id)
            .and_then(|topic| partition_of(topic, meta.partition))
            .is_some_and(|partition| !partition.replicas.contains(&self.deps.node));
        let reason = if image.was_deleted(meta.topic_id) {
            "its topic was deleted"
        } else if moved_away {
            "other brokers hold it now"
        } else if has_no_records(&self.deps.engine.dir().join(meta.dir_name())) {
            "its creation was cut off"
        } else if is_on(Mutant::StrayDeleted) {
            "nobody knows it"
        } else {
            warn!(
                topic = %meta.topic, id = %meta.topic_id, partition = %meta.partition,
                "partition on disk belongs to no topic; it is kept and not served"
            );
            return;
        };
        info!(topic = %meta.topic, id = %meta.topic_id, partition = %meta.partition, reason, "leftover directory removed");
        if let Err(error) = self.deps.engine.delete_log(meta) {
            warn!(topic = %meta.topic, partition = %meta.partition, %error, "cannot remove a leftover directory; the next start tries again");
        }
    }

    // ---- settings ----

    /// The settings in force for a topic. What was checked when it was set is not checked again; a
    /// value that this version no longer accepts falls back to the broker's default, loudly.
    pub(crate) fn config_of(&self, topic: &TopicImage) -> TopicConfig {
        match self.deps.settings.in_force(&topic.configs) {
            Ok(config) => config,
            Err(error) => {
                error!(topic = %topic.name, %error, "topic settings are ignored");
                self.deps.settings.broker_defaults().clone()
            }
        }
    }

    fn log_options(&self, topic: &TopicImage) -> LogOptions {
        self.deps.settings.log_options(&self.config_of(topic))
    }
}

fn partition_at(image: &ClusterImage, key: Key) -> Option<&PartitionImage> {
    let topic = image.topic_by_id(key.0)?;
    partition_of(topic, key.1)
}

fn partition_of(topic: &TopicImage, partition: PartitionId) -> Option<&PartitionImage> {
    topic.partitions.get(partition.get() as usize)
}

/// Whether anybody believes that this replica has everything that is committed, or, where nobody leads,
/// may have to take its word for what was.
fn is_counted_on(partition: &PartitionImage, node: NodeId) -> bool {
    partition.leader == Some(node)
        || partition.isr.contains(&node)
        || partition.elr.contains(&node)
        || (partition.leader.is_none() && partition.last_known_elr.contains(&node))
}

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

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
