#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use highwater_config::BrokerConfig;
use highwater_protocol::ids::{
    BrokerEpoch, DirectoryId, LeaderEpoch, Offset, Timestamp, TopicName,
};
use highwater_protocol::messages::Acks;
use highwater_protocol::metadata_record::MetadataRecord;
use highwater_storage::EngineOptions;
use tempfile::TempDir;

use super::*;
use crate::partition::test_replica::batch;

const ME: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);
const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

/// A broker's data and what the cluster knows.
struct Broker {
    dir: TempDir,
    incarnation: IncarnationId,
    engine: Arc<Engine>,
    reconcile: Reconcile,
    image: ClusterImage,
}

fn deps(engine: &Arc<Engine>, incarnation: IncarnationId) -> ReconcileDeps {
    ReconcileDeps {
        node: ME,
        incarnation,
        engine: Arc::clone(engine),
        partitions: Arc::new(Partitions::default()),
        following: Arc::new(Following::default()),
        settings: Arc::new(TopicSettings::new(&BrokerConfig::default())),
        lag_time_max: Duration::from_secs(10),
    }
}

fn registered(node_id: NodeId, epoch: u64, incarnation: IncarnationId) -> [MetadataRecord; 2] {
    let life = MetadataRecord::BrokerRegistered {
        node_id,
        broker_epoch: BrokerEpoch::new(epoch),
        directory: DirectoryId::from_bytes([1; 16]),
        incarnation,
        host: "localhost".to_owned(),
        port: 1,
        rack: None,
        version: String::new(),
    };
    let active = MetadataRecord::BrokerChanged {
        node_id,
        broker_epoch: BrokerEpoch::new(epoch),
        fenced: false,
        shutting_down: false,
        draining: false,
    };
    [life, active]
}

fn topic() -> MetadataRecord {
    MetadataRecord::TopicCreated {
        id: TOPIC,
        name: TopicName::new("orders").unwrap(),
        partitions: 1,
        replicas: 2,
        isr_min: 1,
        configs: Vec::new(),
    }
}

fn partition(epoch: u32, leader: NodeId, replicas: &[NodeId], isr: &[NodeId]) -> MetadataRecord {
    PartitionImage {
        partition_epoch: epoch,
        leader: Some(leader),
        leader_epoch: LeaderEpoch::new(epoch),
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        ..PartitionImage::default()
    }
    .record(TOPIC, PartitionId::new(0))
}

fn key() -> Key {
    (TOPIC, PartitionId::new(0))
}

impl Broker {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        let incarnation = IncarnationId::random();
        let reconcile = Reconcile::new(deps(&engine, incarnation));
        let mut broker = Self {
            dir,
            incarnation,
            engine,
            reconcile,
            image: ClusterImage::default(),
        };
        broker.change(&registered(ME, 10, incarnation));
        broker.change(&registered(OTHER, 20, IncarnationId::random()));
        broker
    }

    fn change(&mut self, records: &[MetadataRecord]) {
        let before = self.image.clone();
        for record in records {
            self.image.apply(record).unwrap();
        }
        self.reconcile.apply(&before, &self.image, || {});
    }

    /// A start after the process died, with the metadata as it is known here.
    fn restart(self, is_registered: bool) -> Self {
        let Self {
            dir,
            engine,
            mut image,
            reconcile,
            ..
        } = self;
        drop((reconcile, engine));
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        let opened = engine.open_logs(&|_| Some(LogOptions::default()), &|_| {});
        let opened = opened.into_iter().map(|found| OpenedPartition {
            meta: found.meta.unwrap(),
            log: found
                .result
                .map(|(log, _)| log)
                .map_err(|error| Arc::from(error.to_string())),
        });
        let incarnation = IncarnationId::random();
        if is_registered {
            for record in registered(ME, 30, incarnation) {
                image.apply(&record).unwrap();
            }
        }
        let reconcile = Reconcile::new(deps(&engine, incarnation));
        reconcile.start(&image, opened.collect());
        Self {
            dir,
            incarnation,
            engine,
            reconcile,
            image,
        }
    }

    fn held(&self) -> Option<Arc<Partition>> {
        self.reconcile.deps.partitions.online_one(key())
    }

    fn is_followed(&self) -> bool {
        self.held().is_some_and(|held| held.ask().is_some())
    }

    fn append(&self) {
        let held = self.held().unwrap();
        let now = Timestamp::from_millis(1);
        held.append_as_leader(&batch(1, "x"), Acks::Leader, now)
            .unwrap();
        held.log().flush().unwrap();
    }

    fn dir_of_log(&self) -> std::path::PathBuf {
        self.held().unwrap().log().dir().to_owned()
    }
}

#[test]
fn roles_follow_the_metadata() {
    let mut broker = Broker::new();
    broker.change(&[topic(), partition(1, ME, &[ME, OTHER], &[ME, OTHER])]);
    let held = broker.held().unwrap();
    assert_eq!(held.leads_in(), Some(LeaderEpoch::new(1)));
    broker.append();
    broker.change(&[partition(2, OTHER, &[ME, OTHER], &[ME, OTHER])]);
    assert_eq!(held.leads_in(), None);
    assert!(broker.is_followed());
    assert_eq!(held.ask().unwrap().0.leader, OTHER);
    broker.change(&[partition(3, ME, &[ME, OTHER], &[ME])]);
    assert_eq!(held.leads_in(), Some(LeaderEpoch::new(3)));
    assert_eq!(held.log().end(), Offset::new(1), "the log stays what it is");
}

