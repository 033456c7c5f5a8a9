//! Who belongs to the cluster: its creation, joining, draining and removing nodes.

use highwater_protocol::ids::{ClusterId, NodeId};
use highwater_protocol::messages::{
    DrainNodeRequest, DrainNodeResponse, JoinClusterRequest, JoinClusterResponse,
    RemoveNodeRequest, RemoveNodeResponse,
};
use highwater_protocol::metadata_record::MetadataRecord;

use crate::cluster_image::{ClusterImage, PartitionImage};
use crate::partition_change::{PartitionChange, Standings};

use super::moves::replicas_without_move;
use super::{ControllerError, Decision, changes_of};

/// Decides about a new cluster of one node; the reply is the same as for joining. The id is drawn by
/// the caller.
///
/// # Errors
/// [`ControllerError::ClusterExists`], or what is wrong with the node.
pub fn create_cluster(
    image: &ClusterImage,
    cluster_id: ClusterId,
    first: &JoinClusterRequest,
) -> Result<Decision<JoinClusterResponse>, ControllerError> {
    if image.cluster_id().is_some() {
        return Err(ControllerError::ClusterExists);
    }
    let mut joined = joined(image, cluster_id, first)?;
    joined
        .records
        .insert(0, MetadataRecord::ClusterCreated { cluster_id });
    Ok(joined)
}

/// Decides about a node that wants to join. The same directory gets the same id again, so that a retry
/// succeeds.
///
/// # Errors
/// [`ControllerError::NoCluster`]; the wanted id is taken, was removed, or is not the directory's own.
pub fn join_cluster(
    image: &ClusterImage,
    request: &JoinClusterRequest,
) -> Result<Decision<JoinClusterResponse>, ControllerError> {
    let cluster_id = image.cluster_id().ok_or(ControllerError::NoCluster)?;
    joined(image, cluster_id, request)
}

fn joined(
    image: &ClusterImage,
    cluster_id: ClusterId,
    request: &JoinClusterRequest,
) -> Result<Decision<JoinClusterResponse>, ControllerError> {
    let directory = request.directory;
    let known = image
        .brokers()
        .find(|(_, broker)| broker.directory == directory)
        .map(|(id, _)| id);
    if let Some(node_id) = known {
        return match request.node_id {
            Some(wanted) if wanted != node_id => Err(ControllerError::DirectoryHasId {
                directory,
                node_id,
                wanted,
            }),
            _ => Ok(Decision::nothing(JoinClusterResponse {
                cluster_id,
                node_id,
            })),
        };
    }
    let node_id = request.node_id.unwrap_or_else(|| image.node_id_next());
    if image.was_removed(node_id) {
        return Err(ControllerError::NodeWasRemoved { node_id });
    }
    if let Some(other) = image.broker(node_id) {
        return Err(ControllerError::NodeIdTaken {
            node_id,
            directory: other.directory,
        });
    }
    let joined = MetadataRecord::NodeJoined {
        node_id,
        directory,
        host: request.host.clone(),
        port: request.port,
    };
    Ok(Decision {
        records: vec![joined],
        reply: JoinClusterResponse {
            cluster_id,
            node_id,
        },
    })
}

/// Replicas that a node holds, those included that it is about to get or to lose.
#[must_use]
pub fn replicas_on(image: &ClusterImage, node: NodeId) -> u32 {
    let held = image
        .topics()
        .flat_map(|topic| &topic.partitions)
        .filter(|partition| partition.replicas.contains(&node))
        .count();
    u32::try_from(held).unwrap_or(u32::MAX)
}

/// Decides about draining a node, or ending that: only the mark. New replicas stay away from a node
/// with the mark, and what it has is moved off one by one.
///
/// # Errors
/// [`ControllerError::UnknownNode`].
pub fn drain_node(
    image: &ClusterImage,
    request: &DrainNodeRequest,
) -> Result<Decision<DrainNodeResponse>, ControllerError> {
    let node_id = request.node_id;
    let broker = image
        .broker(node_id)
        .ok_or(ControllerError::UnknownNode { node_id })?;
    let reply = DrainNodeResponse {
        replicas_left: replicas_on(image, node_id),
    };
    if broker.draining == request.drain {
        return Ok(Decision::nothing(reply));
    }
    let changed = broker.changed(node_id, |flags| flags.draining = request.drain);
    Ok(Decision {
        records: vec![changed],
        reply,
    })
}

/// Decides about removing a node. `is_alive`: it has a session; a node that is unfenced counts as
/// running as well.
///
/// By force it loses its replicas: it leaves the replica lists of all partitions that others hold,
/// and a move in which it was to take part is given up. Where it is the only replica it stays listed;
/// such a partition is lost and can only be deleted. A node that is removed from the metadata quorum
/// is removed from there by the caller.
///
/// # Errors
/// [`ControllerError`] when it is unknown, still runs, or holds replicas and there is no `force`.
pub fn remove_node(
    image: &ClusterImage,
    request: &RemoveNodeRequest,
    is_alive: bool,
) -> Result<Decision<RemoveNodeResponse>, ControllerError> {
    let node_id = request.node_id;
    if image.was_removed(node_id) {
        return Ok(Decision::nothing(RemoveNodeResponse { replicas_lost: 0 }));
    }
    let broker = image
        .broker(node_id)
        .ok_or(ControllerError::UnknownNode { node_id })?;
    if is_alive || !broker.fenced {
        return Err(ControllerError::NodeRuns { node_id });
    }
    let replicas = replicas_on(image, node_id);
    if replicas > 0 && !request.force {
        return Err(ControllerError::NodeHoldsReplicas { node_id, replicas });
    }
    let standings = Standings::of(image).without(node_id);
    let mut records = changes_of(image, |topic, _, partition| {
        without_replica(partition, topic.isr_min, &standings, node_id)
    });
    records.push(MetadataRecord::NodeRemoved { node_id });
    Ok(Decision {
        records,
        reply: RemoveNodeResponse {
            replicas_lost: replicas,
        },
    })
}

fn without_replica(
    partition: &PartitionImage,
    isr_min: u16,
    standings: &Standings,
    node: NodeId,
) -> Option<PartitionImage> {
    let others = |list: &[NodeId]| -> Vec<NodeId> {
        list.iter().copied().filter(|id| *id != node).collect()
    };
    if !partition.replicas.contains(&node) || others(&partition.replicas).is_empty() {
        return None;
    }
    let (replicas, adding, removing) = if partition.removing.contains(&node) {
        // It was to go anyway: the move goes on.
        (
            others(&partition.replicas),
            partition.adding.clone(),
            others(&partition.removing),
        )
    } else if let Some(stay) = replicas_without_move(partition, isr_min) {
        // Ending in fewer replicas than were wanted is worse than beginning anew.
        let stay = others(&stay);
        if stay.is_empty() {
            (
                others(&partition.replicas),
                others(&partition.adding),
                partition.removing.clone(),
            )
        } else {
            (stay, Vec::new(), Vec::new())
        }
    } else {
        (others(&partition.replicas), Vec::new(), Vec::new())
    };
    PartitionChange::new(partition, isr_min, standings)
        .replicas(replicas, adding, removing)
        .build()
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
