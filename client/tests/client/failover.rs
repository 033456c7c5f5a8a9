//! Several brokers: leaders move, brokers die, and neither records nor the order are lost.

use std::time::Duration;

use highwater_client::{
    Client, ErrorCode, OutOfRange, PartitionId, PendingAck, Producer, ProducerRecord, ReadError,
    Start, Until,
};

use highwater_protocol::api_key::ApiKey;

use crate::support::{FakeBroker, eventually, quick, soon, values};

fn record(partition: u32, value: u32) -> ProducerRecord {
    ProducerRecord::to("t")
        .partition(PartitionId::new(partition))
        .value(value.to_string())
}

async fn enqueue(
    producer: &Producer,
    partition: u32,
    values: std::ops::Range<u32>,
) -> Vec<PendingAck> {
    let mut acks = Vec::new();
    for value in values {
        let record = record(partition, value);
        acks.push(soon(producer.enqueue(record)).await.unwrap());
    }
    acks
}

async fn all_good(acks: Vec<PendingAck>) {
    for ack in acks {
        soon(ack).await.unwrap();
    }
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// Brokers 1 to `count`; partition n of topic t is led by broker n + 1.
async fn cluster(count: u32) -> (Vec<FakeBroker>, Client) {
    let brokers = FakeBroker::cluster(count).await;
    brokers[0].topic("t", count as usize);
    for partition in 1..count {
        brokers[0].lead("t", partition, Some(partition + 1));
    }
    let client = soon(quick(brokers.last().unwrap()).connect())
        .await
        .unwrap();
    (brokers, client)
}

#[tokio::test]
async fn one_seed_leads_to_all_leaders() {
    let (brokers, client) = cluster(3).await;
    let producer = client.producer().build();
    for partition in 0..3 {
        soon(producer.send(record(partition, partition)))
            .await
            .unwrap();
    }
    let mut reader = soon(client.reader("t").until(Until::End).build())
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(record) = soon(reader.next()).await.unwrap() {
        seen.push(record.partition.get());
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    for broker in &brokers {
        assert_eq!(broker.connections(), 1);
    }
}

#[tokio::test]
async fn records_flow_on_each_once_and_in_order_while_leaders_move_and_die() {
    let (mut brokers, client) = cluster(3).await;
    let producer = client.producer().batch_records(2).build();
    let mut acks = Vec::new();
    for round in 0..9_u32 {
        for partition in 0..3 {
            let values = round * 20..(round + 1) * 20;
            acks.extend(enqueue(&producer, partition, values).await);
        }
        // One broker dies in the middle of it; the others take over; it comes back.
        let gone = round % 3;
        brokers[gone as usize].stop().await;
        for partition in 0..3 {
            let leader = (gone + 1 + (partition + round) % 2) % 3 + 1;
            brokers[0].lead("t", partition, Some(leader));
        }
        soon(acks.pop().unwrap()).await.unwrap();
        brokers[gone as usize].restart().await;
    }
    all_good(acks).await;
    for partition in 0..3 {
        assert_eq!(values(&brokers[0].records("t", partition)), numbers(180));
    }
}

#[tokio::test]
async fn a_dead_broker_keeps_nobody_from_the_others() {
    let (mut brokers, client) = cluster(2).await;
    let producer = client.producer().build();
    all_good(enqueue(&producer, 0, 0..1).await).await;
    brokers[0].stop().await;
    let waiting = enqueue(&producer, 0, 1..10).await;
    all_good(enqueue(&producer, 1, 0..200).await).await;
    assert_eq!(brokers[0].records("t", 0).len(), 1);

    let reading = client
        .reader("t")
        .start(Start::Beginning)
        .partitions([PartitionId::new(1)]);
    let mut reader = soon(reading.build()).await.unwrap();
    assert!(soon(reader.next()).await.unwrap().is_some());

    brokers[1].lead("t", 0, Some(2));
    all_good(waiting).await;
    assert_eq!(values(&brokers[0].records("t", 0)), numbers(10));
}

#[tokio::test]
async fn a_partition_without_a_leader_waits_for_one() {
    let (brokers, client) = cluster(2).await;
    let producer = client.producer().build();
    let mut reader = soon(client.reader("t").start(Start::Beginning).build())
        .await
        .unwrap();
    brokers[0].lead("t", 0, None);
    let waiting = enqueue(&producer, 0, 0..5).await;
    all_good(enqueue(&producer, 1, 0..5).await).await;
    for _ in 0..5 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(record.partition.get(), 1);
    }
    brokers[0].lead("t", 0, Some(2));
    all_good(waiting).await;
    for n in 0..5 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!((record.partition.get(), record.record.offset.get()), (0, n));
    }
}

