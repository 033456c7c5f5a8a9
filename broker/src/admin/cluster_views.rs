//! The cluster as JSON: brokers, quorum, moves.

use serde::Serialize;

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterView {
    /// Its identity.
    pub(crate) cluster_id: String,
    /// The broker that answers.
    pub(crate) node_id: u32,
    /// The broker that decides, if it can be reached.
    pub(crate) controller_id: Option<u32>,
    /// Version of the broker that answers.
    pub(crate) version: String,
    /// All brokers, also those that are gone.
    pub(crate) brokers: Vec<BrokerView>,
    /// Topics that exist.
    pub(crate) topics: usize,
    /// Their partitions.
    pub(crate) partitions: u64,
    /// Partitions that nobody leads.
    pub(crate) partitions_leaderless: u64,
    /// Partitions with replicas that are not in sync, those that a move adds aside.
    pub(crate) partitions_under_replicated: u64,
    /// Partitions with fewer in-sync replicas than `min.insync.replicas`.
    pub(crate) partitions_below_min_isr: u64,
    /// Partitions whose replicas are being moved.
    pub(crate) partitions_moving: u64,
    /// Replicas on the broker that answers whose storage failed or is damaged.
    pub(crate) partitions_offline: usize,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BrokerView {
    /// Its number.
    pub(crate) node_id: u32,
    /// The host on which clients reach it.
    pub(crate) host: String,
    /// The port on which clients reach it.
    pub(crate) port: u16,
    /// Where it stands, if that was said.
    pub(crate) rack: Option<String>,
    /// Version of its software; empty before its first start.
    pub(crate) version: String,
    /// It is kept from serving: it is starting, or was not heard of for too long.
    pub(crate) fenced: bool,
    /// Everything is moved off it.
    pub(crate) draining: bool,
    /// It stops in order.
    pub(crate) shutting_down: bool,
    /// It votes in the metadata quorum.
    pub(crate) voter: bool,
    /// Its registration.
    pub(crate) broker_epoch: u64,
    /// Time since it was last heard of, if the controller has heard of it.
    pub(crate) silent_ms: Option<u64>,
    /// Partitions that have a replica on it.
    pub(crate) replicas: u32,
    /// Partitions that it leads.
    pub(crate) leaders: u32,
    /// Bytes of its record data.
    pub(crate) log_bytes: u64,
    /// Free bytes of its disk, as far as known.
    pub(crate) disk_free_bytes: Option<u64>,
    /// Size of its disk, as far as known.
    pub(crate) disk_total_bytes: Option<u64>,
}

/// The metadata quorum, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct QuorumView {
    /// The active controller.
    pub(crate) leader_id: u32,
    /// Its term.
    pub(crate) term: u64,
    /// Last entry of its log.
    pub(crate) last_index: u64,
    /// Last committed entry.
    pub(crate) commit_index: u64,
    /// Last entry that the newest snapshot contains.
    pub(crate) snapshot_index: Option<u64>,
    /// Voters first, then learners.
    pub(crate) members: Vec<QuorumMemberView>,
}

/// A node that keeps the metadata log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct QuorumMemberView {
    /// Its number.
    pub(crate) node_id: u32,
    /// Its host.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether it votes.
    pub(crate) voter: bool,
    /// How far its log is known to match the leader's.
    pub(crate) matched_index: Option<u64>,
}

/// Moves of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MovesView {
    /// Those that are under way.
    pub(crate) moves: Vec<MoveView>,
    /// How many wait for their turn.
    pub(crate) waiting: u32,
    /// Why nothing is moved at present, if so: safe mode, an outage, full disks.
    pub(crate) paused: Option<String>,
    /// Nodes that are gone.
    pub(crate) absent: Vec<AbsentView>,
}

/// A move of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MoveView {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: u32,
    /// Replicas before.
    pub(crate) from: Vec<u32>,
    /// Replicas afterwards.
    pub(crate) to: Vec<u32>,
    /// Why: `operator`, `balance`, `heal` or `drain`.
    pub(crate) reason: &'static str,
}

/// A node that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct AbsentView {
    /// Its number.
    pub(crate) node_id: u32,
    /// Its replicas.
    pub(crate) replicas: u32,
    /// Until they are rebuilt elsewhere; none: they will not be.
    pub(crate) heals_in_ms: Option<u64>,
}
