//! Readers: where they begin and end, what they skip, and how they go on after trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_client::{
    Client, Compression, ErrorCode, Offset, OutOfRange, PartitionId, ReadError, Reader, Start,
    Until,
};
use highwater_protocol::api_key::ApiKey;

use crate::support::{FakeBroker, eventually, quick, soon};

async fn filled(records: u32, batch: u32) -> (FakeBroker, Client) {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = soon(quick(&broker).connect()).await.unwrap();
    fill(&client, 0..records, batch).await;
    (broker, client)
}

async fn fill(client: &Client, numbers: std::ops::Range<u32>, batch: u32) {
    let values: Vec<Vec<u8>> = numbers.map(|n| n.to_string().into_bytes()).collect();
    let producer = client.producer().batch_records(batch).build();
    soon(producer.enqueue_many("t", None, &values))
        .await
        .unwrap()
        .await
        .unwrap();
}

async fn rest(reader: &mut Reader) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(record) = soon(reader.next()).await.unwrap() {
        let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        assert_eq!(record.offset.get(), value.parse::<u64>().unwrap());
        all.push(value.parse().unwrap());
    }
    all
}

async fn rest_in_batches(reader: &mut Reader) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(batch) = soon(reader.next_batch()).await.unwrap() {
        for record in &batch {
            let value = record.unwrap().value.unwrap();
            all.push(std::str::from_utf8(value).unwrap().parse().unwrap());
        }
    }
    all
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

fn p0() -> PartitionId {
    PartitionId::new(0)
}

#[tokio::test]
async fn starts_and_ends_are_where_they_were_asked_for() {
    let (_broker, client) = filled(1000, 64).await;
    let offset = |n| Offset::new(n);
    for (start, until, expected) in [
        (Start::Beginning, Until::End, 0..1000),
        (Start::Offset(offset(777)), Until::End, 777..1000),
        (Start::FromEnd(10), Until::End, 990..1000),
        (Start::FromEnd(5000), Until::End, 0..1000),
        (Start::End, Until::End, 0..0),
        (
            Start::Offset(offset(100)),
            Until::Offset(offset(103)),
            100..103,
        ),
        (
            Start::Offset(offset(60)),
            Until::Offset(offset(200)),
            60..200,
        ),
        (Start::Offset(offset(7)), Until::Offset(offset(7)), 0..0),
    ] {
        let builder = || client.reader("t").start(start).until(until);
        let mut reader = soon(builder().build()).await.unwrap();
        assert_eq!(
            rest(&mut reader).await,
            numbers(expected.clone()),
            "{start:?} {until:?}"
        );
        let mut reader = soon(builder().fetch_bytes_max(1).build()).await.unwrap();
        assert_eq!(
            rest_in_batches(&mut reader).await,
            numbers(expected),
            "{start:?} {until:?}"
        );
    }
}

#[tokio::test]
async fn a_reader_without_end_waits_for_more() {
    let (_broker, client) = filled(3, 3).await;
    let mut reader = soon(client.reader("t").start(Start::End).build())
        .await
        .unwrap();
    let waiting = tokio::spawn(async move {
        let record = reader.next().await.unwrap().unwrap();
        (record.offset.get(), reader.positions())
    });
    tokio::task::yield_now().await;
    fill(&client, 3..4, 1).await;
    let (offset, positions) = soon(waiting).await.unwrap();
    assert_eq!(offset, 3);
    assert_eq!(positions, BTreeMap::from([(p0(), Offset::new(4))]));
}

#[tokio::test]
async fn positions_follow_the_records_and_seeking_changes_them() {
    let (_broker, client) = filled(100, 10).await;
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    let at = |n| BTreeMap::from([(p0(), Offset::new(n))]);
    assert_eq!(reader.positions(), at(0));
    for n in 1..=15 {
        soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(reader.positions(), at(n));
    }
    reader.seek(p0(), Offset::new(42)).unwrap();
    assert_eq!(reader.positions(), at(42));
    assert_eq!(rest(&mut reader).await, numbers(42..100));
    assert!(reader.is_at_end());
    reader.seek(p0(), Offset::new(98)).unwrap();
    assert!(!reader.is_at_end());
    assert_eq!(rest(&mut reader).await, numbers(98..100));
    let error = reader
        .seek(PartitionId::new(9), Offset::new(0))
        .unwrap_err();
    assert!(matches!(error, ReadError::UnknownPartition { .. }));
}

