//! The frames of the administration of a cluster, and of what brokers send each other.

use bytes::Bytes;
use highwater_protocol::codec::{ApiVersion, Decoder, Encoder, Wire};
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, DirectoryId, IncarnationId, LeaderEpoch, NodeId, Offset, PartitionId,
    ProducerEpoch, ProducerId,
};
use highwater_protocol::messages::*;
use highwater_protocol::metadata_record::MetadataRecord;

use super::messages::{check, cluster_id, message, text, topic_id, topic_result};

const V1: ApiVersion = ApiVersion(1);

fn directory() -> DirectoryId {
    "d1d1d1d1-d2d2-d3d3-d4d4-d5d5d5d5d5d5".parse().unwrap()
}

fn incarnation() -> IncarnationId {
    "a1a1a1a1-a2a2-a3a3-a4a4-a5a5a5a5a5a5".parse().unwrap()
}

fn node(id: u32) -> NodeId {
    NodeId::new(id)
}

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId::new).collect()
}

fn endpoint(id: u32, rack: Option<String>) -> BrokerEndpoint {
    BrokerEndpoint {
        node_id: node(id),
        host: format!("10.0.0.{id}"),
        port: 7171,
        rack,
    }
}

fn partitions(partitions: &[u32]) -> Vec<PartitionsOfTopic> {
    vec![PartitionsOfTopic {
        topic_id: topic_id(),
        partitions: partitions.iter().copied().map(PartitionId::new).collect(),
    }]
}

#[test]
fn describe_cluster() {
    let request = DescribeClusterRequest {
        include_fenced: true,
    };
    let response = DescribeClusterResponse {
        cluster_id: cluster_id(),
        controller: None,
        brokers: vec![
            BrokerDescription {
                endpoint: endpoint(1, None),
                version: text("0.1.0"),
                fenced: false,
                draining: true,
                shutting_down: false,
                voter: true,
                broker_epoch: BrokerEpoch::new(17),
                silent_ms: Some(250),
                replicas: 12,
                leaders: 11,
                log_bytes: 123_456_789,
                disk_free: Some(5_000_000_000),
                disk_total: Some(8_000_000_000),
            },
            BrokerDescription {
                endpoint: endpoint(2, message("b")),
                version: text("0.1.0"),
                fenced: true,
                draining: false,
                shutting_down: true,
                voter: false,
                broker_epoch: BrokerEpoch::new(9),
                silent_ms: None,
                replicas: 3,
                leaders: 0,
                log_bytes: 0,
                disk_free: None,
                disk_total: None,
            },
        ],
        topics: 2,
        partitions: 12,
    };
    check(51, &request, &response);
}

#[test]
fn init_producer_id() {
    let request = InitProducerIdRequest { reserved: false };
    let response = InitProducerIdResponse {
        producer_id: ProducerId::new(4000),
        producer_epoch: ProducerEpoch::new(0),
    };
    check(60, &request, &response);
}

#[test]
fn discover() {
    let request = DiscoverRequest {
        incarnation: incarnation(),
    };
    let response = DiscoverResponse {
        incarnation: "b1b1b1b1-b2b2-b3b3-b4b4-b5b5b5b5b5b5".parse().unwrap(),
        directory: directory(),
        cluster_id: Some(cluster_id()),
        node_id: Some(node(2)),
        controller: Some(endpoint(1, None)),
    };
    check(61, &request, &response);
}

#[test]
fn join_cluster() {
    let request = JoinClusterRequest {
        directory: directory(),
        node_id: None,
        host: text("10.0.0.3"),
        port: 7171,
    };
    let response = JoinClusterResponse {
        cluster_id: cluster_id(),
        node_id: node(3),
    };
    check(62, &request, &response);
}

#[test]
fn register_broker() {
    let request = RegisterBrokerRequest {
        node_id: node(3),
        directory: directory(),
        incarnation: incarnation(),
        host: text("10.0.0.3"),
        port: 7171,
        rack: message("b"),
        version: text("0.1.0"),
        session_end: SessionEnd::ProcessCrash,
        last_broker_epoch: Some(BrokerEpoch::new(17)),
        damaged: partitions(&[0, 5]),
    };
    let response = RegisterBrokerResponse {
        broker_epoch: BrokerEpoch::new(230),
        metadata_index: 231,
    };
    check(63, &request, &response);
}

#[test]
fn broker_heartbeat() {
    let request = BrokerHeartbeatRequest {
        node_id: node(3),
        broker_epoch: BrokerEpoch::new(230),
        metadata_index: 240,
        wants_fence: false,
        wants_shutdown: true,
        offline: partitions(&[5]),
        to_rebuild: vec![ReplicaToRebuild {
            topic_id: topic_id(),
            partition: PartitionId::new(5),
            leader_epoch: LeaderEpoch::new(9),
        }],
        log_bytes: 123_456_789,
        disk_free: 5_000_000_000,
        disk_total: 8_000_000_000,
    };
    let response = BrokerHeartbeatResponse {
        fenced: false,
        may_shut_down: true,
        session_timeout_ms: 6000,
        metadata_index: 77,
    };
    check(64, &request, &response);
}

