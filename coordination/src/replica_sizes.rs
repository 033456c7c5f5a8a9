//! How large replicas are, as far as the controller can tell.

use std::collections::BTreeMap;

use highwater_protocol::ids::NodeId;

use crate::cluster_image::{ClusterImage, PartitionImage};
use crate::node_loads::NodeLoads;

/// Sizes are estimates: a partition counts as an average replica of its leader.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaSizes {
    average: BTreeMap<NodeId, u64>,
}

impl ReplicaSizes {
    pub(crate) fn of(image: &ClusterImage, loads: &NodeLoads) -> Self {
        let mut replicas: BTreeMap<NodeId, u64> = BTreeMap::new();
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            for node in &partition.replicas {
                *replicas.entry(*node).or_default() += 1;
            }
        }
        let average = replicas
            .into_iter()
            .filter_map(|(node, count)| Some((node, loads.get(&node)?.log_bytes / count.max(1))))
            .collect();
        Self { average }
    }

    /// Bytes of a replica of the partition.
    pub(crate) fn of_partition(&self, partition: &PartitionImage) -> u64 {
        partition
            .leader
            .and_then(|leader| self.average.get(&leader))
            .copied()
            .unwrap_or(0)
    }

    /// Bytes that moves under way bring to nodes. What of it is there already counts once more: better
    /// too little on a disk than too much.
    pub(crate) fn coming(&self, image: &ClusterImage) -> BTreeMap<NodeId, u64> {
        let mut coming = BTreeMap::new();
        for partition in image.topics().flat_map(|topic| &topic.partitions) {
            for node in &partition.adding {
                if !partition.isr.contains(node) {
                    *coming.entry(*node).or_default() += self.of_partition(partition);
                }
            }
        }
        coming
    }
}
