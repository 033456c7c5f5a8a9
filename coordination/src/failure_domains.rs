//! Which nodes fail together.

use std::collections::BTreeMap;

use highwater_protocol::ids::NodeId;

use crate::cluster_image::ClusterImage;

/// The nodes of a rack are one failure domain; a node that names no rack is one by itself.
#[derive(Debug, Clone)]
pub(crate) struct FailureDomains {
    of: BTreeMap<NodeId, usize>,
    count: usize,
}

impl FailureDomains {
    pub(crate) fn of(image: &ClusterImage) -> Self {
        let mut racks: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of = BTreeMap::new();
        let mut count = 0;
        for (id, broker) in image.brokers() {
            let domain = match broker.rack() {
                Some(rack) => *racks.entry(rack).or_insert(count),
                None => count,
            };
            count = count.max(domain + 1);
            of.insert(id, domain);
        }
        Self { of, count }
    }

    /// How many there are: domains are numbered from 0.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The node's domain; `None` when the cluster does not have the node.
    pub(crate) fn domain(&self, node: NodeId) -> Option<usize> {
        self.of.get(&node).copied()
    }

    /// How many of `nodes` are in the domain.
    pub(crate) fn inside(&self, domain: usize, nodes: &[NodeId]) -> usize {
        nodes
            .iter()
            .filter(|node| self.domain(**node) == Some(domain))
            .count()
    }
}
