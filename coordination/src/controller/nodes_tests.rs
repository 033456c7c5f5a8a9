use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{ClusterId, PartitionId};
use highwater_protocol::messages::{
    DrainNodeRequest, JoinClusterRequest, RemoveNodeRequest, SessionEnd,
};

use super::super::test_cluster::{TestCluster, directory, join, node, nodes};
use super::super::*;

fn remove(id: u32, force: bool) -> RemoveNodeRequest {
    RemoveNodeRequest {
        node_id: node(id),
        force,
    }
}

#[test]
fn a_cluster_is_created_once_and_joined_by_its_first_node() {
    let empty = ClusterImage::default();
    let id = ClusterId::from_bytes([1; 16]);
    let nobody = join_cluster(&empty, &join(1, None)).unwrap_err();
    assert_eq!(nobody.code(), ErrorCode::Busy);
    let created = create_cluster(&empty, id, &join(1, None)).unwrap();
    assert_eq!(created.reply.node_id, node(1));
    let mut image = empty;
    for record in &created.records {
        image.apply(record).unwrap();
    }
    assert_eq!(image.cluster_id(), Some(id));
    assert_eq!(image.broker(node(1)).unwrap().directory, directory(1));
    let again = create_cluster(&image, id, &join(2, None)).unwrap_err();
    assert_eq!(again, ControllerError::ClusterExists);
}

#[test]
fn a_directory_keeps_its_id_and_an_id_its_directory() {
    let mut cluster = TestCluster::of(2);
    let joined = cluster.apply(join_cluster(&cluster.image, &join(5, None)));
    assert_eq!(joined.node_id, node(3));
    let again = join_cluster(&cluster.image, &join(5, Some(3))).unwrap();
    assert_eq!((again.reply.node_id, again.records.len()), (node(3), 0));

    let refusal = |wanted: JoinClusterRequest| {
        let error = join_cluster(&cluster.image, &wanted).unwrap_err();
        assert_eq!(error.code(), ErrorCode::NodeRefused);
        error.to_string()
    };
    assert!(refusal(join(5, Some(4))).contains("set node.id to 3"));
    assert!(refusal(join(6, Some(2))).contains("another node.id"));
    cluster.fence(2);
    cluster.apply(remove_node(&cluster.image, &remove(2, false), false));
    let error = join_cluster(&cluster.image, &join(6, Some(2))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NodeRefused);
    assert!(error.to_string().contains("never given out again"));

    cluster.apply(join_cluster(&cluster.image, &join(7, Some(u32::MAX))));
    let joined = cluster.apply(join_cluster(&cluster.image, &join(8, None)));
    assert_eq!(joined.node_id, node(4), "1 to 3 are or were in use");
}

#[test]
fn a_drain_is_a_mark_and_tells_what_is_left() {
    let mut cluster = TestCluster::of(2);
    cluster.topic("a", &[1, 2], 1);
    cluster.topic("b", &[2], 1);
    let drain = |id, drain| DrainNodeRequest {
        node_id: node(id),
        drain,
    };
    let reply = cluster.apply(drain_node(&cluster.image, &drain(2, true)));
    assert_eq!(reply.replicas_left, 2);
    assert!(cluster.image.broker(node(2)).unwrap().draining);
    assert!(cluster.image.broker(node(2)).unwrap().is_active());
    let again = drain_node(&cluster.image, &drain(2, true)).unwrap();
    assert!(again.records.is_empty());
    // A new life is drained as well.
    cluster.register(2, SessionEnd::Clean, &[]);
    assert!(cluster.image.broker(node(2)).unwrap().draining);
    cluster.apply(drain_node(&cluster.image, &drain(2, false)));
    assert!(!cluster.image.broker(node(2)).unwrap().draining);
    let unknown = drain_node(&cluster.image, &drain(9, true)).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::UnknownNode);
}