#[test]
fn alter_partition() {
    let member = |id, epoch| IsrMember {
        node_id: node(id),
        broker_epoch: BrokerEpoch::new(epoch),
    };
    let request = AlterPartitionRequest {
        node_id: node(1),
        broker_epoch: BrokerEpoch::new(17),
        topics: vec![AlterPartitionTopic {
            topic_id: topic_id(),
            partitions: vec![IsrProposal {
                partition: PartitionId::new(0),
                leader_epoch: LeaderEpoch::new(4),
                partition_epoch: 9,
                isr: vec![member(1, 17), member(3, 230)],
                recovered: false,
            }],
        }],
    };
    let response = AlterPartitionResponse {
        topics: vec![AlterPartitionTopicResult {
            topic_id: topic_id(),
            partitions: vec![
                IsrDecision {
                    partition: PartitionId::new(0),
                    error: ErrorCode::None,
                    leader: Some(node(1)),
                    leader_epoch: LeaderEpoch::new(4),
                    partition_epoch: 10,
                    isr: nodes(&[1, 3]),
                },
                IsrDecision {
                    partition: PartitionId::new(1),
                    error: ErrorCode::StalePartitionEpoch,
                    leader: None,
                    leader_epoch: LeaderEpoch::new(7),
                    partition_epoch: 31,
                    isr: vec![],
                },
            ],
        }],
    };
    check(65, &request, &response);
}

#[test]
fn allocate_producer_ids() {
    let request = AllocateProducerIdsRequest {
        node_id: node(3),
        broker_epoch: BrokerEpoch::new(230),
    };
    let response = AllocateProducerIdsResponse {
        first: ProducerId::new(4000),
        count: 1000,
    };
    check(66, &request, &response);
}

fn log_id(term: u64, leader: u32, index: u64) -> RaftLogId {
    RaftLogId {
        term,
        node: node(leader),
        index,
    }
}

fn ballot(term: u64, of: u32, committed: bool) -> RaftBallot {
    RaftBallot {
        term,
        node: node(of),
        committed,
    }
}

fn raft_node(id: u32) -> RaftNode {
    RaftNode {
        node_id: node(id),
        host: format!("10.0.0.{id}"),
        port: 7171,
    }
}

fn body(value: &impl Wire) -> Bytes {
    let mut out = Encoder::new();
    value.encode(&mut out, V1);
    out.into_bytes()
}

#[test]
fn raft_append() {
    let records = RaftRecords {
        decided_in: 5,
        records: vec![
            MetadataRecord::ClusterCreated {
                cluster_id: cluster_id(),
            }
            .encode(),
            MetadataRecord::NodeRemoved { node_id: node(9) }.encode(),
        ],
    };
    let voters = |ids| RaftVoters { voters: nodes(ids) };
    let membership = RaftMembership {
        configs: vec![voters(&[1, 2]), voters(&[1, 2, 3])],
        nodes: vec![raft_node(1), raft_node(4)],
    };
    let entry = |index, kind, body| RaftEntry {
        id: log_id(5, 1, index),
        kind,
        body,
    };
    let request = RaftAppendRequest {
        target: node(2),
        ballot: ballot(5, 1, true),
        previous: Some(log_id(4, 3, 99)),
        entries: vec![
            entry(100, RaftEntryKind::Blank, Bytes::new()),
            entry(101, RaftEntryKind::Records, body(&records)),
            entry(102, RaftEntryKind::Membership, body(&membership)),
        ],
        commit: Some(log_id(5, 1, 100)),
    };
    let response = RaftAppendResponse {
        outcome: RaftAppendOutcome::Partial,
        matched: Some(log_id(5, 1, 100)),
        ballot: None,
    };
    check(67, &request, &response);
    let mut input = Decoder::new(request.entries[2].body.clone());
    assert_eq!(RaftMembership::decode(&mut input, V1), Ok(membership));
}

#[test]
fn raft_vote() {
    let request = RaftVoteRequest {
        target: node(3),
        ballot: ballot(6, 2, false),
        last: Some(log_id(5, 1, 102)),
    };
    let response = RaftVoteResponse {
        ballot: ballot(6, 2, false),
        granted: true,
        last: None,
    };
    check(68, &request, &response);
}

