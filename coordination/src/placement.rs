//! Which brokers hold a new partition.

use highwater_protocol::ids::NodeId;

/// Replicas for `count` new partitions over `brokers`, the preferred leader first.
///
/// Leaders go round robin from `first`, so that topics created one after another do not all start at
/// the same broker; the other replicas are the brokers that follow. Returns `None` when there are
/// fewer brokers than replicas, or no replicas.
#[must_use]
pub fn place(
    brokers: &[NodeId],
    first: usize,
    count: usize,
    replicas: u16,
) -> Option<Vec<Vec<NodeId>>> {
    let replicas = usize::from(replicas);
    if replicas == 0 || replicas > brokers.len() {
        return None;
    }
    let holder = |start: usize| -> Vec<NodeId> {
        (0..replicas)
            .map(|step| brokers[(start + step) % brokers.len()])
            .collect()
    };
    Some(
        (0..count)
            .map(|index| holder(first.wrapping_add(index)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_spread_and_replicas_differ() {
        let brokers: Vec<NodeId> = (1..=3).map(NodeId::new).collect();
        let placed = place(&brokers, 1, 6, 2).unwrap();
        for broker in &brokers {
            assert_eq!(
                placed
                    .iter()
                    .filter(|replicas| replicas[0] == *broker)
                    .count(),
                2
            );
        }
        assert!(placed.iter().all(|replicas| replicas[0] != replicas[1]));
    }

    #[test]
    fn too_few_brokers_is_no_placement() {
        assert_eq!(place(&[NodeId::new(1)], 0, 1, 2), None);
        assert_eq!(place(&[NodeId::new(1)], 0, 1, 0), None);
        assert_eq!(place(&[], 0, 1, 1), None);
    }
}
