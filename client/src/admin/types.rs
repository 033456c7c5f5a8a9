//! What administrative calls take and give.

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId};
use highwater_protocol::messages as m;

pub use highwater_protocol::messages::ConfigDescription;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct NewTopic {
    pub(super) name: String,
    pub(super) partitions: Option<u32>,
    pub(super) replicas: Option<u16>,
    pub(super) configs: Vec<m::ConfigEntry>,
    pub(super) if_not_exists: bool,
    pub(super) validate_only: bool,
}

impl NewTopic {
    /// A topic of this name with the broker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replicas: None,
            configs: Vec::new(),
            if_not_exists: false,
            validate_only: false,
        }
    }

    /// Number of partitions. Default: the broker's.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Replicas of each partition. Default: the broker's.
    pub fn replicas(mut self, replicas: u16) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// A setting that differs from the broker's default.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push(m::ConfigEntry {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// A topic of this name that is already there, whatever its settings, is a success.
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// Only check and say what would happen.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }
}

/// A topic that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; `None` when it was only checked.
    pub topic_id: Option<TopicId>,
    /// Its number of partitions.
    pub partitions: u32,
    /// Replicas of each.
    pub replicas: u16,
    /// `false` when it was there before, with [`NewTopic::if_not_exists`].
    pub created: bool,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionId,
    /// `None`, or why it is offline.
    pub error: ErrorCode,
    /// Who leads it, if anyone.
    pub leader: Option<NodeId>,
    /// Epoch of that leader.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// In-sync replicas.
    pub isr: Vec<NodeId>,
    /// Replicas that are not in sync and yet known to have everything that is committed.
    pub elr: Vec<NodeId>,
    /// Replicas that a move under way adds; they are among `replicas`.
    pub adding: Vec<NodeId>,
    /// Replicas that a move under way removes once the added ones are in sync.
    pub removing: Vec<NodeId>,
}

impl PartitionDescription {
    /// Whether nobody leads it.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.leader.is_none()
    }

    /// Whether some of its replicas are not in sync. Those that a move adds need not be yet.
    #[must_use]
    pub fn is_under_replicated(&self) -> bool {
        let lags = |node: &NodeId| !self.isr.contains(node) && !self.adding.contains(node);
        self.replicas.iter().any(lags)
    }

    /// Whether replicas of it are being moved.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

impl TopicDescription {
    /// From a topic without error.
    pub(super) fn new(topic: m::TopicMetadata) -> Option<Self> {
        let partitions = topic.partitions.into_iter().map(|p| PartitionDescription {
            partition: p.partition,
            error: p.error,
            leader: p.leader,
            leader_epoch: p.leader_epoch,
            replicas: p.replicas,
            isr: p.isr,
            elr: p.elr,
            adding: p.adding,
            removing: p.removing,
        });
        let topic_id = topic.topic_id?;
        Some(Self {
            name: topic.name,
            topic_id,
            partitions: partitions.collect(),
        })
    }
}

/// An offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The offset; `None` where no record is at or after the time asked for.
    pub offset: Option<Offset>,
    /// Timestamp of the record there, where a time was asked for.
    pub timestamp: Option<Timestamp>,
    /// The partition's leader epoch.
    pub leader_epoch: LeaderEpoch,
}

/// A partition whose start was trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimmedPartition {
    /// The partition.
    pub partition: PartitionId,
    /// Where its log starts now.
    pub log_start: Offset,
}
