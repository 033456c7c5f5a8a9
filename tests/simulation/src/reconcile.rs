//! What a change of the metadata means on a broker: what `broker/src/reconcile.rs` does, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_coordination::cluster_image::{ClusterImage, PartitionImage, TopicImage};
use highwater_coordination::image_changes::{LocalChange, LocalRole, local_changes};
use highwater_coordination::partition_leader::PartitionView;
use highwater_protocol::ids::{LeaderEpoch, NodeId, PartitionId};
use highwater_storage::{Log, PartitionMeta, StorageError};

use crate::cluster::Cluster;
use crate::message::Key;
use crate::node::{Hosted, Opened, incarnation, node_id, number_of};
use crate::replica::{Lead, Replica};
use crate::schedule::Timer;

impl Cluster {
    /// Takes in the logs that were found at the start.
    pub(crate) fn take_in_opened(&mut self, node: usize, opened: Vec<Opened>) {
        let mut opened: BTreeMap<Key, Opened> = opened
            .into_iter()
            .map(|opened| ((opened.meta.topic_id, opened.meta.partition), opened))
            .collect();
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let image = Arc::clone(&process.image);
        for change in local_changes(&ClusterImage::default(), &image, node_id(node)) {
            let LocalChange::Hold {
                topic, partition, ..
            } = change
            else {
                continue;
            };
            let key = (topic.id, partition);
            let hosted = match opened.remove(&key).map(|opened| opened.log) {
                Some(Some(log)) => self.host(&topic, log),
                Some(None) => Hosted::Offline,
                None => self.host_without_log(node, &image, &topic, partition),
            };
            self.insert(node, key, hosted);
            self.take_role(node, &image, &topic, partition);
        }
        if let Some(process) = &mut self.nodes[node].process {
            process.strays = opened.into_values().map(|stray| stray.meta).collect();
        }
        self.remove_strays(node, &image);
    }

    /// Does everything that the step from one image to the next asks for.
    pub(crate) fn reconcile(&mut self, node: usize, before: &ClusterImage, after: &ClusterImage) {
        let mut gone = Vec::new();
        for change in local_changes(before, after, node_id(node)) {
            match change {
                LocalChange::Reconfigure { topic } => self.reconfigure(node, &topic),
                LocalChange::Hold {
                    topic,
                    partition,
                    is_new,
                } => self.hold(node, after, &topic, partition, is_new),
                LocalChange::Delete { topic, partition }
                | LocalChange::Release { topic, partition } => gone.push((topic, partition)),
            }
        }
        for (topic, partition) in gone {
            self.remove(node, &topic, partition);
        }
        self.remove_strays(node, after);
    }

    fn hold(
        &mut self,
        node: usize,
        image: &ClusterImage,
        topic: &TopicImage,
        partition: PartitionId,
        is_new: bool,
    ) {
        let key = (topic.id, partition);
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        if is_new && !process.replicas.contains_key(&key) {
            let hosted = match process.engine.log(&meta(topic, partition)) {
                Some(log) => self.host(topic, log),
                None => self.host_new(node, topic, partition),
            };
            self.insert(node, key, hosted);
        }
        self.take_role(node, image, topic, partition);
    }

    /// Whether the image is of a time when this life of the broker was registered.
    fn is_of_this_life(&self, node: usize, image: &ClusterImage) -> bool {
        image
            .broker(node_id(node))
            .and_then(|own| own.registration.as_ref())
            .is_some_and(|life| life.incarnation == incarnation(node, self.nodes[node].life))
    }

    fn take_role(
        &mut self,
        node: usize,
        image: &ClusterImage,
        topic: &TopicImage,
        index: PartitionId,
    ) {
        let key = (topic.id, index);
        let is_of_this_life = self.is_of_this_life(node, image);
        let now = self.nodes[node].clock.moment(self.now);
        let lag_ms = self.plan.lag_ms;
        let Some(partition) = topic.partition(index) else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let life = process.life;
        let Some(held) = process.online(key) else {
            return;
        };
        match LocalRole::of(partition, node_id(node)) {
            Some(LocalRole::Lead) if is_of_this_life => {
                let lead = Lead {
                    node: node_id(node),
                    epoch: partition.leader_epoch,
                    view: PartitionView::of(partition, image),
                    isr_min: topic.isr_min.into(),
                    lag_ms,
                };
                let begins = held.become_leader(lead, now);
                self.touched.push((node, key));
                if begins {
                    self.trace.note(
                        self.now,
                        format_args!("{node} leads {} in {}", Name(key), partition.leader_epoch),
                    );
                    self.look_at(node, key);
                    self.oracle.on_leader(node, life, key, partition);
                }
                self.announce_proposal(node, key);
            }
            Some(LocalRole::Follow(leader)) => {
                held.become_follower(leader, partition.leader_epoch, partition.recovering);
                self.touched.push((node, key));
                let leader = number_of(leader);
                // Whatever was asked before, this is asked now as well.
                if let Some(process) = &mut self.nodes[node].process {
                    process.fetching.remove(&leader);
                }
                self.plan_timer(node, 1, Timer::Fetch(leader));
            }
            Some(LocalRole::Lead | LocalRole::Wait) | None => {
                held.become_idle(partition.leader_epoch);
            }
        }
    }

    fn host(&self, topic: &TopicImage, log: Arc<Log>) -> Hosted {
        log.set_options(self.log_options(topic.id));
        Hosted::Online(Replica::open(log))
    }

