//! One replica of a partition over a real storage engine, for tests: several of them pass each other
//! requests and answers without a network between them.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_config::TopicConfig;
use highwater_coordination::partition_leader::{
    FetchAnswer, FetchRefusal, FollowerFetch, PartitionView, ReplicaView,
};
use highwater_protocol::batch_builder::BatchBuilder;
use highwater_protocol::compression::Compression;
use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionId, Timestamp, TopicId, TopicName,
};
use highwater_protocol::messages::{
    Acks, FetchPartition, FetchPartitionResult, FetchRequest, FetchResponse, FetchTopicResult,
};
use highwater_protocol::record_batch::{BatchHeader, Batches};
use highwater_storage::{Durability, Engine, EngineOptions, Log, LogOptions, PartitionMeta};
use tempfile::TempDir;

use super::{
    Appended, Follow, Followed, FollowerRefusal, Lead, Opened, Partition, PartitionAppendError,
};
use crate::lease;
use crate::partitions::{Hosted, Key, Partitions};

pub(crate) const LAG_MS: u64 = 10_000;

pub(crate) struct Replica {
    pub(crate) node: NodeId,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) partition: Arc<Partition>,
    _engine: Arc<Engine>,
    _dir: TempDir,
}

pub(crate) fn key() -> Key {
    (TopicId::from_bytes([7; 16]), PartitionId::new(0))
}

fn meta() -> PartitionMeta {
    PartitionMeta {
        topic_id: key().0,
        topic: TopicName::new("orders").unwrap(),
        partition: key().1,
    }
}

pub(crate) fn broker_epoch(node: NodeId) -> BrokerEpoch {
    BrokerEpoch::new(u64::from(node.get()) * 10)
}

