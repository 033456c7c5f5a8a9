//! The client against a real broker: administration, reading by time, restarts.

use std::time::Duration;

use highwater_broker::EmbeddedBroker;
use highwater_client::{
    Acks, AdminError, Backoff, Client, ConfigSource, ErrorCode, NewTopic, Offset, OffsetSpec,
    PartitionId, ProducerRecord, RecordSlices, Start, Timestamp, Until,
};

use crate::support::soon;

async fn start() -> (EmbeddedBroker, Client) {
    let broker = soon(EmbeddedBroker::start()).await.unwrap();
    let client = Client::builder()
        .seeds([broker.address().to_string()])
        .backoff(Backoff {
            first: Duration::from_millis(2),
            max: Duration::from_millis(20),
        })
        .connect();
    let client = soon(client).await.unwrap();
    (broker, client)
}

#[tokio::test]
async fn topics_are_created_described_changed_and_deleted() {
    let (_broker, client) = start().await;
    let admin = client.admin();
    let new = || {
        NewTopic::new("orders")
            .partitions(3)
            .config("retention.ms", "16m40s")
    };
    let checked = soon(admin.create_topic(new().validate_only()))
        .await
        .unwrap();
    assert_eq!((checked.partitions, checked.topic_id), (3, None));
    assert!(soon(admin.list_topics()).await.unwrap().is_empty());

    let created = soon(admin.create_topic(new())).await.unwrap();
    assert!(created.created);
    let error = soon(admin.create_topic(new())).await.unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::TopicAlreadyExists),
        "{error}"
    );
    assert!(!error.is_retriable() && !error.may_have_committed());
    let again = soon(admin.create_topic(new().if_not_exists()))
        .await
        .unwrap();
    assert_eq!((again.created, again.topic_id), (false, created.topic_id));

    let described = soon(admin.describe_topic("orders")).await.unwrap();
    assert_eq!(Some(described.topic_id), created.topic_id);
    assert_eq!(described.partitions.len(), 3);
    soon(admin.add_partitions("orders", 5)).await.unwrap();
    assert_eq!(
        soon(admin.describe_topic("orders"))
            .await
            .unwrap()
            .partitions
            .len(),
        5
    );

    let configs = soon(admin.describe_configs("orders", Some(&["retention.ms"])))
        .await
        .unwrap();
    let [retention] = &configs[..] else {
        panic!("{configs:?}")
    };
    assert_eq!(
        (&*retention.value, retention.source),
        ("16m40s", ConfigSource::Topic)
    );
    soon(admin.validate_configs("orders", [("retention.ms", Some("7"))]))
        .await
        .unwrap();
    soon(admin.alter_configs("orders", [("retention.ms", None::<String>)]))
        .await
        .unwrap();
    let configs = soon(admin.describe_configs("orders", Some(&["retention.ms"])))
        .await
        .unwrap();
    assert_ne!(configs[0].source, ConfigSource::Topic);
    let bad = soon(admin.alter_configs("orders", [("retention.mss", Some("1"))])).await;
    assert_eq!(
        bad.unwrap_err().broker_code(),
        Some(ErrorCode::InvalidConfig)
    );

    soon(admin.delete_topic("orders")).await.unwrap();
    let error = soon(admin.describe_topic("orders")).await.unwrap_err();
    assert!(matches!(error, AdminError::Refused { .. }), "{error}");
    let cluster = soon(admin.describe_cluster()).await.unwrap();
    assert_eq!(cluster.cluster_id, client.cluster_id());
    assert_eq!(cluster.brokers.len(), 1);
}

#[tokio::test]
async fn refusals_of_the_broker_name_what_is_wrong() {
    let (_broker, client) = start().await;
    let admin = client.admin();
    let error = soon(admin.create_topic(NewTopic::new("a/b")))
        .await
        .unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::InvalidTopic),
        "{error}"
    );
    let error = soon(admin.create_topic(NewTopic::new("t").replicas(3)))
        .await
        .unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::InvalidReplicationFactor),
        "{error}"
    );
    let error = soon(admin.delete_topic("nope")).await.unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::UnknownTopicOrPartition),
        "{error}"
    );
    let error = soon(admin.list_offsets("nope", OffsetSpec::Latest))
        .await
        .unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::UnknownTopicOrPartition),
        "{error}"
    );
    soon(admin.create_topic(NewTopic::new("t").partitions(1)))
        .await
        .unwrap();
    let wanted = [(PartitionId::new(7), OffsetSpec::Latest)];
    let error = soon(admin.list_partition_offsets("t", &wanted))
        .await
        .unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::UnknownTopicOrPartition),
        "{error}"
    );
    let producer = client.producer().batch_bytes(8 << 20).build();
    let large = ProducerRecord::to("t").value(vec![0; 2 << 20]);
    let error = soon(producer.send(large)).await.unwrap_err();
    assert_eq!(
        error.broker_code(),
        Some(ErrorCode::BatchTooLarge),
        "{error}"
    );
}

