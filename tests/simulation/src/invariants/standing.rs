//! Brokers, leaders and the metadata.
//!
//! - R4: one life of one broker leads in a leader epoch; leader epochs and partition epochs never go back.
//! - R15: a broker that the metadata has fenced holds no lease.
//! - R16: a broker never goes back in the metadata (asserted where it applies it).
//! - Q3: every entry can be applied; Q4: a registration has a higher broker epoch than any before, and
//!   fences.

use std::collections::BTreeMap;

use highwater_coordination::cluster_image::{BrokerImage, ClusterImage};
use highwater_protocol::ids::TopicId;
use highwater_storage::Durability;

use super::Oracle;
use crate::message::Key;

impl Oracle {
    pub(super) fn note_leader(&mut self, node: usize, life: u64, key: Key, epoch: u32, end: u64) {
        let truth = self.truth(key);
        truth.epoch_starts.entry(epoch).or_insert(end);
        let known = *truth.leaders.entry(epoch).or_insert((node, life));
        if known != (node, life) {
            self.broken(
                "R4",
                format!(
                    "life {life} of broker {node} leads in epoch {epoch}, life {} of broker {} did",
                    known.1, known.0
                ),
            );
        }
    }

    /// The machine of a broker lost its power; `life` was running.
    pub(crate) fn on_power_loss(&mut self, node: usize, life: u64) {
        self.power_losses.entry(node).or_default().push(life);
    }

    /// The power went in the middle of a step.
    pub(crate) fn on_cut_off(&mut self, node: usize) {
        self.unsure.insert(node);
    }

    /// A broker has opened all of its logs.
    pub(crate) fn on_all_opened(&mut self, node: usize) {
        self.unsure.remove(&node);
    }

    /// An entry of the metadata log.
    pub(crate) fn on_committed(
        &mut self,
        before: &ClusterImage,
        after: &ClusterImage,
        durability: &BTreeMap<TopicId, Durability>,
    ) {
        for (key, topic, index) in crate::cluster::partitions(after) {
            if let Some(durability) = durability.get(&key.0) {
                self.durability.insert(key, *durability);
            }
            let now = &topic.partitions[index];
            let was = before
                .topic_by_id(key.0)
                .and_then(|topic| topic.partition(key.1));
            let goes_back = was.is_some_and(|was| {
                was.leader_epoch > now.leader_epoch
                    || (was != now && was.partition_epoch >= now.partition_epoch)
            });
            if goes_back {
                self.broken("R4", format!("{was:?} becomes {now:?}"));
            }
        }
        let highest = before
            .brokers()
            .filter_map(|(_, broker)| broker.epoch())
            .max();
        for (node, broker) in after.brokers() {
            let was = before.broker(node).and_then(BrokerImage::epoch);
            if broker.epoch() == was {
                continue;
            }
            if broker.epoch() <= highest || !broker.fenced {
                self.broken(
                    "Q4",
                    format!("{node} is registered as {broker:?}, {highest:?} was there"),
                );
            }
            if let Some(registration) = &broker.registration {
                let bytes = registration.incarnation.into_bytes();
                let life = u128::from_be_bytes(bytes) as u64;
                self.check_registered(after, node, life);
            }
        }
        self.check_members(before, after);
    }

    /// A broker with a lease, or without.
    pub(crate) fn check_lease(&mut self, node: usize, has_lease: bool, is_fenced: bool) {
        if has_lease && is_fenced {
            self.broken("R15", format!("broker {node} is fenced and has a lease"));
        }
    }
}