/// A batch of records that are told apart by `tag`.
pub(crate) fn batch(records: usize, tag: &str) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, None);
    for n in 0..records {
        let value = format!("{tag}/{n}");
        builder.push(Timestamp::from_millis(1), None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

/// Until it holds, at most for a while.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Replica {
    pub(crate) fn new(node: u32, durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        let options = LogOptions {
            durability,
            ..LogOptions::default()
        };
        let log = engine.create_log(meta(), options).unwrap();
        let partitions = Arc::new(Partitions::default());
        let partition = Partition::open(Opened {
            topic: meta().topic,
            config: TopicConfig::default(),
            log,
            proposals: Arc::clone(partitions.proposals()),
        });
        partitions.insert(key(), Hosted::Online(Arc::clone(&partition)));
        let told = Arc::downgrade(&partition);
        engine.on_durable(Box::new(move |log: &Log| {
            if let Some(partition) = told.upgrade() {
                partition.on_durable(log.durable_end());
            }
        }));
        Self {
            node: NodeId::new(node),
            partitions,
            partition,
            _engine: engine,
            _dir: dir,
        }
    }

    pub(crate) fn log(&self) -> &Log {
        self.partition.log()
    }

    /// Leads three replicas in this epoch, with these in sync.
    pub(crate) fn lead(&self, epoch: u32, isr: &[u32], isr_min: usize) {
        let replicas = (1..=3).map(NodeId::new).map(|node| {
            let view = ReplicaView {
                epoch: Some(broker_epoch(node)),
                is_active: true,
            };
            (node, view)
        });
        self.lead_with(epoch, isr, isr_min, replicas.collect());
    }

    pub(crate) fn lead_with(
        &self,
        epoch: u32,
        isr: &[u32],
        isr_min: usize,
        replicas: BTreeMap<NodeId, ReplicaView>,
    ) {
        let lead = Lead {
            node: self.node,
            epoch: LeaderEpoch::new(epoch),
            view: PartitionView {
                partition_epoch: epoch * 100,
                recovering: false,
                isr: isr.iter().map(|node| NodeId::new(*node)).collect(),
                replicas,
            },
            isr_min,
            lag_ms_max: LAG_MS,
        };
        self.partition.become_leader(lead, lease::now()).unwrap();
    }

    pub(crate) fn follow(&self, leader: &Self, epoch: u32, is_unclean: bool) {
        self.partition.become_follower(Follow {
            leader: leader.node,
            epoch: LeaderEpoch::new(epoch),
            is_unclean,
        });
    }

    pub(crate) fn append(
        &self,
        records: usize,
        tag: &str,
        acks: Acks,
    ) -> Result<Appended, PartitionAppendError> {
        self.partition
            .append_as_leader(&batch(records, tag), acks, Timestamp::from_millis(5))
    }

    /// What the fetch API does for a follower, without waiting.
    pub(crate) fn answer(&self, request: &FetchRequest, is_new: bool) -> FetchResponse {
        let replica = request.replica.clone().unwrap();
        let topics = request.topics.iter().map(|topic| FetchTopicResult {
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let told = FollowerFetch {
                        follower: replica.node_id,
                        broker_epoch: replica.broker_epoch,
                        leader_epoch: asked.leader_epoch.unwrap(),
                        offset: asked.offset,
                        last_epoch: asked.last_epoch,
                        durable_end: asked.durable_end.unwrap(),
                        is_report: request.bytes_max == 0,
                    };
                    self.answer_one(asked, &told, is_new, request.bytes_max > 0)
                })
                .collect(),
        });
        FetchResponse {
            throttle_ms: 0,
            topics: topics.collect(),
        }
    }

    fn answer_one(
        &self,
        asked: &FetchPartition,
        told: &FollowerFetch,
        is_new: bool,
        wants_records: bool,
    ) -> FetchPartitionResult {
        let mut result = FetchPartitionResult {
            partition: asked.partition,
            error: ErrorCode::None,
            message: None,
            high_watermark: Offset::ZERO,
            last_stable: Offset::ZERO,
            log_start: self.log().log_start(),
            diverging: None,
            records: Bytes::new(),
        };
        match self.partition.on_follower_fetch(told, is_new, lease::now()) {
            Ok(found) => match found.answer {
                FetchAnswer::Diverging(end) => result.diverging = Some(end),
                FetchAnswer::Records => {
                    result.high_watermark = found.high_watermark;
                    if wants_records {
                        let slice = self.log().read(asked.offset, found.log_end, 1 << 20);
                        result.records = slice.unwrap().records;
                    }
                }
            },
            Err(FollowerRefusal::NotLeader) => result.error = ErrorCode::NotLeader,
            Err(FollowerRefusal::Fetch(refused)) => {
                result.error = match refused {
                    FetchRefusal::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
                    FetchRefusal::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
                    FetchRefusal::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
                    FetchRefusal::OutOfRange => ErrorCode::OffsetOutOfRange,
                    FetchRefusal::EpochAhead => ErrorCode::EpochAhead,
                };
            }
        }
        result
    }

    /// Fetches once, and takes the answer in.
    pub(crate) fn pull(&self, leader: &Self) -> Followed {
        self.pull_changed(leader, |_| {})
    }

    /// The same, with an answer that was changed on its way.
    pub(crate) fn pull_changed(
        &self,
        leader: &Self,
        change: impl FnOnce(&mut FetchPartitionResult),
    ) -> Followed {
        let (ask, durable_end) = self.partition.ask().unwrap();
        let asked = FetchPartition {
            partition: key().1,
            leader_epoch: Some(ask.epoch),
            offset: ask.position.log_end,
            last_epoch: ask.position.last_epoch,
            durable_end: Some(durable_end),
            log_start: Some(ask.position.log_start),
            bytes_max: 1 << 20,
        };
        let told = FollowerFetch {
            follower: self.node,
            broker_epoch: broker_epoch(self.node),
            leader_epoch: ask.epoch,
            offset: asked.offset,
            last_epoch: asked.last_epoch,
            durable_end,
            is_report: false,
        };
        let mut result = leader.answer_one(&asked, &told, true, true);
        change(&mut result);
        self.partition
            .on_followed(&ask, &result, Timestamp::from_millis(6))
    }

    /// Fetches until there is nothing new, and tells so. Returns how often the log was cut.
    pub(crate) fn catch_up(&self, leader: &Self) -> usize {
        let mut cuts = 0;
        for _ in 0..1000 {
            let before = (self.log().end(), self.partition.high_watermark());
            match self.pull(leader) {
                Followed::Cut => {
                    cuts += 1;
                    continue;
                }
                Followed::Took => {}
                other => panic!("{other:?}"),
            }
            if (self.log().end(), self.partition.high_watermark()) == before {
                return cuts;
            }
        }
        panic!("it never catches up");
    }

    /// Every batch of the log, to the byte.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut next = self.log().log_start();
        while next < self.log().end() {
            let slice = self.log().read(next, self.log().end(), 1 << 20).unwrap();
            all.extend_from_slice(&slice.records);
            next = slice.next;
        }
        all
    }

    /// The epoch of each batch.
    pub(crate) fn epochs(&self) -> Vec<u32> {
        let bytes = self.bytes();
        let headers = Batches::new(&bytes).map(|batch| -> BatchHeader { batch.unwrap().0 });
        headers
            .map(|header| header.leader_epoch.unwrap().get())
            .collect()
    }
}