#[tokio::test]
async fn paused_partitions_are_left_out_until_resumed() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 2);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().build();
    for partition in [0, 1] {
        let partition = Some(PartitionId::new(partition));
        let values = vec!["x"; 50];
        soon(producer.enqueue_many("t", partition, values))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    reader.pause([p0()]);
    for _ in 0..50 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(record.partition.get(), 1);
    }
    let nothing = tokio::time::timeout(Duration::from_millis(50), reader.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    reader.resume([p0()]);
    for _ in 0..50 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(record.partition.get(), 0);
    }
    assert!(soon(reader.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_paused_partition_does_not_take_the_room_of_others() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 2);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().batch_records(10).build();
    for partition in [0, 1] {
        let partition = Some(PartitionId::new(partition));
        let values = vec!["0123456789"; 500];
        soon(producer.enqueue_many("t", partition, values))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let builder = client
        .reader("t")
        .until(Until::End)
        .fetch_bytes_max(1000)
        .prefetch_bytes(2000);
    let mut reader = soon(builder.build()).await.unwrap();
    soon(reader.next()).await.unwrap();
    // Let the prefetched bytes pile up.
    tokio::time::sleep(Duration::from_millis(50)).await;
    reader.pause([p0()]);
    let mut of_1 = 0;
    let mut of_0 = 1;
    while of_1 < 500 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        if record.partition.get() == 1 {
            of_1 += 1;
        } else {
            of_0 += 1;
        }
    }
    assert!(
        of_0 <= 20,
        "only the batch that was being handed out: {of_0}"
    );
    reader.resume([p0()]);
    while let Some(record) = soon(reader.next()).await.unwrap() {
        assert_eq!((record.partition.get(), record.offset.get()), (0, of_0));
        of_0 += 1;
    }
    assert_eq!(of_0, 500);
}