#[tokio::test]
async fn a_reader_follows_the_leader_without_gaps_or_repetitions() {
    let (mut brokers, client) = cluster(3).await;
    let producer = client.producer().batch_records(3).build();
    let reading = soon(
        client
            .reader("t")
            .partitions([PartitionId::new(0)])
            .start(Start::Beginning)
            .fetch_wait(Duration::from_millis(20))
            .build(),
    );
    let mut reader = reading.await.unwrap();
    let mut next = 0;
    for round in 0..6_u32 {
        all_good(enqueue(&producer, 0, round * 10..(round + 1) * 10).await).await;
        let leader = (round + 1) % 3 + 1;
        if round % 2 == 0 {
            brokers[(round % 3) as usize].stop().await;
        }
        brokers[0].lead("t", 0, Some(leader));
        while next < u64::from(round + 1) * 10 {
            let record = soon(reader.next()).await.unwrap().unwrap();
            assert_eq!(record.record.offset.get(), next);
            next += 1;
        }
        if round % 2 == 0 {
            brokers[(round % 3) as usize].restart().await;
        }
    }
}

#[tokio::test]
async fn a_lower_end_at_a_new_leader_is_no_truncation() {
    let (brokers, client) = cluster(2).await;
    let producer = client.producer().batch_records(1).build();
    all_good(enqueue(&producer, 0, 0..10).await).await;
    for code in [ErrorCode::OffsetOutOfRange, ErrorCode::OffsetNotAvailable] {
        let mut reader = soon(
            client
                .reader("t")
                .partitions([PartitionId::new(0)])
                .start(Start::Beginning)
                .on_out_of_range(OutOfRange::Beginning)
                .fetch_wait(Duration::from_millis(5))
                .build(),
        )
        .await
        .unwrap();
        for n in 0..10 {
            let record = soon(reader.next()).await.unwrap().unwrap();
            assert_eq!(record.record.offset.get(), n);
        }
        let records = u32::try_from(brokers[0].records("t", 0).len()).unwrap();
        for extra in 10..records {
            let record = soon(reader.next()).await.unwrap().unwrap();
            assert_eq!(record.record.offset.get(), u64::from(extra));
        }
        let fetches = brokers[1].requests(ApiKey::Fetch);
        brokers[0].refuse_beyond_end(code);
        brokers[0].limit_visible("t", 0, Some(4));
        brokers[0].lead("t", 0, Some(2));
        let asked_often = eventually("the new leader was asked again and again", || {
            brokers[1].requests(ApiKey::Fetch) > fetches + 3
        });
        // The reader only goes on while somebody wants a record; none must come.
        tokio::select! {
            () = asked_often => {}
            record = reader.next() => panic!("{record:?}"),
        }
        let end = reader.high_watermarks()[&PartitionId::new(0)];
        assert_eq!(end.get(), u64::from(records), "what was seen stays seen");
        brokers[0].limit_visible("t", 0, None);
        all_good(enqueue(&producer, 0, records..records + 1).await).await;
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(record.record.offset.get(), u64::from(records));
        brokers[0].lead("t", 0, Some(1));
    }
}