#[test]
fn a_node_is_removed_only_when_it_is_gone_and_empty() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[1, 2], 1);
    let refused = |cluster: &TestCluster, request, is_alive| {
        let error = remove_node(&cluster.image, &request, is_alive).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PreconditionFailed);
        error.to_string()
    };
    assert!(refused(&cluster, remove(3, true), false).contains("stop it first"));
    cluster.fence(3);
    assert!(refused(&cluster, remove(3, true), true).contains("stop it first"));
    cluster.fence(2);
    assert!(refused(&cluster, remove(2, false), false).contains("drain it first"));
    let unknown = remove_node(&cluster.image, &remove(9, true), false).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::UnknownNode);

    let reply = cluster.apply(remove_node(&cluster.image, &remove(3, false), false));
    assert_eq!(reply.replicas_lost, 0);
    assert!(cluster.image.broker(node(3)).is_none());
    let again = remove_node(&cluster.image, &remove(3, false), false).unwrap();
    assert!(again.records.is_empty(), "a retry succeeds");
}

#[test]
fn by_force_it_loses_its_replicas_where_others_hold_them() {
    let mut cluster = TestCluster::of(3);
    cluster.topic("a", &[3, 1, 2], 2);
    cluster.topic("b", &[3], 1);
    cluster.topic("c", &[3, 1], 2);
    cluster.fence(3);
    assert_eq!(cluster.partition("c").elr, nodes(&[3]));
    let before = cluster.partition("a").leader_epoch;
    let reply = cluster.apply(remove_node(&cluster.image, &remove(3, true), false));
    assert_eq!(reply.replicas_lost, 3);
    let a = cluster.partition("a");
    assert_eq!((&a.replicas, &a.isr), (&nodes(&[1, 2]), &nodes(&[1, 2])));
    assert!(a.leader_epoch > before);
    assert_eq!(a.leader, Some(node(1)));
    let b = cluster.partition("b");
    assert_eq!((&b.replicas, b.leader), (&nodes(&[3]), None));
    let c = cluster.partition("c");
    assert_eq!((&c.replicas, &c.isr), (&nodes(&[1]), &nodes(&[1])));
    assert!(c.elr.is_empty() && c.last_known_elr.is_empty());
}

#[test]
fn a_removed_node_ends_the_moves_that_it_was_to_be_part_of() {
    let mut cluster = TestCluster::of(4);
    let zero = PartitionId::ZERO;
    let id = cluster.topic("joins", &[1, 2], 1);
    cluster.apply(set_replicas(&cluster.image, id, zero, &nodes(&[4, 2])));
    let id = cluster.topic("stays", &[1, 4], 1);
    cluster.apply(set_replicas(&cluster.image, id, zero, &nodes(&[3, 4])));
    let id = cluster.topic("leaves", &[1, 4], 1);
    cluster.apply(set_replicas(&cluster.image, id, zero, &nodes(&[1, 3])));
    let id = cluster.topic("alone", &[4], 1);
    cluster.apply(set_replicas(&cluster.image, id, zero, &nodes(&[4, 3])));
    let id = cluster.topic("needed", &[1, 2], 2);
    cluster.apply(set_replicas(&cluster.image, id, zero, &nodes(&[2, 3, 4])));
    cluster.alter("needed", &[1, 3]);
    cluster.fence(1);
    cluster.fence(4);
    cluster.apply(remove_node(&cluster.image, &remove(4, true), false));

    let of = |topic: &str| {
        let partition = cluster.partition(topic);
        (partition.replicas.clone(), partition.adding.clone())
    };
    assert_eq!(of("joins"), (nodes(&[2, 1]), vec![]));
    assert_eq!(of("stays"), (nodes(&[1]), vec![]));
    assert_eq!(of("leaves"), (nodes(&[1, 3]), nodes(&[3])));
    assert!(cluster.partition("leaves").removing.is_empty());
    assert_eq!(of("alone"), (nodes(&[3]), nodes(&[3])));
    // 3 is one of two that have everything: it is kept, and nothing is taken away.
    assert_eq!(of("needed"), (nodes(&[2, 3, 1]), vec![]));
    assert!(cluster.partition("needed").removing.is_empty());
    assert_eq!(cluster.partition("needed").leader, Some(node(3)));
}
