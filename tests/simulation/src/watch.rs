//! Looking at the cluster after each step, from outside.

use std::sync::Arc;

use crate::cluster::{Cluster, partitions};
use crate::invariants::Oracle;
use crate::message::Key;
use crate::node::{Hosted, node_id, number_of};

impl Cluster {
    /// Looks at everything that the last step can have changed.
    pub(crate) fn look(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for (node, key) in &touched {
            self.look_at(*node, *key);
        }
        for (node, key) in &touched {
            self.acknowledge(*node, *key);
            self.look_at_members(*key);
            self.look_at_leader(*node, *key);
        }
        touched.clear();
        self.touched = touched;
        self.look_at_standing();
    }

    /// Looks at one replica: what its log and its high watermark are now.
    pub(crate) fn look_at(&mut self, node: usize, key: Key) {
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let isr_min = process
            .image
            .topic_by_id(key.0)
            .map_or(1, |topic| topic.isr_min.into());
        let Some(replica) = process.online(key) else {
            return;
        };
        let restarted = std::mem::take(&mut replica.was_restarted);
        let taken_in = std::mem::take(&mut replica.taken_in);
        if replica.is_offline() {
            // It is not read any more, and what it took in before its disk failed may be found again.
            self.oracle.on_failed(node, key, &taken_in, restarted);
            return;
        }
        let wants_disk = replica.log.durable_end() < replica.log.end();
        let now = replica.high_watermark.get();
        self.oracle.on_log(node, key, &replica.log, restarted);
        self.oracle
            .on_high_watermark(node, key, now, replica.leader(), isr_min);
        if wants_disk {
            self.use_disk(node);
        }
    }

    /// Whether everybody who may lead a partition has everything.
    fn look_at_members(&mut self, key: Key) {
        let image = Arc::clone(self.quorum.image());
        let partition = image
            .topic_by_id(key.0)
            .and_then(|topic| topic.partition(key.1));
        let Some(partition) = partition else { return };
        for member in partition.isr.iter().chain(&partition.elr) {
            let Some(process) = &self.nodes[number_of(*member)].process else {
                continue;
            };
            // Until it is registered, and once it is offline, it does not lead.
            let is_this_life = process.broker_epoch.is_some()
                && process.broker_epoch == Oracle::registration(&image, *member);
            let is_usable = match process.replicas.get(&key) {
                Some(Hosted::Online(replica)) => !replica.is_offline(),
                Some(Hosted::Offline) => false,
                None => true,
            };
            if is_this_life && is_usable {
                self.oracle.check_complete(key, *member);
            }
        }
    }

    fn look_at_leader(&mut self, node: usize, key: Key) {
        let image = Arc::clone(self.quorum.image());
        let partition = image
            .topic_by_id(key.0)
            .and_then(|topic| topic.partition(key.1));
        let Some(partition) = partition.filter(|one| one.leader == Some(node_id(node))) else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process.broker_epoch != Oracle::registration(&image, node_id(node)) {
            return;
        }
        let isr_min = process
            .image
            .topic_by_id(key.0)
            .map_or(1, |topic| topic.isr_min.into());
        if let Some(replica) = process.online(key)
            && let Some(leader) = replica.leader()
        {
            self.oracle.check_superset(leader, partition, isr_min);
        }
    }

    fn look_at_standing(&mut self) {
        let image = Arc::clone(self.quorum.image());
        for node in 0..self.nodes.len() {
            let has_lease = self.has_lease(node);
            let registration = Oracle::registration(&image, node_id(node));
            let is_fenced = image
                .broker(node_id(node))
                .is_some_and(|broker| broker.fenced)
                && self.nodes[node].broker_epoch() == registration;
            self.oracle.check_lease(node, has_lease, is_fenced);
        }
        if self.has_new_metadata {
            self.has_new_metadata = false;
            for (key, ..) in partitions(&image) {
                self.look_at_members(key);
                if let Some(leader) = Self::leader_in(&image, key) {
                    self.look_at_leader(leader, key);
                }
            }
        }
    }
}