#[tokio::test]
async fn records_are_found_by_offset_and_time_and_trimmed() {
    let (_broker, client) = start().await;
    let admin = client.admin();
    soon(admin.create_topic(NewTopic::new("t").partitions(1)))
        .await
        .unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let base = now.as_millis() as i64 - 100_000;
    let producer = client.producer().batch_records(10).build();
    let records = (0..100).map(|n| RecordSlices {
        value: Some(b"x"),
        timestamp: Some(Timestamp::from_millis(base + n)),
        ..RecordSlices::default()
    });
    soon(producer.enqueue_many("t", None, records))
        .await
        .unwrap()
        .await
        .unwrap();

    for (spec, expected) in [
        (OffsetSpec::Earliest, Some(0)),
        (OffsetSpec::Latest, Some(100)),
        (OffsetSpec::At(Timestamp::from_millis(base + 42)), Some(42)),
        (OffsetSpec::At(Timestamp::from_millis(base + 1000)), None),
        (OffsetSpec::MaxTimestamp, Some(99)),
    ] {
        let found = soon(admin.list_offsets("t", spec)).await.unwrap();
        assert_eq!(found[0].offset.map(Offset::get), expected, "{spec:?}");
    }
    let builder = client
        .reader("t")
        .start(Start::Time(Timestamp::from_millis(base + 33)))
        .until(Until::Time(Timestamp::from_millis(base + 55)));
    let mut reader = soon(builder.build()).await.unwrap();
    for offset in 33..55 {
        assert_eq!(
            soon(reader.next()).await.unwrap().unwrap().offset.get(),
            offset
        );
    }
    assert!(soon(reader.next()).await.unwrap().is_none());

    let before = [(PartitionId::new(0), Some(Offset::new(30)))];
    let trimmed = soon(admin.delete_records("t", &before)).await.unwrap();
    assert_eq!(trimmed[0].log_start.get(), 30);
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().unwrap().offset.get(), 30);
}

#[tokio::test]
async fn a_client_goes_on_after_the_broker_was_killed_and_restarted() {
    let (mut broker, client) = start().await;
    let topic = NewTopic::new("t").partitions(2);
    soon(client.admin().create_topic(topic)).await.unwrap();
    let producer = client.producer().acks(Acks::All).build();
    let mut reader = soon(client.reader("t").build()).await.unwrap();
    for round in 0..3 {
        for n in 0..50 {
            let record = ProducerRecord::to("t").value(format!("{round} {n}"));
            soon(producer.send(record)).await.unwrap();
        }
        for _ in 0..50 {
            soon(reader.next()).await.unwrap().unwrap();
        }
        soon(broker.kill()).await.unwrap();
        soon(broker.restart()).await.unwrap();
    }
    soon(producer.close(Duration::from_secs(10))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_goes_through_unchanged() {
    let (_broker, client) = start().await;
    soon(
        client
            .admin()
            .create_topic(NewTopic::new("t").partitions(3)),
    )
    .await
    .unwrap();
    let producer = client.producer().build();
    let values: Vec<Vec<u8>> = (0..200_000_u32)
        .map(|n| n.to_be_bytes().repeat(20))
        .collect();
    let pending = soon(producer.enqueue_many("t", None, &values))
        .await
        .unwrap();
    assert_eq!(soon(pending).await.unwrap().records(), 200_000);
    let mut seen = vec![false; values.len()];
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    while let Some(batch) = soon(reader.next_batch()).await.unwrap() {
        for record in &batch {
            let value = record.unwrap().value.unwrap();
            let n = u32::from_be_bytes(value[..4].try_into().unwrap()) as usize;
            assert_eq!(value, values[n]);
            assert!(!std::mem::replace(&mut seen[n], true), "{n} twice");
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}
