//! How many nodes may be lost before it is no loss but an outage, which moving data would make worse.

use std::collections::{BTreeMap, BTreeSet};

use highwater_protocol::ids::NodeId;

use crate::cluster_image::ClusterImage;

/// Why the loss of these nodes is rather an outage, if it is.
///
/// Where every node names its rack and there are several racks, one node of each rack may be lost, and
/// fewer than half of all; elsewhere a third of the nodes, and one in any case.
pub(crate) fn outage(image: &ClusterImage, lost: &BTreeSet<NodeId>) -> Option<String> {
    let mut nodes = 0;
    let mut racks: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for (id, broker) in image.brokers() {
        if broker.registration.is_none() {
            continue;
        }
        nodes += 1;
        *racks.entry(broker.rack()).or_default() += usize::from(lost.contains(&id));
    }
    if lost.len() <= 1 {
        return None;
    }
    if racks.len() > 1 && !racks.contains_key(&None) {
        let worst = racks.iter().max_by_key(|(_, count)| **count);
        if let Some((Some(rack), count)) = worst
            && *count > 1
        {
            return Some(format!(
                "{count} nodes of rack {rack} are gone: an outage, not a loss; nothing is rebuilt"
            ));
        }
        if lost.len() * 2 < nodes {
            return None;
        }
    } else if lost.len() <= nodes / 3 {
        return None;
    }
    Some(format!(
        "{} of {nodes} nodes are gone: an outage, not a loss; nothing is rebuilt",
        lost.len()
    ))
}