#[tokio::test]
async fn an_end_that_stays_lower_is_reported_in_the_end() {
    let (brokers, client) = cluster(1).await;
    let producer = client.producer().batch_records(1).build();
    all_good(enqueue(&producer, 0, 0..10).await).await;
    let mut reader = soon(
        client
            .reader("t")
            .start(Start::Beginning)
            .retry_timeout(Duration::from_millis(100))
            .fetch_wait(Duration::from_millis(5))
            .build(),
    )
    .await
    .unwrap();
    for _ in 0..10 {
        soon(reader.next()).await.unwrap().unwrap();
    }
    brokers[0].limit_visible("t", 0, Some(4));
    let mut stalls = 0;
    loop {
        match soon(reader.next()).await.unwrap_err() {
            ReadError::Stalled { last, .. } => {
                assert_eq!(last.broker_code(), Some(ErrorCode::OffsetNotAvailable));
                stalls += 1;
                assert!(stalls < 10);
            }
            ReadError::OffsetOutOfRange { end, .. } => {
                assert_eq!(end.get(), 4);
                break;
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn metadata_of_a_broker_that_lags_behind_is_not_believed() {
    let (brokers, client) = cluster(2).await;
    let producer = client.producer().build();
    all_good(enqueue(&producer, 0, 0..1).await).await;
    brokers[0].lead("t", 0, Some(2));
    all_good(enqueue(&producer, 0, 1..2).await).await;
    // Both say from now on what was true in the beginning.
    for broker in &brokers {
        broker.stale_metadata(Some((Some(1), 0)));
    }
    soon(client.admin().describe_topic("t")).await.unwrap();
    let calls = brokers[0].produce_calls();
    all_good(enqueue(&producer, 0, 2..3).await).await;
    assert_eq!(
        brokers[0].produce_calls(),
        calls + 1,
        "straight to the leader"
    );
    assert_eq!(values(&brokers[0].records("t", 0)), numbers(3));
}

#[tokio::test]
async fn when_all_known_brokers_are_gone_the_seeds_are_tried_again() {
    let (mut brokers, client) = cluster(2).await;
    let producer = client.producer().build();
    all_good(enqueue(&producer, 0, 0..1).await).await;
    all_good(enqueue(&producer, 1, 0..1).await).await;
    for broker in &mut brokers {
        broker.stop().await;
    }
    let waiting = enqueue(&producer, 0, 1..5).await;
    // The seed is broker 2, which leads everything when it returns.
    brokers[0].lead("t", 0, Some(2));
    brokers[1].restart().await;
    all_good(waiting).await;
    assert_eq!(values(&brokers[0].records("t", 0)), numbers(5));
}

#[tokio::test]
async fn a_broker_that_hangs_is_left_for_the_new_leader() {
    let (brokers, client) = cluster(2).await;
    let producer = client.producer().build();
    all_good(enqueue(&producer, 0, 0..1).await).await;
    let mut reader = soon(
        client
            .reader("t")
            .partitions([PartitionId::new(0)])
            .start(Start::Beginning)
            .build(),
    )
    .await
    .unwrap();
    soon(reader.next()).await.unwrap().unwrap();
    brokers[0].freeze(true);
    let waiting = enqueue(&producer, 0, 1..5).await;
    brokers[0].lead("t", 0, Some(2));
    all_good(waiting).await;
    for n in 1..5 {
        let record = soon(reader.next()).await.unwrap().unwrap();
        assert_eq!(record.record.offset.get(), n);
    }
    brokers[0].freeze(false);
    // What it had not read yet is of the past.
    all_good(enqueue(&producer, 0, 5..10).await).await;
    assert_eq!(values(&brokers[1].records("t", 0)), numbers(10));
}

#[tokio::test]
async fn changes_are_asked_for_again_while_the_controller_cannot_be_reached() {
    let (brokers, client) = cluster(2).await;
    brokers[0].refuse_changes(ErrorCode::NotController, 4);
    soon(client.admin().delete_topic("t")).await.unwrap();
    brokers[0].topic("t", 1);
    brokers[0].refuse_changes(ErrorCode::PreconditionFailed, 1);
    let error = soon(client.admin().delete_topic("t")).await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::PreconditionFailed));
}

#[tokio::test]
async fn a_topic_that_not_every_broker_has_heard_of_is_there() {
    let (brokers, client) = cluster(2).await;
    // The client talks to broker 2, which leads partition 1; broker 1 is the controller.
    brokers[1].lag_behind("t", true);
    let topic = soon(client.admin().describe_topic("t")).await.unwrap();
    assert_eq!(topic.partitions.len(), 2);
    let client = soon(quick(&brokers[1]).connect()).await.unwrap();
    let producer = client.producer().build();
    all_good(enqueue(&producer, 0, 0..3).await).await;
    let building = tokio::spawn({
        let client = client.clone();
        async move { client.reader("t").until(Until::End).build().await }
    });
    eventually("the leader was asked", || {
        brokers[1].requests(ApiKey::ListOffsets) > 2
    })
    .await;
    brokers[1].lag_behind("t", false);
    let mut reader = soon(building).await.unwrap().unwrap();
    for _ in 0..3 {
        soon(reader.next()).await.unwrap().unwrap();
    }
    assert!(soon(reader.next()).await.unwrap().is_none());
}