#[test]
fn raft_snapshot() {
    let request = RaftSnapshotRequest {
        target: node(4),
        ballot: ballot(5, 1, true),
        snapshot_id: text("5-1-90"),
        last: Some(log_id(4, 3, 90)),
        membership_id: None,
        membership: RaftMembership {
            configs: vec![RaftVoters {
                voters: nodes(&[1]),
            }],
            nodes: vec![],
        },
        offset: 4096,
        data: Bytes::from_static(&[1, 2, 3]),
        done: true,
    };
    let response = RaftSnapshotResponse {
        ballot: ballot(5, 1, true),
    };
    check(69, &request, &response);
}

#[test]
fn raft_probe() {
    let request = RaftProbeRequest {
        target: node(1),
        from: node(2),
    };
    let response = RaftProbeResponse {
        term: 5,
        leader: Some(node(3)),
    };
    check(70, &request, &response);
}

#[test]
fn replica_logs() {
    let request = ReplicaLogsRequest {
        topics: partitions(&[0, 1]),
    };
    let response = ReplicaLogsResponse {
        broker_epoch: BrokerEpoch::new(230),
        logs: vec![
            ReplicaLog {
                topic_id: topic_id(),
                partition: PartitionId::new(0),
                error: ErrorCode::None,
                last_epoch: Some(LeaderEpoch::new(4)),
                end: Offset::new(5000),
                high_watermark: Offset::new(4990),
            },
            ReplicaLog {
                topic_id: topic_id(),
                partition: PartitionId::new(1),
                error: ErrorCode::PartitionOffline,
                last_epoch: None,
                end: Offset::ZERO,
                high_watermark: Offset::ZERO,
            },
        ],
    };
    check(71, &request, &response);
}

#[test]
fn describe_quorum() {
    let member = |id, port, voter, matched_index| QuorumMember {
        node_id: node(id),
        host: format!("10.0.0.{id}"),
        port,
        voter,
        matched_index,
    };
    let request = DescribeQuorumRequest { reserved: false };
    let response = DescribeQuorumResponse {
        leader: node(1),
        term: 5,
        last_index: 102,
        commit_index: 101,
        snapshot_index: Some(90),
        members: vec![
            member(1, 7171, true, Some(102)),
            member(4, 7172, false, None),
        ],
    };
    check(72, &request, &response);
}

#[test]
fn alter_voters() {
    let request = AlterVotersRequest {
        add: nodes(&[4]),
        remove: nodes(&[2, 3]),
    };
    let response = AlterVotersResponse {
        voters: nodes(&[1, 4, 5]),
    };
    check(73, &request, &response);
}

#[test]
fn drain_node() {
    let request = DrainNodeRequest {
        node_id: node(2),
        drain: true,
    };
    check(74, &request, &DrainNodeResponse { replicas_left: 40 });
}

#[test]
fn remove_node() {
    let request = RemoveNodeRequest {
        node_id: node(2),
        force: false,
    };
    check(75, &request, &RemoveNodeResponse { replicas_lost: 0 });
}

#[test]
fn move_replicas() {
    let to = |partition, replicas| ReplicaMove {
        topic: text("orders"),
        partition: PartitionId::new(partition),
        replicas,
    };
    let request = MoveReplicasRequest {
        moves: vec![to(0, Some(nodes(&[3, 1]))), to(1, None)],
    };
    let why = message("nothing is moved");
    let response = MoveReplicasResponse {
        results: vec![
            topic_result("orders/0", ErrorCode::None, None),
            topic_result("orders/1", ErrorCode::PreconditionFailed, why),
        ],
    };
    check(76, &request, &response);
}

#[test]
fn elect_leaders() {
    let request = ElectLeadersRequest {
        kind: ElectionKind::Node,
        node_id: Some(node(3)),
        partitions: Some(vec![TopicPartition {
            topic: text("orders"),
            partition: PartitionId::new(0),
        }]),
    };
    let why = message("node 3 is not in sync");
    let response = ElectLeadersResponse {
        results: vec![topic_result("orders/0", ErrorCode::IneligibleReplica, why)],
    };
    check(77, &request, &response);
}

#[test]
fn balance() {
    let request = BalanceRequest {
        action: BalanceAction::Status,
    };
    let response = BalanceResponse {
        moves: vec![PlannedMove {
            topic: text("orders"),
            partition: PartitionId::new(0),
            from: nodes(&[1, 2]),
            to: nodes(&[1, 3]),
            reason: MoveReason::Heal,
        }],
        waiting: 7,
        paused: message("2 of 3 nodes are gone"),
        absent: vec![
            AbsentNode {
                node_id: node(2),
                replicas: 8,
                heals_in_ms: Some(599_000),
            },
            AbsentNode {
                node_id: node(5),
                replicas: 0,
                heals_in_ms: None,
            },
        ],
    };
    check(78, &request, &response);
}