#[tokio::test]
async fn an_offset_out_of_range_is_reported_unless_told_otherwise() {
    let (broker, client) = filled(100, 10).await;
    broker.trim("t", 0, 40);
    let builder = || {
        client
            .reader("t")
            .start(Start::Offset(Offset::new(7)))
            .until(Until::End)
    };
    let mut reader = soon(builder().build()).await.unwrap();
    for _ in 0..2 {
        let error = soon(reader.next()).await.unwrap_err();
        let ReadError::OffsetOutOfRange {
            requested,
            start,
            end,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((requested.get(), start.get(), end.get()), (7, 40, 100));
        assert_eq!(error.broker_code(), Some(ErrorCode::OffsetOutOfRange));
        assert!(!error.is_retriable());
    }
    reader.seek(p0(), Offset::new(40)).unwrap();
    assert_eq!(rest(&mut reader).await, numbers(40..100));

    let mut reader = soon(builder().on_out_of_range(OutOfRange::Beginning).build())
        .await
        .unwrap();
    assert_eq!(rest(&mut reader).await, numbers(40..100));
    let mut reader = soon(builder().on_out_of_range(OutOfRange::End).build())
        .await
        .unwrap();
    assert_eq!(rest(&mut reader).await, numbers(0..0));
}

#[tokio::test]
async fn a_damaged_batch_is_reported_and_nothing_behind_it_is_handed_out() {
    let (broker, client) = filled(100, 100).await;
    broker.corrupt_fetches(true);
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    for _ in 0..3 {
        let error = soon(reader.next_batch()).await.unwrap_err();
        assert!(matches!(error, ReadError::CorruptBatch { .. }), "{error}");
        assert_eq!(reader.positions()[&p0()].get(), 0);
    }
    broker.corrupt_fetches(false);
    // One more answer may have been on its way.
    let mut seen = Vec::new();
    while seen.is_empty() {
        match soon(reader.next_batch()).await {
            Ok(Some(batch)) => seen.extend(batch.records().map(|r| r.unwrap().offset.get())),
            Ok(None) => break,
            Err(error) => assert!(matches!(error, ReadError::CorruptBatch { .. })),
        }
    }
    assert_eq!(seen.len(), 100);
}

#[tokio::test]
async fn compressed_batches_come_out_whole_in_any_size() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 1);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let mut count = 0_u32;
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let producer = client.producer().compression(codec).build();
        for records in [1, 100, 50_000] {
            let values: Vec<_> = (count..count + records).map(|n| n.to_string()).collect();
            let values = values.iter().map(String::as_str);
            soon(producer.enqueue_many("t", None, values))
                .await
                .unwrap()
                .await
                .unwrap();
            count += records;
        }
    }
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    assert_eq!(rest_in_batches(&mut reader).await, numbers(0..count));

    let mut reader = soon(
        client
            .reader("t")
            .until(Until::End)
            .decompressed_bytes_max(1000)
            .build(),
    )
    .await
    .unwrap();
    let error = loop {
        match soon(reader.next_batch()).await {
            Ok(batch) => assert!(batch.is_some(), "the bomb limit was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ReadError::UnreadableBatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn fetching_ahead_stops_at_its_limit() {
    let (broker, client) = filled(1000, 10).await;
    let builder = client.reader("t").fetch_bytes_max(200).prefetch_bytes(1000);
    let mut reader = soon(builder.build()).await.unwrap();
    // Nobody takes anything: after a while no further fetch is sent.
    eventually("the first fetches", || broker.requests(ApiKey::Fetch) >= 2).await;
    let mut fetches = 0;
    while std::mem::replace(&mut fetches, broker.requests(ApiKey::Fetch)) != fetches {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(fetches <= 12, "{fetches}");
    for n in 0..1000 {
        assert_eq!(soon(reader.next()).await.unwrap().unwrap().offset.get(), n);
    }
}

#[tokio::test]
async fn reading_goes_on_after_the_connection_was_lost() {
    let (mut broker, client) = filled(500, 5).await;
    let builder = client
        .reader("t")
        .until(Until::End)
        .fetch_bytes_max(300)
        .prefetch_bytes(1);
    let mut reader = soon(builder.build()).await.unwrap();
    for n in 0..500_u64 {
        if n % 100 == 50 {
            broker.hang_up();
        }
        if n == 300 {
            broker.stop().await;
            broker.restart().await;
        }
        assert_eq!(soon(reader.next()).await.unwrap().unwrap().offset.get(), n);
    }
    assert!(soon(reader.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_broker_that_stays_away_is_reported_after_the_retry_timeout() {
    let (mut broker, client) = filled(5, 5).await;
    let builder = client.reader("t").retry_timeout(Duration::from_millis(150));
    let mut reader = soon(builder.build()).await.unwrap();
    for _ in 0..5 {
        soon(reader.next()).await.unwrap();
    }
    broker.stop().await;
    let error = soon(reader.next()).await.unwrap_err();
    assert!(matches!(error, ReadError::Stalled { .. }), "{error}");
    assert!(error.is_retriable());
    broker.restart().await;
    fill(&client, 5..6, 1).await;
    let record = loop {
        match soon(reader.next()).await {
            Ok(record) => break record.unwrap(),
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    };
    assert_eq!(record.offset.get(), 5);
}

#[tokio::test]
async fn a_deleted_topic_ends_the_reader_even_if_it_is_made_anew() {
    let (broker, client) = filled(5, 5).await;
    let mut reader = soon(client.reader("t").build()).await.unwrap();
    for _ in 0..5 {
        soon(reader.next()).await.unwrap();
    }
    broker.topic("t", 1);
    fill(&client, 0..1, 1).await;
    let error = soon(reader.next()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::UnknownTopic {
                was_there: true,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_told_when_building() {
    let (_broker, client) = filled(1, 1).await;
    let error = soon(client.reader("nope").build()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::UnknownTopic {
                was_there: false,
                ..
            }
        ),
        "{error}"
    );
    let error = soon(client.reader("t").partitions([PartitionId::new(4)]).build()).await;
    assert!(matches!(
        error,
        Err(ReadError::UnknownPartition { partitions: 1, .. })
    ));
    let error = soon(client.reader("no/good").build()).await.unwrap_err();
    assert_eq!(error.code(), "InvalidTopic");
}

#[tokio::test]
async fn many_partitions_each_get_their_turn() {
    let broker = FakeBroker::start().await;
    broker.topic("t", 20);
    let client = soon(quick(&broker).connect()).await.unwrap();
    let producer = client.producer().batch_records(10).build();
    for partition in 0..20 {
        let values = vec!["0123456789"; 100];
        let partition = Some(PartitionId::new(partition));
        soon(producer.enqueue_many("t", partition, values))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let builder = client
        .reader("t")
        .until(Until::End)
        .fetch_bytes_max(2000)
        .prefetch_bytes(1);
    let mut reader = soon(builder.build()).await.unwrap();
    let mut next: BTreeMap<PartitionId, u64> = BTreeMap::new();
    let mut total = 0;
    let mut partitions_in_first_half = std::collections::BTreeSet::new();
    while let Some(record) = soon(reader.next()).await.unwrap() {
        let next = next.entry(record.partition).or_default();
        assert_eq!(record.offset.get(), *next, "in order within its partition");
        *next += 1;
        total += 1;
        if total <= 1000 {
            partitions_in_first_half.insert(record.partition);
        }
    }
    assert_eq!(total, 2000);
    assert!(
        partitions_in_first_half.len() >= 10,
        "{partitions_in_first_half:?}"
    );
}
