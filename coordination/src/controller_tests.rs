use proptest::prelude::*;

use super::*;

fn register(node: u32, clean: bool) -> RegisterBroker {
    RegisterBroker {
        node_id: NodeId::new(node),
        host: "127.0.0.1".to_owned(),
        port: 7171,
        rack: None,
        clean,
    }
}

fn apply<R>(image: &mut ClusterImage, decision: Decision<R>) -> R {
    for record in &decision.records {
        image.apply(record).unwrap();
    }
    decision.reply
}

fn one_broker() -> ClusterImage {
    let mut image = ClusterImage::default();
    let decision = register_broker(&image, &register(1, true));
    assert_eq!(apply(&mut image, decision), BrokerEpoch::new(1));
    image
}

fn new_topic(id: u8, name: &str, partitions: u32) -> CreateTopic<'_> {
    CreateTopic {
        id: TopicId::from_bytes([id; 16]),
        name,
        partitions,
        replicas: 1,
        configs: vec![ConfigEntry {
            key: "retention.ms".to_owned(),
            value: "1000".to_owned(),
        }],
    }
}

#[test]
fn a_created_topic_is_led_and_can_be_deleted_and_created_again_under_another_id() {
    let mut image = one_broker();
    let decision = create_topic(&image, &new_topic(7, "orders", 3)).unwrap();
    apply(&mut image, decision);
    let topic = image.topic("orders").unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert!(
        topic
            .partitions
            .iter()
            .all(|p| p.leader == Some(NodeId::new(1)))
    );
    assert_eq!(topic.configs["retention.ms"], "1000");

    let again = create_topic(&image, &new_topic(8, "orders", 3)).unwrap_err();
    assert_eq!(again.code(), ErrorCode::TopicAlreadyExists);

    let decision = delete_topic(&image, "orders").unwrap();
    apply(&mut image, decision);
    assert!(image.topic("orders").is_none());
    let decision = create_topic(&image, &new_topic(8, "orders", 1)).unwrap();
    apply(&mut image, decision);
    assert_eq!(
        image.topic("orders").unwrap().id,
        TopicId::from_bytes([8; 16])
    );
    assert!(image.topic_by_id(TopicId::from_bytes([7; 16])).is_none());
}

#[test]
fn what_cannot_be_is_refused_with_its_code() {
    let mut image = one_broker();
    let code = |topic: CreateTopic<'_>, image: &ClusterImage| {
        create_topic(image, &topic).unwrap_err().code()
    };
    assert_eq!(
        code(new_topic(1, "a/b", 1), &image),
        ErrorCode::InvalidTopic
    );
    assert_eq!(
        code(new_topic(1, "a", 0), &image),
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        code(new_topic(1, "a", PARTITIONS_PER_TOPIC_MAX + 1), &image),
        ErrorCode::InvalidPartitions
    );
    let two = CreateTopic {
        replicas: 2,
        ..new_topic(1, "a", 1)
    };
    let error = create_topic(&image, &two).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidReplicationFactor);
    assert_eq!(
        error.to_string(),
        "replication factor 2 needs 2 brokers; this cluster has 1"
    );

    let decision = create_topic(&image, &new_topic(1, "a", 4)).unwrap();
    apply(&mut image, decision);
    assert_eq!(
        add_partitions(&image, "a", 3).unwrap_err().code(),
        ErrorCode::InvalidPartitions
    );
    assert!(add_partitions(&image, "a", 4).unwrap().records.is_empty());
    assert_eq!(
        add_partitions(&image, "b", 4).unwrap_err().code(),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[test]
fn more_partitions_keep_the_old_ones() {
    let mut image = one_broker();
    let decision = create_topic(&image, &new_topic(1, "a", 2)).unwrap();
    apply(&mut image, decision);
    let before = image.topic("a").unwrap().partitions.clone();
    let decision = add_partitions(&image, "a", 5).unwrap();
    apply(&mut image, decision);
    let after = &image.topic("a").unwrap().partitions;
    assert_eq!(after.len(), 5);
    assert_eq!(after[..2], before[..]);
    assert!(after.iter().all(|p| p.leader.is_some()));
}

#[test]
fn only_an_unclean_start_begins_new_leader_epochs() {
    let mut image = one_broker();
    let decision = create_topic(&image, &new_topic(1, "a", 2)).unwrap();
    apply(&mut image, decision);

    let decision = register_broker(&image, &register(1, true));
    assert_eq!(apply(&mut image, decision), BrokerEpoch::new(2));
    assert_eq!(
        image.topic("a").unwrap().partitions[0].leader_epoch,
        LeaderEpoch::ZERO
    );

    let decision = register_broker(&image, &register(1, false));
    assert_eq!(apply(&mut image, decision), BrokerEpoch::new(3));
    for partition in &image.topic("a").unwrap().partitions {
        assert_eq!(partition.leader_epoch, LeaderEpoch::new(1));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8, u32),
    Delete(u8),
    Add(u8, u32),
    Config(u8, Option<u8>),
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u8, 0..5u32).prop_map(|(name, n)| Step::Create(name, n)),
        (0..4u8).prop_map(Step::Delete),
        (0..4u8, 0..9u32).prop_map(|(name, n)| Step::Add(name, n)),
        (0..4u8, proptest::option::of(0..3u8)).prop_map(|(name, v)| Step::Config(name, v)),
        any::<bool>().prop_map(Step::Restart),
    ]
}

fn decide(image: &ClusterImage, step: &Step, count: usize) -> Vec<MetadataRecord> {
    let name = |n: &u8| format!("t{n}");
    let records = match step {
        Step::Create(n, partitions) => {
            let name = name(n);
            let id = TopicId::from_bytes((count as u128 + 1).to_be_bytes());
            create_topic(
                image,
                &CreateTopic {
                    id,
                    ..new_topic(0, &name, *partitions)
                },
            )
            .map(|d| d.records)
        }
        Step::Delete(n) => delete_topic(image, &name(n)).map(|d| d.records),
        Step::Add(n, total) => add_partitions(image, &name(n), *total).map(|d| d.records),
        Step::Config(n, value) => {
            let value = value.map(|v| v.to_string());
            let change = ConfigChange {
                key: "retention.ms".to_owned(),
                value,
            };
            alter_topic_config(image, &name(n), vec![change]).map(|d| d.records)
        }
        Step::Restart(clean) => Ok(register_broker(image, &register(1, *clean)).records),
    };
    records.unwrap_or_default()
}

proptest! {
    /// What was decided can always be applied; a replay, a replay of everything twice over, and a
    /// snapshot all give the same image.
    #[test]
    fn replay_and_snapshot_give_the_same_image(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut image = one_broker();
        let mut log = image.snapshot();
        for (count, step) in steps.iter().enumerate() {
            for record in decide(&image, step, count) {
                image.apply(&record).unwrap();
                log.push(record);
            }
        }
        let mut replayed = ClusterImage::default();
        for record in &log {
            replayed.apply(record).unwrap();
        }
        prop_assert_eq!(&replayed, &image);

        let mut restored = ClusterImage::default();
        for record in image.snapshot() {
            restored.apply(&record).unwrap();
        }
        prop_assert_eq!(&restored, &image);

        // A crash while a snapshot is written, or before what it replaces is trimmed, leaves the log
        // and any part of the snapshot.
        for record in image.snapshot() {
            replayed.apply(&record).unwrap();
            prop_assert_eq!(&replayed, &image);
        }
        for topic in image.topics() {
            for partition in &topic.partitions {
                prop_assert_eq!(partition.leader, Some(NodeId::new(1)));
            }
        }
    }
}