    fn host_new(&mut self, node: usize, topic: &TopicImage, partition: PartitionId) -> Hosted {
        let options = self.log_options(topic.id);
        let Some(process) = &self.nodes[node].process else {
            return Hosted::Offline;
        };
        match process.engine.create_log(meta(topic, partition), options) {
            Ok(log) => {
                self.oracle.on_opened(node, (topic.id, partition), None);
                self.host(topic, log)
            }
            Err(_) => Hosted::Offline,
        }
    }

    fn host_without_log(
        &mut self,
        node: usize,
        image: &ClusterImage,
        topic: &TopicImage,
        partition: PartitionId,
    ) -> Hosted {
        let counted_on = topic
            .partition(partition)
            .is_none_or(|partition| is_counted_on(partition, node_id(node)));
        if self.is_of_this_life(node, image) && !counted_on {
            return self.host_new(node, topic, partition);
        }
        Hosted::Offline
    }

    fn insert(&mut self, node: usize, key: Key, hosted: Hosted) {
        if let Some(process) = &mut self.nodes[node].process {
            process.replicas.insert(key, hosted);
        }
        self.touched.push((node, key));
    }

    fn reconfigure(&mut self, node: usize, topic: &TopicImage) {
        for (now, index) in topic.partitions.iter().zip(0u32..) {
            let key = (topic.id, PartitionId::new(index));
            if let Some(process) = &mut self.nodes[node].process
                && let Some(replica) = process.online(key)
            {
                replica.on_settings(now.leader_epoch, topic.isr_min.into());
                self.touched.push((node, key));
                self.announce_proposal(node, key);
            }
        }
    }

    /// Lets go of a partition and its data.
    fn remove(&mut self, node: usize, topic: &TopicImage, partition: PartitionId) {
        let key = (topic.id, partition);
        if let Some(process) = &mut self.nodes[node].process {
            process.replicas.remove(&key);
            // What cannot be removed now is at the next start.
            let _ = process.engine.delete_log(&meta(topic, partition));
        }
        self.oracle.on_removed(node, key);
        self.use_disk(node);
    }

    /// Removes directories of partitions that this broker does not hold, where nothing can be lost by
    /// that.
    fn remove_strays(&mut self, node: usize, image: &ClusterImage) {
        if !self.is_of_this_life(node, image) {
            return;
        }
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        for stray in std::mem::take(&mut process.strays) {
            let key = (stray.topic_id, stray.partition);
            let moved_away = image
                .topic_by_id(key.0)
                .and_then(|topic| topic.partition(key.1))
                .is_some_and(|partition| !partition.replicas.contains(&node_id(node)));
            if !process.replicas.contains_key(&key) && moved_away {
                let _ = process.engine.delete_log(&stray);
                self.oracle.on_removed(node, key);
            }
        }
    }

    /// Begins anew with replicas that are offline here and that nobody counts on, as soon as nothing
    /// that their old logs told is believed any more.
    pub(crate) fn rebuild_all(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let image = Arc::clone(&process.image);
        let before = std::mem::take(&mut process.unused);
        for key in process.offline() {
            let partition = image
                .topic_by_id(key.0)
                .and_then(|topic| topic.partition(key.1));
            let now = partition.map(|partition| partition.leader_epoch);
            let told = before.get(&key).copied().or(now);
            process.unused.extend(told.map(|told| (key, told)));
        }
        let unused = process.unused.clone();
        if !self.is_of_this_life(node, &image) {
            return;
        }
        for (key, told) in unused {
            if may_be_rebuilt(&image, key, told, node_id(node)) {
                self.rebuild(node, &image, key);
            }
        }
    }

    fn rebuild(&mut self, node: usize, image: &ClusterImage, key: Key) {
        let Some(topic) = image.topic_by_id(key.0) else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        process.replicas.remove(&key);
        match process.engine.set_aside_log(&meta(topic, key.1)) {
            Ok(_) | Err(StorageError::NotFound { .. }) => {}
            Err(_) => {
                self.insert(node, key, Hosted::Offline);
                return;
            }
        }
        self.trace
            .note(self.now, format_args!("{node} fills {} anew", Name(key)));
        self.oracle.on_removed(node, key);
        let hosted = self.host_new(node, topic, key.1);
        if let Some(process) = &mut self.nodes[node].process
            && matches!(hosted, Hosted::Online(_))
        {
            process.unused.remove(&key);
        }
        self.insert(node, key, hosted);
        self.take_role(node, image, topic, key.1);
    }
}

/// Whether nobody counts on this replica, and what its log told in the epoch `told` or before is not
/// believed any more.
fn may_be_rebuilt(image: &ClusterImage, key: Key, told: LeaderEpoch, node: NodeId) -> bool {
    let partition = image
        .topic_by_id(key.0)
        .and_then(|topic| topic.partition(key.1));
    partition.is_some_and(|partition| {
        let role = LocalRole::of(partition, node);
        matches!(role, Some(LocalRole::Follow(_)))
            && !is_counted_on(partition, node)
            && partition.leader_epoch > told
    })
}

fn is_counted_on(partition: &PartitionImage, node: NodeId) -> bool {
    partition.leader == Some(node)
        || partition.isr.contains(&node)
        || partition.elr.contains(&node)
        || (partition.leader.is_none() && partition.last_known_elr.contains(&node))
}

fn meta(topic: &TopicImage, partition: PartitionId) -> PartitionMeta {
    PartitionMeta {
        topic_id: topic.id,
        topic: topic.name.clone(),
        partition,
    }
}

/// A partition in the trace.
pub(crate) struct Name(pub(crate) Key);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.0.into_bytes()[0], self.0.1)
    }
}
