//! A broker that keeps topics in a map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater_protocol::error_code::ErrorCode;
use highwater_protocol::ids::TopicName;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::admin::{
    AbsentView, AdminBackend, AdminError, BackendFuture, BrokerView, ClusterView, ConfigView,
    ConfigViewSource, CreatedTopic, LogView, MoveView, MovesView, NewTopic, PartitionView,
    QuorumMemberView, QuorumView, ReadinessView, Status, TopicSummary, TopicView,
};

const ID: &str = "00000000-0000-4000-8000-000000000001";

pub(super) struct FakeBackend {
    readiness: Mutex<ReadinessView>,
    topics: Arc<Mutex<BTreeMap<String, NewTopic>>>,
    gate: Mutex<Option<Arc<Notify>>>,
    began: Arc<Notify>,
    metrics: Mutex<String>,
    has_controller: AtomicBool,
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self {
            readiness: Mutex::new(ReadinessView {
                status: Status::Serving,
                waits_for: None,
                recovery: None,
                partitions_offline: 0,
                disk_is_low: false,
            }),
            topics: Arc::default(),
            gate: Mutex::default(),
            began: Arc::default(),
            metrics: Mutex::new("fake 1\n# EOF\n".to_owned()),
            has_controller: AtomicBool::new(true),
        }
    }
}

impl FakeBackend {
    pub(super) fn be(&self, readiness: ReadinessView) {
        *self.readiness.lock() = readiness;
    }

    /// From now on creations wait for the returned gate.
    pub(super) fn hold_creations(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock() = Some(Arc::clone(&gate));
        gate
    }

    /// A creation waits at the gate.
    pub(super) async fn creation_began(&self) {
        self.began.notified().await;
    }

    pub(super) fn lose_controller(&self) {
        self.has_controller.store(false, Ordering::Relaxed);
    }

    pub(super) fn say(&self, metrics: String) {
        *self.metrics.lock() = metrics;
    }
}

impl AdminBackend for FakeBackend {
    fn readiness(&self) -> ReadinessView {
        self.readiness.lock().clone()
    }

    fn metrics(&self) -> String {
        self.metrics.lock().clone()
    }

    fn cluster(&self) -> BackendFuture<Result<ClusterView, AdminError>> {
        let view = ClusterView {
            cluster_id: ID.to_owned(),
            node_id: 1,
            controller_id: Some(1),
            version: "0.0.0".to_owned(),
            brokers: vec![BrokerView {
                node_id: 1,
                host: "127.0.0.1".to_owned(),
                port: 7171,
                rack: None,
                version: "0.0.0".to_owned(),
                fenced: false,
                draining: true,
                shutting_down: false,
                voter: true,
                broker_epoch: 7,
                silent_ms: Some(3),
                replicas: 5,
                leaders: 4,
                log_bytes: 1 << 40,
                disk_free_bytes: None,
                disk_total_bytes: Some(1 << 41),
            }],
            topics: self.topics.lock().len(),
            partitions: 5,
            partitions_leaderless: 1,
            partitions_under_replicated: 2,
            partitions_below_min_isr: 3,
            partitions_moving: 4,
            partitions_offline: 0,
        };
        Box::pin(async move { Ok(view) })
    }

    fn quorum(&self) -> BackendFuture<Result<QuorumView, AdminError>> {
        let view = QuorumView {
            leader_id: 1,
            term: 2,
            last_index: 4,
            commit_index: 3,
            snapshot_index: None,
            members: vec![QuorumMemberView {
                node_id: 1,
                host: "127.0.0.1".to_owned(),
                port: 7171,
                voter: true,
                matched_index: Some(4),
            }],
        };
        Box::pin(async move { Ok(view) })
    }

    fn moves(&self) -> BackendFuture<Result<MovesView, AdminError>> {
        if !self.has_controller.load(Ordering::Relaxed) {
            let error = AdminError::of_broker(ErrorCode::NotController, "no controller is known");
            return Box::pin(async move { Err(error) });
        }
        let view = MovesView {
            moves: vec![MoveView {
                topic: "t".to_owned(),
                partition: 0,
                from: vec![1, 2],
                to: vec![2, 3],
                reason: "drain",
            }],
            waiting: 1,
            paused: Some("safe mode".to_owned()),
            absent: vec![AbsentView {
                node_id: 4,
                replicas: 2,
                heals_in_ms: None,
            }],
        };
        Box::pin(async move { Ok(view) })
    }

    fn topics(&self) -> Vec<TopicSummary> {
        let topics = self.topics.lock();
        let summary = |topic: &NewTopic| TopicSummary {
            name: topic.name.clone(),
            id: ID.to_owned(),
            partitions: topic.partitions.unwrap_or(1),
            replicas: 1,
            size_bytes: 0,
        };
        topics.values().map(summary).collect()
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        let topics = self.topics.lock();
        let topic = topics.get(name)?;
        let log = LogView {
            log_start: 1,
            high_watermark: 2,
            log_end: 4,
            durable_end: 3,
            size_bytes: 5,
            segments: 1,
        };
        let partition = |partition| PartitionView {
            partition,
            leader: Some(1),
            leader_epoch: 0,
            partition_epoch: 1,
            replicas: vec![1, 2, 3],
            isr: vec![1],
            elr: vec![2],
            adding: vec![3],
            removing: vec![],
            recovering: false,
            offline: (partition > 0).then(|| "damaged".to_owned()),
            log: (partition == 0).then_some(log),
        };
        let config = |(key, value): (&String, &String)| ConfigView {
            key: key.clone(),
            value: value.clone(),
            source: ConfigViewSource::Topic,
            doc: "Doc.".to_owned(),
        };
        Some(TopicView {
            name: topic.name.clone(),
            id: ID.to_owned(),
            replicas: 1,
            partitions: (0..topic.partitions.unwrap_or(1)).map(partition).collect(),
            configs: topic.configs.iter().map(config).collect(),
        })
    }

    fn create_topic(&self, topic: NewTopic) -> BackendFuture<Result<CreatedTopic, AdminError>> {
        let (topics, gate) = (Arc::clone(&self.topics), self.gate.lock().clone());
        let began = Arc::clone(&self.began);
        Box::pin(async move {
            if let Some(gate) = gate {
                began.notify_one();
                gate.notified().await;
            }
            if let Err(error) = TopicName::new(&topic.name) {
                return Err(AdminError::of_broker(
                    ErrorCode::InvalidTopic,
                    error.to_string(),
                ));
            }
            if topic.name == "full" {
                return Err(AdminError::of_broker(
                    ErrorCode::DiskFull,
                    "the disk is full",
                ));
            }
            let mut topics = topics.lock();
            if topics.contains_key(&topic.name) {
                let message = format!("topic {} exists", topic.name);
                return Err(AdminError::of_broker(
                    ErrorCode::TopicAlreadyExists,
                    message,
                ));
            }
            let created = CreatedTopic {
                name: topic.name.clone(),
                id: (!topic.validate_only).then(|| ID.to_owned()),
                partitions: topic.partitions.unwrap_or(1),
                replicas: topic.replicas.unwrap_or(1),
            };
            if !topic.validate_only {
                topics.insert(topic.name.clone(), topic);
            }
            Ok(created)
        })
    }

    fn delete_topic(&self, name: String) -> BackendFuture<Result<(), AdminError>> {
        let topics = Arc::clone(&self.topics);
        Box::pin(async move {
            let message = format!("there is no topic {name}");
            let unknown = AdminError::of_broker(ErrorCode::UnknownTopicOrPartition, message);
            topics.lock().remove(&name).map(|_| ()).ok_or(unknown)
        })
    }
}