#[test]
fn a_replica_that_moved_away_and_a_topic_that_was_deleted_take_their_data_with_them() {
    let mut broker = Broker::new();
    broker.change(&[topic(), partition(1, ME, &[ME, OTHER], &[ME])]);
    broker.append();
    let dir = broker.dir_of_log();
    broker.change(&[partition(2, OTHER, &[OTHER], &[OTHER])]);
    assert!(broker.held().is_none());
    assert!(!dir.exists());
    broker.change(&[partition(3, OTHER, &[OTHER, ME], &[OTHER])]);
    assert_eq!(broker.held().unwrap().log().end(), Offset::ZERO);
    assert!(dir.exists());
    broker.change(&[MetadataRecord::TopicDeleted { id: TOPIC }]);
    assert!(broker.held().is_none());
    assert!(!dir.exists());
}

#[test]
fn what_the_metadata_does_not_mention_is_kept() {
    let mut broker = Broker::new();
    broker.change(&[topic(), partition(1, ME, &[ME], &[ME])]);
    broker.append();
    let dir = broker.dir_of_log();
    broker.image = ClusterImage::default();
    let broker = broker.restart(true);
    assert!(broker.held().is_none());
    assert!(
        dir.exists(),
        "metadata that was lost does not take records with it"
    );
}

#[test]
fn with_old_metadata_nothing_is_led_and_nothing_is_removed() {
    let mut broker = Broker::new();
    broker.change(&[topic(), partition(5, ME, &[ME, OTHER], &[ME])]);
    broker.append();
    let mut broker = broker.restart(false);
    let held = broker.held().unwrap();
    assert_eq!(held.leads_in(), None, "an earlier life led in this epoch");
    // It hears of its registration, which gave its leaderships to others.
    broker.change(&registered(ME, 30, broker.incarnation));
    broker.change(&[partition(6, ME, &[ME, OTHER], &[ME])]);
    assert_eq!(held.leads_in(), Some(LeaderEpoch::new(6)));

    let dir = broker.dir_of_log();
    broker
        .image
        .apply(&partition(7, OTHER, &[OTHER], &[OTHER]))
        .unwrap();
    let mut broker = broker.restart(false);
    assert!(dir.exists(), "it may have been given back since");
    broker.change(&registered(ME, 40, broker.incarnation));
    assert!(!dir.exists());
}

#[test]
fn a_log_that_is_missing_is_begun_anew_only_where_nobody_counts_on_it() {
    for (isr, is_anew) in [(&[ME, OTHER][..], false), (&[OTHER][..], true)] {
        let mut broker = Broker::new();
        broker.change(&[topic(), partition(1, ME, &[ME, OTHER], &[ME, OTHER])]);
        broker.append();
        std::fs::remove_dir_all(broker.dir_of_log()).unwrap();
        broker
            .image
            .apply(&partition(2, OTHER, &[ME, OTHER], isr))
            .unwrap();
        let broker = broker.restart(true);
        assert_eq!(broker.is_followed(), is_anew, "{isr:?}");
        let offline = broker.reconcile.deps.partitions.offline();
        assert_eq!(offline.is_empty(), is_anew);
    }
}

#[test]
fn a_replica_that_cannot_be_used_is_set_aside_once_nobody_counts_on_it() {
    let mut broker = Broker::new();
    broker.change(&[topic(), partition(1, ME, &[ME, OTHER], &[ME, OTHER])]);
    broker.append();
    broker.change(&[partition(2, OTHER, &[ME, OTHER], &[ME, OTHER])]);
    let held = broker.held().unwrap();
    held.put_aside("for the test".into());
    assert_eq!(broker.reconcile.deps.partitions.offline().len(), 1);
    let look = |broker: &Broker| {
        broker.reconcile.note_unused(&broker.image);
        broker.reconcile.rebuild_all(&broker.image)
    };
    assert_eq!(look(&broker), 0, "it is in sync");
    broker.change(&[partition(2, OTHER, &[ME, OTHER], &[OTHER])]);
    assert_eq!(look(&broker), 0, "what it told may be believed");
    broker.change(&[partition(3, OTHER, &[ME, OTHER], &[ME, OTHER])]);
    assert_eq!(look(&broker), 0, "it is in sync");
    broker.change(&[partition(3, OTHER, &[ME, OTHER], &[OTHER])]);
    assert_eq!(look(&broker), 1);
    assert!(held.is_retired());
    let anew = broker.held().unwrap();
    assert_eq!(anew.log().end(), Offset::ZERO);
    assert!(broker.is_followed());
    assert!(broker.reconcile.deps.partitions.offline().is_empty());
    let kept = std::fs::read_dir(broker.dir.path()).unwrap();
    let kept = kept.map(|entry| entry.unwrap().file_name());
    assert!(
        kept.into_iter()
            .any(|name| name.to_string_lossy().contains(".damaged-")),
        "every byte is kept"
    );
    drop(broker.engine);
}
