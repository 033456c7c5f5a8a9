//! The admin HTTP endpoint: health, metrics, topics.
//!
//! It sees the broker through [`AdminBackend`] only, which answers from memory or runs what must wait
//! elsewhere. One table of routes ([`routes::ROUTES`]) makes the router, and a test holds
//! `openapi.json` to it.
//!
//! There is no authentication: it listens on the loopback address unless told otherwise. Everything a
//! client can make it hold is bounded: connections, head, body, time, and answers being read.

mod cluster_views;
mod error;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod timed_stream;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

pub(crate) use self::cluster_views::{
    AbsentView, BrokerView, ClusterView, MoveView, MovesView, QuorumMemberView, QuorumView,
};
pub(crate) use self::error::AdminError;
pub(crate) use self::server::AdminServer;

/// A future of a backend.
pub(crate) type BackendFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The broker, as the admin endpoint sees it. Methods that are not futures answer at once, from
/// memory.
pub(crate) trait AdminBackend: Send + Sync + 'static {
    /// Whether the broker serves, and if not, how far it is. Everything but this and the metrics is
    /// asked only while it says [`Status::Serving`] or [`Status::Fenced`].
    fn readiness(&self) -> ReadinessView;

    /// All metrics as text of [`crate::metrics::CONTENT_TYPE`]. May take milliseconds with very many
    /// partitions: it is called on a thread that may block, and by few at a time.
    fn metrics(&self) -> String;

    /// The cluster and its brokers. The controller is asked for what only it knows.
    fn cluster(&self) -> BackendFuture<Result<ClusterView, AdminError>>;

    /// The metadata quorum, as the controller sees it.
    fn quorum(&self) -> BackendFuture<Result<QuorumView, AdminError>>;

    /// Moves of replicas, and what holds them up.
    fn moves(&self) -> BackendFuture<Result<MovesView, AdminError>>;

    /// All topics, by name.
    fn topics(&self) -> Vec<TopicSummary>;

    /// One topic, if it exists.
    fn topic(&self, name: &str) -> Option<TopicView>;

    /// Creates a topic, or with `validate_only` says whether it could be. Once polled it runs to its
    /// end, also if nobody waits for it any more.
    fn create_topic(&self, topic: NewTopic) -> BackendFuture<Result<CreatedTopic, AdminError>>;

    /// Deletes a topic with its records. Runs to its end as [`Self::create_topic`] does.
    fn delete_topic(&self, name: String) -> BackendFuture<Result<(), AdminError>>;
}

/// Where a broker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Opening the data directory.
    Starting,
    /// Looking for its cluster, or waiting to be let in.
    Joining,
    /// Reading partitions back.
    Recovering,
    /// Serving clients.
    Serving,
    /// Started, and kept from serving: the controller fenced it, or was not heard of for so long that
    /// others may lead its partitions by now.
    Fenced,
    /// Finishing what is in flight.
    Stopping,
}

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ReadinessView {
    /// Where the broker is in its life.
    pub(crate) status: Status,
    /// What it waits for, or why it is kept from serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    /// How far recovery is, while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovery: Option<RecoveryView>,
    /// Partitions whose storage failed or is damaged. The others are served all the same.
    pub(crate) partitions_offline: usize,
    /// Appends are refused because the disk is nearly full. Reads are served all the same.
    pub(crate) disk_is_low: bool,
}

/// How far recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct RecoveryView {
    /// Partitions that are open.
    pub(crate) partitions_done: usize,
    /// All partitions.
    pub(crate) partitions_total: usize,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TopicSummary {
    /// Its name.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) id: String,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// How many replicas each has.
    pub(crate) replicas: u32,
    /// Bytes of all its segments on the broker that answers.
    pub(crate) size_bytes: u64,
}

/// A topic with everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TopicView {
    /// Its name.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) id: String,
    /// How many replicas each partition has.
    pub(crate) replicas: u32,
    /// Its partitions, in the order of their numbers.
    pub(crate) partitions: Vec<PartitionView>,
    /// Its settings with the values in force.
    pub(crate) configs: Vec<ConfigView>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PartitionView {
    /// Its number.
    pub(crate) partition: u32,
    /// The broker that leads it, if one does.
    pub(crate) leader: Option<u32>,
    /// The leader's epoch: counts its leaders.
    pub(crate) leader_epoch: u32,
    /// Counts every change of it.
    pub(crate) partition_epoch: u32,
    /// The brokers that keep it, the preferred leader first.
    pub(crate) replicas: Vec<u32>,
    /// Those of them that are in sync.
    pub(crate) isr: Vec<u32>,
    /// Those that are not, and yet have everything that is committed.
    pub(crate) elr: Vec<u32>,
    /// Those that a move adds.
    pub(crate) adding: Vec<u32>,
    /// Those that a move removes.
    pub(crate) removing: Vec<u32>,
    /// Its leader came from an unclean election, and nobody has joined it yet.
    pub(crate) recovering: bool,
    /// Why it is offline on the broker that answers, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offline: Option<String>,
    /// Its log, if it is online on the broker that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<LogView>,
}

/// A partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct LogView {
    /// First offset that is kept.
    pub(crate) log_start: u64,
    /// Offset behind the last record that readers see.
    pub(crate) high_watermark: u64,
    /// Offset behind the last record.
    pub(crate) log_end: u64,
    /// Offset behind the last record that the disk has.
    pub(crate) durable_end: u64,
    /// Bytes of its segments.
    pub(crate) size_bytes: u64,
    /// How many segments.
    pub(crate) segments: u64,
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigView {
    /// Its name.
    pub(crate) key: String,
    /// The value in force.
    pub(crate) value: String,
    /// Where that comes from.
    pub(crate) source: ConfigViewSource,
    /// What it means.
    pub(crate) doc: String,
}

/// Where a topic's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConfigViewSource {
    /// Built in.
    Default,
    /// The broker's configuration.
    Broker,
    /// Set on the topic.
    Topic,
}

/// A topic to create: the body of `POST /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTopic {
    /// Its name.
    pub(crate) name: String,
    /// How many partitions; the broker's default if not said.
    #[serde(default)]
    pub(crate) partitions: Option<u32>,
    /// How many replicas; the broker's default if not said.
    #[serde(default)]
    pub(crate) replicas: Option<u32>,
    /// Its own settings.
    #[serde(default)]
    pub(crate) configs: BTreeMap<String, String>,
    /// Only check whether it could be created.
    #[serde(default)]
    pub(crate) validate_only: bool,
}

/// A topic that was, or with `validate_only` could be, created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CreatedTopic {
    /// Its name.
    pub(crate) name: String,
    /// Its identity; none if it was only checked.
    pub(crate) id: Option<String>,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// How many replicas each has.
    pub(crate) replicas: u32,
}
